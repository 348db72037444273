"""What comes from a disk and what goes to it: one reader a format, one writer, one lock, one folder for caches.

Whatever is wrong with a user's file is said in one line with its path. What is written stands under its name whole or
not at all, and two processes that write the same file don't meet.
"""
import csv
import io
import json
import os
import platform
import secrets
import stat
import tempfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UserError, first_line

if TYPE_CHECKING:
    import torch

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "cache_folder", "from_home", "locked", "read_csv", "read_json", "read_tensors", "read_text", "read_toml",
    "writable", "write_whole"]


def cache_folder(kind: str) -> Path:
    """Where what can be made again is kept, and may be deleted at any time: ``$WRN_HUB_CACHE/kind``, by default
    ``$XDG_CACHE_HOME/wrn_hub/kind`` or ``~/.cache/wrn_hub/kind``. It need not exist.

    Raises:
        UserError: nobody has the home folder that it is to lie in.
    """
    root = os.environ.get("WRN_HUB_CACHE")
    place = Path(root) if root else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "wrn_hub"
    try:
        return from_home(place) / kind
    except UserError as error:
        raise UserError(f"{error}; name a folder for caches in WRN_HUB_CACHE") from None


def from_home(path: str | os.PathLike) -> Path:
    """A path whose ``~`` or ``~user`` is that home folder.

    Raises:
        UserError: nobody has it.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"{path}: {first_line(error)}") from None


def read_text(path: str | Path) -> str:
    """A text file, which is UTF-8 on every machine.

    Raises:
        UserError: it can't be read or isn't text.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or first_line(error)}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text file in UTF-8 ({error.reason} at byte {error.start})") from None


def read_json(path: str | Path, kind: type = dict) -> Any:
    """A JSON file.

    Args:
        path: The file.
        kind: What its outermost value has to be: dict or list.

    Raises:
        UserError: it can't be read, isn't JSON, or holds something else.
    """
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: not JSON ({first_line(error)})") from None
    if not isinstance(content, kind):
        raise UserError(f"{path}: holds a {type(content).__name__}, needed is a {kind.__name__}")
    return content


def read_toml(path: str | Path) -> dict[str, Any]:
    """A TOML file.

    Raises:
        UserError: it can't be read or isn't TOML.
    """
    try:
        return tomllib.loads(read_text(path))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UserError(f"{path}: not TOML ({first_line(error)})") from None


def read_csv(path: str | Path) -> list[dict[str, str]]:
    """The rows of a CSV file, by the names in its first line, before which Excel's mark of UTF-8 may stand.

    Raises:
        UserError: it can't be read, isn't CSV, or a row has more or fewer values than the first line has names.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(read_text(path).removeprefix("\ufeff"))))
    except csv.Error as error:
        raise UserError(f"{path}: not CSV ({first_line(error)})") from None
    for number, row in enumerate(rows, start=1):
        if None in row or None in row.values():
            raise UserError(f"{path}: damaged: row {number} has not as many values as the first line has names")
    return rows


def read_tensors(path: str | Path) -> "dict[str, torch.Tensor]":
    """The tensors of a safetensors file, on the CPU.

    Raises:
        UserError: it can't be read, is damaged or is of another format.
    """
    from safetensors import SafetensorError  # with torch, which takes a second to import
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or first_line(error)}") from None
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise UserError(f"{path}: damaged, or not a safetensors file ({first_line(error)})") from None


def write_whole(path: str | Path, content: str | bytes | memoryview, durable: bool = False) -> None:
    """Write a file beside its name and rename it: readers see the old or the new one, never a part.

    Args:
        path: The file; a link is followed. Folders above it are made.
        content: Text, written as UTF-8 with the line ends that it has, or bytes.
        durable: Wait for the disk, for what a loss of power may not take.

    Raises:
        UserError: something that is not a regular file bears the name: a folder, a device, a pipe.
        OSError: it can't be written; the old content stays.
    """
    place = Path(path).resolve()
    try:
        mode = place.stat().st_mode
    except FileNotFoundError:
        mode = 0
    if mode and not stat.S_ISREG(mode):
        raise UserError(f"{path} is not a regular file and isn't replaced: name another")
    place.parent.mkdir(parents=True, exist_ok=True)
    beside = place.with_name(f".{place.name[:100]}.{secrets.token_hex(6)}")  # a name that nobody else has
    try:
        with open(beside, "xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            if mode:
                os.chmod(beside, stat.S_IMODE(mode))
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(beside, place)
    except BaseException as error:
        if isinstance(error, OSError):  # of a full disk it names no file, else the one beside
            error.filename = str(path)
        with suppress(OSError):
            os.unlink(beside)
        raise


@contextmanager
def writable(folder: str | Path) -> Iterator[None]:
    """Make a folder, and a file in it that goes again, before the work whose result is to be written there.

    What was made of it for nothing, since the work failed, is removed.

    Raises:
        UserError: it can't be written to.
    """
    place = Path(folder)
    new = [above for above in (place, *place.parents) if not os.path.exists(above)]
    try:
        try:
            place.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=place).close()
        except OSError as error:
            file = isinstance(error, FileExistsError | NotADirectoryError)
            why = "is a file, or lies below one" if file else f"can't be written to ({error.strerror})"
            raise UserError(f"output {folder} {why}; name the folder that is to be written to") from None
        yield
    except BaseException:
        for made in new:
            with suppress(OSError):  # it holds something
                made.rmdir()
        raise


@contextmanager
def locked(path: str | Path, wait: bool = True) -> Iterator[None]:
    """Hold a lock file, which says by whom and since when; the system frees it when its process ends in any way.

    Args:
        path: The lock file, which is made and stays.
        wait: For another holder, as long as it takes; else that is an error.

    Raises:
        UserError: another process holds it and ``wait`` is False; says which.
    """
    if fcntl is None:
        yield
        return
    with open(path, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            file.seek(0)
            raise UserError(f"{Path(path).parent} is in use by {file.read().strip() or 'another process'}") from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()} since {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)
