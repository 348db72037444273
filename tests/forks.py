"""Python processes that have torch and timm imported when they begin: forks of one that has done nothing else.

A fresh Python takes seconds for that, longer than most of what tests start one for. In all else these are processes of
their own, with their arguments, environment, folder, signals and exit code; wrn_hub each of them imports itself. Where
a launcher, the start of a program or what is read at an import (HF_ENDPOINT) is what is tested, a fresh Python is.
"""
import atexit
import multiprocessing
import os
import runpy
import signal
import socket
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["timm", "accelerate", "datasets"])


def _run(words: list[str], folder: str, environment: Mapping[str, str], out: str, err: str) -> None:
    """What ``python`` with these words does."""
    multiprocessing.set_start_method(None, force=True)  # it was set to the one that made this process
    for stream, place in ((1, out), (2, err)):
        with open(place, "w") as file:
            os.dup2(file.fileno(), stream)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    name, *arguments = words
    code = arguments.pop(0) if name == "-c" else None
    sys.argv = [name, *arguments]
    places = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = ["" if name == "-c" else str(Path(name).parent), *filter(None, places)]
    try:
        if code is None:
            runpy.run_path(name, run_name="__main__")
        else:
            exec(code, {"__name__": "__main__"})
    finally:
        atexit._run_exitfuncs()  # which a fork leaves out


class Fork:
    """What ``subprocess.Popen(["python", *words])`` is: a file and its arguments, or -c, code and its arguments."""

    def __init__(self, *words: object, folder: Path | str = ".", **environment: str) -> None:
        self._out, self._err = (tempfile.NamedTemporaryFile() for _ in range(2))  # noqa: SIM115
        self._process = _SERVER.Process(target=_run, args=(
            [*map(str, words)], os.path.abspath(folder), {**os.environ, **environment}, self._out.name, self._err.name))
        self._process.start()
        self.pid = self._process.pid
        atexit.register(self._process.kill)  # else the tests would end after a process that one of them left behind

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, seconds: float = 240) -> int:
        """Its exit code, by a SIGKILL where it takes longer."""
        self._process.join(seconds)
        self._process.kill()
        self._process.join()
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def out(self) -> str:
        """What it has written to standard output so far."""
        return Path(self._out.name).read_text(errors="replace")

    def err(self) -> str:
        return Path(self._err.name).read_text(errors="replace")


def ended_well(*forks: Fork) -> None:
    """Waits for all of them."""
    codes = [fork.wait() for fork in forks]
    assert not any(codes), "".join(fork.err() for fork in forks)


def two(*words: object, folder: Path | str = ".", **environment: str) -> tuple[Fork, Fork]:
    """Two processes that compute together on CPUs, told so as torchrun does; the first is the main one."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    told = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
            "ACCELERATE_USE_CPU": "true", **environment}
    first, second = (Fork(*words, folder=folder, RANK=rank, LOCAL_RANK=rank, **told) for rank in "01")
    return first, second
