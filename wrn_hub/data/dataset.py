"""What every source of images becomes: one array of pixels, one of labels, and the names of the classes."""
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sized
from dataclasses import dataclass, replace
from functools import cached_property
from operator import index as whole_number
from typing import Self

import numpy as np

from ..errors import UserError

__all__ = ["ImageDataset", "Labelled"]


class Labelled(ABC):
    """What holds for a split of labelled images, in whatever form they are."""

    name: str
    split: str
    images: Sized
    labels: np.ndarray
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    @abstractmethod
    def subset(self, index: np.ndarray) -> Self:
        """The images at ``index``, in that order."""

    def check_labels(self) -> None:
        """Refuse labels that aren't one an image, each of a class."""
        where = f"{self.name} ({self.split})"
        if not len(self.images) or self.labels.shape != (len(self.images),):
            raise UserError(
                f"{where}: {len(self.images)} images and labels of shape {self.labels.shape}; need one label an image")
        if self.labels.min() < 0 or self.labels.max() >= len(self.classes):
            raise UserError(
                f"{where}: labels run from {self.labels.min()} to {self.labels.max()}, "
                f"but {len(self.classes)} classes allow 0 to {len(self.classes) - 1}")

    def held_out(self, count: int, seed: int = 0) -> tuple[Self, Self]:
        """Part the split in two: (all but ``count`` images, ``count`` images drawn evenly from every class).

        Raises:
            UserError: fewer than one image a class would be held out, or none would be left to train on.
        """
        drawn, others = self._parted(count, len(self) - 1, seed, "hold out")
        return self.subset(others), self.subset(drawn)

    def labelled(self, count: int, seed: int = 0) -> tuple[Self, Self]:
        """Part the split in two for semi-supervised learning: (``count`` labelled images, drawn evenly from every
        class; all others, whose labels nobody is to look at).

        The usual sizes are 40, 250 and 4,000 of CIFAR-10, 400, 2,500 and 10,000 of CIFAR-100, 40, 250 and 1,000 of
        SVHN, with five seeds each (FixMatch, arXiv:2001.07685, whose unlabelled images are those of the whole split).

        Raises:
            UserError: fewer than one image a class would be labelled, or all.
        """
        drawn, others = self._parted(count, len(self) - 1, seed, "label")
        return self.subset(drawn), self.subset(others)

    def balanced(self, count: int, seed: int = 0) -> Self:
        """``count`` images drawn evenly from every class, those that :meth:`labelled` draws.

        Raises:
            UserError: that is fewer than one image a class, or more than there are.
        """
        return self.subset(self._parted(count, len(self), seed, "draw")[0])

    def _parted(self, count: int, most: int, seed: int, what: str) -> tuple[np.ndarray, np.ndarray]:
        """Places of ``count`` images drawn evenly from every class, and those of the others, both in order."""
        if not len(self.classes) <= count <= most:
            raise UserError(
                f"can't {what} {count} of {len(self)} images of {len(self.classes)} classes: allowed are "
                f"{len(self.classes)} to {most}")
        order = np.random.default_rng(seed).permutation(len(self))
        # the n-th image of each class comes before the (n+1)-th of any
        ranks = np.empty(len(self), dtype=np.int64)
        for label in range(len(self.classes)):
            of_class = order[self.labels[order] == label]
            ranks[of_class] = np.arange(len(of_class))
        order = order[np.argsort(ranks[order], kind="stable")]
        return np.sort(order[:count]), np.sort(order[count:])


@dataclass(frozen=True)
class ImageDataset(Labelled):
    """A split of an image-classification dataset, in memory or memory-mapped.

    Attributes:
        name: What it was loaded as, for example "cifar10".
        split: "train" or "test".
        images: uint8 (N, H, W, 3), RGB.
        labels: int64 (N,), each from 0 to ``len(classes) - 1``.
        classes: The names of the classes.
        revision: The commit of the Hub's dataset; None where the images didn't come through the Hub.

    Raises:
        UserError: shapes, types or labels are not those above.
    """

    name: str
    split: str
    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    revision: str | None = None

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 4 or self.images.shape[3] != 3:
            raise UserError(
                f"{self.name} ({self.split}): images are {self.images.dtype} {self.images.shape}, not uint8 "
                "(N, H, W, 3)")
        self.check_labels()

    def __getitem__(self, number: int) -> tuple[np.ndarray, int]:
        """An image, uint8 (H, W, 3), and its label; so torch's DataLoader takes the dataset as it is."""
        number = whole_number(number)
        return np.array(self.images[number]), int(self.labels[number])

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the shape, the pixels and the labels: equal wherever the same images came from."""
        digest = hashlib.sha256(repr(self.images.shape).encode())
        digest.update(np.ascontiguousarray(self.images).data)
        digest.update(np.ascontiguousarray(self.labels, dtype="<i8").data)
        return digest.hexdigest()

    def subset(self, index: np.ndarray) -> "ImageDataset":
        """The images at ``index``, in that order."""
        return replace(self, images=self.images[index], labels=self.labels[index])
