"""Batches of a whole split whose images are files, prepared as timm's own validation prepares them."""
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from timm.data import create_transform
from torch.utils.data import Dataset

from ..data.dataset import ImageDataset
from ..data.encoded import decoded
from ..data.file_loader import Workers, made_by
from ..data.files import FileDataset, usual_pipeline
from ..data.loader import Batch, evaluation_share, normalize
from ..data.sources import in_memory
from ..errors import UserError
from ..processes import open_cores

__all__ = ["FileEvalLoader", "for_measuring", "prepared", "usual_workers"]

_MOST_WORKERS = 16
_IN_MEMORY = {"crop_pct": 1.0, "crop_mode": "center", "interpolation": "bicubic"}  # what the memory's pipeline does


def usual_workers() -> int:
    """Processes that decode for this one: its share of the machine's cores."""
    return max(1, min(_MOST_WORKERS, open_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


def for_measuring(files: FileDataset, config: dict[str, Any]) -> ImageDataset | FileDataset:
    """A split as a net is to be measured on it: small images as one array in memory, large ones in their files.

    Which of them depends on size, number and crop alone, never on how much memory is free.

    Args:
        files: The split.
        config: How its images are brought to the net, see :func:`wrn_hub.models.preprocess.data_config`.

    Raises:
        UserError: images are to be in memory and one can't be decoded.
    """
    height, width = config["input_size"][1:]
    small = height == width and usual_pipeline(height, len(files)) == "memory"
    if small and all(config[name] == value for name, value in _IN_MEMORY.items()):
        return in_memory(files, height)
    return files


class _Prepared(Dataset):
    """Resized and cropped images uint8 (H, W, 3), or what is wrong with them."""

    def __init__(self, dataset: FileDataset, places: range, config: dict[str, Any]) -> None:
        self.images, self.upright, self.places = dataset.images, dataset.upright, places
        self.transform = create_transform(**config, is_training=False, normalize=False)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number: int) -> torch.Tensor | UserError:
        try:
            name, data = self.images[self.places[number]]
            return self.transform(decoded(data, name, self.upright)).permute(1, 2, 0)
        except UserError as error:  # raised here, it would come to the user with this process's traceback in it
            return error


def _pixels(
    dataset: FileDataset, places: range, batch: int, config: dict[str, Any], workers: int, device: torch.device
) -> Iterator[torch.Tensor]:
    """Batches uint8 (B, H, W, 3) on their way to the device.

    Raises:
        UserError: an image can't be read or decoded.
    """
    workers = min(workers, -(-len(places) // batch))
    return made_by(Workers(_Prepared(dataset, places, config), device, workers, batch_size=batch))


def prepared(dataset: FileDataset, config: dict[str, Any], workers: int | None = None) -> ImageDataset:
    """Some images as the net sees them, as one array uint8 (N, H, W, 3)."""
    workers = usual_workers() if workers is None else workers
    parts = [part.numpy() for part in _pixels(dataset, range(len(dataset)), 16, config, workers, torch.device("cpu"))]
    return ImageDataset(
        dataset.name, dataset.split, np.concatenate(parts), dataset.labels, dataset.classes, dataset.revision)


class FileEvalLoader:
    """Batches of a whole split in its own order, each of what it holds in :class:`~wrn_hub.data.loader.EvalLoader`.

    Args:
        dataset: What to look at.
        batch_size: Images a step over all processes.
        config: How images are brought to the net, see :func:`wrn_hub.models.preprocess.data_config`.
        device: Where the batches are made.
        workers: Processes that decode; 0: this one does. None: as many as it has cores.
        rank: Number of this process.
        world_size: Number of processes.
        mirrored: Left and right changed.
    """

    def __init__(
        self, dataset: FileDataset, batch_size: int, config: dict[str, Any], device: torch.device,
        workers: int | None = None, rank: int = 0, world_size: int = 1, mirrored: bool = False,
    ) -> None:
        self.batch, self.share, self.mine = evaluation_share(len(dataset), batch_size, rank, world_size)
        self.dataset, self.config, self.device, self.mirrored = dataset, config, device, mirrored
        self.workers = usual_workers() if workers is None else workers
        self.labels = torch.tensor(dataset.labels[self.mine.start : self.mine.stop]).split(self.batch)
        self.mean, self.std = (torch.tensor(config[key], device=device) for key in ("mean", "std"))

    def __iter__(self) -> Iterator[Batch]:
        if not self.mine:
            return
        parts = _pixels(self.dataset, self.mine, self.batch, self.config, self.workers, self.device)
        for pixels, labels in zip(parts, self.labels, strict=True):
            pixels = pixels.to(self.device, non_blocking=True)
            if self.mirrored:
                pixels = pixels.flip(2)
            yield normalize(pixels, self.mean, self.std), labels.to(self.device, non_blocking=True)
