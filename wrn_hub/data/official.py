"""The files from CIFAR's own page: ``cifar-10-batches-py`` and ``cifar-100-python``."""
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError

__all__ = ["FOLDERS", "find_official", "read_official", "read_pickle"]

FOLDERS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}
_FILES = {
    ("cifar10", "train"): [f"data_batch_{i}" for i in range(1, 6)],
    ("cifar10", "test"): ["test_batch"],
    ("cifar100", "train"): ["train"],
    ("cifar100", "test"): ["test"],
}


class _ArraysOnly(pickle.Unpickler):
    """Reads a pickle of numpy arrays and plain values; whatever else it asks for is refused, not run."""

    _allowed = {
        ("numpy", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): lambda text, _: text.encode("latin1"),  # how Python 3 writes bytes into protocol 2
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module.partition(".")[0], name) in self._allowed:
            return self._allowed[module.partition(".")[0], name]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def read_pickle(path: Path, *keys: str) -> list[Any]:
    """The values of some keys of an official file; images as uint8 (N, 32, 32, 3), labels as int64 (N,).

    Args:
        path: The file.
        keys: "data" for the images, "labels", "fine_labels", "coarse_labels", or one of the lists of names.

    Raises:
        UserError: it is missing, damaged, or asks for more than arrays and plain values.
    """
    try:
        with open(path, "rb") as file:
            content = _ArraysOnly(file, encoding="latin1").load()
        values: list[Any] = []
        for key in keys:
            value = content[key]
            if key == "data":
                value = np.asarray(value, dtype=np.uint8).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
            elif key.endswith("labels"):
                value = np.asarray(value, dtype=np.int64)
            values.append(value)
        return values
    except FileNotFoundError:
        raise UserError(f"{path} is missing; download and unpack the archive again") from None
    except KeyError as error:
        raise UserError(f"{path} is not the official file: it has no {error}; download it again") from None
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, IndexError, MemoryError,
            OverflowError) as error:
        raise UserError(f"{path} is not the official file ({error}); download it again") from None


def find_official(folder: Path) -> str | None:
    """"cifar10" or "cifar100" where a folder holds their official files, else None."""
    for dataset in FOLDERS:
        if any((folder / name).is_file() for name in _FILES[dataset, "train"] + _FILES[dataset, "test"]):
            return dataset
    return None


def read_official(dataset: str, split: str, folder: Path) -> tuple[np.ndarray, np.ndarray, list[Path]]:
    """Read a split from the official files; CIFAR-100 with its fine labels.

    Args:
        dataset: "cifar10" or "cifar100".
        split: "train" or "test".
        folder: The folder that holds the files themselves.

    Returns:
        uint8 (N, 32, 32, 3) and int64 (N,), in the files' order, and the files.

    Raises:
        UserError: a file is missing, damaged, or asks for more than arrays.
    """
    files = [folder / name for name in _FILES[dataset, split]]
    parts = [read_pickle(path, "data", "labels" if dataset == "cifar10" else "fine_labels") for path in files]
    images, labels = zip(*parts, strict=True)
    return np.concatenate(images), np.concatenate(labels), files
