"""A dataset by its name or its path, whatever form it has there."""
import os
import re
from dataclasses import replace
from pathlib import Path

from ..errors import UserError, nearest
from ..facts import KNOWN, DatasetFacts
from ..files import from_home
from ..options import LARGEST_SIDE
from .cache import cached
from .columns import Asked
from .dataset import ImageDataset
from .encoded import EncodedSplit, PixelImages, decode, stack
from .files import FileDataset
from .folder import has_splits, read_folder
from .hub import holds_parquet, holds_saved, read_hub, read_parquet, read_saved, read_table, saved_splits
from .imagenet import known
from .names import labels_by_name
from .official import FOLDERS, find_official, read_official
from .sample import SAMPLE
from .splits import without_splits
from .stream import StreamDataset, stream_files, stream_hub
from .tables import TABLES, tables_by_split
from .tars import holds_tars, read_tars

__all__ = ["in_memory", "load_dataset", "load_files", "load_stream", "split_to_measure"]


def _locate(name: str, data_dir: Path | None) -> tuple[str, Path | None]:
    """(what the dataset is called from here on, its folder, its table, or None for the Hub)."""
    if name == "sample":
        return name, SAMPLE
    key = next((key for key, facts in KNOWN.items() if name in (key, facts.hub_id)), None)
    if key:
        if data_dir is None:
            return key, None
        hub_copies = [data_dir / KNOWN[key].hub_id, data_dir]
        for folder in [data_dir / FOLDERS[key], data_dir] if key in FOLDERS else []:
            if find_official(folder) == key:
                return key, folder
        for folder in hub_copies:
            if holds_parquet(folder) or holds_tars(folder):
                return key, folder
        allowed = [f"{FOLDERS[key]}/ with the official files"] if key in FOLDERS else []
        allowed.append(f"{KNOWN[key].hub_id}/ with the Hub's parquet files")
        if KNOWN[key].in_folders:
            if data_dir.is_dir() and has_splits(data_dir):
                return key, data_dir
            allowed += ["*train*.tar and *validation*.tar", "train/CLASS/* and val/CLASS/*"]
        raise UserError(f"{data_dir} holds no {key}: needed is {' or '.join(allowed)}, or that folder itself")
    for folder in ([data_dir / name] if data_dir else []) + [from_home(name)]:
        if folder.is_dir():
            # a copy of a known dataset has its statistics and its columns
            copy = "/".join(folder.resolve().parts[-2:])
            key = find_official(folder) or next((key for key in KNOWN if KNOWN[key].hub_id == copy), None)
            return key or name, folder
        if folder.suffix in TABLES and folder.is_file():
            return name, folder
    if re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name):
        if data_dir is None:
            return name, None
        if holds_parquet(data_dir) or holds_tars(data_dir):
            return name, data_dir
        raise UserError(f"{data_dir} holds no {name}; without a data folder it is loaded through the Hub")
    known_names = [*KNOWN, "sample"]
    raise UserError(
        f"dataset {name!r} is neither a folder nor known: allowed are {', '.join(known_names)}, the id of a dataset on "
        f"the Hub (org/name), or the path of a folder or a table ({', '.join(TABLES)})."
        f"{nearest(name, known_names)}")


def _check_labels(split: EncodedSplit, where: str) -> None:
    """What would be noticed later anyway, but here before minutes of decoding."""
    if not len(split.labels):
        raise UserError(f"{where} holds no images")
    unlabelled = int((split.labels == -1).sum())
    if unlabelled:
        raise UserError(
            f"{where}: {unlabelled} of {len(split.labels)} images have no label (-1); measure on images held out of "
            "the training split (--held-out)")


def _as_known(encoded: EncodedSplit, facts: DatasetFacts, folder: Path) -> EncodedSplit:
    """The split of a folder with the classes of the dataset that it is a copy of, of which it may lack some."""
    labels = labels_by_name(encoded.labels, encoded.classes, facts.classes, str(folder), facts.title)
    return replace(encoded, labels=labels, classes=facts.classes)


def _folder(data_dir: str | os.PathLike | None) -> Path | None:
    if data_dir is None:
        return None
    folder = from_home(data_dir)
    if not folder.is_dir():
        raise UserError(f"data folder {folder}: no such folder")
    return folder


def split_to_measure(name: str, data_dir: str | os.PathLike | None = None) -> str:
    """"all" of what has no splits: a folder of classes, a table, what was saved so; "test" of everything else; see
    :func:`load_files`.

    Raises:
        UserError: there is no such dataset, or it can't be loaded.
    """
    name, folder = _locate(name, _folder(data_dir))
    if folder is None or find_official(folder) == name:
        return "test"
    if folder.is_file():
        whole = without_splits(tables_by_split(folder))
    elif holds_saved(folder) and not holds_parquet(folder):
        whole = without_splits(saved_splits(folder, str(folder)))
    else:
        whole = not (holds_parquet(folder) or holds_tars(folder) or has_splits(folder))
    return "all" if whole else "test"


def _found(
    name: str, data_dir: str | os.PathLike | None, asked: Asked
) -> tuple[str, Path | None, DatasetFacts | None]:
    """What :func:`_locate` returns, and what is known of the dataset."""
    name, folder = _locate(name, _folder(data_dir))
    facts = known(name)
    if facts and asked:  # its other columns are of other classes, so it is another dataset
        return facts.hub_id, folder, None
    return name, folder, facts


def load_files(
    name: str, split: str, data_dir: str | os.PathLike | None = None, *, image_column: str | None = None,
    label_column: str | None = None,
) -> FileDataset:
    """Load a split of a dataset, but for its images, which stay in their files; see :func:`load_dataset`.

    What has no splits, a folder of classes or a table, has a third one, "all": each of its images.

    Raises:
        UserError: there is no such dataset or split; a label is missing or out of range; a class is one that the
            training split lacks; the network is needed and not there.
    """
    if split not in ("train", "test", "all"):
        raise UserError(f"split {split!r}: allowed are train and test")
    asked = Asked(image_column, label_column)
    name, folder, facts = _found(name, data_dir, asked)
    if folder is None:
        encoded = read_hub(facts.hub_id if facts else name, split, facts, asked)
    elif folder.is_file():
        encoded = read_table(folder, split, f"{folder} ({split})", asked)
    elif facts and find_official(folder) == name:
        encoded = read_official(name, split, folder)
    elif holds_parquet(folder):
        encoded = read_parquet(folder, split, f"{folder} ({split})", facts, asked)
    elif holds_saved(folder):
        encoded = read_saved(folder, split, f"{folder} ({split})", asked)
    elif holds_tars(folder) and not asked:
        encoded = read_tars(folder, split, f"{folder} ({split})", facts)
    elif asked:
        raise UserError(
            f"{folder} holds no table, so no columns: leave out --image-column and --label-column, or name a table of "
            f"the images' paths itself, such as {folder / 'labels.csv'}")
    else:
        encoded = read_folder(folder, split)
        if facts and facts.in_folders:
            encoded = _as_known(encoded, facts, folder)
    _check_labels(encoded, f"{name} ({split})")
    return FileDataset(name, split, encoded.images, encoded.labels, encoded.classes, encoded.revision)


def load_stream(
    name: str, data_dir: str | os.PathLike | None = None, *, image_column: str | None = None,
    label_column: str | None = None, images: int = 0,
) -> StreamDataset:
    """Begin to stream the training split of a dataset; see :func:`load_dataset`.

    Args:
        name: Of a dataset that the ``datasets`` library can stream: of the Hub, or a folder of parquet files or tars.
        data_dir: Folder that holds the dataset.
        image_column: The column of the images.
        label_column: The column of the labels.
        images: How many the split has; 0: as many as the dataset says.

    Raises:
        UserError: there is no such dataset or column; it doesn't say how many images or which classes it has; the
            network is needed and not there.
    """
    asked = Asked(image_column, label_column)
    found, folder, facts = _found(name, data_dir, asked)
    if folder is None:
        return stream_hub(found, facts, asked, images)
    files = load_files(name, "train", data_dir, image_column=image_column, label_column=label_column)
    return stream_files(files, facts, asked, images)


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
    imagenet-1k                   a copy of the Hub's parquet files in ``data_dir``, or train/CLASS/* and val/CLASS/*
                                  there, whose classes are called by their WordNet ids, or WebDataset's tars; else the
                                  Hub, for those who accepted its terms
    imagenet-1k-wds               the same from timm/imagenet-1k-wds, which is in WebDataset's tars
    sample                        this package: 2,000 + 1,000 images of CIFAR-100 in its 20 superclasses
    a folder                      the same forms, or images as FOLDER/train/CLASS/* and FOLDER/test/CLASS/*, or as
                                  FOLDER/CLASS/*, of which the same fifth of every class is always for testing; a
                                  relative path counts from ``data_dir``, then from the working directory; or images
                                  with a metadata.csv, .jsonl or .parquet of their ``file_name`` and ``label``, or what
                                  ``save_to_disk`` of the ``datasets`` library wrote
    a table                       FOLDER/labels.csv, .jsonl or .parquet: a column of images' paths, which count from
                                  FOLDER, and one of labels; FOLDER/train.csv and FOLDER/test.csv beside it are splits
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
        image_column: The column of the images, where a dataset has columns; by default its one Image column, or where
            it has none, that of their paths called "image", "file_name", "path" or the like.
        label_column: The column of the labels; by default its one ClassLabel column, or where it has none, the one
            called "label". Integers and texts are taken as the names of the classes, unless a ClassLabel names them.

    Raises:
        UserError: there is no such dataset, split or column; an image can't be decoded; a label is missing or out of
            range; a class is one that the training split lacks; images differ in size and none is given; the network
            is needed and not there.
    """
    if size is not None and not 1 <= size <= LARGEST_SIDE:
        raise UserError(f"size {size}: allowed is 1 to {LARGEST_SIDE} pixels")
    return in_memory(load_files(name, split, data_dir, image_column=image_column, label_column=label_column), size)


def in_memory(files: FileDataset, size: int | None = None) -> ImageDataset:
    """The same split with its images decoded, of a side of ``size`` pixels; see :func:`load_dataset`.

    Raises:
        UserError: an image can't be decoded, or images differ in size and none is given.
    """
    images, where = files.images, f"{files.name} ({files.split})"
    if isinstance(images, PixelImages) and size in (None, images.pixels.shape[1]):
        pixels = images.pixels
    else:
        decoded = (decode(data, each) for each, data in images)
        pixels = cached(
            where, images.files, images.column, len(images), size, lambda: stack(decoded, len(images), size))
    return ImageDataset(files.name, files.split, pixels, files.labels, files.classes, files.revision)
