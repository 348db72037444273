"""Checkpoints that a killed run can trust.

A checkpoint is written beside its final name and renamed, and its name carries the sha256 of its content: what stands
under a final name is whole, and one that was damaged afterwards is known by its name. The last two whole ones are
kept; files of other names are nobody's business here.
"""
import hashlib
import io
import logging
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from ..errors import UserError, first_line
from ..files import write_whole

__all__ = ["load_newest", "newest", "save"]

_log = logging.getLogger(__name__)
KEEP = 2
_NAME = re.compile(r"epoch-(\d{5,})\.(\d{6,})-([0-9a-f]{16})\.pt")


def _all(folder: Path) -> list[tuple[Path, str]]:
    """The checkpoints, newest first, each with the begin of the sha256 that its content had."""
    named = ((path, _NAME.fullmatch(path.name)) for path in folder.glob("epoch-*.pt"))
    found = [(int(name[1]), int(name[2]), path, name[3]) for path, name in named if name and path.is_file()]
    return [(path, digest) for _, _, path, digest in sorted(found, reverse=True)]


def newest(folder: Path) -> Path | None:
    """The newest checkpoint, unread."""
    return next((path for path, _ in _all(folder)), None)


def save(folder: Path, epoch: int, state: dict[str, Any], step: int = 0) -> Path:
    """Write the state after ``epoch`` whole epochs and ``step`` steps, then drop all but the last two checkpoints."""
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getbuffer()
    for half_written in folder.glob(".epoch-*"):  # by a process that was killed
        half_written.unlink()
    path = folder / f"epoch-{epoch:05d}.{step:06d}-{hashlib.sha256(content).hexdigest()[:16]}.pt"
    write_whole(path, content, durable=True)
    for old, _ in _all(folder)[KEEP:]:
        old.unlink()
    return path


def load_newest(folder: Path) -> dict[str, Any] | None:
    """The newest whole checkpoint's state on the CPU, or None.

    Damaged ones are named in a warning and set aside as ``*.damaged``, where no later checkpoint is dropped for them.

    Raises:
        UserError: the newest was written as it is, but not by :func:`save`.
    """
    for path, digest in _all(folder):
        try:
            content = path.read_bytes()
        except FileNotFoundError:  # another process has just set it aside
            continue
        if hashlib.sha256(content).hexdigest().startswith(digest):
            try:
                return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            except Exception as error:  # what others wrote can make the reader fail with anything
                raise UserError(
                    f"{path}: not a checkpoint of a training ({first_line(error).partition('. ')[0]}); move it away to "
                    "go on from the one before") from error
        aside = path.with_suffix(".damaged")
        with suppress(FileNotFoundError):
            path.replace(aside)
        _log.warning("%s is damaged (its content doesn't match the checksum in its name); set aside as %s, the one "
                     "before it is taken", path, aside.name)
    return None
