"""Datasets in the form that the Hub has them: through the Hub, or from a local copy of the parquet files."""
import json
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..facts import DatasetFacts
from ..weights import endpoint_problem
from .encoded import EncodedSplit, Images, image_bytes
from .splits import choose_split, kind_of_split, labels_by_name

__all__ = ["holds_parquet", "read_hub", "read_parquet"]

_log = logging.getLogger(__name__)


def _column(features: dict[str, Any], kind: str, where: str) -> str:
    """The one column of this feature type."""
    found = [name for name, feature in features.items() if isinstance(feature, dict) and feature.get("_type") == kind]
    if len(found) == 1:
        return found[0]
    has = f"several {kind} columns ({', '.join(found)})" if found else f"no {kind} column among {', '.join(features)}"
    raise UserError(
        f"{where} has {has}; needed is one Image and one ClassLabel: save a copy that has them "
        "(remove_columns, cast_column, to_parquet) and name its folder")


def _columns(features: dict[str, Any], facts: DatasetFacts | None, where: str) -> tuple[str, str, tuple[str, ...]]:
    """(image column, label column, class names in the order of the labels)."""
    if facts is None:
        image, label = _column(features, "Image", where), _column(features, "ClassLabel", where)
        return image, label, _names(features[label], where)
    image, label = facts.image_column, facts.label_column
    feature = features.get(label)
    names = _names(feature, where) if isinstance(feature, dict) and "names" in feature else facts.classes
    if not {image, label} <= set(features) or len(names) != len(facts.classes):
        raise UserError(
            f"{where} is not {facts.hub_id}: that has columns {image} and {label} of {len(facts.classes)} classes, "
            f"this has {', '.join(features)}")
    return image, label, tuple(dict(facts.misspelled).get(name, name) for name in names)


def _names(feature: dict[str, Any], where: str) -> tuple[str, ...]:
    names = feature.get("names")
    if (not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names)
            or len(set(names)) < len(names)):
        raise UserError(f"{where}: its ClassLabel has the names {str(names)[:100]}, needed is a list of distinct texts")
    return tuple(names)


def _labels(column: Any, where: str) -> np.ndarray:
    import pyarrow as pa

    if not pa.types.is_integer(column.type):
        raise UserError(f"{where}: labels are of type {column.type}, not integers")
    if column.null_count:
        raise UserError(f"{where}: {column.null_count} of {len(column)} images have no label; measure on another split")
    return np.asarray(column.to_numpy(), dtype=np.int64)


def _check_images(kind: Any, where: str) -> None:
    """Refuse a column that can't be of images: needed are bytes, or a struct of bytes and the path of a file."""
    import pyarrow as pa

    def fits(kind: Any, *tests: Any) -> bool:
        return any(test(kind) for test in (*tests, pa.types.is_null))

    of_bytes, of_text = (pa.types.is_binary, pa.types.is_large_binary), (pa.types.is_string, pa.types.is_large_string)
    if fits(kind, *of_bytes):
        return
    fields = {field.name: field.type for field in kind} if pa.types.is_struct(kind) else {}
    if not fields.keys() & {"bytes", "path"} or not (
            fits(fields.get("bytes", pa.null()), *of_bytes) and fits(fields.get("path", pa.null()), *of_text)):
        raise UserError(
            f"{where}: images are of type {str(kind)[:100]}, not a struct of bytes and path: save a copy with "
            "cast_column(..., datasets.Image()) and to_parquet")


def _image(cell: Any, place: str) -> tuple[str, bytes]:
    """What a cell of an Image column holds, or the local file that it names."""
    try:
        value = cell.as_py() or {}
    except UnicodeDecodeError as error:
        raise UserError(f"{place}: its path is not UTF-8 ({error.reason})") from None
    if isinstance(value, bytes):
        return place, value
    if value.get("bytes") is not None:
        return place, value["bytes"]
    if value.get("path") and Path(value["path"]).is_file():
        return value["path"], image_bytes(Path(value["path"]))
    raise UserError(f"{place} is missing: its cell has no bytes and its path is {value.get('path')}")


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path} can't be read ({' '.join(str(error).split())[:200]}); download it again")


def _parquet_files(folder: Path) -> dict[str, list[Path]]:
    """Split -> its files: SPLIT-*.parquet or SPLIT/*.parquet in the folder or in the folders of its configurations."""
    files: dict[str, list[Path]] = {}
    for path in sorted([*folder.glob("*.parquet"), *folder.glob("*/*.parquet")]):
        split = re.split(r"[-._]", path.name)[0]
        files.setdefault(split if kind_of_split(split) else path.parent.name, []).append(path)
    return files


def holds_parquet(folder: Path) -> bool:
    """Whether a folder is laid out like a Hub repository with parquet files."""
    return bool(_parquet_files(folder))


@dataclass(frozen=True)
class _Shard:
    """What the metadata of a parquet file say; of its groups the numbers of their rows."""

    path: Path
    image: str
    label: str
    names: tuple[str, ...]
    groups: tuple[int, ...]

    @classmethod
    def read(cls, path: Path, facts: DatasetFacts | None) -> "_Shard":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(path) as file:
                schema, metadata = file.schema_arrow, file.metadata
                groups = tuple(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise _unreadable(path, error) from error
        try:
            known = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
            for part in ("info", "features"):
                known = known.get(part) or {}
            features = {name: known.get(name, {}) for name in schema.names}
        except (AttributeError, ValueError, RecursionError):  # not JSON, or not a dict of dicts of dicts
            raise UserError(
                f"{path}: its metadata isn't what the datasets library writes; save a copy with to_parquet") from None
        image, label, names = _columns(features, facts, str(path))
        _check_images(schema.field(image).type, f"{path}: {image}")
        return cls(path, image, label, names, groups)

    def labels(self) -> np.ndarray:
        import pyarrow as pa

        arrays = list(_column_of(self.path, self.label))
        return _labels(pa.chunked_array(arrays), str(self.path)) if arrays else np.empty(0, dtype=np.int64)


def _column_of(path: Path, name: str) -> Iterator[Any]:
    """The column's arrays, of at most 1,000 rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1000, columns=[name]):
                yield batch.column(0)
    except (pa.ArrowException, OSError, KeyError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error


class ParquetImages(Images):
    """A column of parquet files. Its :meth:`~Images.identity` covers the files' names and sizes.

    A parquet file gives a group of rows at a time, in the Hub's datasets of images usually 100; the last group is kept,
    so in order, or nearly, each is read once.

    Args:
        paths: The files.
        column: The column.
        groups: For each file the rows of each of its groups.
    """

    def __init__(self, paths: Sequence[Path], column: str, groups: Sequence[Sequence[int]]) -> None:
        self._paths, self.column = tuple(paths), column
        rows = [(file, group, count) for file, counts in enumerate(groups) for group, count in enumerate(counts)]
        self._groups = np.array(rows, dtype=np.int64).reshape(-1, 3)
        self._ends = self._groups[:, 2].cumsum()
        self._first = np.cumsum([0, *(sum(counts) for counts in groups)])
        self._kept: tuple[int, Any] = (-1, None)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": (-1, None)}

    def __len__(self) -> int:
        return int(self._first[-1])

    def __getitem__(self, place: int) -> tuple[str, bytes]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        number = int(np.searchsorted(self._ends, place, side="right"))
        file, group, count = self._groups[number]
        path = self._paths[file]
        if self._kept[0] != number:
            try:
                with pq.ParquetFile(path) as opened:
                    self._kept = number, opened.read_row_group(group, columns=[self.column]).column(0)
            except (pa.ArrowException, OSError, KeyError, IndexError, UnicodeDecodeError) as error:
                raise _unreadable(path, error) from error
        cell = self._kept[1][int(place - self._ends[number] + count)]
        return _image(cell, f"{path}: image {place - self._first[file]}")

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        for path in self._paths:
            cells = chain.from_iterable(_column_of(path, self.column))
            yield from (_image(cell, f"{path}: image {number}") for number, cell in enumerate(cells))

    @property
    def files(self) -> Iterable[Path]:
        return self._paths

    def identity(self) -> bytes:
        return _names_and_sizes(self._paths)


class HubImages(Images):
    """A column of a dataset that the ``datasets`` library has, memory-mapped. Its :meth:`~Images.identity` covers the
    Hub's id, the split, the number of rows, and the commit or, where that isn't known, the cached files' names and
    sizes.

    Args:
        dataset: Of the ``datasets`` library.
        column: The column.
        where: What to call the dataset in an error.
        revision: The commit on the Hub.
    """

    def __init__(self, dataset: Any, column: str, where: str, revision: str | None) -> None:
        self._dataset = dataset.select_columns([column]).with_format("arrow")
        self.column, self._where, self._revision = column, where, revision

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, place: int) -> tuple[str, bytes]:
        return _image(self._dataset[place].column(0)[0], f"{self._where}: image {place}")

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        cells = chain.from_iterable(table.column(0) for table in self._dataset.iter(1000))
        return (_image(cell, f"{self._where}: image {number}") for number, cell in enumerate(cells))

    @property
    def files(self) -> Iterable[Path]:
        return [Path(file["filename"]) for file in self._dataset.cache_files]

    def identity(self) -> bytes:
        source = self._revision.encode() if self._revision else _names_and_sizes(self.files)
        return repr((self._where, str(self._dataset.split), len(self), source)).encode()


def _names_and_sizes(paths: Iterable[Path]) -> bytes:
    return repr([(path.name, path.stat().st_size) for path in paths]).encode()


def read_parquet(folder: Path, split: str, where: str, facts: DatasetFacts | None = None) -> EncodedSplit:
    """Read a split from a local copy of a Hub repository: CONFIG/SPLIT-*.parquet or SPLIT-*.parquet.

    The classes are those of the training split, in its order; other splits and files are matched to it by name.

    Args:
        folder: The repository, or the folder of one of its configurations.
        split: "train" or "test"; a validation split stands in for a missing "test".
        where: What to call the dataset in an error.
        facts: Names the columns and classes; without it they are found by the feature types in the files.

    Raises:
        UserError: a file is damaged or of another kind than the others, there is no such split or column, several
            could be meant, or the splits name their classes differently.
    """
    if facts and (folder / facts.config).is_dir():
        folder = folder / facts.config
    available = _parquet_files(folder)
    chosen = choose_split(split, available, where)
    paths = available[chosen]
    folders = sorted({path.parent.name for path in paths})
    if len(folders) > 1:
        raise UserError(f"{where} has several configurations ({', '.join(folders)}): name the folder of one of them")

    shards = [_Shard.read(path, facts) for path in paths]
    first = shards[0]
    for shard in shards:
        if (shard.image, shard.label) != (first.image, first.label):
            raise UserError(
                f"{shard.path} has the columns {shard.image} and {shard.label}, {first.path} has {first.image} and "
                f"{first.label}: give all files of a split the same ones")
    classes, elsewhere = first.names, str(first.path)
    if facts:
        classes, elsewhere = facts.classes, facts.hub_id
    elif split != "train" and any(kind_of_split(name) == "train" for name in available):
        training = _Shard.read(available[choose_split("train", available, where)][0], None)
        classes, elsewhere = training.names, str(training.path)
    labels = [labels_by_name(shard.labels(), shard.names, classes, str(shard.path), elsewhere) for shard in shards]
    images = ParquetImages(paths, first.image, [shard.groups for shard in shards])
    return EncodedSplit(images, np.concatenate(labels), classes)


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Without progress bars and the loggers' lines below an error."""
    import datasets

    loggers = {logging.getLogger(name): logging.getLogger(name).level for name in names}
    bars = not datasets.are_progress_bars_disabled()
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        if bars:
            datasets.disable_progress_bars()
        yield
    finally:
        for logger, level in loggers.items():
            logger.setLevel(level)
        if bars:
            datasets.enable_progress_bars()


def read_hub(hub_id: str, split: str, facts: DatasetFacts | None = None) -> EncodedSplit:
    """Read a split through the Hub, or from what the ``datasets`` library has cached of it.

    The classes are those of the training split, in its order.

    Args:
        hub_id: "org/name".
        split: "train" or "test"; a validation split stands in for a missing "test".
        facts: Names the configuration, columns and classes; without it columns are found by feature type.

    Raises:
        UserError: the dataset can't be had, or there is no such split or column, or several could be meant.
    """
    try:
        import datasets
    except ImportError:
        raise UserError(
            f"{hub_id} comes through the datasets library: pip install datasets, or give a folder (--data-dir)"
        ) from None

    if not datasets.config.HF_HUB_OFFLINE and (problem := endpoint_problem()):
        raise UserError(f"{hub_id} can't be loaded: {problem}; or give a folder that holds it (--data-dir)")
    _log.info("loading %s through the Hub", hub_id)
    try:
        with _quiet("datasets", "huggingface_hub"):
            splits = datasets.load_dataset(hub_id, facts.config if facts else None)
    except datasets.exceptions.DatasetNotFoundError as error:
        raise UserError(
            f"{hub_id} is not on the Hub, or not open to you: check the name, and for a gated dataset accept its terms "
            "on its page and log in (hf auth login)") from error
    except ConnectionError as error:
        raise UserError(
            f"{hub_id} can't be loaded: the Hub can't be reached and no copy is cached; connect to the network, "
            "look at HF_ENDPOINT, unset HF_HUB_OFFLINE if it is set, or give a folder that holds it (--data-dir)"
        ) from error
    except Exception as error:  # whatever else: a full disk, several configurations, files of no known format
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{hub_id} can't be loaded: {reason[:300]}; or download it and give its folder (--data-dir)") from error
    chosen = splits[choose_split(split, splits, hub_id)]
    image, label, names = _columns(chosen.features.to_dict(), facts, hub_id)
    _check_images(chosen.data.column(image).type, f"{hub_id}: {image}")
    classes, elsewhere = facts.classes if facts else names, hub_id
    if not facts and any(kind_of_split(name) == "train" for name in splits):
        training = splits[choose_split("train", splits, hub_id)]
        classes, elsewhere = _columns(training.features.to_dict(), facts, hub_id)[2], f"{hub_id}'s training split"
    labels = labels_by_name(
        _labels(chosen.data.column(label), hub_id), names, classes, f"{hub_id}'s {split} split", elsewhere)
    files = tuple(Path(file["filename"]) for file in chosen.cache_files)
    # the datasets library names the folder of what it cached by the commit
    commits = [file.parent.name for file in files if re.fullmatch("[0-9a-f]{40}", file.parent.name)]
    revision = commits[0] if commits else None
    return EncodedSplit(HubImages(chosen, image, hub_id, revision), labels, classes, revision)
