"""Batches made where the whole dataset lies: as uint8 on the device, cropped, flipped and normalised there.

A small dataset fits into the memory of any device (CIFAR: 154 MB), so no worker process copies images about. What an
image undergoes depends on (seed, epoch, its place in the epoch) alone: two processes with half the batch each see the
images that one process sees, and a resumed run sees what the unbroken one would have seen.
"""
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from ..errors import UserError
from ..facts import mean_std
from . import trivial_augment
from .dataset import ImageDataset

__all__ = [
    "Augmentation", "EvalLoader", "TrainLoader", "crop_and_flip", "cutout_", "epoch_generator", "evaluation_share",
    "normalize", "shared_batch"]

Batch = tuple[torch.Tensor, torch.Tensor]


def _reflect(index: torch.Tensor, size: int) -> torch.Tensor:
    """Map -1, -2, ... to 1, 2, ... and size, size + 1, ... to size - 2, size - 3, ...: reflection without the edge."""
    index = index.abs()
    return torch.minimum(index, 2 * (size - 1) - index)


def crop_and_flip(
    images: torch.Tensor, index: torch.Tensor, shift: torch.Tensor, flip: torch.Tensor
) -> torch.Tensor:
    """Shifted and mirrored copies of some images, the border reflected (paper, section 3: pad 4 and crop).

    The shift, the reflection and the mirror are one table of pixel numbers, so a batch is a single gather.

    Args:
        images: uint8 (N, H, W, 3), contiguous.
        index: int64 (B,), which images.
        shift: int64 (B, 2), down and right, each smaller than H or W in absolute value.
        flip: bool (B,), mirror left and right.

    Returns:
        uint8 (B, H, W, 3).
    """
    height, width = images.shape[1:3]
    # half the bytes of int64 to write and read, wherever pixel numbers fit
    whole = torch.int32 if images.numel() // 3 < 2**31 else torch.int64
    index, shift = index.to(whole), shift.to(whole)
    down = torch.arange(height, device=images.device, dtype=whole)
    right = torch.arange(width, device=images.device, dtype=whole)
    rows = _reflect(down + shift[:, :1], height)
    cols = _reflect(torch.where(flip[:, None], right.flip(0), right) + shift[:, 1:], width)
    pixels = (index[:, None] * height + rows)[:, :, None] * width + cols[:, None, :]
    return images.view(-1, 3).index_select(0, pixels.view(-1)).view(len(index), height, width, 3)


def normalize(images: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """uint8 (B, H, W, 3) to float32 (B, 3, H, W) in channels_last memory, (x / 255 - mean) / std."""
    batch, height, width, channels = images.shape
    # rows as the last dimension: a broadcast over three values alone is 25 times slower on a CPU
    scale, offset = (1 / (255 * std)).repeat(width), (-mean / std).repeat(width)
    rows = torch.addcmul(offset, images.reshape(batch, height, width * channels).float(), scale)
    return rows.view(batch, height, width, channels).permute(0, 3, 1, 2)


def cutout_(images: torch.Tensor, centre: torch.Tensor, size: int) -> torch.Tensor:
    """Set a square of ``size`` pixels around each centre to 0, the mean, in place (arXiv:1708.04552).

    Args:
        images: float (B, C, H, W), normalised.
        centre: int64 (B, 2), row and column; the square may hang over the border.
        size: Side of the square in pixels.
    """
    inside = []
    for axis, length in enumerate(images.shape[2:]):
        offset = torch.arange(length, device=images.device) - centre[:, axis : axis + 1] + size // 2
        inside.append((offset >= 0) & (offset < size))
    # whole rows of pixels and channels at once, as in normalize
    rows = images.permute(0, 2, 3, 1).flatten(2)  # the same memory where that is channels_last, else a copy
    columns = inside[1].repeat_interleave(images.shape[1], dim=1)
    keep = (~inside[0]).to(rows.dtype)[:, :, None] + (~columns).to(rows.dtype)[:, None, :]  # 0 within the square
    rows.mul_(keep.clamp_(max=1))
    if rows.data_ptr() != images.data_ptr():
        images.copy_(rows.view(len(images), *images.shape[2:], -1).permute(0, 3, 1, 2))
    return images


def shared_batch(batch_size: int, images: int, world_size: int) -> int:
    """Images a step over all processes: as many as were asked for, or as there are.

    Raises:
        UserError: they can't be shared evenly.
    """
    batch_size = min(batch_size, images // world_size * world_size)
    if batch_size < world_size or batch_size % world_size:
        raise UserError(
            f"a batch of {batch_size} can't be shared evenly by {world_size} processes: "
            f"choose a multiple of {world_size}")
    return batch_size


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """What an epoch's order and augmentation are drawn from; on the CPU, so that the draws are the same everywhere."""
    return torch.Generator().manual_seed(hash((seed, epoch)) % 2**63)


def _on_device(dataset: ImageDataset, device: torch.device) -> Batch:
    images = np.ascontiguousarray(dataset.images)  # the crop counts pixels; official files lie channel by channel
    return torch.tensor(images, device=device), torch.tensor(dataset.labels, device=device)


def _resize(images: torch.Tensor, size: int | None) -> torch.Tensor:
    """uint8 (B, H, W, 3) to (B, size, size, 3), antialiased bilinear; untouched where the size is right already."""
    if size is None or images.shape[1:3] == (size, size):
        return images
    pixels = images.permute(0, 3, 1, 2)
    accelerated = images.device.type != "cpu"
    if accelerated:  # has no antialiased resizing of bytes; on a CPU bytes are several times faster
        pixels = pixels.float()
    resized = F.interpolate(pixels, size=(size, size), mode="bilinear", antialias=True)
    if accelerated:
        resized = resized.round().clamp(0, 255).to(torch.uint8)
    return resized.permute(0, 2, 3, 1).contiguous()


@dataclass(frozen=True)
class Augmentation:
    """What is done to the images of a training, and where its chance comes from.

    Attributes:
        crop_padding: Largest shift of the random crop in pixels, the border reflected.
        flip: "alternating": every image is mirrored in every other epoch, half of them in the first; "random": each
            with probability 1/2; "none".
        cutout: Side of the square that is blanked, in pixels; 0 for none.
        augment: "trivial" for TrivialAugment between the crop and the cutout, or "none".
        seed: With the epoch, the only source of chance, of the order too.
    """

    crop_padding: int = 4
    flip: str = "alternating"
    cutout: int = 0
    augment: str = "none"
    seed: int = 0


class TrainLoader:
    """Augmented batches of one process; ``for images, labels in loader`` is an epoch, each time the next one.

    Two loaders of one dataset and seed go through it in the same order, by the same crops and mirrors, whatever else
    they do to the images: ``zip`` of them gives two views of each batch.

    Args:
        dataset: What to train on; copied to the device as it is.
        batch_size: Images a step over all processes.
        mean: Per channel, in units of 1; that of a known dataset where it isn't given.
        std: Per channel, in units of 1; likewise.
        device: Where the dataset lies and the batches are made.
        augmentation: What is done to the images.
        rank: Number of this process.
        world_size: Number of processes.

    Raises:
        UserError: the batch can't be shared evenly, a crop reaches past the reflected border, or mean and standard
            deviation aren't known.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        batch_size: int = 128,
        mean: Sequence[float] = (),
        std: Sequence[float] = (),
        device: torch.device | str = "cpu",
        augmentation: Augmentation = Augmentation(),
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        batch_size = shared_batch(batch_size, len(dataset), world_size)
        if not 0 <= augmentation.crop_padding < min(dataset.images.shape[1:3]):
            raise UserError(
                f"crop padding {augmentation.crop_padding}: allowed are 0 to {min(dataset.images.shape[1:3]) - 1} "
                f"for images of {dataset.images.shape[1]}x{dataset.images.shape[2]}")
        device, (mean, std) = torch.device(device), mean_std(dataset.name, mean, std)
        self.images, self.labels = _on_device(dataset, device)
        self.mean, self.std = torch.tensor(mean, device=device), torch.tensor(std, device=device)
        self.batch_size, self.device, self.augmentation = batch_size, device, augmentation
        self.rank, self.world_size, self.begun = rank, world_size, 0

    def __len__(self) -> int:
        """Steps an epoch. The images that don't fill a last batch wait for another epoch's order."""
        return len(self.images) // self.batch_size

    def __iter__(self) -> Iterator[Batch]:
        """The next epoch's batches: epoch 0 at first."""
        self.begun += 1
        return self.epoch(self.begun - 1)

    def epoch(self, epoch: int, size: int | None = None, first_step: int = 0) -> Iterator[Batch]:
        """Yield (images float32 (B, 3, size, size) channels_last, labels int64 (B,)) for this process.

        Args:
            epoch: Number of the epoch, from 0.
            size: Side of the images in pixels; the dataset's own where None.
            first_step: Where to begin; the steps before it are left out.
        """
        count, (height, width) = len(self.images), self.images.shape[1:3]
        how = self.augmentation
        generator = epoch_generator(how.seed, epoch)
        order = torch.randperm(count, generator=generator)
        shift = torch.randint(-how.crop_padding, how.crop_padding + 1, (count, 2), generator=generator)
        centre = torch.stack(
            [torch.randint(length, (count,), generator=generator) for length in (height, width)], dim=1)
        first = generator if how.flip == "random" else epoch_generator(how.seed, -1)
        sides = torch.randint(2, (count,), generator=first)
        flip = ((sides + epoch * (how.flip == "alternating")) % 2 == 1)[order] & (how.flip != "none")
        operation, strength = trivial_augment.draw(count, generator)
        order, shift, centre, flip = (t.to(self.device) for t in (order, shift, centre, flip))

        share = self.batch_size // self.world_size
        plans = []
        if how.augment == "trivial":
            places = torch.arange(len(self) * self.batch_size).view(len(self), self.world_size, share)[:, self.rank]
            plans = trivial_augment.plan(operation[places], strength[places], height, width, self.device)
        for step in range(first_step, len(self)):
            start = step * self.batch_size + self.rank * share
            mine = slice(start, start + share)
            images = crop_and_flip(self.images, order[mine], shift[mine], flip[mine])
            if how.augment == "trivial":
                images = trivial_augment.apply(images, plans[step])
            batch = normalize(_resize(images, size), self.mean, self.std)
            if how.cutout:
                down, right = batch.shape[2] / height, batch.shape[3] / width
                scaled = torch.stack([centre[mine, 0] * down, centre[mine, 1] * right], dim=1).long()
                cutout_(batch, scaled, round(how.cutout * right))
            yield batch, self.labels[order[mine]]


def evaluation_share(count: int, batch_size: int, rank: int, world_size: int) -> tuple[int, int, range]:
    """(images a batch, images a process in whole batches, this process's images) of ``count`` looked at in order."""
    batch = max(batch_size // world_size, 1)
    share = -(-count // (batch * world_size)) * batch
    return batch, share, range(min(rank * share, count), min((rank + 1) * share, count))


class EvalLoader:
    """Batches of a whole split in its own order; nothing is dropped or padded.

    Each process has whole batches, so that with twice the processes and twice the batch size every batch holds the
    images that it held before, and the sums come out the same to the last bit.

    Args:
        dataset: What to look at.
        batch_size: Images a step over all processes.
        mean: Per channel, in units of 1.
        std: Per channel, in units of 1.
        device: Where the batches are made.
        size: Side of the images in pixels; the dataset's own where None.
        rank: Number of this process.
        world_size: Number of processes.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        batch_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        device: torch.device | str,
        size: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.dataset, self.device, self.size = dataset, device, size
        self.mean, self.std = torch.tensor(mean, device=device), torch.tensor(std, device=device)
        self.batch, self.share, self.mine = evaluation_share(len(dataset), batch_size, rank, world_size)

    def __iter__(self) -> Iterator[Batch]:
        for start in range(self.mine.start, self.mine.stop, self.batch):
            part = slice(start, min(start + self.batch, self.mine.stop))
            images = torch.tensor(self.dataset.images[part], device=self.device)
            labels = torch.tensor(self.dataset.labels[part], device=self.device)
            yield normalize(_resize(images, self.size), self.mean, self.std), labels
