"""Tables of images' paths and their labels: which of them is of which split, and what those in CSV hold."""
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import read_csv
from .splits import kind_of_split

__all__ = ["METADATA", "TABLES", "from_csv", "from_metadata", "tables_by_split"]

TABLES = {".csv": "csv", ".jsonl": "json", ".parquet": "parquet"}  # of paths and labels: what datasets calls their kind
METADATA = "metadata"  # the file of file names and labels, as the imagefolder of the datasets library has it

_INTEGER = re.compile(r"0|-?[1-9]\d{0,17}")  # one that is written in no other way: 007 isn't 7


def tables_by_split(path: Path) -> dict[str, Path]:
    """Split -> its table, of one that a user names.

    Beside one that is called as a training split is, those to measure on are tables of the same kind. One that is
    called as these are is measured itself, and a training table beside it has the classes. Of any other name it is one
    without splits, "train".
    """
    named = kind_of_split(path.stem)
    if named is None:
        return {"train": path}
    others = ("test", "validation") if named == "train" else ("train",)
    beside = sorted(path.parent.glob(f"*{path.suffix}"))
    return {other.stem: other for other in beside if other == path or kind_of_split(other.stem) in others}


def _dataset(columns: Mapping[str, list[str]]) -> Any:
    """Columns of texts as the ``datasets`` library has them: "" is none, and integers become numbers where nothing is
    lost by it."""
    import datasets

    kinds, values = {}, {}
    for name, texts in columns.items():
        whole = any(texts) and all(_INTEGER.fullmatch(text) for text in texts if text)
        kinds[name] = datasets.Value("int64" if whole else "string")
        values[name] = [(int(text) if whole else text) if text else None for text in texts]
    return datasets.Dataset.from_dict(values, datasets.Features(kinds))


def _rows(path: Path) -> list[dict[str, str]]:
    rows = read_csv(path)
    if not rows:
        raise UserError(f"{path}: a table without rows: the first line names its columns, each other one is an image's")
    return rows


def from_csv(path: Path) -> Any:
    """A CSV file as the ``datasets`` library has it, with the texts that stand there: to pandas, by which the library
    reads it, ``None`` and ``NA`` are no labels and ``007`` is 7.

    Raises:
        UserError: it can't be read, or has no rows.
    """
    rows = _rows(path)
    return _dataset({name: [row[name] for row in rows] for name in rows[0]})


def from_metadata(folder: Path, paths: list[Path]) -> dict[str, Any]:
    """Split -> its images, of files metadata.csv in a folder or in those of its splits; as :func:`from_csv`.

    As by the library's imagefolder, columns ``file_name`` and ``KIND_file_name`` become ``image`` and ``KIND``, here
    with whole paths. What one table above folders of splits names belongs to these.

    Args:
        folder: The folder.
        paths: The files; where folders of splits have some, one above them is left alone.

    Raises:
        UserError: one can't be read, or has no rows.
    """
    splits: dict[str, list[dict[str, str]]] = {}
    for path in [path for path in paths if path.parent != folder] or paths:
        rows = _rows(path)
        named = [name for name in rows[0] if name == "file_name" or name.endswith("_file_name")]
        if not named:
            raise UserError(f"{path} has no column file_name, only {', '.join(rows[0])}")
        for row in rows:
            above = Path(row[named[0]]).parts[:1] if path.parent == folder else (path.parent.name,)
            split = next(filter(kind_of_split, above), "train")
            whole = {name.removesuffix("file_name").rstrip("_") or "image": str(path.parent / row[name])
                     for name in named}
            splits.setdefault(split, []).append({name: row[name] for name in row if name not in named} | whole)
    return {split: _dataset({name: [row.get(name, "") for row in rows] for name in rows[0]})
            for split, rows in splits.items()}
