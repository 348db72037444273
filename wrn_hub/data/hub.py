"""Datasets in the form that the Hub has them: through the Hub, or from a local copy of the parquet files."""
import json
import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..facts import DatasetFacts
from .encoded import EncodedSplit, choose_split

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
    """(image column, label column, class names)."""
    if facts is None:
        image, label = _column(features, "Image", where), _column(features, "ClassLabel", where)
        return image, label, tuple(features[label]["names"])
    image, label = facts.image_column, facts.label_column
    names = (features.get(label) or {}).get("names", facts.classes)
    if not {image, label} <= set(features) or len(names) != len(facts.classes):
        raise UserError(
            f"{where} is not {facts.hub_id}: that has columns {image} and {label} of {len(facts.classes)} classes, "
            f"this has {', '.join(features)}")
    return image, label, facts.classes


def _labels(column: Any, where: str) -> np.ndarray:
    if not str(column.type).startswith(("int", "uint")):
        raise UserError(f"{where}: labels are of type {column.type}, not integers")
    if column.null_count:
        raise UserError(f"{where}: {column.null_count} of {len(column)} images have no label; measure on another split")
    return np.asarray(column.to_numpy(), dtype=np.int64)


def _images(arrays: Iterable[Any], where: str) -> Iterator[tuple[str, bytes]]:
    """The bytes of an Image column; a cell has them itself or names a local file."""
    number = 0
    for array in arrays:
        for cell in array:
            value, place = cell.as_py() or {}, f"{where}: image {number}"
            number += 1
            if isinstance(value, bytes):
                yield place, value
            elif value.get("bytes") is not None:
                yield place, value["bytes"]
            elif value.get("path") and Path(value["path"]).is_file():
                yield value["path"], Path(value["path"]).read_bytes()
            else:
                raise UserError(f"{place} is missing: its cell has no bytes and its path is {value.get('path')}")


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path} can't be read ({' '.join(str(error).split())[:200]}); download it again")


def _parquet_files(folder: Path) -> dict[str, list[Path]]:
    """Split -> its files: SPLIT-*.parquet or SPLIT/*.parquet in the folder or in the folders of its configurations."""
    files: dict[str, list[Path]] = {}
    for path in sorted([*folder.glob("*.parquet"), *folder.glob("*/*.parquet")]):
        split = re.split(r"[-._]", path.name)[0]
        known = split in ("train", "test", "validation", "valid", "val")
        files.setdefault(split if known else path.parent.name, []).append(path)
    return files


def holds_parquet(folder: Path) -> bool:
    """Whether a folder is laid out like a Hub repository with parquet files."""
    return bool(_parquet_files(folder))


def read_parquet(folder: Path, split: str, where: str, facts: DatasetFacts | None = None) -> EncodedSplit:
    """Read a split from a local copy of a Hub repository: CONFIG/SPLIT-*.parquet or SPLIT-*.parquet.

    Args:
        folder: The repository, or the folder of one of its configurations.
        split: "train" or "test"; a validation split stands in for a missing "test".
        where: What to call the dataset in an error.
        facts: Names the columns and classes; without it they are found by the feature types in the files.

    Raises:
        UserError: a file is damaged, there is no such split or column, or several could be meant.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if facts and (folder / facts.config).is_dir():
        folder = folder / facts.config
    available = _parquet_files(folder)
    paths = available[choose_split(split, available, where)]
    folders = sorted({path.parent.name for path in paths})
    if len(folders) > 1:
        raise UserError(f"{where} has several configurations ({', '.join(folders)}): name the folder of one of them")

    def read(column: str) -> Iterator[pa.Array]:
        for path in paths:
            try:
                with pq.ParquetFile(path) as file:
                    for batch in file.iter_batches(batch_size=1000, columns=[column]):
                        yield batch.column(0)
            except (pa.ArrowException, OSError, KeyError) as error:
                raise _unreadable(path, error) from error

    try:
        schema = pq.read_schema(paths[0])
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(paths[0], error) from error
    known = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    features = {name: known.get(name, {}) for name in schema.names}
    image, label, classes = _columns(features, facts, where)
    labels = _labels(pa.chunked_array(read(label), schema.field(label).type), where)
    return EncodedSplit(_images(read(image), where), labels, classes, tuple(paths), image)


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
            "unset HF_HUB_OFFLINE if it is set, or give a folder that holds it (--data-dir)") from error
    except Exception as error:  # whatever else: a full disk, several configurations, files of no known format
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{hub_id} can't be loaded: {reason[:300]}; or download it and give its folder (--data-dir)") from error
    chosen = splits[choose_split(split, splits, hub_id)]
    image, label, classes = _columns(chosen.features.to_dict(), facts, hub_id)
    files = tuple(Path(file["filename"]) for file in chosen.cache_files)
    # the datasets library names the folder of what it cached by the commit
    commits = [file.parent.name for file in files if re.fullmatch("[0-9a-f]{40}", file.parent.name)]
    return EncodedSplit(
        _images(chosen.data.column(image).chunks, hub_id), _labels(chosen.data.column(label), hub_id), classes,
        files, image, commits[0] if commits else None)
