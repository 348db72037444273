"""Time and memory of rivals that take turns, so that a machine that is busy for a while slows all of them."""
import math
import statistics
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from ..processes import synchronize

__all__ = [
    "Rival", "Steps", "clock", "matmul", "paired_ratio", "race", "row", "steps_for", "training_flops", "turns",
    "two_steps"]

Steps = Generator[None, None, None]
SETTLE = 0.5  # seconds in which worker processes fill their queues, before the next rival's turn


def clock(device: torch.device, work: Callable[[], object]) -> float:
    """Seconds that ``work`` takes, what it started on the device included."""
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start


@dataclass
class Rival:
    """One way to do a step.

    Attributes:
        name: For the table.
        steps: Does a step whenever it is asked for its next item.
        queued: Batches that worker processes make ahead of time: that many steps aren't timed, as they found their
            images ready.
        tf32: Whether a GPU may compute convolutions of float32 in TF32, as torch lets it unless it is told otherwise;
            what is called fp32 here doesn't.
    """

    name: str
    steps: Steps
    queued: int = 0
    tf32: bool = False

    def time(self, steps: int, device: torch.device) -> float:
        """Seconds a step, over ``steps`` steps after one that isn't timed."""
        before, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, self.tf32
        try:  # each rival's own turn: neither the one before it nor the trainer decides
            for _ in range(1 + self.queued):
                next(self.steps)
            seconds = clock(device, lambda: [next(self.steps) for _ in range(steps)]) / steps
        finally:
            torch.backends.cudnn.allow_tf32 = before
        if self.queued:
            time.sleep(SETTLE)
        return seconds


def steps_for(rival: Rival, seconds: float, device: torch.device) -> int:
    """How many steps of a rival take that many seconds, at least one."""
    rival.time(1, device)  # after the first step, which compiles, allocates and chooses algorithms
    return max(1, math.ceil(seconds / rival.time(1, device))) if seconds else 1


def two_steps(steps: Steps) -> None:
    """As many as it takes until every buffer is there, and an end to what the rival holds."""
    next(steps)
    next(steps)
    steps.close()


def turns(rivals: list[Rival], steps: dict[str, int], device: torch.device) -> dict[str, float]:
    """A turn each, of the steps given by name: seconds a step."""
    return {rival.name: rival.time(steps[rival.name], device) for rival in rivals}


def race(rivals: list[Rival], steps: dict[str, int], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds a step of every rival in every round; one more round comes first, to warm up."""
    turns(rivals, steps, device)
    taken = [turns(rivals, steps, device) for _ in range(rounds)]
    return {rival.name: [seconds[rival.name] for seconds in taken] for rival in rivals}


def paired_ratio(first: list[float], second: list[float]) -> float:
    """Median over the rounds of first / second, both of the same round."""
    return statistics.median(a / b for a, b in zip(first, second, strict=True))


def row(name: str, seconds: list[float], images: int, baseline: list[float], memory: int | None) -> dict[str, Any]:
    """What the table says of a rival.

    Args:
        name: Of the rival.
        seconds: A step, in every round.
        images: A step.
        baseline: Seconds a step of the rival that the others are compared with, whose ratio is 1.
        memory: Peak in bytes, None where it can't be measured.
    """
    return {
        "name": name, "images_per_second": images / statistics.median(seconds),
        "ratio": paired_ratio(baseline, seconds), "peak_memory": memory, "seconds": seconds}


def matmul(precision: str, side: int, device: torch.device) -> tuple[int, Rival]:
    """(floating-point operations a step, a rival that multiplies two square matrices of ``side`` rows)."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))

    def steps() -> Steps:
        while True:
            torch.mm(left, right)
            yield

    return 2 * side**3, Rival(f"{precision} matrix product {side}x{side}", steps())


def training_flops(build: Callable[..., nn.Module], size: int) -> int:
    """Floating-point operations of a training step of one image, forward and backward, as torch counts them.

    Args:
        build: Makes the model on the device named by its argument ``device``.
        size: Side of the image in pixels.
    """
    model = build(device="meta").train()
    images = torch.empty(2, 3, size, size, device="meta")  # BatchNorm refuses a batch of a single value
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(model(images), torch.empty(2, dtype=torch.long, device="meta")).backward()
    return counter.get_total_flops() // 2
