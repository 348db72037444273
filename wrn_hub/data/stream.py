"""The training split of a dataset as it comes, image after image, of which nothing is kept in memory or on disk."""
import hashlib
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import numpy as np

from ..errors import UserError, first_line
from ..facts import DatasetFacts
from .columns import BY_TYPE, Asked, Columns, find_columns
from .files import FileDataset
from .hub import ParquetImages, asking, image_in, loading
from .names import labels_by_name, listed
from .splits import choose_split
from .tars import TarImages

__all__ = ["BUFFER", "StreamDataset", "stream_files", "stream_hub"]

BUFFER = 1000  # images that a process mixes: of ImageNet some 100 MB
_EVEN = 16  # files a process from which on it matters little that one has a file more than another

_log = logging.getLogger(__name__)


class _Given:
    """Stands where other datasets' images are looked up: those of a stream are handed to the workers themselves, or
    what is wrong with the stream."""

    def __getitem__(self, image: tuple[str, bytes] | UserError) -> tuple[str, bytes]:
        if isinstance(image, UserError):
            raise image
        return image


@dataclass(frozen=True)
class StreamDataset:
    """The training split of an image-classification dataset, to be gone through from its beginning alone.

    Attributes:
        name: What it was loaded as, for example "imagenet-1k".
        stream: Of the ``datasets`` library: rows of two columns, images undecoded.
        columns: Which they are.
        count: How many images it has.
        classes: The names of the classes.
        labels: For each label that the column may have, as text, its place among ``classes``.
        fingerprint: sha256 over the dataset's commit on the Hub and its columns; of local files that of the split whose
            images stay in them.
        revision: The commit of the Hub's dataset; None where the images didn't come through the Hub.
    """

    name: str
    stream: Any
    columns: Columns
    count: int
    classes: tuple[str, ...]
    labels: dict[str, int]
    fingerprint: str
    revision: str | None
    split = "train"
    images = _Given()
    upright = True

    def __len__(self) -> int:
        return self.count

    def with_classes(self, classes: tuple[str, ...]) -> "StreamDataset":
        """The same with its labels as those of ``classes``, which the images to measure on have.

        Raises:
            UserError: they can't be matched by name.
        """
        places = labels_by_name(
            np.arange(len(self.classes)), self.classes, classes, f"{self.name}'s train split", "its test split")
        return replace(
            self, classes=classes, labels={label: int(places[place]) for label, place in self.labels.items()})

    def _shared(self, world_size: int) -> bool:
        files = self.stream.num_shards
        return files % world_size == 0 or files >= _EVEN * world_size

    def sharing(self, world_size: int) -> str:
        """How many files so many processes read, and which of them, in words."""
        said = f"from {self.stream.num_shards} file{'s' * (self.stream.num_shards != 1)}"
        if world_size == 1:
            return said
        how = "shared out among" if self._shared(world_size) else "all of which are read by each of"
        return f"{said}, {how} {world_size} processes"

    def passes(self, seed: int, rank: int, world_size: int) -> Iterator[tuple[tuple[str, bytes], int]]:
        """Yield a process's images, each ((what to call it in an error, its file's bytes), label), over and over.

        The files come in an order that the seed draws, ten at a time, and out of :data:`BUFFER` images of theirs it
        draws the next. Each process has files of its own, where they can be shared out about evenly; else all go
        through all of them, and each keeps one image in ``world_size``.

        Raises:
            UserError: there are no images, the stream breaks off, or a label is none of the classes.
        """
        from datasets.distributed import split_dataset_by_node

        mixed = self.stream.shuffle(seed=seed, buffer_size=BUFFER)
        mine = split_dataset_by_node(mixed, rank, world_size, "shards" if self._shared(world_size) else "examples")
        for again in count():
            number = 0
            for number, row in enumerate(self._rows(mine), start=1):
                label = str(row[self.columns.label])
                place = f"{self.name}: image {number} of this epoch's stream"
                if label not in self.labels:
                    raise UserError(f"{place} has the label {label}; allowed are {listed(self.labels, str)}")
                yield image_in(row[self.columns.image], place), self.labels[label]
            if number == 0:
                raise UserError(f"{self.name}: its stream holds no images")
            if not again:
                _log.warning(
                    "%s: process %d has gone through its %d images before the end of the epoch, and begins again",
                    self.name, rank, number)

    def _rows(self, stream: Any) -> Iterator[dict[str, Any]]:
        try:
            yield from stream
        except Exception as error:  # of the network, or whatever is wrong with the files
            raise UserError(
                f"{self.name}: its stream broke off ({first_line(error)}); the same command with --output and --resume "
                "goes on from the newest checkpoint") from error


def _labels(columns: Columns, classes: tuple[str, ...], where: str, elsewhere: str) -> dict[str, int]:
    """What labels in the column are, as texts, and their places among the classes."""
    if columns.names is None:  # numbers are of classes that a known dataset has names for
        return {str(place): place for place in range(len(classes))} | {name: n for n, name in enumerate(classes)}
    places = labels_by_name(np.arange(len(columns.names)), columns.names, classes, where, elsewhere)
    return {str(number): place for number, place in enumerate(places.tolist())}


def stream_hub(
    name: str, facts: DatasetFacts | None = None, asked: Asked = BY_TYPE, images: int = 0
) -> StreamDataset:
    """Begin to stream the training split of a dataset on the Hub; no image is read yet.

    Args:
        name: What it was loaded as; of one that isn't known, "org/name".
        facts: Of a known dataset.
        asked: Columns that the user names.
        images: How many the split has; 0: what the dataset says.

    Raises:
        UserError: it can't be had; or it doesn't say how many images it has, or of which classes.
    """
    hub_id, config = (facts.hub_id, facts.config) if facts else (name, None)
    with asking(hub_id):
        import datasets

        builder = datasets.load_dataset_builder(hub_id, config)
        split = choose_split("train", map(str, builder.config.data_files or builder.info.splits or ()), hub_id)
        stream = builder.as_streaming_dataset(split=split)
        if stream.features is None:
            raise UserError(f"{hub_id} doesn't say which columns it has: load it whole, without --streaming")
        columns = find_columns(stream.features.to_dict(), facts, asked, hub_id)
    known = (builder.info.splits or {}).get(split)
    images = images or (known.num_examples if known else 0)
    if not images:
        raise UserError(
            f"{hub_id} doesn't say how many training images it has, which the length of an epoch goes by: give their "
            "number (--stream-images), or load it whole, without --streaming")
    classes = facts.classes if facts else columns.names
    if classes is None:
        raise UserError(
            f"{hub_id} doesn't say which classes the labels in {columns.label} stand for, which a stream tells in the "
            "end alone: give them the type ClassLabel, or load it whole, without --streaming")
    source = (hub_id, str(builder.hash), split, columns.image, columns.label)
    revision = builder.hash if re.fullmatch("[0-9a-f]{40}", str(builder.hash)) else None
    return StreamDataset(
        name, _of_columns(stream, columns), columns, images, classes, _labels(columns, classes, name, hub_id),
        hashlib.sha256(repr(source).encode()).hexdigest(), revision)


def stream_files(files: FileDataset, facts: DatasetFacts | None, asked: Asked, images: int = 0) -> StreamDataset:
    """Begin to stream a training split from its local files, in their own order instead of any; see
    :func:`stream_hub`.

    Raises:
        UserError: they aren't parquet files or tars.
    """
    import datasets

    kind = {ParquetImages: "parquet", TarImages: "webdataset"}.get(type(files.images))
    if kind is None:
        raise UserError(
            f"{files.name}: what can be streamed are datasets of the Hub, parquet files and tars; other images are "
            "read in any order as they lie: leave out --streaming")
    with loading(files.name):
        paths = list(map(str, files.images.files))
        stream = datasets.load_dataset(kind, data_files=paths, split="train", streaming=True)
        if kind == "webdataset":  # whatever the dataset is, its columns are called by the members' kinds
            facts = None
        columns = find_columns(stream.features.to_dict(), facts, asked, files.name)
    return StreamDataset(
        files.name, _of_columns(stream, columns), columns, images or len(files), files.classes,
        _labels(columns, files.classes, files.name, files.name), files.fingerprint, None)


def _of_columns(stream: Any, columns: Columns) -> Any:
    return stream.select_columns([columns.image, columns.label]).decode(False)
