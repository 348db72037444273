"""Checkpoints that a killed run can trust.

A checkpoint is written beside its final name and renamed, and its name carries the sha256 of its content: what stands
under a final name is whole, and one that was damaged afterwards is known by its name. The last two are kept.
"""
import hashlib
import io
import logging
import os
from pathlib import Path
from typing import Any

import torch

__all__ = ["load_newest", "newest", "save"]

_log = logging.getLogger(__name__)
KEEP = 2


def _all(folder: Path) -> list[Path]:
    return sorted(folder.glob("epoch-*.pt"), key=lambda path: path.name.split("-")[1], reverse=True)


def newest(folder: Path) -> Path | None:
    """The newest checkpoint, unread."""
    return next(iter(_all(folder)), None)


def save(folder: Path, epoch: int, state: dict[str, Any], step: int = 0) -> Path:
    """Write the state after ``epoch`` whole epochs and ``step`` steps, then drop all but the last two checkpoints."""
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getbuffer()
    for half_written in folder.glob(".epoch-*"):  # by a process that was killed
        half_written.unlink()
    path = folder / f"epoch-{epoch:05d}.{step:06d}-{hashlib.sha256(content).hexdigest()[:16]}.pt"
    beside = folder / f".{path.name}.{os.getpid()}"
    try:
        with open(beside, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.rename(path)
    finally:
        beside.unlink(missing_ok=True)
    for old in _all(folder)[KEEP:]:
        old.unlink()
    return path


def load_newest(folder: Path) -> dict[str, Any] | None:
    """The newest whole checkpoint's state on the CPU, or None; damaged ones are named in a warning and passed over."""
    for path in _all(folder):
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest()[:16] == path.stem.split("-")[2]:
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        _log.warning("%s is damaged (its content doesn't match the checksum in its name); passing over it", path)
    return None
