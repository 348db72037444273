"""The files from CIFAR's own page: ``cifar-10-batches-py`` and ``cifar-100-python``."""
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError

__all__ = ["FOLDERS", "read_official"]

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


def read_official(dataset: str, split: str, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a split from the official files; CIFAR-100 with its fine labels.

    Args:
        dataset: "cifar10" or "cifar100".
        split: "train" or "test".
        folder: The folder that holds the files themselves.

    Returns:
        uint8 (N, 32, 32, 3) and int64 (N,), in the files' order.

    Raises:
        UserError: a file is missing, damaged, or asks for more than arrays.
    """
    images, labels = [], []
    for name in _FILES[dataset, split]:
        path = folder / name
        try:
            with open(path, "rb") as file:
                content = _ArraysOnly(file, encoding="latin1").load()
            data = np.asarray(content["data"], dtype=np.uint8).reshape(-1, 3, 32, 32)
            labels.append(np.asarray(content["labels" if dataset == "cifar10" else "fine_labels"], dtype=np.int64))
        except FileNotFoundError:
            raise UserError(f"{path} is missing; {dataset} needs {', '.join(_FILES[dataset, split])} there") from None
        except (pickle.UnpicklingError, EOFError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise UserError(f"{path} is not an official {dataset} file ({error}); download it again") from None
        images.append(data.transpose(0, 2, 3, 1))
    return np.ascontiguousarray(np.concatenate(images)), np.concatenate(labels)
