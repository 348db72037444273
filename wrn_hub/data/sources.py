"""A dataset by its name or its path, whatever form it has there."""
import os
import re
from pathlib import Path

from ..errors import UserError, nearest
from ..facts import DATASETS
from .cache import cached
from .columns import Asked
from .dataset import ImageDataset
from .encoded import EncodedSplit, PixelImages, decode, stack
from .files import FileDataset
from .folder import read_folder
from .hub import holds_parquet, holds_saved, read_hub, read_parquet, read_saved
from .official import FOLDERS, find_official, read_official
from .sample import SAMPLE

__all__ = ["load_dataset", "load_files"]


def _locate(name: str, data_dir: Path | None) -> tuple[str, Path | None]:
    """(what the dataset is called from here on, its folder or None for the Hub)."""
    if name == "sample":
        return name, SAMPLE
    known = next((key for key, facts in DATASETS.items() if name in (key, facts.hub_id)), None)
    if known:
        if data_dir is None:
            return known, None
        hub_copies = [data_dir / DATASETS[known].hub_id, data_dir]
        for folder in [data_dir / FOLDERS[known], data_dir] if known in FOLDERS else []:
            if find_official(folder) == known:
                return known, folder
        for folder in hub_copies:
            if holds_parquet(folder):
                return known, folder
        allowed = [f"{FOLDERS[known]}/ with the official files"] if known in FOLDERS else []
        allowed.append(f"{DATASETS[known].hub_id}/ with the Hub's parquet files")
        raise UserError(f"{data_dir} holds no {known}: needed is {' or '.join(allowed)}, or that folder itself")
    for folder in ([data_dir / name] if data_dir else []) + [Path(name).expanduser()]:
        if folder.is_dir():
            # a copy of a known dataset has its statistics and its columns
            copy = "/".join(folder.resolve().parts[-2:])
            known = find_official(folder) or next((key for key in DATASETS if DATASETS[key].hub_id == copy), None)
            return known or name, folder
    if re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name):
        if data_dir is None:
            return name, None
        if holds_parquet(data_dir):
            return name, data_dir
        raise UserError(f"{data_dir} holds no {name}; without a data folder it is loaded through the Hub")
    known_names = [*DATASETS, "sample"]
    raise UserError(
        f"dataset {name!r} is neither a folder nor known: allowed are {', '.join(known_names)}, the id of a dataset on "
        f"the Hub (org/name), or the path of a folder.{nearest(name, known_names)}")


def _check_labels(split: EncodedSplit, where: str) -> None:
    """What would be noticed later anyway, but here before minutes of decoding."""
    if not len(split.labels):
        raise UserError(f"{where} holds no images")
    unlabelled = int((split.labels == -1).sum())
    if unlabelled:
        raise UserError(
            f"{where}: {unlabelled} of {len(split.labels)} images have no label (-1); measure on images held out of "
            "the training split (--held-out)")


def load_files(
    name: str, split: str, data_dir: str | os.PathLike | None = None, *, image_column: str | None = None,
    label_column: str | None = None,
) -> FileDataset:
    """Load a split of a dataset, but for its images, which stay in their files; see :func:`load_dataset`.

    Raises:
        UserError: there is no such dataset or split; a label is missing or out of range; a class is one that the
            training split lacks; the network is needed and not there.
    """
    if split not in ("train", "test"):
        raise UserError(f"split {split!r}: allowed are train and test")
    data_dir = Path(data_dir).expanduser() if data_dir is not None else None
    if data_dir is not None and not data_dir.is_dir():
        raise UserError(f"data folder {data_dir}: no such folder")
    name, folder = _locate(name, data_dir)
    facts, asked = DATASETS.get(name), Asked(image_column, label_column)
    if facts and asked:  # its other columns are of other classes, so it is another dataset
        name, facts = facts.hub_id, None
    if folder is None:
        encoded = read_hub(facts.hub_id if facts else name, split, facts, asked)
    elif facts and find_official(folder) == name:
        encoded = read_official(name, split, folder)
    elif holds_parquet(folder):
        encoded = read_parquet(folder, split, f"{folder} ({split})", facts, asked)
    elif holds_saved(folder):
        encoded = read_saved(folder, split, f"{folder} ({split})", asked)
    elif asked:
        raise UserError(f"{folder} holds no table, so no columns: leave out --image-column and --label-column")
    else:
        encoded = read_folder(folder, split)
    _check_labels(encoded, f"{name} ({split})")
    return FileDataset(name, split, encoded.images, encoded.labels, encoded.classes, encoded.revision)


def load_dataset(
    name: str, split: str, data_dir: str | os.PathLike | None = None, size: int | None = None, *,
    image_column: str | None = None, label_column: str | None = None,
) -> ImageDataset:
    """Load a split of a dataset.

    ============================  ====================================================================================
    name                          where it comes from
    ============================  ====================================================================================
    cifar10, cifar100, svhn       the official CIFAR files or a copy of the Hub's parquet files in ``data_dir``, else
                                  the Hub; CIFAR-100 with its 100 fine labels
    sample                        this package: 2,000 + 1,000 images of CIFAR-100 in its 20 superclasses
    a folder                      the same two forms, or images as FOLDER/train/CLASS/* and FOLDER/test/CLASS/*, or as
                                  FOLDER/CLASS/*, of which the same fifth of every class is always for testing; a
                                  relative path counts from ``data_dir``, then from the working directory; or images
                                  with a metadata.csv, .jsonl or .parquet of their ``file_name`` and ``label``, or what
                                  ``save_to_disk`` of the ``datasets`` library wrote
    a Hub id, "org/name"          a copy of its parquet files in ``data_dir``, else the Hub
    ============================  ====================================================================================

    The known names come before folders of the same name; ``./cifar10`` is a folder. A validation split stands in for
    a missing test split. The classes are those of the training split whichever split is loaded: labels of files that
    name them in another order are matched by name. Whatever has to be decoded or resized is decoded once and
    memory-mapped after, see :mod:`wrn_hub.data.cache`.

    Args:
        name: See above.
        split: "train" or "test".
        data_dir: Folder that holds the dataset; with it, nothing is loaded through the Hub.
        size: Side in pixels: the shorter side is brought to it, bicubic and antialiased, and the centre cut out.
            Images that have this size already stay bit-identical. None keeps the images as they are, which then have
            to be of one size.
        image_column: The column of the images, where a dataset has columns; by default its one Image column.
        label_column: The column of the labels; by default its one ClassLabel column, or where it has none, the one
            called "label". Integers and texts are taken as the names of the classes, unless a ClassLabel names them.

    Raises:
        UserError: there is no such dataset, split or column; an image can't be decoded; a label is missing or out of
            range; a class is one that the training split lacks; images differ in size and none is given; the network
            is needed and not there.
    """
    if size is not None and size < 1:
        raise UserError(f"size {size}: allowed is 1 pixel or more")
    files = load_files(name, split, data_dir, image_column=image_column, label_column=label_column)
    images, where = files.images, f"{files.name} ({split})"
    if isinstance(images, PixelImages) and size in (None, images.pixels.shape[1]):
        pixels = images.pixels
    else:
        decoded = (decode(data, each) for each, data in images)
        pixels = cached(
            where, images.files, images.column, len(images), size, lambda: stack(decoded, len(images), size))
    return ImageDataset(files.name, split, pixels, files.labels, files.classes, files.revision)
