"""The folder of a run: whose it is, and the files in it that people read."""
import csv
import io
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from ..errors import UserError, first_line
from ..files import locked, read_json, write_whole
from . import checkpoint
from .options import TrainOptions

__all__ = ["claimed", "read_settings", "write_metrics", "write_settings"]

_LOCK = ".lock"


def _next_free(options: TrainOptions) -> Path:
    """A folder of the next free number; that it could be made is what makes it ours."""
    model, dataset = (Path(text.split(":")[-1]).resolve().name for text in (options.model, options.dataset))
    Path("runs").mkdir(exist_ok=True)
    for number in count(1):
        folder = Path("runs") / f"{model}.{dataset}.{number}"
        with suppress(FileExistsError):
            folder.mkdir()
            return folder
    raise AssertionError("numbers have no end")


@contextmanager
def _held(options: TrainOptions) -> Iterator[Path]:
    """The folder, locked; where nothing came to be in it, what was made of it is removed in the end."""
    wanted = Path(options.output) if options.output else Path("runs")
    new = [place for place in (wanted, *wanted.parents) if not place.exists()]
    if options.output:
        folder = wanted
        folder.mkdir(parents=True, exist_ok=True)
    else:
        folder = _next_free(options)
        new = [folder, *new]
    known = (folder / _LOCK).exists()
    with locked(folder / _LOCK, wait=False):
        try:
            newest = checkpoint.newest(folder / "checkpoints")
            if not options.resume and (newest or (folder / "metrics.csv").exists()):
                raise UserError(
                    f"output {folder} holds a run already: name another folder, or add --resume to go on with it")
            yield folder
        finally:
            if not known and [path.name for path in folder.iterdir()] == [_LOCK]:
                (folder / _LOCK).unlink()
                with suppress(OSError):  # somebody else has begun to use it
                    for place in new:
                        place.rmdir()


@contextmanager
def claimed(options: TrainOptions, processes: PartialState) -> Iterator[Path]:
    """The folder of a run, on every process; for as long as it lasts, nobody else may train there.

    Args:
        options: Name it, or leave it to the next free number.
        processes: The main one makes the folder and holds its lock.

    Raises:
        UserError: another process is at work there, it holds a run that isn't to be resumed, or can't be made.
    """
    told: list[str] = ["", ""]  # the folder, or what is wrong with it
    with ExitStack() as held:
        if processes.is_main_process:
            try:
                told[0] = str(held.enter_context(_held(options)))
            except UserError as error:
                told[1] = str(error)
            except OSError as error:
                told[1] = f"output {error.filename or options.output}: {error.strerror or first_line(error)}"
        broadcast_object_list(told)
        if told[1]:
            raise UserError(told[1])
        yield Path(told[0])


def read_settings(folder: Path) -> dict[str, Any]:
    """The run's args.json."""
    return read_json(folder / "args.json")


def write_settings(folder: Path, settings: dict[str, Any]) -> None:
    """args.json."""
    write_whole(folder / "args.json", json.dumps(settings, indent=2) + "\n")


def write_metrics(folder: Path, history: list[dict[str, Any]]) -> None:
    """metrics.csv, a row an epoch."""
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, list(dict.fromkeys(key for row in history for key in row)))
    table.writeheader()
    table.writerows(history)
    write_whole(folder / "metrics.csv", text.getvalue())
