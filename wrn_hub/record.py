"""Where and with what something was computed, for the record."""
import platform
from datetime import UTC, datetime

import timm
import torch

from .version import __version__

__all__ = ["cpu_features", "hardware", "now", "versions"]


def cpu_features() -> dict:
    """What the CPU can do, as torch names it; empty on a torch that doesn't tell."""
    return getattr(torch.cpu, "get_capabilities", dict)()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a result depends on."""
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
