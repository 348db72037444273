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

__all__ = ["train_command"]

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


def train_command(settings: dict[str, Any]) -> str:
    """The command of a training from its args.json: every setting that differs from its default.

    ``--data-dir data`` stands for wherever the data lay, unless the settings say that they came through the Hub.
    """
    parts = [f"accelerate launch scripts/train.py --model {shlex.quote(settings['model'])}",
             f"--dataset {shlex.quote(settings['dataset'])}"]
    resolved = _resolved(settings)
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
