"""Which column of a dataset holds the images, which their labels, and what the labels stand for."""
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import UserError, nearest
from ..facts import DatasetFacts
from .names import in_order

__all__ = ["BY_TYPE", "Asked", "Columns", "check_images", "find_columns", "is_text", "labels_of"]

_PATHS = ("image", "file_name", "filename", "file", "path", "image_path")  # what a column of images' paths is called
_USUAL = ("label", "labels", "cls")  # what a column of labels is called that isn't marked as one


@dataclass(frozen=True)
class Asked:
    """The columns that a user names; None: by their types, or as a known dataset has them."""

    image: str | None = None
    label: str | None = None

    def __bool__(self) -> bool:
        return bool(self.image or self.label)


BY_TYPE = Asked()


@dataclass(frozen=True)
class Columns:
    """The columns of a dataset.

    Attributes:
        image: Name of the one with the images.
        label: Name of the one with the labels.
        names: Of the classes, in the order of the labels; None where the labels are texts or numbers that name them.
    """

    image: str
    label: str
    names: tuple[str, ...] | None


def find_columns(features: dict[str, Any], facts: DatasetFacts | None, asked: Asked, where: str) -> Columns:
    """The columns that are asked for, that a known dataset has, or the one of its type; of images that of their paths
    where none has the type.

    Args:
        features: Of the ``datasets`` library as a dict; those that it doesn't know may be empty.
        facts: Of a known dataset.
        asked: By the user; of no dataset that is known.
        where: What to call the dataset in an error.

    Raises:
        UserError: there is no such column, or several could be meant.
    """
    if facts is None:
        image = _named(features, asked.image, where) or _image(features, where)
        label = _named(features, asked.label, where) or _label(features, where)
        marked = isinstance(features[label], dict) and features[label].get("_type") == "ClassLabel"
        return Columns(image, label, _names(features[label], where) if marked else None)
    image, label = facts.image_column, facts.label_column
    feature = features.get(label)
    names = _names(feature, where) if isinstance(feature, dict) and "names" in feature else facts.classes
    if not {image, label} <= set(features) or len(names) != len(facts.classes):
        raise UserError(
            f"{where} is not {facts.hub_id}: that has columns {image} and {label} of {len(facts.classes)} classes, "
            f"this has {', '.join(features)}")
    if facts.in_folders:  # the Hub's ImageNet has words for WordNet ids, in the order of the ids
        return Columns(image, label, facts.classes)
    return Columns(image, label, tuple(dict(facts.misspelled).get(name, name) for name in names))


def _named(features: dict[str, Any], name: str | None, where: str) -> str | None:
    if name is not None and name not in features:
        raise UserError(f"{where} has no column {name!r}, only {', '.join(features)}.{nearest(name, features)}")
    return name


def _of_type(features: dict[str, Any], kind: str) -> list[str]:
    return [name for name, feature in features.items() if isinstance(feature, dict) and feature.get("_type") == kind]


def _typed(features: dict[str, Any], kind: str, where: str, option: str) -> str:
    """The one column of a feature type."""
    found = _of_type(features, kind)
    if len(found) == 1:
        return found[0]
    has = f"several {kind} columns ({', '.join(found)})" if found else f"no {kind} column among {', '.join(features)}"
    raise UserError(f"{where} has {has}: choose one with {option}")


def _image(features: dict[str, Any], where: str) -> str:
    texts = [name for name, feature in features.items()
             if isinstance(feature, dict) and feature.get("dtype") in ("string", "large_string")]
    usual = [name for name in _PATHS if name in texts]
    if not _of_type(features, "Image") and usual:
        return usual[0]
    return _typed(features, "Image", where, "--image-column")


def _label(features: dict[str, Any], where: str) -> str:
    usual = [name for name in _USUAL if name in features]
    if not _of_type(features, "ClassLabel") and usual:
        return usual[0]
    return _typed(features, "ClassLabel", where, "--label-column")


def _names(feature: dict[str, Any], where: str) -> tuple[str, ...]:
    names = feature.get("names")
    if (not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names)
            or len(set(names)) < len(names)):
        raise UserError(f"{where}: its ClassLabel has the names {str(names)[:100]}, needed is a list of distinct texts")
    return tuple(names)


def labels_of(column: Any, names: Sequence[str] | None, where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """(labels int64 (N,), what they stand for, in their order); a label of -1 is none.

    Args:
        column: Of pyarrow: of integers, or where they have no names, of texts, integers or booleans.
        names: What the integers stand for; None where the values themselves are the names.
        where: What to call the dataset in an error.

    Raises:
        UserError: labels are missing, or of another type.
    """
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    integers = pa.types.is_integer(column.type)
    texts = any(test(column.type) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_boolean))
    if not integers and (names is not None or not texts):
        needed = "integers" if names is not None else "integers or texts"
        raise UserError(f"{where}: labels are of type {column.type}, not {needed}")
    if column.null_count:
        raise UserError(f"{where}: {column.null_count} of {len(column)} images have no label; measure on another split")
    if names is not None:
        return np.asarray(column.to_numpy(), dtype=np.int64), tuple(names)
    values = column.unique().to_pylist()
    classes = tuple(in_order({str(value) for value in values if not (integers and value == -1)}))
    places = {name: place for place, name in enumerate(classes)}
    return np.array([places.get(str(value), -1) for value in column.to_pylist()], dtype=np.int64), classes


def is_text(kind: Any) -> bool:
    """Whether a type of pyarrow's is of texts."""
    import pyarrow as pa

    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def check_images(kind: Any, where: str) -> None:
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
