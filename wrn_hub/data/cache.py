"""Decoded once, memory-mapped after: the pixels of a split as a .npy file under a fingerprint of their source.

The files lie in the folder of caches that ``files.cache_folder`` names and may be deleted at any time.
"""
import hashlib
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from ..files import cache_folder as folder_of

__all__ = ["cache_folder", "cached"]

_FORMAT = 1  # to be raised whenever the same files would decode to other pixels

_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Where decoded datasets are kept."""
    return folder_of("datasets")


def _fingerprint(files: Iterable[Path], settings: tuple) -> str:
    digest = hashlib.sha256(repr((_FORMAT, settings)).encode())
    for path in files:
        path = path.resolve()  # whole paths: two folders may hold files of one name, size and age but other pixels
        stat = path.stat()
        digest.update(repr((os.fspath(path), stat.st_size, stat.st_mtime_ns)).encode())
    return digest.hexdigest()[:32]


def _load(path: Path, count: int) -> np.ndarray | None:
    try:
        array = np.load(path, mmap_mode="r")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError):
        array = None
    if array is None or array.dtype != np.uint8 or array.ndim != 4 or len(array) != count:
        _log.info("%s is damaged; decoding again", path)
        return None
    return array


def _save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # beside and renamed: whoever sees the final name sees the whole file, whatever other processes do
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-", ignore_cleanup_errors=True) as beside:
        with open(Path(beside) / path.name, "wb") as file:
            np.save(file, array)
            file.flush()
            os.fsync(file.fileno())
        os.replace(Path(beside) / path.name, path)


def cached(
    name: str, files: Iterable[Path], settings: tuple, count: int, make: Callable[[], np.ndarray]
) -> np.ndarray:
    """What ``make`` returns, from the cache where it is there, memory-mapped and read-only.

    Processes that find nothing each make it; the last one's file stays. A damaged file is made again, and where
    nothing can be written the array stays in memory, with a warning.

    Args:
        name: What is being decoded, for the log.
        files: Local files that the result depends on: their paths, sizes and times of change are in the
            fingerprint. None of them: nothing is cached.
        settings: Whatever else it depends on, of plain values.
        count: Its length N.
        make: Returns uint8 (N, H, W, 3).
    """
    files = list(files)
    if not files:
        return make()
    path = cache_folder() / f"{_fingerprint(files, settings)}.npy"
    array = _load(path, count)
    if array is not None:
        return array
    started = time.perf_counter()
    array = make()
    _log.info("decoded %d images of %s in %.1f s", count, name, time.perf_counter() - started)
    try:
        _save(path, array)
    except OSError as error:
        _log.warning(
            "the decoded images of %s stay in memory: can't write to %s (%s); WRN_HUB_CACHE names another folder",
            name, path.parent, error.strerror or error)
        return array
    mapped = _load(path, count)
    return array if mapped is None else mapped
