"""Images in tar files, in WebDataset's layout as the Hub has ImageNet in it: KEY.jpg beside KEY.cls, its label.

A tar lies open to whoever knows where its members begin, so images are read in any order, as files are: each tar is
gone through once, header by header, and what was found is kept in the cache.
"""
import hashlib
import json
import logging
import re
import tarfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import numpy as np

from ..errors import UserError, first_line
from ..facts import DatasetFacts
from ..files import cache_folder, read_json, write_whole
from .encoded import EncodedSplit, Images
from .folder import SUFFIXES, has_splits
from .names import in_order, labels_by_name
from .splits import choose_split, kind_of_split

__all__ = ["TarImages", "holds_tars", "read_tars"]

_LABEL = ".cls"
_LONGEST_LABEL = 1000  # bytes

_log = logging.getLogger(__name__)

_Row = tuple[str, int, int, str]  # name of the image, where its bytes begin, how many they are, its label


def _tars(folder: Path) -> dict[str, list[Path]]:
    """Split -> its tars: *SPLIT*.tar in the folder or in one of its folders, or SPLIT/*.tar."""
    found: dict[str, list[Path]] = {}
    for path in sorted([*folder.glob("*.tar"), *folder.glob("*/*.tar")]):
        parts = [part for part in re.split(r"[-._]", path.stem) if kind_of_split(part)]
        found.setdefault(parts[0] if parts else path.parent.name, []).append(path)
    return found


def holds_tars(folder: Path) -> bool:
    """Whether a folder holds tars of a split; not where they were unpacked beside them."""
    return any(map(kind_of_split, _tars(folder))) and not has_splits(folder)


def _scan(path: Path) -> list[_Row]:
    """The samples of a tar in their order.

    Raises:
        UserError: it is damaged, or an image has no label, or a label no image.
    """
    images: dict[str, tuple[str, int, int]] = {}
    labels: dict[str, str] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                place, _, name = member.name.rpartition("/")
                stem, dot, extension = name.partition(".")
                key, kind = f"{place}/{stem}", (dot + extension).lower()
                if not member.isfile() or stem == "":
                    continue
                if kind in SUFFIXES:
                    images[key] = member.name, member.offset_data, member.size
                elif kind == _LABEL:
                    file = tar.extractfile(member)
                    labels[key] = file.read(_LONGEST_LABEL).decode().strip() if file else ""
    except (tarfile.TarError, OSError, UnicodeDecodeError, ValueError) as error:
        raise UserError(f"{path} can't be read ({first_line(error)}); download it again") from error
    for key in sorted(images.keys() ^ labels.keys()):
        wrong = "a label and no image" if key in labels else f"an image and no label ({_LABEL})"
        raise UserError(f"{path}: {key.lstrip('/')} has {wrong}: make it again")
    return [(*image, labels[key]) for key, image in images.items()]


def _kept(path: Path) -> Path:
    """Where the samples of a tar are kept, for as long as it stays as it is."""
    stat = path.stat()
    key = hashlib.sha256(repr((str(path.resolve()), stat.st_size, stat.st_mtime_ns)).encode()).hexdigest()[:32]
    return cache_folder("tars") / f"{key}.json"


def _rows(path: Path) -> list[_Row]:
    """See :func:`_scan`; from the cache where the tar has been gone through before."""
    kept = _kept(path)
    if kept.is_file():
        try:
            return [(str(name), int(start), int(size), str(label))
                    for name, start, size, label in read_json(kept, list)]
        except (UserError, TypeError, ValueError):
            _log.info("%s is damaged; going through %s again", kept, path)
    rows = _scan(path)
    try:
        write_whole(kept, json.dumps(rows))
    except OSError as error:
        _log.warning("tars will be gone through again next time: can't write to %s (%s)", kept.parent, error)
    return rows


def _rows_of(paths: Sequence[Path]) -> list[list[_Row]]:
    new = sum(not _kept(path).is_file() for path in paths)
    if new:
        _log.info("listing the members of %d tars in %s, once", new, paths[0].parent)
    with ThreadPoolExecutor(16) as threads:  # on a file server each waits for an answer
        return list(threads.map(_rows, paths))


class TarImages(Images):
    """Members of tars. Its :meth:`~Images.identity` covers the tars' names, and of each image its name, place and size.

    Args:
        paths: The tars.
        rows: For each its samples.
    """

    def __init__(self, paths: Sequence[Path], rows: Sequence[Sequence[_Row]]) -> None:
        self._paths = tuple(paths)
        self._tar = np.repeat(np.arange(len(rows)), [len(part) for part in rows])
        every = [row for part in rows for row in part]
        self._names = np.array([name.encode() for name, *_ in every], dtype=np.bytes_)
        self._spans = np.array([(start, size) for _, start, size, _ in every], dtype=np.int64).reshape(-1, 2)

    def __len__(self) -> int:
        return len(self._tar)

    def name(self, place: int) -> str:
        return f"{self._paths[self._tar[place]]}: {self._names[place].decode()}"

    def __getitem__(self, place: int) -> tuple[str, bytes]:
        start, size = self._spans[place].tolist()
        path = self._paths[self._tar[place]]
        try:
            with open(path, "rb") as file:
                file.seek(start)
                return self.name(place), file.read(size)
        except OSError as error:
            raise UserError(f"{path}: {error.strerror or first_line(error)}") from None

    @property
    def files(self) -> Iterable[Path]:
        return self._paths

    def identity(self) -> bytes:
        digest = hashlib.sha256(repr([path.name for path in self._paths]).encode())
        for array in (self._tar.astype("<i8"), self._names, self._spans.astype("<i8")):
            digest.update(array.tobytes())
        return digest.digest()


def _classes(rows: Iterable[_Row]) -> tuple[str, ...]:
    return tuple(in_order({label for *_, label in rows} - {"-1"}))


def read_tars(folder: Path, split: str, where: str, facts: DatasetFacts | None = None) -> EncodedSplit:
    """Read a split from tars whose names or folder say which it is, such as imagenet1k-train-0000.tar.

    The classes are what the labels of the training split are called, sorted, by number where all are numbers; of a
    known dataset its own, which the labels number or name.

    Args:
        folder: Of the tars.
        split: "train" or "test"; a validation split stands in for a missing "test".
        where: What to call the dataset in an error.
        facts: Of a known dataset.

    Raises:
        UserError: a tar is damaged, there is no such split, or a label is none of the classes.
    """
    available = _tars(folder)
    paths = available[choose_split(split, available, where)]
    rows = _rows_of(paths)
    every = [row for part in rows for row in part]
    own = _classes(every)
    places = {name: place for place, name in enumerate(own)}
    labels = np.array([places.get(label, -1) for *_, label in every], dtype=np.int64)
    if facts:
        numbered = all(name.isdecimal() for name in own)
        named = tuple(map(str, range(len(facts.classes)))) if numbered else facts.classes
        labels, classes = labels_by_name(labels, own, named, where, facts.title), facts.classes
    elif split != "train" and any(kind_of_split(name) == "train" for name in available):
        training = available[choose_split("train", available, where)]
        classes = _classes(chain.from_iterable(_rows_of(training)))
        labels = labels_by_name(labels, own, classes, where, str(training[0]))
    else:
        classes = own
    return EncodedSplit(TarImages(paths, rows), labels, classes)
