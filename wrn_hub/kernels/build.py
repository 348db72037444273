"""C++ of this package, compiled for the CPU at hand once and kept for the processes to come.

A library lies in the user's cache folder as ``NAME-MACHINE-COMPILER-CONTENT.so``, three hashes:

- MACHINE of the source, the compiler's options, everything that the system tells of its CPU, and its C library: what it
  takes for the code to run here and be right.
- COMPILER of the command, its path, size and time of change. They tell another compiler and a new version of it, and
  need no process to be started.
- CONTENT of the library itself, so that a damaged one is never loaded.

Of the libraries for the machine the compiler's own is taken; another one's where the compiler is missing or fails, for
they all compute the same.
"""
import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from ..errors import UserError, first_line
from ..files import cache_folder, write_whole
from ..record import cpu_features

__all__ = ["library"]

_OPTIONS = ["-O3", "-march=native", "-std=c++17", "-fopenmp", "-shared", "-fPIC"]

_log = logging.getLogger(__name__)


@cache
def library(source: Path) -> ctypes.CDLL:
    """A source of C++ as a library: from the cache, else compiled in a few seconds.

    Processes that find nothing each compile it; the last one's file stays. Where nothing can be written it is compiled
    in a temporary folder, with a warning.

    Args:
        source: A single file, which may use OpenMP.

    Raises:
        UserError: it isn't in the cache, and there is no compiler, or it fails.
    """
    command = _compiler()
    name = f"{source.stem}-{_machine(source)}"
    own = f"{name}-{_identity(command)}"
    for path in _kept(f"{own}-*.so"):
        if found := _loaded(path):
            return found
    try:
        return _compiled(source, command, own)
    except UserError:
        for path in _kept(f"{name}-*.so"):
            if found := _loaded(path):
                return found
        raise


def _hash(*parts: str | bytes) -> str:
    return hashlib.sha256(b"\0".join(part.encode() if isinstance(part, str) else part for part in parts)).hexdigest()


def _machine(source: Path) -> str:
    """What the library depends on; of a CPU of another model or with other flags it may use instructions that are
    missing here, and a home folder may be shared with one."""
    try:
        processors = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n\n")[0].splitlines()
    except OSError:
        processors = []
    told = ("vendor", "cpu family", "model", "flags", "CPU", "Features")  # names on x86 and on ARM
    cpu = [line for line in processors if line.startswith(told)]
    can = sorted(name for name, has in cpu_features().items() if has is True)
    machine = [platform.system(), platform.machine(), platform.processor(), *platform.libc_ver()]
    return _hash(source.read_bytes(), *_OPTIONS, *machine, *cpu, *can)[:16]


def _compiler() -> list[str]:
    """The command of the C++ compiler, which need not exist, its path first where it does."""
    try:
        named = shlex.split(os.environ.get("CXX", ""))  # as make has it: options may follow
    except ValueError:
        named = [os.environ["CXX"]]
    if named:
        return [shutil.which(named[0]) or named[0], *named[1:]]
    return [next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), "c++")]


def _identity(command: list[str]) -> str:
    try:
        path = Path(command[0]).resolve()
        stat = path.stat()
        about = [str(path), stat.st_size, stat.st_mtime_ns]
    except (OSError, RuntimeError):
        about = []
    return _hash(repr((command, about)))[:16]


def _kept(pattern: str) -> list[Path]:
    """Libraries of the cache, the newest first."""
    try:
        return sorted(cache_folder("kernels").glob(pattern), key=lambda path: -path.stat().st_mtime)
    except (OSError, UserError):
        return []


def _loaded(path: Path) -> ctypes.CDLL | None:
    try:
        # whoever else may write to the folder doesn't get to run code here
        if hasattr(os, "getuid") and path.stat().st_uid not in (os.getuid(), 0):
            return None
        if _hash(path.read_bytes()) != path.stem.rpartition("-")[2]:
            _log.info("%s is damaged; compiling again", path)
            return None
        return ctypes.CDLL(str(path))
    except OSError:  # made where libraries are others
        return None


def _compiled(source: Path, command: list[str], name: str) -> ctypes.CDLL:
    """The library, compiled in a temporary folder and moved to the cache under a name that begins with ``name``."""
    if shutil.which(command[0]) is None:
        raise UserError(
            f"{source.stem}: no C++ compiler ({os.environ.get('CXX') or 'c++, g++, clang++'}): install one (on Debian "
            "and Ubuntu: apt-get install g++), or name it in the variable CXX")
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            made = Path(folder) / f"{source.stem}.so"
            result = subprocess.run(
                [*command, *_OPTIONS, str(source), "-o", str(made)], stdin=subprocess.DEVNULL, capture_output=True,
                env={**os.environ, "LC_ALL": "C"})
            if result.returncode:
                reason = first_line(RuntimeError(result.stderr.decode(errors="replace")))
                raise UserError(
                    f"{source.stem}: {command[0]} can't compile its kernels ({reason}); name another in CXX")
            content = made.read_bytes()
            try:
                kept = cache_folder("kernels") / f"{name}-{_hash(content)}.so"
                write_whole(kept, content)
                if found := _loaded(kept):
                    return found
            except (OSError, UserError) as error:
                _log.warning(
                    "%s: compiled anew in every process: can't write to the cache (%s); WRN_HUB_CACHE names another "
                    "folder", source.stem, first_line(error))
            return ctypes.CDLL(str(made))
    except OSError as error:
        raise UserError(f"{source.stem}: {command[0]} made nothing that can be loaded ({first_line(error)})") from None
