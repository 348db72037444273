"""The processes that compute together, their device, their precision and their threads."""
import inspect
import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import psutil
import torch
import torch.distributed
from accelerate import Accelerator, DistributedDataParallelKwargs, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import parse_flag_from_env
from torch.nn.parallel import DistributedDataParallel

from .errors import UserError
from .record import cpu_features

__all__ = [
    "accelerator_for", "fast_precision", "leave", "local_main_first", "open_cores", "process_state", "synchronize",
    "use_cores"]

T = TypeVar("T")


def process_state() -> PartialState:
    """Accelerate's view of this process and its device, joined with the others that were started with it.

    Raises:
        UserError: Accelerate would have left each process by itself, every one doing all the work; or its launcher
            started several for GPUs that aren't there.
    """
    started = int(os.environ.get("WORLD_SIZE", "1"))
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU")
    if started > 1 and not cpu and not torch.accelerator.is_available():
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "0")[:2] in ("", "-1")
        if "ACCELERATE_MIXED_PRECISION" in os.environ and not hidden:  # what its launcher sets in any case
            raise UserError(
                f"{started} processes were started for GPUs, and torch {torch.__version__} sees none here: start one "
                "(--num_processes 1), or take a configuration for CPUs (scripts/accelerate/two_cpu_processes.yaml)")
        cpu = True  # of itself, Accelerate joins processes on a CPU only where it is told that a CPU is meant
    state = PartialState(cpu=cpu)
    if state.num_processes != started:
        raise UserError(
            f"{started} processes were started, but Accelerate joined {state.num_processes}: on a CPU set "
            "ACCELERATE_USE_CPU=true, on GPUs use accelerate launch --multi_gpu or torchrun")
    return state


def leave() -> None:
    """Take leave of the other processes, at the end of a script that all of them came to.

    After an error a process just ends: the others may wait for it somewhere, and its launcher sees that it failed and
    ends them; a farewell would wait as well.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def local_main_first(make: Callable[[], T]) -> T:
    """What ``make`` returns, on every process; on each machine one is first, so that the others find what it cached.

    Raises:
        UserError: ``make`` did, on every process.
    """
    state = PartialState()
    if state.num_processes == 1:
        return make()
    # to decode a dataset may take longer than other answers are waited for
    group = torch.distributed.new_group(backend="gloo", timeout=timedelta(days=1))
    if not state.is_local_main_process:
        torch.distributed.barrier(group)
    made, error = None, None
    try:
        made = make()
    except UserError as raised:
        error = raised
    if state.is_local_main_process:
        torch.distributed.barrier(group)
    if error is not None:
        raise error
    return made  # type: ignore[return-value]


class _OwnBuffers(DistributedDataParallelKwargs):
    """Every process keeps its own running statistics while it trains."""

    def to_kwargs(self) -> dict[str, Any]:
        known = inspect.signature(DistributedDataParallel.__init__).parameters
        # what torch 2.13 calls it, and warns of the older name
        return {"forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers": False}


def accelerator_for(precision: str, **kwargs: Any) -> Accelerator:
    """An Accelerator that computes in "fp32", "bf16" or "fp16", and leaves BatchNorm's statistics to each process.

    Accelerate keeps the first one's precision for the whole process and refuses another; here one training may follow
    another, each with its own.
    """
    process_state()
    # on a GPU, torch would compute the convolutions of "fp32" in TF32, which has the mantissa of fp16
    torch.backends.cudnn.allow_tf32 = precision != "fp32"
    AcceleratorState._reset_state()  # the processes' connection to each other stays as it is
    accelerator = Accelerator(mixed_precision="no" if precision == "fp32" else precision, **kwargs)
    accelerator.ddp_handler = _OwnBuffers()
    return accelerator


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


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was told; a CPU has, by the time that it is asked."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def fast_precision(device: torch.device) -> str:
    """'bf16' where the hardware multiplies matrices faster in it, else 'fp32'.

    An emulated bf16 is many times slower. Of CPUs, those with AMX are faster in it, and AMD's with AVX512-BF16, which
    do twice as many products a cycle as in fp32. Intel's without AMX gain nothing, as model_cards/benchmarks shows.
    """
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if device.type == "cpu":
        can = cpu_features()
        quick = can.get("amx_bf16") or (can.get("avx512_bf16") and "AMD" in can.get("cpu_name", ""))
        return "bf16" if quick else "fp32"
    return "fp32"
