"""Trackers: where a run's curve is shown beside its metrics.csv, through Accelerate."""
from importlib.util import find_spec
from pathlib import Path

from accelerate.tracking import GeneralTracker, TensorBoardTracker, TrackioTracker, WandBTracker

from ..errors import UserError, nearest

__all__ = ["make_trackers"]

KNOWN = ("tensorboard", "wandb", "trackio")
PROJECT = "wrn_hub"


def make_trackers(names: str, folder: Path, run_id: str) -> list[GeneralTracker]:
    """Trackers for Accelerate's ``log_with``; none is started yet.

    Args:
        names: Some of tensorboard, wandb and trackio, with commas; "auto": tensorboard where it is installed; "none".
        folder: The run's; tensorboard and wandb write into it.
        run_id: Stays the same when the run is resumed, which then goes on in the same log.

    Raises:
        UserError: there is no such tracker, or it isn't installed.
    """
    if names == "auto":
        names = "tensorboard" if find_spec("tensorboard") else "none"
    trackers: list[GeneralTracker] = []
    for name in [] if names == "none" else names.split(","):
        if name not in KNOWN:
            raise UserError(
                f"report_to {name!r}: allowed are {', '.join(KNOWN)}, auto and none.{nearest(name, KNOWN)}")
        if not find_spec(name):
            raise UserError(f"report_to {name}: it isn't installed; pip install {name}")
        if name == "tensorboard":
            trackers.append(TensorBoardTracker("tensorboard", folder))
        elif name == "wandb":
            trackers.append(
                WandBTracker(PROJECT, dir=folder, id=run_id, name=folder.name, resume="allow"))
        else:
            trackers.append(TrackioTracker(PROJECT, name=f"{folder.name}-{run_id}", resume="allow"))
    return trackers
