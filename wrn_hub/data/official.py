"""The files from CIFAR's own page: ``cifar-10-batches-py`` and ``cifar-100-python``."""
import io
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError, first_line
from ..facts import DATASETS
from ..pickles import StandIn, unpickle
from .encoded import EncodedSplit, PixelImages
from .splits import choose_split

__all__ = ["FOLDERS", "find_official", "read_official", "read_pickle"]

FOLDERS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}
_FILES = {
    ("cifar10", "train"): [f"data_batch_{i}" for i in range(1, 6)],
    ("cifar10", "test"): ["test_batch"],
    ("cifar100", "train"): ["train"],
    ("cifar100", "test"): ["test"],
}
_MOST = 400_000  # opcodes of a file; CIFAR-100's training split has 200,362
_LARGEST = 2**28  # bytes of a file; CIFAR-100's training split has 155 million


def _pixels(value: Any) -> np.ndarray:
    """uint8 (N, 32, 32, 3) out of what a pickle tells of an array of uint8 (N, 3072): its bytes, and nothing else."""
    match value:
        case StandIn(name=made, state=(1, (int(count), 3072), StandIn(dtype, ("u1" | "|u1", *_)), False, data)) if (
                made.startswith("numpy.") and made.endswith("._reconstruct") and dtype == "numpy.dtype"):
            match data:
                case str(text) | StandIn("_codecs.encode", (str(text), "latin1")):  # Python 2; 3 in protocol 2
                    pixels = text.encode("latin1")
                case _:
                    pixels = data
            if isinstance(pixels, bytes) and len(pixels) == count * 3072:
                return np.frombuffer(pixels, np.uint8).reshape(count, 3, 32, 32).transpose(0, 2, 3, 1)
    raise ValueError("its data is no array of N x 3072 bytes")


def _content(pickled: bytes) -> Any:
    try:
        return unpickle(io.BytesIO(pickled), most=_MOST, text_keys=True)
    except (IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:  # the stack lacks what is needed
        raise ValueError(f"its opcodes don't fit together: {type(error).__name__} {error}") from None


def _list(value: Any, kind: type, what: str) -> list[Any]:
    if not isinstance(value, list) or not all(type(item) is kind for item in value):
        raise ValueError(f"{what} is no list of {kind.__name__}")
    return value


def read_pickle(path: Path, *keys: str) -> list[Any]:
    """The values of some keys of an official file; images as uint8 (N, 32, 32, 3), labels as int64 (N,), names as str.

    Nothing of the pickle is built: its opcodes are walked, and the arrays are made here of bytes whose length is right.

    Args:
        path: The file.
        keys: "data" for the images, "labels", "fine_labels", "coarse_labels", or one of the lists of names.

    Raises:
        UserError: it is missing, damaged, or holds something else.
    """
    try:
        if not path.is_file():
            raise FileNotFoundError
        if path.stat().st_size > _LARGEST:
            raise ValueError(f"it has more than {_LARGEST:,} bytes")
        content = _content(path.read_bytes())
        if not isinstance(content, dict):
            raise ValueError(f"it holds a {type(content).__name__}")
        values: list[Any] = []
        for key in keys:
            if key not in content:
                raise ValueError(f"it has no {key!r}")
            if key == "data":
                values.append(_pixels(content[key]))
            elif key.endswith("labels"):
                values.append(np.array(_list(content[key], int, key), dtype=np.int64))
            else:
                values.append(_list(content[key], str, key))
        return values
    except FileNotFoundError:
        raise UserError(f"{path} is missing; download and unpack the archive again") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or first_line(error)}") from None
    except (ValueError, OverflowError) as error:
        raise UserError(f"{path} is not the official file ({first_line(error)}); download it again") from None


def find_official(folder: Path) -> str | None:
    """"cifar10" or "cifar100" where a folder holds their official files, else None."""
    for dataset in FOLDERS:
        if any((folder / name).is_file() for name in _FILES[dataset, "train"] + _FILES[dataset, "test"]):
            return dataset
    return None


def read_official(dataset: str, split: str, folder: Path) -> EncodedSplit:
    """Read a split from the official files, whose images are pixels of 32x32; CIFAR-100 with its fine labels.

    Args:
        dataset: "cifar10" or "cifar100".
        split: "train" or "test".
        folder: The folder that holds the files themselves.

    Raises:
        UserError: a file is missing, damaged, or asks for more than arrays.
    """
    files = [folder / name for name in _FILES[dataset, choose_split(split, ("train", "test"), dataset)]]
    parts = [read_pickle(path, "data", "labels" if dataset == "cifar10" else "fine_labels") for path in files]
    images, labels = (np.concatenate(part) for part in zip(*parts, strict=True))
    return EncodedSplit(PixelImages(images, f"{dataset} ({split})", files), labels, DATASETS[dataset].classes)
