"""A folder of image files: one folder per class, within train/ and test/ or without splits."""
import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..errors import UserError
from .encoded import EncodedSplit, choose_split

__all__ = ["SUFFIXES", "image_files", "read_folder"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".pgm", ".ppm", ".tif", ".tiff", ".gif")
_SPLITS = ("train", "test", "validation", "valid", "val")

_log = logging.getLogger(__name__)


def _subfolders(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def image_files(folder: Path) -> list[Path]:
    """Every image at any depth below a folder, in order; hidden files are none."""
    return sorted(
        path for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file())


def _images(folder: Path) -> list[Path]:
    found = image_files(folder)
    if not found:
        raise UserError(f"class folder {folder} holds no images ({' '.join(SUFFIXES)}): add some or remove it")
    return found


def _fifth(folder: Path, split: str) -> list[Path]:
    """The class's images of one split where the folder has none: a fifth, at least one, is for testing."""
    # by the hash of the name: an image stays in its split, or nearly always, when others are added
    found = sorted(_images(folder), key=lambda path: hashlib.sha256(path.name.encode()).digest())
    if len(found) < 2:
        raise UserError(f"class folder {folder} holds one image: two are needed to train on one and test on the other")
    testing = max(1, round(len(found) / 5))
    return sorted(found[:testing] if split == "test" else found[testing:])


def _read(paths: list[Path]) -> Iterator[tuple[str, bytes]]:
    for path in paths:
        yield str(path), path.read_bytes()


def read_folder(folder: Path, split: str) -> EncodedSplit:
    """Read a split of FOLDER/train/CLASS/* and FOLDER/test/CLASS/*, or of FOLDER/CLASS/*.

    ``validation``, ``valid`` or ``val`` stand in for ``test`` where that is missing; capitals don't matter. The classes
    are the folders in ``train``, sorted. Without splits a fifth of every class is for testing, chosen by the hash of
    the files' names, so always the same one; the log says so. Class folders may have folders of their own; hidden files
    and files with other suffixes than those of images are passed over.

    Args:
        folder: FOLDER.
        split: "train" or "test".

    Returns:
        The images in the order of their classes, then of their paths.

    Raises:
        UserError: fewer than two class folders, an empty one, no such split, or a class that ``train`` lacks.
    """
    names = _subfolders(folder)
    splits = {name.lower(): folder / name for name in names if name.lower() in _SPLITS}
    if "train" in splits and _subfolders(splits["train"]):  # a class may be called train too, but holds images
        classes = _subfolders(splits["train"])
        root = splits[choose_split(split, list(splits), str(folder))]
        present = _subfolders(root)
        unknown = sorted(set(present) - set(classes))
        if unknown:
            raise UserError(f"class folder {root / unknown[0]} has no counterpart in {splits['train']}")
        files = {name: _images(root / name) for name in present}
    elif len(names) == len(splits):
        raise UserError(
            f"{folder} holds no dataset: needed are FOLDER/train/CLASS/* and FOLDER/test/CLASS/*, FOLDER/CLASS/*, "
            "the parquet files of a Hub dataset, or the official files of CIFAR")
    else:
        classes = names
        files = {name: _fifth(folder / name, split) for name in classes}
        _log.info("%s has no train and test folders: a fifth of every class is for testing", folder)
    if len(classes) < 2:
        raise UserError(f"{folder} holds one class, {classes[0]!r}: needed are two or more folders of images")
    paths = [path for name in files for path in files[name]]
    labels = np.repeat([classes.index(name) for name in files], [len(found) for found in files.values()])
    return EncodedSplit(_read(paths), labels.astype(np.int64), tuple(classes), tuple(paths))
