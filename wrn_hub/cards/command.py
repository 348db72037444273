"""The command that trains again what was trained."""
import shlex
from dataclasses import fields
from typing import Any

import timm
from timm.data import DEFAULT_CROP_PCT

from ..data.files import usual_pipeline
from ..facts import DATASETS
from ..training.options import PLACES, TrainOptions
from ..training.pipeline import usual_settings
from ..training.settings import flip_of

__all__ = ["train_command", "train_commands"]

_NAMED = ("model", "dataset", *PLACES, "allow_other_hardware")


def _resolved(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as the model and the dataset decide them where nobody does."""
    facts = DATASETS.get(settings["dataset"])
    pipeline, size = settings.get("pipeline", "memory"), settings.get("image_size", 32)
    cfg = timm.get_pretrained_cfg(settings["model"]) if timm.is_model(settings["model"]) else None
    found: dict[str, Any] = {
        "flip": flip_of("auto", settings["dataset"], settings.get("class_names", ()), pipeline),
        "pipeline": usual_pipeline(size, settings.get("images", 0)),
        **usual_settings(pipeline, size, cfg.crop_pct if cfg else DEFAULT_CROP_PCT)}
    if facts:
        found |= {"mean": facts.mean, "std": facts.std}
    if cfg:
        found["image_size"] = cfg.input_size[-1]
    return found


def train_commands(settings: dict[str, Any], name: str) -> list[str]:
    """The commands of a training and of those whose weights it began with, from its args.json.

    Args:
        settings: The args.json, which has those before in ``before``.
        name: Of the weights; of several trainings each leaves its run in ``runs/NAME.NUMBER``, where the next one
            begins. The weights of that name would be those of the last.
    """
    trainings = [*settings.get("before", []), settings]
    if len(trainings) == 1:
        return [train_command(settings)]
    runs = [f"runs/{name}.{number}" for number in range(1, len(trainings) + 1)]
    return [f"{train_command(each, start)} --output {shlex.quote(run)}"
            for each, start, run in zip(trainings, [None, *runs], runs, strict=False)]


def train_command(settings: dict[str, Any], start: str | None = None) -> str:
    """The command of a training from its args.json: every setting that differs from its default.

    ``--data-dir data`` stands for wherever the data lay, unless the settings say that they came through the Hub.

    Args:
        settings: The args.json.
        start: A run's folder to begin with, in place of pretrained weights of the model.
    """
    parts = [f"accelerate launch scripts/train.py --model {shlex.quote(start or settings['model'])}",
             f"--dataset {shlex.quote(settings['dataset'])}"]
    resolved = _resolved(settings) | ({"pretrained": settings["pretrained"]} if start else {})
    if settings.get("data_dir", "data"):
        parts.append("--data-dir data")
    for item in fields(TrainOptions):
        if item.name in _NAMED or item.name not in settings:
            continue
        value = settings[item.name]
        value = tuple(value) if isinstance(value, list) else value
        if value is None or value == resolved.get(item.name, item.default):
            continue
        flag = "--" + item.name.replace("_", "-")
        if isinstance(value, bool):
            parts.append(flag if value else flag.replace("--", "--no-", 1))
        elif item.metadata["words"]:
            parts.append(f"{flag} {shlex.join(value)}")
        else:
            text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            parts.append(f"{flag} {shlex.quote(text)}")
    return " ".join(parts)
