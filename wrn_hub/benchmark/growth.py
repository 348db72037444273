"""How time and memory of training grow with the width, the depth, the batch and the number of images."""
import tempfile
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data import ImageDataset
from ..evaluation.memory import peak_memory
from ..files import read_csv
from ..models.wide_resnet import wide_resnet
from ..training.options import TrainOptions
from ..training.trainer import train, uses_winograd
from .measure import Rival, Steps, paired_ratio, race, steps_for, training_flops, two_steps
from .options import BenchmarkOptions
from .train import bare_steps, random_images

__all__ = ["measure_growth"]

# the net from which one thing at a time is varied, and the values of each
_CPU: dict[str, tuple[int, ...]] = {
    "base": (10, 2, 64), "width": (1, 2, 3, 4), "depth": (10, 16, 22, 28), "batch_size": (32, 64, 128, 256),
    "images": (1024, 2048, 4096, 8192)}
_GPU: dict[str, tuple[int, ...]] = {
    "base": (16, 4, 256), "width": (2, 4, 8, 12), "depth": (16, 22, 28, 40), "batch_size": (128, 256, 512, 1024),
    "images": (12_800, 25_600, 51_200, 102_400)}
_QUICK: dict[str, tuple[int, ...]] = {
    "base": (10, 2, 4), "width": (1, 2, 3, 4), "depth": (10, 16, 22, 28), "batch_size": (2, 4, 6, 8),
    "images": (8, 16, 24, 32)}


def _points(
    values: tuple[int, ...], seconds: list[list[float]], flops: list[int], memory: list[int | None]
) -> list[dict[str, Any]]:
    """A point each: what it took, and how many times the first point's that is, in time and in operations."""
    return [
        {"value": value, "time_ratio": paired_ratio(taken, seconds[0]), "flops_ratio": work / flops[0],
         "peak_memory": peak, "seconds": taken}
        for value, taken, work, peak in zip(values, seconds, flops, memory, strict=True)]


def _epoch(settings: TrainOptions, data: ImageDataset) -> float:
    """Seconds of the second epoch of the trainer, up to the measurement on test images."""
    with tempfile.TemporaryDirectory() as folder:
        run = TrainOptions(**{**vars(settings), "output": f"{folder}/run"})
        train(run, data=(data, data.subset(np.arange(1))))
        return len(data) / float(read_csv(Path(folder) / "run" / "metrics.csv")[-1]["images_per_second"])


def measure_growth(options: BenchmarkOptions, device: torch.device) -> dict[str, Any]:
    """The section "growth": bare steps of four widths, depths and batches, and epochs of four numbers of images.

    Args:
        options: With nothing left to the machine.
        device: Where to compute.
    """
    values = _QUICK if options.quick else _GPU if device.type == "cuda" else _CPU
    base = dict(zip(("depth", "width", "batch_size"), values["base"], strict=True))
    size = options.image_size

    def steps(depth: int, width: int, batch_size: int) -> Steps:
        return bare_steps(
            wide_resnet(depth, width), batch_size, size, device, options.precision, True, "none", by_winograd)

    by_winograd = uses_winograd(TrainOptions(), options.precision, device)

    @cache
    def operations(depth: int, width: int) -> int:
        return training_flops(partial(wide_resnet, depth, width), size)

    axes = []
    for axis in ("width", "depth", "batch_size"):
        nets = {str(value): {**base, axis: value} for value in values[axis]}
        rivals = [Rival(name, steps(**net)) for name, net in nets.items()]
        turns = {rival.name: steps_for(rival, options.seconds / 4, device) for rival in rivals}
        seconds = race(rivals, turns, options.rounds, device)
        flops = [net["batch_size"] * operations(net["depth"], net["width"]) for net in nets.values()]
        memory = [peak_memory(device, partial(lambda net: two_steps(steps(**net)), net)) for net in nets.values()]
        axes.append({"axis": axis, "of": "step", "points": _points(
            values[axis], list(seconds.values()), flops, memory)})

    settings = TrainOptions(
        model=f"wrn_{base['depth']}_{base['width']}", image_size=size, batch_size=base["batch_size"], epochs=2,
        eval_every=2, precision=options.precision, crop_padding=min(4, size - 1),
        report_to="none")
    data = random_images(max(values["images"]), size)
    parts = [data.subset(np.arange(count)) for count in values["images"]]
    rounds = [[_epoch(settings, part) for part in parts] for _ in range(options.rounds)]
    axes.append({"axis": "images", "of": "epoch", "points": _points(
        values["images"], [list(taken) for taken in zip(*rounds, strict=True)], list(values["images"]),
        [peak_memory(device, partial(_epoch, settings, part)) for part in parts])})
    return {"base": base, "image_size": size, "axes": axes}
