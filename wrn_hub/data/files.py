"""A split whose images stay in their files, for those that are too large for memory."""
import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from .dataset import Labelled
from .encoded import Images, Picked

__all__ = ["ARRAY_BYTES", "LARGE", "FileDataset", "usual_pipeline"]

LARGE = 64  # pixels of a side from which on images stay in files
ARRAY_BYTES = 4 * 2**30  # what the array of smaller ones may take: ImageNet at 32 pixels does just so


def usual_pipeline(size: int, images: int) -> str:
    """"files" or "memory", whichever is right for so many images of a side of ``size`` pixels."""
    return "files" if size >= LARGE or 3 * images * size**2 > ARRAY_BYTES else "memory"


@dataclass(frozen=True)
class FileDataset(Labelled):
    """A split of an image-classification dataset, its images encoded as they lie on disk; cheap to pickle.

    Attributes:
        name: What it was loaded as, for example "imagenet-1k".
        split: "train" or "test".
        images: N images, each read when it is asked for: (what to call it in an error, the bytes of its file).
        labels: int64 (N,), each from 0 to ``len(classes) - 1``.
        classes: The names of the classes.
        revision: The commit of the Hub's dataset; None where the images didn't come through the Hub.
        upright: Whether they are turned as their EXIF orientation says when they are decoded, as people see them; else
            they are taken as they lie. :func:`wrn_hub.models.preprocess.sees_upright` says when.

    Raises:
        UserError: there are no images, or labels are not those above.
    """

    name: str
    split: str
    images: Images
    labels: np.ndarray
    classes: tuple[str, ...]
    revision: str | None = None
    upright: bool = True

    def __post_init__(self) -> None:
        self.check_labels()

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the labels and the identity of the images, none of which is read for it.

        That covers, of a folder, the images' paths within it, their order and the sizes of the files; of parquet files
        their names, sizes and rows; of the Hub the dataset's commit where it is known, else the sizes of the cached
        files; of a subset which images it has. Other pixels in files of the same names and sizes go unnoticed.
        """
        digest = hashlib.sha256(self.images.identity())
        digest.update(np.ascontiguousarray(self.labels, dtype="<i8").data)
        return digest.hexdigest()

    def subset(self, index: np.ndarray) -> "FileDataset":
        """The images at ``index``, in that order."""
        return replace(self, images=Picked(self.images, index), labels=self.labels[index])
