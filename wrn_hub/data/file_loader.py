"""Batches of images that are files: workers decode, crop and augment each as it is needed, the device normalises them.

The loader for what doesn't fit into memory, with the interface and the promises of
:class:`~wrn_hub.data.loader.TrainLoader`: what an image undergoes depends on (seed, epoch, its place in the epoch)
alone, not on which worker of which process makes it, nor on where a run was interrupted. A worker seeds the generators
of Python, numpy and torch from those three before it transforms an image, and each batch says which images, epoch and
size it is made of, so that workers keep nothing from one batch to the next.
"""
import atexit
import ctypes
import random
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any
from weakref import WeakSet

import numpy as np
import torch
from PIL import Image
from timm.data import create_transform
from timm.data.auto_augment import posterize
from timm.data.random_erasing import RandomErasing
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from ..errors import UserError, first_line
from . import trivial_augment
from .encoded import decoded
from .files import FileDataset
from .loader import Batch, epoch_generator, normalize, shared_batch
from .stream import StreamDataset

__all__ = ["FileAugmentation", "FileTrainLoader", "Workers", "made_by"]


@dataclass(frozen=True)
class FileAugmentation:
    """What is done to the images of a training from files, and where its chance comes from.

    Attributes:
        scale: Least and largest share of an image's area that the random resized crop takes.
        ratio: Least and largest width of that crop, in its heights.
        interpolation: Of its resizing: "bilinear", "bicubic", or "random", either of them.
        flip: Whether every other image is mirrored, at random.
        color_jitter: Largest change of brightness, contrast and saturation, as a share; 0 for none.
        auto_augment: A policy in timm's words, such as "rand-m9-mstd0.5-inc1"; it takes the place of colour jitter.
        augment: "trivial" for TrivialAugment, or "none".
        reprob: Probability of random erasing (arXiv:1708.04896).
        remode: What is erased becomes noise ("pixel") or the mean ("const").
        repeats: Augmented copies of an image in its batch (arXiv:1901.09335).
        seed: With the epoch, the only source of chance, of the order too.

    Raises:
        UserError: timm has no such policy.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: str = "random"
    flip: bool = True
    color_jitter: float = 0.0
    auto_augment: str | None = None
    augment: str = "none"
    reprob: float = 0.0
    remode: str = "pixel"
    repeats: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        try:
            self.transform(8, (0.5, 0.5, 0.5))
        except Exception as error:  # timm asserts, looks up and converts what the text holds
            raise UserError(
                f"auto_augment = {self.auto_augment!r} ({first_line(error)}): allowed are timm's policies, such as "
                "rand-m9-mstd0.5-inc1, augmix-m5-w4-d2, original, v0 and 3a") from None

    def transform(self, size: int, mean: tuple[float, ...]) -> Callable[[Image.Image], torch.Tensor]:
        """From a PIL image to uint8 (3, size, size), by the global generators."""
        made = create_transform(
            size, is_training=True, use_prefetcher=True, scale=self.scale, ratio=self.ratio,
            interpolation=self.interpolation, hflip=0.5 if self.flip else 0.0, color_jitter=self.color_jitter or None,
            auto_augment=self.auto_augment, mean=mean)
        for part in made.transforms:
            for operation in (*getattr(part, "ops", ()), *chain.from_iterable(getattr(part, "policy", ()))):
                if operation.aug_fn is posterize:
                    operation.aug_fn = _posterize
        return made


def _posterize(image: Image.Image, bits: int, **kwargs: Any) -> Image.Image:
    """timm's, which may be left without a single bit: that is black, and an error from Pillow 13 on."""
    return posterize(image, bits, **kwargs) if bits > 0 else Image.new(image.mode, image.size)


Transform = Callable[[Image.Image], torch.Tensor]


def _seed(device: str, *key: int) -> None:
    """Make everything that is drawn next, on a device of a type, depend on the key alone."""
    seed = hash(key) % 2**32
    random.seed(seed)
    np.random.seed(seed)
    if device == "cpu":
        torch.default_generator.manual_seed(seed)  # torch.manual_seed takes 0.2 ms more, to think of other devices
    else:
        torch.manual_seed(seed)


_Source = Any  # where workers find an image: its number; of a stream, the image itself
_Item = tuple[_Source, tuple[int, int, int], int]  # the last are (seed, epoch, place) and the side in pixels


class _Augmented(Dataset):
    """Decoded and augmented images uint8 (size, size, 3), or what is wrong with them."""

    def __init__(
        self, images: FileDataset | StreamDataset, mean: tuple[float, ...], augmentation: FileAugmentation
    ) -> None:
        self.images, self.upright, self.mean, self.augmentation = images.images, images.upright, mean, augmentation
        self.transforms: dict[int, Transform] = {}

    def __getitem__(self, item: _Item) -> torch.Tensor | UserError:
        source, key, size = item
        if size not in self.transforms:
            self.transforms[size] = self.augmentation.transform(size, self.mean)
        try:
            name, data = self.images[source]
            image = decoded(data, name, self.upright)
        except UserError as error:  # raised here, it would come to the user with this process's traceback in it
            return error
        _seed("cpu", *key)
        return self.transforms[size](image).permute(1, 2, 0)  # as it lies in memory


def _collate(items: list[torch.Tensor | UserError]) -> torch.Tensor | UserError:
    return next((item for item in items if isinstance(item, UserError)), None) or default_collate(items)


class Workers(DataLoader):
    """A DataLoader of images, whose workers leave Ctrl-C and SIGTERM, which may reach every process of a job, to the
    process that they work for: it saves and then ends them.

    Args:
        dataset: Gives images uint8 (H, W, 3), or what is wrong with them.
        device: Where the batches will go.
        workers: Number of worker processes; 0: this one does their work.
        **kwargs: As torch has them.
    """

    def __init__(self, dataset: Dataset, device: torch.device, workers: int, **kwargs: Any) -> None:
        super().__init__(
            dataset, num_workers=workers, collate_fn=_collate, worker_init_fn=_leave_signals,
            pin_memory=device.type == "cuda", generator=torch.Generator(), **kwargs)

    def __iter__(self) -> Iterator[torch.Tensor | UserError]:
        iterator = super().__iter__()
        if self.num_workers:
            _at_work.add(iterator)
        return iterator


_at_work: WeakSet = WeakSet()
_GRACE = 60  # seconds that a worker goes on after a SIGTERM, in which the process that it works for saves


@atexit.register
def _end_workers() -> None:
    """Before multiprocessing ends them by a SIGTERM and waits.

    torch's public way, to let go of the iterator, is none here: the loader keeps it for the next epoch.
    """
    for iterator in list(_at_work):
        iterator._shutdown_workers()


def _leave_signals(_: int) -> None:
    def end_soon(*_: object) -> None:
        signal.alarm(_GRACE)

    if sys.platform == "linux":  # die with the process that they work for: they hold the lock of its run's folder too
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, end_soon)


def made_by(workers: Workers) -> Iterator[torch.Tensor]:
    """Their batches.

    Raises:
        UserError: an image can't be read or decoded, or a worker was ended from outside.
    """
    batches = iter(workers)
    try:
        for pixels in batches:
            if isinstance(pixels, UserError):
                raise pixels
            yield pixels
    except (RuntimeError, UserError) as error:
        if workers.num_workers:
            batches._shutdown_workers()  # type: ignore[attr-defined]  # what holds the error would keep them waiting
        if "DataLoader worker" not in str(error):
            raise
        raise UserError(
            f"a worker process that reads images was ended ({first_line(error)}): mostly for want of memory or of "
            "shared memory (in a container --shm-size); fewer --workers need less, --workers 0 none") from error


class _Plan(Sampler):
    """The batches of the epoch under way, told to workers that outlive it."""

    def __init__(self) -> None:
        self.batches: Iterator[list[_Item]] = iter(())

    def __iter__(self) -> Iterator[list[_Item]]:
        return self.batches


class FileTrainLoader:
    """Augmented batches of one process, from files.

    Args:
        dataset: What to train on; each image is read and decoded when its turn comes.
        batch_size: Images a step over all processes.
        mean: Per channel, in units of 1.
        std: Per channel, in units of 1.
        device: Where the batches are made.
        size: Side of the images in pixels, where an epoch doesn't say another.
        augmentation: What is done to the images.
        workers: Processes that decode and augment; 0: this one does.
        rank: Number of this process.
        world_size: Number of processes.

    Raises:
        UserError: the batch can't be shared evenly.
    """

    def __init__(
        self,
        dataset: FileDataset | StreamDataset,
        batch_size: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        device: torch.device,
        size: int,
        augmentation: FileAugmentation = FileAugmentation(),
        workers: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.batch_size = shared_batch(batch_size, len(dataset), world_size)
        self.dataset: Any = dataset
        self.mean, self.std = torch.tensor(mean, device=device), torch.tensor(std, device=device)
        self.device, self.size, self.augmentation = device, size, augmentation
        self.rank, self.world_size, self.workers = rank, world_size, workers
        self.eraser = RandomErasing(augmentation.reprob, mode=augmentation.remode, device=device)
        self.plan = _Plan()
        self.loader = Workers(
            _Augmented(dataset, mean, augmentation), device, workers, batch_sampler=self.plan,
            persistent_workers=workers > 0)

    def __len__(self) -> int:
        """Steps an epoch. The images that don't fill a last batch wait for another epoch's order."""
        return len(self.dataset) // self.batch_size

    def _apart(self, images: int) -> torch.Tensor:
        """int64 (images,): the order in which copies of an image, that come one after the other, stand apart, since
        neighbours may be mixed."""
        repeats = self.augmentation.repeats
        return torch.cat([torch.arange(start, images, repeats) for start in range(min(repeats, images))])

    def _shares(
        self, epoch: int, generator: torch.Generator, first_step: int
    ) -> Iterator[tuple[list[_Source], torch.Tensor]]:
        """For each step this process's images, and their labels, int64 (B,)."""
        batch = self.batch_size
        order = torch.randperm(len(self.dataset), generator=generator).repeat_interleave(self.augmentation.repeats)
        order = order[: len(self) * batch].view(-1, batch)[:, self._apart(batch)]
        mine = order.view(len(self), self.world_size, -1)[first_step:, self.rank]
        return zip(map(torch.Tensor.tolist, mine), torch.tensor(self.dataset.labels)[mine], strict=True)

    def epoch(self, epoch: int, size: int | None = None, first_step: int = 0) -> Iterator[Batch]:
        """Yield (images float32 (B, 3, size, size) channels_last, labels int64 (B,)) for this process.

        Args:
            epoch: Number of the epoch, from 0.
            size: Side of the images in pixels; the loader's own where None.
            first_step: Where to begin; the steps before it are left out.

        Raises:
            UserError: an image can't be read or decoded; names it. A worker was ended from outside.
        """
        how, side = self.augmentation, size or self.size
        generator = epoch_generator(how.seed, epoch)
        shares = self._shares(epoch, generator, first_step)
        operation, strength = trivial_augment.draw(len(self) * self.batch_size, generator)
        share, steps = self.batch_size // self.world_size, range(first_step, len(self))
        told: deque[torch.Tensor] = deque()  # labels of the batches that workers are making

        def places(step: int) -> range:
            start = step * self.batch_size + self.rank * share
            return range(start, start + share)

        def batches() -> Iterator[list[_Item]]:
            for step, (sources, labels) in zip(steps, shares, strict=False):  # of a stream the end takes its time
                told.append(labels)
                keys = [(how.seed, epoch, place) for place in places(step)]
                yield [(source, key, side) for source, key in zip(sources, keys, strict=True)]

        self.plan.batches = batches()
        for step, pixels in zip(steps, made_by(self.loader), strict=True):
            mine = slice(places(step).start, places(step).stop)
            images = pixels.to(self.device, non_blocking=True)
            if how.augment == "trivial":
                (plan,) = trivial_augment.plan(operation[None, mine], strength[None, mine], side, side, self.device)
                images = trivial_augment.apply(images, plan)
            batch = normalize(images, self.mean, self.std)
            if how.reprob:
                for image, place in zip(batch, places(step), strict=True):
                    _seed(self.device.type, how.seed, epoch, place, 1)  # other numbers than those that cropped it
                    self.eraser(image)
            yield batch, told.popleft().to(self.device, non_blocking=True)
