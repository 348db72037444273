"""Where and with what something was computed, for the record."""
import os
import platform
from datetime import UTC, datetime
from typing import Any

import psutil
import timm
import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import parse_flag_from_env

from .errors import UserError

__all__ = ["accelerator_for", "cpu_features", "hardware", "now", "open_cores", "process_state", "use_cores", "versions"]


def cpu_features() -> dict:
    """What the CPU can do, as torch names it; empty on a torch that doesn't tell."""
    return getattr(torch.cpu, "get_capabilities", dict)()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a result depends on."""
    from . import __version__

    return {"python": platform.python_version(), "torch": torch.__version__, "timm": timm.__version__,
            "wrn_hub": __version__}


def hardware(device: torch.device) -> str:
    """Name of the device, for a CPU with its number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        can = cpu_features()
        widest = next((name for name in ("amx_bf16", "avx512_bf16", "avx512_f", "avx2") if can.get(name)), "")
        name = " ".join(filter(None, ["CPU", can.get("cpu_name", platform.machine()), widest]))
        threads = torch.get_num_threads()
        return f"{name}, {threads} thread{'s' if threads > 1 else ''}"
    return device.type


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def process_state() -> PartialState:
    """Accelerate's view of this process and its device, joined with the others that were started with it.

    Raises:
        UserError: Accelerate would have left each process by itself, every one doing all the work.
    """
    started = int(os.environ.get("WORLD_SIZE", "1"))
    # of itself, Accelerate joins processes on a CPU only where it is told that a CPU is meant
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or (started > 1 and not torch.accelerator.is_available())
    state = PartialState(cpu=cpu)
    if state.num_processes != started:
        raise UserError(
            f"{started} processes were started, but Accelerate joined {state.num_processes}: on a CPU set "
            "ACCELERATE_USE_CPU=true, on GPUs use accelerate launch --multi_gpu or torchrun")
    return state


def accelerator_for(precision: str, **kwargs: Any) -> Accelerator:
    """An Accelerator that computes in "fp32", "bf16" or "fp16".

    Accelerate keeps the first one's precision for the whole process and refuses another; here one training may follow
    another, each with its own.
    """
    process_state()
    # on a GPU, torch would compute the convolutions of "fp32" in TF32, which has the mantissa of fp16
    torch.backends.cudnn.allow_tf32 = precision != "fp32"
    AcceleratorState._reset_state()  # the processes' connection to each other stays as it is
    return Accelerator(mixed_precision="no" if precision == "fp32" else precision, **kwargs)


def open_cores() -> int:
    """Cores that this process may run on; where the system doesn't say (macOS), all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_cores(threads: int | None = None) -> None:
    """Let this process compute on its share of the machine's cores.

    ``accelerate launch`` sets OMP_NUM_THREADS to 1 wherever it isn't told otherwise, which leaves all but one core
    idle; a number other than 1 is taken for what somebody meant.

    Args:
        threads: How many; by default the cores open to the process over the processes on this machine.
    """
    launched = "ACCELERATE_MIXED_PRECISION" in os.environ  # what the launcher sets in any case
    if threads is None and launched and os.environ.get("OMP_NUM_THREADS") == "1":
        cores = min(open_cores(), psutil.cpu_count(logical=False) or 1)
        threads = max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    if threads is not None:
        torch.set_num_threads(threads)
