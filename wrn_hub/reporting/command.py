"""The command that trains again what was trained."""
from dataclasses import fields
from typing import Any

from ..facts import DATASETS
from ..training.options import TrainOptions

__all__ = ["train_command"]

# size and flip were resolved from the model and the dataset, as they will be again
_NAMED_OR_RESOLVED = ("model", "dataset", "data_dir", "output", "resume", "image_size", "flip")


def train_command(settings: dict[str, Any]) -> str:
    """The command of a training from its args.json: every setting that differs from its default.

    ``--data-dir data`` stands for wherever the data lay, unless the settings say that they came through the Hub.
    """
    parts = ["accelerate launch scripts/train.py", f"--model {settings['model']}", f"--dataset {settings['dataset']}"]
    if settings.get("data_dir", "data"):
        parts.append("--data-dir data")
    for item in fields(TrainOptions):
        value = settings.get(item.name, item.default)
        value = tuple(value) if isinstance(value, list) else value
        if value == item.default or item.name in _NAMED_OR_RESOLVED:
            continue
        if item.name in ("mean", "std") and value == getattr(DATASETS.get(settings["dataset"]), item.name, None):
            continue  # the dataset's own
        flag = "--" + item.name.replace("_", "-")
        if isinstance(value, bool):
            parts.append(flag if value else flag.replace("--", "--no-", 1))
        else:
            parts.append(f"{flag} {','.join(map(str, value)) if isinstance(value, tuple) else value}")
    return " ".join(parts)
