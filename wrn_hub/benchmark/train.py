"""Training steps: the trainer's own, beside a bare step, a plain PyTorch loop and timm's."""
import contextlib
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data import create_loader
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from ..data import ImageDataset
from ..evaluation.memory import peak_memory
from ..kernels.winograd import winograd
from ..models.build import ModelSource, compiled
from ..processes import synchronize
from ..training.options import TrainOptions
from ..training.trainer import train, uses_winograd
from .measure import (
    Rival,
    Steps,
    matmul,
    paired_ratio,
    row,
    steps_for,
    training_flops,
    turns,
    two_steps,
)
from .options import BenchmarkOptions

__all__ = ["bare_steps", "measure_training", "random_images", "run_trainer"]

_MEAN, _STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
_CLASSES = tuple(str(label) for label in range(10))


class _Enough(Exception):
    """Raised in the trainer when its last turn is over."""


def random_images(count: int, size: int) -> ImageDataset:
    """A training split of noise: what a step costs doesn't depend on what the images show."""
    draw = np.random.default_rng(0)
    return ImageDataset(
        "noise", "train", draw.integers(0, 256, (count, size, size, 3), dtype=np.uint8),
        draw.integers(0, len(_CLASSES), count), _CLASSES)


class _Pictures(Dataset):
    """The images as torchvision's datasets give them: a PIL image, transformed, and its label."""

    transform: Callable[[Image.Image], Any] | None = None

    def __init__(self, data: ImageDataset) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = Image.fromarray(self.data.images[index])
        return (self.transform(image) if self.transform else image), int(self.data.labels[index])


def _layout(channels_last: bool) -> torch.memory_format:
    return torch.channels_last if channels_last else torch.contiguous_format


def _autocast(device: torch.device, precision: str) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def bare_steps(
    model: nn.Module, batch_size: int, size: int, device: torch.device, precision: str, channels_last: bool,
    compile: str = "none", by_winograd: bool = False
) -> Steps:
    """Forward, backward and update on one batch that lies on the device: no data, no bookkeeping."""
    model = model.to(device, memory_format=_layout(channels_last)).train()
    if by_winograd:
        winograd(model)
    settings = TrainOptions()
    optimizer = create_optimizer_v2(
        model, settings.optimizer, lr=1e-3, weight_decay=settings.weight_decay, momentum=settings.momentum)
    model = compiled(model, compile)
    images = torch.randn(batch_size, 3, size, size, device=device).to(memory_format=_layout(channels_last))
    labels = torch.zeros(batch_size, dtype=torch.long, device=device)
    while True:
        with _autocast(device, precision):
            loss = F.cross_entropy(model(images), labels, label_smoothing=settings.label_smoothing)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        yield


def _plain_steps(
    model: nn.Module, data: ImageDataset, batch_size: int, device: torch.device, workers: int
) -> Steps:
    """The loop of the tutorials: torchvision's transforms in worker processes, NCHW, loss and accuracy read; in fp32,
    which on a GPU is torch's default, TF32 in the convolutions."""
    from torchvision import transforms

    pictures = _Pictures(data)
    pictures.transform = transforms.Compose([
        transforms.RandomCrop(data.images.shape[1], padding=4, padding_mode="reflect"),
        transforms.RandomHorizontalFlip(), transforms.ToTensor(), transforms.Normalize(_MEAN, _STD)])
    loader = DataLoader(
        pictures, batch_size, shuffle=True, drop_last=True, num_workers=workers, pin_memory=device.type == "cuda")
    model = model.to(device).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4, nesterov=True)
    criterion = nn.CrossEntropyLoss()
    total, correct = 0.0, 0
    while True:
        for images, labels in loader:
            images, labels = images.to(device), labels.to(device)
            optimizer.zero_grad()
            logits = model(images)
            loss = criterion(logits, labels)
            loss.backward()
            optimizer.step()
            total += loss.item()
            correct += (logits.argmax(1) == labels).sum().item()
            yield


def _timm_steps(
    model: nn.Module, data: ImageDataset, batch_size: int, device: torch.device, workers: int, precision: str,
    channels_last: bool
) -> Steps:
    """timm's loader, augmentation, optimizer and loss with their defaults, in the order of its training script."""
    size = data.images.shape[1]
    loader = create_loader(
        _Pictures(data), (3, size, size), batch_size, is_training=True, mean=_MEAN, std=_STD, num_workers=workers,
        pin_memory=device.type == "cuda", device=device)
    model = model.to(device, memory_format=_layout(channels_last)).train()
    optimizer = create_optimizer_v2(model, "sgd", lr=1e-3, weight_decay=5e-4)
    criterion = LabelSmoothingCrossEntropy(0.1).to(device)
    while True:
        for number, (images, labels) in enumerate(loader):
            images = images.contiguous(memory_format=_layout(channels_last))
            with _autocast(device, precision):
                loss = criterion(model(images), labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            if number % 50 == 0:
                loss.item()
            yield


def run_trainer(options: TrainOptions, data: ImageDataset, after_step: Callable[[int], bool]) -> None:
    """The trainer itself, on images in memory, until ``after_step``, told how many steps are done, says enough."""
    numbers = count(1)

    def told() -> None:
        if after_step(next(numbers)):
            raise _Enough

    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(_Enough):
        train(
            replace(options, output=str(Path(folder) / "run")), data=(data, data.subset(np.arange(1))),
            after_step=told)


def _race_with_trainer(
    options: TrainOptions, data: ImageDataset, others: list[Rival], steps: dict[str, int], rounds: int,
    device: torch.device
) -> dict[str, list[float]]:
    """As :func:`race`, with the trainer first in every round: the others take their turns between two of its steps."""
    taken: list[dict[str, float]] = []
    started, turn = 0.0, steps["trainer"]

    def after_step(done: int) -> bool:
        nonlocal started
        within = done % (1 + turn)  # a step that isn't timed, then a turn
        if within in (0, 1):
            synchronize(device)
        if within == 1:
            started = time.perf_counter()
        elif within == 0:
            own = (time.perf_counter() - started) / turn
            taken.append({"trainer": own, **turns(others, steps, device)})
        return len(taken) > rounds

    run_trainer(options, data, after_step)
    return {name: [seconds[name] for seconds in taken[1:]] for name in steps}


def _first_steps(make: Callable[[ImageDataset], Steps], data: ImageDataset) -> None:
    two_steps(make(data))


def measure_training(options: BenchmarkOptions, source: ModelSource, device: torch.device) -> dict[str, Any]:
    """The section "train": images a second, ratio to the plain loop, share of the matrix product's speed, memory.

    Args:
        options: With nothing left to the machine.
        source: The model.
        device: Where to compute.
    """
    batch, size, fast = options.batch_size, options.image_size, options.precision
    build = partial(source.create, False, num_classes=len(_CLASSES))
    settings = TrainOptions(
        model=source.name, image_size=size, batch_size=batch, epochs=1, precision=fast, compile=options.compile,
        crop_padding=min(4, size - 1), report_to="none",
        checkpoint_minutes=1e6)  # none falls into a turn
    queued = 2 * options.workers  # as many as torch's loaders fetch ahead

    def bare(name: str, *how: Any) -> tuple[str, int, Callable]:
        return name, 0, lambda _: bare_steps(build(), batch, size, device, *how)

    direct = same = f"bare step, {fast}, channels_last"
    rivals = [bare(direct, fast, True)]
    by_winograd = uses_winograd(settings, fast, device)
    if by_winograd:
        same = f"{direct}, Winograd"
        rivals.append(bare(same, fast, True, "none", True))
    modes = sorted({options.compile, "default", "reduce-overhead"} - {"none"})
    if device.type == "cuda" or options.compile != "none":
        rivals += [bare(f"{direct}, compiled ({mode})", fast, True, mode) for mode in modes]
    if fast != "fp32":
        rivals.append(bare("bare step, fp32, channels_last", "fp32", True))
    rivals += [
        bare("bare step, fp32, NCHW", "fp32", False),
        ("plain PyTorch loop", queued, lambda data: _plain_steps(build(), data, batch, device, options.workers)),
        ("timm's loop", queued, lambda data: _timm_steps(
            build(), data, batch, device, options.workers, "fp32", False)),
        (f"timm's loop, {fast}, channels_last", queued, lambda data: _timm_steps(
            build(), data, batch, device, options.workers, fast, True))]

    probe = Rival("probe", bare_steps(build(), batch, size, device, fast, True, "none", by_winograd))
    steps = dict.fromkeys(["trainer", *(name for name, _, _ in rivals)], steps_for(probe, options.seconds, device))
    data = random_images((1 + steps["trainer"]) * (options.rounds + 1) * batch, size)
    runners = [Rival(name, make(data), waiting, tf32="loop" in name) for name, waiting, make in rivals]
    side = 256 if options.quick else 8192 if device.type == "cuda" else 2048
    operations, product = matmul(fast, side, device)
    steps[product.name] = steps_for(product, options.seconds / 4, device)
    seconds = _race_with_trainer(settings, data, [*runners, product], steps, options.rounds, device)
    for runner in runners:
        runner.steps.close()

    peak = operations / min(seconds.pop(product.name))
    flops = training_flops(build, size)
    few = data.subset(np.arange(min(len(data), 3 * batch)))
    memory = {"trainer": peak_memory(device, lambda: run_trainer(settings, few, lambda done: done == 2))}
    for name, _, make in rivals:
        memory[name] = peak_memory(device, partial(_first_steps, make, few))
    rows = [row(name, taken, batch, seconds["plain PyTorch loop"], memory[name]) for name, taken in seconds.items()]
    for entry in rows:
        entry["share_of_matmul"] = entry["images_per_second"] * flops / peak
    twin = same if options.compile == "none" else f"{direct}, compiled ({options.compile})"
    return {
        "batch_size": batch, "image_size": size, "steps_per_turn": steps["trainer"], "flops_per_image": flops,
        "matmul": product.name, "matmul_flops_per_second": peak, "trainer_like": twin,
        "trainer_adds": paired_ratio(seconds["trainer"], seconds[twin]) - 1, "rows": rows}
