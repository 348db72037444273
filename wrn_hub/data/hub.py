"""Datasets in the forms that the ``datasets`` library has: through the Hub, or from a folder of parquet files, of
images with a table of their labels, or of what ``save_to_disk`` wrote; or a table of paths and labels."""
import json
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError, first_line
from ..facts import DatasetFacts
from ..files import cache_folder
from ..logs import quiet
from ..weights import endpoint_problem, say_what_is_asked
from .columns import BY_TYPE, Asked, Columns, check_images, find_columns, is_text, labels_of
from .encoded import EncodedSplit, ImageFiles, Images, Picked, image_bytes
from .hub_splits import HubSplits
from .names import in_order, labels_by_name
from .splits import choose_split, fifth, kind_of_split, say_without_splits, without_splits
from .tables import METADATA, TABLES, from_csv, from_metadata, tables_by_split

__all__ = [
    "ParquetImages", "asking", "holds_parquet", "holds_saved", "image_in", "loading", "read_hub", "read_parquet",
    "read_saved", "read_table", "saved_splits"]

_SMALL_GROUP = 8  # rows of a parquet file that are read for one of them without much harm
_SAVED = ("dataset_dict.json", "state.json")  # what save_to_disk writes of several splits, and of one

_log = logging.getLogger(__name__)


def _image(cell: Any, place: str) -> tuple[str, bytes]:
    """What a cell of an Image column holds; see :func:`image_in`."""
    try:
        return image_in(cell.as_py(), place)
    except UnicodeDecodeError as error:
        raise UserError(f"{place}: its path is not UTF-8 ({error.reason})") from None


def image_in(value: Any, place: str) -> tuple[str, bytes]:
    """(what to call it in an error, the bytes of its file) of an undecoded image, or of the local file that it names.

    Raises:
        UserError: it has neither.
    """
    value = value or {}
    if isinstance(value, bytes):
        return place, value
    if value.get("bytes") is not None:
        return f"{place} ({Path(value['path']).name})" if value.get("path") else place, value["bytes"]
    if value.get("path") and Path(value["path"]).is_file():
        return value["path"], image_bytes(Path(value["path"]))
    raise UserError(f"{place} is missing: its cell has no bytes and its path is {value.get('path')}")


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path} can't be read ({' '.join(str(error).split())[:200]}); download it again")


def _parquet_files(folder: Path) -> dict[str, list[Path]]:
    """Split -> its files: SPLIT-*.parquet or SPLIT/*.parquet in the folder or in the folders of its configurations."""
    files: dict[str, list[Path]] = {}
    for path in sorted([*folder.glob("*.parquet"), *folder.glob("*/*.parquet")]):
        if path.stem == METADATA:
            continue
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
    columns: Columns
    groups: tuple[int, ...]

    @classmethod
    def read(cls, path: Path, facts: DatasetFacts | None, asked: Asked) -> "_Shard":
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
        columns = find_columns(features, facts, asked, str(path))
        check_images(schema.field(columns.image).type, f"{path}: {columns.image}")
        return cls(path, columns, groups)

    def labels(self) -> tuple[np.ndarray, tuple[str, ...]]:
        """See :func:`labels_of`."""
        import pyarrow as pa

        arrays, names = list(_column_of(self.path, self.columns.label)), self.columns.names
        if not arrays:
            return np.empty(0, dtype=np.int64), names or ()
        return labels_of(pa.chunked_array(arrays), names, str(self.path))

    def names(self) -> tuple[str, ...]:
        """Of its classes, for which the labels are read where they have no other names."""
        return self.labels()[1] if self.columns.names is None else self.columns.names


def _unlabelled(labels: np.ndarray) -> bool:
    return len(labels) > 0 and bool((labels == -1).all())


def _labelled(split: str, available: Iterable[str], where: str, unlabelled: Callable[[str], bool]) -> str:
    """The name under which a split is available; a test split whose labels are all -1 gives way to a validation split,
    as far as there is one, as those of competitions do."""
    names = list(available)
    chosen = choose_split(split, names, where)
    others = [name for name in names if kind_of_split(name) == "validation"]
    if split != "test" or kind_of_split(chosen) != "test" or not others or not unlabelled(chosen):
        return chosen
    instead = choose_split(split, others, where)
    _log.info("%s: %s has no labels, all are -1; %s is taken instead", where, chosen, instead)
    return instead


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
    so in order, or nearly, each is read once. For any order :meth:`~Images.in_any_order` copies them.

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

        number = self._group(place)
        file, group, count = self._groups[number]
        path = self._paths[file]
        if self._kept[0] != number:
            try:
                with pq.ParquetFile(path) as opened:
                    self._kept = number, opened.read_row_group(group, columns=[self.column]).column(0)
            except (pa.ArrowException, OSError, KeyError, IndexError, UnicodeDecodeError) as error:
                raise _unreadable(path, error) from error
        cell = self._kept[1][int(place - self._ends[number] + count)]
        return _image(cell, self.name(place))

    def name(self, place: int) -> str:
        file = self._groups[self._group(place)][0]
        return f"{self._paths[file]}: image {place - self._first[file]}"

    def _group(self, place: int) -> int:
        return int(np.searchsorted(self._ends, place, side="right"))

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        for path in self._paths:
            cells = chain.from_iterable(_column_of(path, self.column))
            yield from (_image(cell, f"{path}: image {number}") for number, cell in enumerate(cells))

    @property
    def files(self) -> Iterable[Path]:
        return self._paths

    def in_any_order(self) -> Images:
        """Itself where its groups are small; else a copy that the ``datasets`` library keeps in the cache as Arrow,
        memory-mapped, with the identity of these. Itself too, with a warning, where no copy can be made."""
        import datasets

        if self._groups[:, 2].mean() <= _SMALL_GROUP:
            return self
        cache = cache_folder("arrow")
        size = sum(path.stat().st_size for path in self._paths)
        _log.info(
            "images in %s are copied to %s, once (%.1f GB): parquet gives %d at a time, there each is read by itself",
            self._paths[0].parent, cache, size / 1e9, self._groups[:, 2].max())
        try:
            with _quiet("datasets"):
                copied = datasets.Dataset.from_parquet(
                    list(map(str, self._paths)), columns=[self.column], cache_dir=str(cache))
        except Exception as error:  # a full disk, or whatever the library makes of it
            _log.warning("no copy could be made (%s): each image costs the reading of a group", first_line(error))
            return self
        return CopiedImages(self, copied)

    def identity(self) -> bytes:
        return _names_and_sizes(self._paths)


class CopiedImages(Images):
    """Images of parquet files, read from a copy of them.

    Args:
        images: Those that were copied, which say what they are called and which they are.
        copy: Of the ``datasets`` library.
    """

    def __init__(self, images: ParquetImages, copy: Any) -> None:
        self._images, self._copy, self.column = images, copy.with_format("arrow"), images.column

    def __len__(self) -> int:
        return len(self._images)

    def name(self, place: int) -> str:
        return self._images.name(place)

    def __getitem__(self, place: int) -> tuple[str, bytes]:
        return _image(self._copy[place].column(0)[0], self.name(place))

    @property
    def files(self) -> Iterable[Path]:
        return self._images.files

    def identity(self) -> bytes:
        return self._images.identity()


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


def read_parquet(
    folder: Path, split: str, where: str, facts: DatasetFacts | None = None, asked: Asked = BY_TYPE
) -> EncodedSplit:
    """Read a split from a local copy of a Hub repository: CONFIG/SPLIT-*.parquet or SPLIT-*.parquet.

    The classes are those of the training split, in its order; other splits and files are matched to it by name.

    Args:
        folder: The repository, or the folder of one of its configurations.
        split: "train" or "test"; a validation split stands in for a missing "test".
        where: What to call the dataset in an error.
        facts: Names the columns and classes; without it they are found by the feature types in the files.
        asked: Columns that the user names.

    Raises:
        UserError: a file is damaged or of another kind than the others, there is no such split or column, several
            could be meant, or the splits name their classes differently.
    """
    if facts and (folder / facts.config).is_dir():
        folder = folder / facts.config
    available = _parquet_files(folder)
    paths = available[_labelled(split, available, where, lambda name: all(
        _unlabelled(_Shard.read(path, facts, asked).labels()[0]) for path in available[name]))]
    folders = sorted({path.parent.name for path in paths})
    if len(folders) > 1:
        raise UserError(f"{where} has several configurations ({', '.join(folders)}): name the folder of one of them")

    shards = [_Shard.read(path, facts, asked) for path in paths]
    first = shards[0].columns
    for shard in shards:
        if (shard.columns.image, shard.columns.label) != (first.image, first.label):
            raise UserError(
                f"{shard.path} has the columns {shard.columns.image} and {shard.columns.label}, {paths[0]} has "
                f"{first.image} and {first.label}: give all files of a split the same ones")
    if facts:
        classes, elsewhere = facts.classes, facts.hub_id
    else:
        training = shards
        if split != "train" and any(kind_of_split(name) == "train" for name in available):
            training = [
                _Shard.read(path, None, asked) for path in available[choose_split("train", available, where)]]
        classes, elsewhere = _classes(training), str(training[0].path)
    labels = [labels_by_name(*shard.labels(), classes, str(shard.path), elsewhere) for shard in shards]
    images = ParquetImages(paths, first.image, [shard.groups for shard in shards])
    return EncodedSplit(images, np.concatenate(labels), classes)


def _classes(shards: Sequence[_Shard]) -> tuple[str, ...]:
    """What the files of a training split tell apart: as the first one says, or whatever their labels are called."""
    first = shards[0].columns.names
    return tuple(in_order({name for shard in shards for name in shard.names()})) if first is None else first


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Without progress bars and the loggers' lines below an error."""
    import datasets

    bars = not datasets.are_progress_bars_disabled()
    try:
        if bars:
            datasets.disable_progress_bars()
        with quiet(*names, below=logging.ERROR):
            yield
    finally:
        if bars:
            datasets.enable_progress_bars()


def read_hub(hub_id: str, split: str, facts: DatasetFacts | None = None, asked: Asked = BY_TYPE) -> EncodedSplit:
    """Read a split through the Hub, or from what the ``datasets`` library has cached of it.

    The classes are those of the training split, in its order. Files of another split are downloaded only where nothing
    else tells the classes, or that the test split has labels.

    Args:
        hub_id: "org/name".
        split: "train" or "test"; a validation split stands in for a missing "test".
        facts: Names the configuration, columns and classes; without it columns are found by feature type.
        asked: Columns that the user names.

    Raises:
        UserError: the dataset can't be had, or there is no such split or column, or several could be meant.
    """
    with asking(hub_id):
        return _read_hub(HubSplits(hub_id, facts.config if facts else None), split, facts, asked)


@contextmanager
def asking(hub_id: str) -> Iterator[None]:
    """Say that the Hub is asked, if it is known where that is, and what goes wrong then in one line.

    Raises:
        UserError: the dataset can't be had.
    """
    try:
        import datasets
    except ImportError:
        raise UserError(
            f"{hub_id} comes through the datasets library: pip install datasets, or give a folder (--data-dir)"
        ) from None

    if not datasets.config.HF_HUB_OFFLINE and (problem := endpoint_problem()):
        raise UserError(f"{hub_id} can't be loaded: {problem}; or give a folder that holds it (--data-dir)")
    say_what_is_asked(f"dataset {hub_id}")
    try:
        with _quiet("datasets", "huggingface_hub"):
            yield
    except UserError:
        raise
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


def _read_hub(splits: HubSplits, split: str, facts: DatasetFacts | None, asked: Asked) -> EncodedSplit:
    chosen, columns, labels, classes = _split_of(splits, splits.features, split, splits.hub_id, facts, asked)
    # the datasets library names the folder of what it cached by the commit
    folders = [Path(file["filename"]).parent.name for file in chosen.cache_files]
    revision = next((name for name in folders if re.fullmatch("[0-9a-f]{40}", name)), None)
    return EncodedSplit(HubImages(chosen, columns.image, splits.hub_id, revision), labels, classes, revision)


def _split_of(
    splits: Mapping[str, Any], features: Callable[[str], dict[str, Any]], split: str, where: str,
    facts: DatasetFacts | None, asked: Asked, paths: bool = False,
) -> tuple[Any, Columns, np.ndarray, tuple[str, ...]]:
    """(the split, its columns, labels int64 (N,), the classes of the training split) of what ``datasets`` loaded,
    whose images may be texts that are ``paths``."""
    def labels_in(name: str) -> tuple[np.ndarray, tuple[str, ...]]:
        columns = find_columns(features(name), facts, asked, where)
        return labels_of(splits[name].data.column(columns.label), columns.names, where)

    name = _labelled(split, splits, where, lambda name: (
        facts is not None and facts.test_unlabelled) or _unlabelled(labels_in(name)[0]))
    chosen = splits[name]
    columns = find_columns(features(name), facts, asked, where)
    kind = chosen.data.column(columns.image).type
    if not (paths and is_text(kind)):
        check_images(kind, f"{where}: {columns.image}")
    labels, names = labels_of(chosen.data.column(columns.label), columns.names, where)
    classes, elsewhere = facts.classes if facts else names, where
    if not facts and any(kind_of_split(name) == "train" for name in splits):
        training = choose_split("train", splits, where)
        theirs = find_columns(features(training), None, asked, where)
        classes, elsewhere = theirs.names or (), f"{where}'s training split"
        if theirs.names is None:
            classes = labels_in(training)[1]
    return chosen, columns, labels_by_name(labels, names, classes, f"{where}'s {split} split", elsewhere), classes


def _tables(folder: Path) -> list[Path]:
    """The tables of file names and labels in a folder of images, or in its splits' folders."""
    places = [folder, *(path for path in folder.iterdir() if kind_of_split(path.name) and path.is_dir())]
    found = [path for place in places for path in sorted(place.glob(f"{METADATA}.*"))]
    return [path for path in found if path.suffix == ".parquet" or (
        path.suffix in (".csv", ".jsonl") and b"file_name" in _first_line(path))]


def _first_line(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.readline(2**16)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None


def holds_saved(folder: Path) -> bool:
    """Whether a folder is one that :func:`read_saved` reads."""
    return any((folder / name).is_file() for name in _SAVED) or bool(_tables(folder))


def saved_splits(folder: Path, where: str) -> dict[str, Any]:
    """Split -> what :func:`read_saved` reads it from; "train" where there are none.

    Raises:
        UserError: it can't be loaded.
    """
    folder = folder.resolve()
    tables = _tables(folder)
    if not tables:
        return _loaded(where, lambda datasets: datasets.load_from_disk(str(folder)))
    if all(path.suffix == ".csv" for path in tables):
        return from_metadata(folder, tables)
    return _loaded(where, lambda datasets: datasets.load_dataset("imagefolder", data_dir=str(folder)))


def read_saved(folder: Path, split: str, where: str, asked: Asked = BY_TYPE) -> EncodedSplit:
    """Read a split of what ``save_to_disk`` wrote, or of images with a table of their labels.

    The table is a file ``metadata.csv``, ``metadata.jsonl`` or ``metadata.parquet`` with a column ``file_name``, in the
    folder or in those of its splits, as the ``datasets`` library's imagefolder has it. Where there is a training split
    alone, a fifth of every class is for testing, chosen by the hash of the files' names, so always the same one; images
    without a name go by their place. A column of texts is of paths that count from the folder.

    Args:
        folder: The folder.
        split: "train" or "test"; a validation split stands in for a missing "test"; without splits "all" too.
        where: What to call the dataset in an error.
        asked: Columns that the user names; by default those of the types Image and ClassLabel, or one called "label".

    Raises:
        UserError: it can't be loaded; there is no such split or column, or several could be meant.
    """
    return _of_files(saved_splits(folder, where), split, where, asked, folder, table=bool(_tables(folder)))


def read_table(path: Path, split: str, where: str, asked: Asked = BY_TYPE) -> EncodedSplit:
    """Read a split of a table of images' paths, which count from its folder, and labels; see :func:`read_saved`.

    Of a table that is called as a split is, those of other splits are beside it; see :func:`tables_by_split`.

    Args:
        path: The table, one of :data:`TABLES`.
        split: "train" or "test"; a validation split stands in for a missing "test"; without splits "all" too.
        where: What to call the dataset in an error.
        asked: Columns that the user names; by default the first of texts with a usual name, and "label".

    Raises:
        UserError: it can't be loaded; there is no such split, column or file.
    """
    tables = tables_by_split(path)
    if path.suffix == ".csv":
        splits = {name: from_csv(table) for name, table in tables.items()}
    else:
        splits = _loaded(where, lambda datasets: datasets.load_dataset(
            TABLES[path.suffix], data_files={name: str(table) for name, table in tables.items()}))
    return _of_files(splits, split, where, asked, path, table=False)


def _loaded(where: str, load: Callable[[Any], Any]) -> dict[str, Any]:
    """Split -> what the ``datasets`` library loads of it."""
    import datasets

    with loading(where):
        loaded = load(datasets)
    return loaded if isinstance(loaded, dict) else {"train": loaded}


@contextmanager
def loading(where: str) -> Iterator[None]:
    """What the ``datasets`` library finds wrong with files, in one line."""
    try:
        with _quiet("datasets"):
            yield
    except UserError:
        raise
    except Exception as error:  # whatever is wrong with files of so many forms
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{where} can't be loaded through the datasets library: {reason[:300]}") from error


def _of_files(splits: dict[str, Any], split: str, where: str, asked: Asked, source: Path, table: bool) -> EncodedSplit:
    """A split of what was loaded from a folder or a table; where it holds paths, the images are files."""
    folder = source.parent if source.is_file() else source
    whole = without_splits(splits)
    chosen, columns, labels, classes = _split_of(
        splits, lambda name: splits[name].features.to_dict(), "train" if whole else split, where, None, asked,
        paths=True)
    cells, places = chosen.data.column(columns.image), np.arange(len(labels))
    names = _names_in(cells)
    if whole:
        places = _part([Path(name or str(place)) for place, name in enumerate(names)], labels, split)
        say_without_splits(source, split)
    if table or is_text(cells.type):
        return EncodedSplit(_files_of(names, places, folder.resolve(), where), labels[places], classes)
    images = HubImages(chosen, columns.image, folder.name, None)
    return EncodedSplit(Picked(images, places) if whole else images, labels[places], classes)


def _names_in(cells: Any) -> list[str | None]:
    """The path of every image, as far as it is known."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_struct(cells.type) and cells.type.get_field_index("path") >= 0:
        cells = pc.struct_field(cells, "path")
    return cells.to_pylist() if is_text(cells.type) else [None] * len(cells)


def _files_of(names: Sequence[str | None], places: np.ndarray, root: Path, where: str) -> ImageFiles:
    """The files at some places of those that a table names."""
    paths = [Path(os.path.normpath(root / (name or ""))) for name in names]
    if missing := next((path for path in paths if not path.is_file()), None):
        raise UserError(f"{where}: its table names {missing}, and there is no such file")
    if not all(path.is_relative_to(root) for path in paths):
        root = Path(os.path.commonpath([path.parent for path in paths]))
    return ImageFiles(root, [paths[place] for place in places])


def _part(paths: Sequence[Path], labels: np.ndarray, split: str) -> np.ndarray:
    """Places of the images of a split where the table knows none: of each class a fifth is for testing."""
    if split == "all":
        return np.arange(len(paths))
    testing = []
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        testing.append(of_class[fifth([paths[place] for place in of_class.tolist()])])
    test = np.sort(np.concatenate(testing))
    return test if split == "test" else np.setdiff1d(np.arange(len(paths)), test)
