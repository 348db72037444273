"""Images made ready for training: both pipelines beside timm's loader, on the same JPEGs."""
import tempfile
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data import ImageDataset as TimmDataset
from timm.data import create_loader

from ..data import FileDataset, ImageDataset, load_files
from ..data.encoded import decode, stack
from ..data.file_loader import FileTrainLoader
from ..data.loader import TrainLoader
from .measure import Rival, Steps, race, row, steps_for
from .options import BenchmarkOptions

__all__ = ["measure_data"]

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_TIMM = "timm's create_loader"


def _photographs(folder: Path, images: int, width: int, height: int) -> FileDataset:
    """JPEGs that take as long to decode as photographs do: large shapes and a little noise, 2 bits a pixel or so."""
    draw = np.random.default_rng(0)
    for number in range(images):
        shapes = Image.fromarray(draw.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((width, height))
        pixels = np.asarray(shapes) + draw.normal(0, 6, (height, width, 3))
        place = folder / "train" / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(place / f"{number}.jpg", quality=90)
    return load_files(str(folder), "train")


def _ours(loader: TrainLoader | FileTrainLoader) -> Steps:
    for epoch in count():
        for _ in loader.epoch(epoch):
            yield


def _timms(folder: Path, batch: int, size: int, workers: int, device: torch.device) -> Steps:
    loader = create_loader(
        TimmDataset(str(folder / "train")), (3, size, size), batch, is_training=True, color_jitter=None,
        interpolation="random", mean=_MEAN, std=_STD, num_workers=workers, pin_memory=device.type == "cuda",
        device=device)
    while True:
        for _ in loader:
            yield


def measure_data(options: BenchmarkOptions, device: torch.device) -> dict[str, Any]:
    """The section "data": images a second on their way to the net, which doesn't compute, and the ratio to timm's.

    From files and timm's crop at random, resize and mirror; memory, whose array is made before, shifts and mirrors.

    Args:
        options: With nothing left to the machine; images are of 224 pixels.
        device: Where the batches are made.
    """
    size, images, width, height = (32, 32, 50, 38) if options.quick else (224, 1024, 500, 375)
    batch, workers = options.batch_size, options.workers
    with tempfile.TemporaryDirectory() as made:
        files = _photographs(Path(made), images, width, height)
        array = stack((decode(data, name) for name, data in files.images), len(files), size)
        memory = ImageDataset(files.name, "train", array, files.labels, files.classes)  # nothing goes to the cache
        rivals = [
            Rival("from files", _ours(FileTrainLoader(
                files, batch, _MEAN, _STD, device, size, workers=workers)), 2 * workers),
            Rival("in memory", _ours(TrainLoader(memory, batch, _MEAN, _STD, device))),
            Rival(_TIMM, _timms(Path(made), batch, size, workers, device), 2 * workers)]
        steps = {rival.name: steps_for(rival, options.seconds, device) for rival in rivals}
        seconds = race(rivals, steps, options.rounds, device)
        for rival in rivals:
            rival.steps.close()
    rows = [row(name, taken, batch, seconds[_TIMM], None) for name, taken in seconds.items()]
    return {
        "batch_size": batch, "image_size": size, "files": f"{images:,} JPEGs of {width}x{height}", "workers": workers,
        "rows": rows}
