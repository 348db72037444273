"""A folder of image files: one folder per class, within train/ and test/ or without splits."""
import logging
import os
from collections import Counter
from pathlib import Path

import numpy as np

from ..errors import UserError, first_line
from .encoded import EncodedSplit, ImageFiles, printable
from .names import in_order
from .splits import choose_split, fifth, kind_of_split, say_without_splits

__all__ = ["SUFFIXES", "has_splits", "image_files", "read_folder"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".pgm", ".ppm", ".tif", ".tiff", ".gif")
_LAYOUTS = (
    "FOLDER/train/CLASS/* and FOLDER/test/CLASS/*, FOLDER/CLASS/*, the parquet files of a Hub dataset, or the official "
    "files of CIFAR")
_RUN = {".lock", "args.json"}  # what stands in the folder of a training, the first from its beginning on

_log = logging.getLogger(__name__)


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"  # what macOS puts beside the files of an archive


def _subfolders(folder: Path) -> list[str]:
    try:
        names = in_order(path.name for path in folder.iterdir() if path.is_dir() and not _hidden(path.name))
    except OSError as error:
        raise UserError(f"{printable(folder)}: {error.strerror or first_line(error)}") from None
    for name in names:
        if os.fsencode(name).decode(errors="replace") != name:
            raise UserError(
                f"{printable(folder / name)}: the folder's name isn't text in UTF-8, as that of a class has to be: "
                "rename it")
    return names


def _files(folder: Path) -> list[Path]:
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not _hidden(name)]
        found += [Path(place, name) for name in names if not _hidden(name)]
    return sorted(path for path in found if path.is_file())


def image_files(folder: Path) -> list[Path]:
    """Every image at any depth below a folder, in order; hidden files, and what lies in hidden folders, are none."""
    return [path for path in _files(folder) if path.suffix.lower() in SUFFIXES]


def _counted(files: list[Path]) -> str:
    kinds = Counter(path.suffix.lower() or "no suffix" for path in files)
    return ", ".join(f"{printable(Path(kind))} {count}" for kind, count in kinds.most_common(5))


def _images_of(classes: list[Path], where: Path) -> dict[str, list[Path]]:
    """Class -> its images; the log says what else is there."""
    images: dict[str, list[Path]] = {}
    every, others = 0, list[Path]()
    for folder in classes:
        files = _files(folder)
        images[folder.name] = [path for path in files if path.suffix.lower() in SUFFIXES]
        left = [path for path in files if path.suffix.lower() not in SUFFIXES]
        if not images[folder.name]:
            but = f", only {_counted(left)}" if left else ""
            raise UserError(f"class folder {folder} holds no images ({' '.join(SUFFIXES)}){but}: add some or remove it")
        every, others = every + len(files), others + left
    if others:
        _log.info("%d of %d files in %s are no images: %s", len(others), every, where, _counted(others))
    return images


def _fifth(folder: Path, found: list[Path], split: str) -> list[Path]:
    """The class's images of one split where the folder has none."""
    if len(found) < 2:
        raise UserError(f"class folder {folder} holds one image: two are needed to train on one and test on the other")
    testing = set(fifth(found))
    return [path for place, path in enumerate(found) if (place in testing) == (split == "test")]


def _holds_images(folder: Path) -> bool:
    return any(path.suffix.lower() in SUFFIXES and not _hidden(path.name) for path in folder.iterdir())


def _holds_trainings(folder: Path) -> bool:
    """Whether a folder is where trainings write, that one among them which reads it now, and so no class; one with an
    image in it, at whatever depth, is a class."""
    if all(_RUN.isdisjoint(names) for _, _, names in os.walk(folder)) or image_files(folder):
        return False
    _log.info("%s holds no images but trainings: it is no class", folder)
    return True


def _refuse_splits(folder: Path, names: list[str]) -> None:
    """Refuse folders that aren't called splits and yet look like them: the same two or more folders are in each."""
    inside = [set(_subfolders(folder / name)) for name in names]
    shared = sorted(set.intersection(*inside)) if inside else []
    if len(names) > 1 and len(shared) > 1 and not any(_holds_images(folder / name) for name in names):
        raise UserError(
            f"{folder}: {', '.join(names[:5])} hold the same folders ({', '.join(shared[:5])}), as splits do: rename "
            "them to train and test (or val); where they are classes, put the images of each into its own folder")


def _or_table(folder: Path) -> str:
    """A hint at a table in the folder, which may be what is meant."""
    found = sorted(path for path in folder.iterdir() if path.suffix in (".csv", ".jsonl"))
    return f"; or is {found[0]}, its table of images and labels, the dataset?" if found else ""


def _split_root(folder: Path, names: list[str], split: str) -> Path:
    """The folder of a split among others, which has to hold class folders."""
    root = folder / choose_split(split, names, str(folder))
    if not _subfolders(root):
        what = "images without class folders, so without labels" if _holds_images(root) else "no class folders"
        raise UserError(
            f"{root} holds {what}: sort them into {root.name}/CLASS/*, or remove it and measure on images held out of "
            "the training split (--held-out); scripts/predict.py classifies images without labels")
    return root


def has_splits(folder: Path) -> bool:
    """Whether a folder holds the folder of a training split, or other splits and nothing else, with classes in it."""
    names = _subfolders(folder)
    kinds = {name: kind_of_split(name) for name in names}
    if any(kind == "train" and _subfolders(folder / name) for name, kind in kinds.items()):
        return True  # a class may be called train too, but holds images
    return None not in kinds.values() and any(_subfolders(folder / name) for name in names)


def read_folder(folder: Path, split: str) -> EncodedSplit:
    """Read a split of FOLDER/train/CLASS/* and FOLDER/test/CLASS/*, or of FOLDER/CLASS/*.

    ``training`` and ``testing`` are names of these splits too, and ``validation``, ``valid``, ``val``, ``dev`` or
    ``eval`` stand in for ``test`` where that is missing; capitals don't matter. The classes are the folders in
    ``train``, sorted, by number where all are numbers; where there is no ``train``, those in the split itself. Without
    splits a fifth of every class is for testing, chosen by the hash of the files' names, so always the same one; the
    log says so. Class folders may have folders of their own; hidden files and folders are passed over, and without
    splits folders of trainings too; the log counts files with other suffixes than those of images.

    Args:
        folder: FOLDER.
        split: "train" or "test"; "all" for every image of a folder without splits.

    Returns:
        The images in the order of their classes, then of their paths.

    Raises:
        UserError: fewer than two class folders, an empty one, no such split, a split without class folders, a class
            that ``train`` lacks, a class whose name isn't text, or splits under names that aren't known.
    """
    names = _subfolders(folder)
    if has_splits(folder):
        trained = any(kind_of_split(name) == "train" for name in names)
        training = _split_root(folder, names, "train" if trained else split)
        classes, root = _subfolders(training), _split_root(folder, names, split)
        present = _subfolders(root)
        if unknown := sorted({*present} - {*classes}):
            raise UserError(
                f"class folder {root / unknown[0]} has no counterpart in {training}: {', '.join(present[:5])} there, "
                f"{', '.join(classes[:5])} here")
        if missing := sorted({*classes} - {*present}):
            _log.info(
                "%s has no images of %d of %d classes: %s", root, len(missing), len(classes), ", ".join(missing[:5]))
        files = _images_of([root / name for name in present], root)
    else:
        classes = [name for name in names if not _holds_trainings(folder / name)]
        if all(map(kind_of_split, classes)):
            raise UserError(f"{folder} holds no dataset: needed are {_LAYOUTS}{_or_table(folder)}")
        _refuse_splits(folder, classes)
        found = _images_of([folder / name for name in classes], folder)
        files = found if split == "all" else {name: _fifth(folder / name, found[name], split) for name in classes}
        say_without_splits(folder, split)
    if len(classes) < 2:
        inside = f"; or is {folder / classes[0]} the dataset?" if len(_subfolders(folder / classes[0])) > 1 else ""
        raise UserError(f"{folder} holds one class, {classes[0]!r}: needed are two or more folders of images"
                        f"{inside or _or_table(folder)}")
    paths = [path for name in files for path in files[name]]
    places = {name: place for place, name in enumerate(classes)}
    labels = np.repeat([places[name] for name in files], [len(found) for found in files.values()])
    return EncodedSplit(ImageFiles(folder, paths), labels.astype(np.int64), tuple(classes))
