"""How fast the nets are and how much memory they take, side by side on one machine: model_cards/speed.json in batches,
latency.json one image at a time.

Neither depends on the weights, so nets without weights are measured too, with random ones.
"""
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

import timm
import torch

from ..errors import UserError, nearest
from ..processes import accelerator_for, use_cores
from ..record import hardware, now, versions
from .cost import fastest_pass
from .memory import peak_memory
from .speed_table import NetSpeed, SpeedTable

__all__ = ["NetSpeed", "SpeedTable", "measure_speeds"]


def _measure(name: str, batch_size: int, precision: str, seconds: float) -> tuple[NetSpeed, str]:
    use_cores()
    accelerator = accelerator_for(precision)
    device = accelerator.device
    seconds_a_pass: list[float] = []

    def work() -> None:
        model = timm.create_model(name).to(device, memory_format=torch.channels_last)
        size = model.pretrained_cfg["input_size"][-1]
        images = torch.randn(batch_size, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
        with accelerator.autocast():
            seconds_a_pass.append(fastest_pass(model, images, seconds))

    memory = peak_memory(device, work)
    return NetSpeed(round(batch_size / seconds_a_pass[0], 1), memory), hardware(device)


def measure_speeds(
    names: Sequence[str], batch_size: int = 32, precision: str = "fp32", seconds: float = 1.0, command: str = ""
) -> SpeedTable:
    """Measure nets one after the other, each in a process of its own, so that none pays for another's memory.

    Args:
        names: timm names.
        batch_size: Images a forward pass.
        precision: "fp32", "bf16" or "fp16".
        seconds: Repeat the forward pass for at least so long, and at least four times.
        command: What was typed, for the record.

    Raises:
        UserError: timm has no such model.
    """
    for name in names:
        if not timm.is_model(name):
            raise UserError(f"model {name!r}: timm has no model of this name.{nearest(name, timm.list_models())}")
    with ProcessPoolExecutor(
            1, mp_context=multiprocessing.get_context("spawn"), max_tasks_per_child=1) as fresh_process:
        found = [fresh_process.submit(_measure, name, batch_size, precision, seconds).result() for name in names]
    return SpeedTable(
        {name: net for name, (net, _) in zip(names, found, strict=True)}, batch_size, precision, found[0][1], command,
        versions(), now())
