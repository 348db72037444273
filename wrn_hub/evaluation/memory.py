"""How much memory something took, and one line where it didn't suffice."""
import ctypes
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch

from ..errors import UserError, first_line

__all__ = ["enough_memory", "is_out_of_memory", "most_held", "peak_memory"]


def _resident(field: str) -> int | None:
    """Bytes of a line of Linux's /proc/self/status; None on other systems."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(status.split(f"{field}:")[1].split()[0]) * 1024
    except (OSError, IndexError, ValueError):
        return None


def most_held(device: torch.device) -> tuple[int, str]:
    """The most memory that was in use since the process began: bytes, and what they are.

    On a GPU what torch allocated for tensors, on a CPU everything that the process held, Python and libraries too.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device), "allocated on the GPU"
    most = _resident("VmHWM")
    if most is None:
        try:
            import resource

            most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        except ImportError:  # Windows, where psutil knows it
            info = psutil.Process().memory_info()
            most = getattr(info, "peak_wset", info.rss)
    return most, "resident set of the process"


def peak_memory(device: torch.device, work: Callable[[], object]) -> int | None:
    """Bytes that ``work`` needs at its worst, over what was in use before.

    On a GPU what PyTorch allocates there. On a CPU under Linux what is resident in this process, libraries' own
    buffers included and worker processes left out. None elsewhere, where the count can't begin anew.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    if device.type != "cpu" or not sys.platform.startswith("linux"):
        return None
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:  # else memory that was freed before stays resident and is counted as in use
        trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak starts anew from here
    except OSError:  # a container that forbids it
        return None
    resident = _resident("VmRSS")
    work()
    most = _resident("VmHWM")
    return None if resident is None or most is None else most - resident


# Python's and torch's own errors apart, torch's allocators say it in a RuntimeError: on a CPU, and on Apple's GPUs
_SAID = ("DefaultCPUAllocator", "can't allocate memory", "not enough memory", "out of memory", "bad_alloc")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory was too small, on whatever device."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(said in str(error) for said in _SAID))


@contextmanager
def enough_memory(advice: str) -> Iterator[None]:
    """Run a block; where memory doesn't suffice, say so in one line.

    Args:
        advice: What to try, for example "try a smaller --batch-size".

    Raises:
        UserError: memory didn't suffice, on a CPU or a GPU.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(f"out of memory ({first_line(error)}): {advice}") from None
