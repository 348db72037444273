"""Decoded once, memory-mapped after: the pixels of a split as a .npy file under a fingerprint of their source.

The files lie in the folder of caches that ``files.cache_folder`` names and may be deleted at any time. After the array
comes its checksum, so a file that is damaged, or lies under another's name, is decoded again instead of being trained
on.
"""
import hashlib
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ..files import cache_folder as folder_of

__all__ = ["cache_folder", "cached"]

_FORMAT = 2  # to be raised whenever the same files would decode to other pixels, or are kept in another form
_BLOCK = 2**24  # bytes

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


def _checksum(name: str, array: np.ndarray) -> bytes:
    """32 bytes over the file's name, the shape and the pixels, which are read by several threads at once."""
    content = memoryview(array.reshape(-1))  # type: ignore[arg-type]  # a view: the array is contiguous
    blocks = (content[start : start + _BLOCK] for start in range(0, len(content), _BLOCK))
    with ThreadPoolExecutor() as threads:
        digests = threads.map(lambda block: hashlib.sha256(block).digest(), blocks)
        return hashlib.sha256(repr((name, array.shape)).encode() + b"".join(digests)).digest()


def _load(path: Path, count: int, size: int | None) -> np.ndarray | None:
    """The array of a file that is whole and of this many images (of this size); None where there is none."""
    try:
        array = np.load(path, mmap_mode="r")
        with open(path, "rb") as file:
            file.seek(getattr(array, "offset", 0) + array.nbytes)
            checksum = file.read()
    except FileNotFoundError:
        return None
    except Exception:  # numpy's reader raises nearly everything on a damaged header
        array, checksum = np.empty(0), b""
    if (array.dtype == np.uint8 and array.ndim == 4 and array.flags.c_contiguous
            and array.shape == (count, size or array.shape[1], size or array.shape[2], 3)
            and checksum == _checksum(path.name, array)):
        return array
    _log.info("%s is damaged; decoding again", path)
    return None


def _save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # beside and renamed: whoever sees the final name sees the whole file, whatever other processes do
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-", ignore_cleanup_errors=True) as beside:
        with open(Path(beside) / path.name, "wb") as file:
            np.save(file, array)
            file.write(_checksum(path.name, array))
            file.flush()
            os.fsync(file.fileno())
        os.replace(Path(beside) / path.name, path)


def cached(
    name: str, files: Iterable[Path], column: str, count: int, size: int | None, make: Callable[[], np.ndarray]
) -> np.ndarray:
    """What ``make`` returns, from the cache where it is there, memory-mapped and read-only.

    Processes that find nothing each make it; the last one's file stays. A damaged file is made again, and where
    nothing can be written the array stays in memory, with a warning.

    Args:
        name: What is being decoded, for the log.
        files: Local files that the result depends on: their paths, sizes and times of change are in the
            fingerprint. None of them: nothing is cached.
        column: Which images of those files, where they hold several.
        count: Number N of images.
        size: H and W where they are known before; the result depends on it.
        make: Returns uint8 (N, H, W, 3).
    """
    files = list(files)
    if not files:
        return make()
    path = cache_folder() / f"{_fingerprint(files, (column, size))}.npy"
    array = _load(path, count, size)
    if array is not None:
        return array
    started = time.perf_counter()
    array = np.ascontiguousarray(make())
    _log.info("decoded %d images of %s in %.1f s", count, name, time.perf_counter() - started)
    try:
        _save(path, array)
    except OSError as error:
        _log.warning(
            "the decoded images of %s stay in memory: can't write to %s (%s); WRN_HUB_CACHE names another folder",
            name, path.parent, error.strerror or error)
        return array
    mapped = _load(path, count, size)
    return array if mapped is None else mapped
