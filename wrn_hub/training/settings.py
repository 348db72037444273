"""What a run was told and what that came to: its args.json, and whether a resumed run is still the same run."""
import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from accelerate import Accelerator
from torch import nn

from ..errors import UserError
from ..facts import DATASETS
from ..models.build import ModelSource
from ..record import hardware, versions
from ..weights import file_sha256
from .options import PACE, PLACES, TrainOptions
from .pipeline import Images, TrainImages, kind_of, settled

__all__ = ["changes", "check_resumed", "flip_of", "resolved"]

_FREE = (*PLACES, *PACE, "allow_other_hardware")  # what may be another when a run goes on
_HARDWARE = ("precision", "winograd")  # what it may be another in where that is asked for
_IMAGES = {"train_fingerprint": "the training images", "test_fingerprint": "the images to measure on"}
_RECORDED = ("precision", "winograd", "threads", "processes", "hardware")


def _of_characters(dataset: str, classes: Sequence[str]) -> bool:
    """Whether a dataset is of digits or letters, which mirrored are others, or none."""
    if dataset in DATASETS:
        return not DATASETS[dataset].flip
    return len(classes) >= 10 and all(len(name) == 1 for name in classes)  # fewer may be numbers of anything


def flip_of(flip: str, dataset: str, classes: Sequence[str], pipeline: str = "memory") -> str:
    """How images of a dataset are mirrored, with nothing left to "auto"."""
    if flip != "auto":
        return flip
    if _of_characters(dataset, classes):
        return "none"
    return "alternating" if pipeline == "memory" else "random"


def _start_weights(options: TrainOptions, source: ModelSource) -> str | None:
    """sha256 of the weights that the training starts from; None where it starts from none, or none of a known file."""
    if not (options.pretrained or ":" in source.name):
        return None
    file = source.weights_file
    return file_sha256(file) if file and file.is_file() else None


def resolved(
    options: TrainOptions, recipe: str | None, source: ModelSource, model: nn.Module, training: TrainImages,
    test: Images, accelerator: Accelerator, precision: str, by_winograd: bool,
) -> dict[str, Any]:
    """The settings with nothing left to be chosen, and the conditions, as args.json holds them.

    Args:
        options: As they were given.
        recipe: Name of the recipe that they come from.
        source: Where the model comes from.
        model: The net, with its ``pretrained_cfg``.
        training: Images to train on.
        test: Images to measure on.
        accelerator: Device and processes.
        precision: "fp32", "bf16" or "fp16".
        by_winograd: Whether convolutions are computed by Winograd's algorithm.
    """
    cfg = model.pretrained_cfg
    return json.loads(json.dumps({
        "recipe": recipe, **asdict(options),
        "flip": flip_of(options.flip, training.name, training.classes, kind_of(training)),
        **settled(options, training, cfg),
        "image_size": cfg["input_size"][-1], "mean": cfg["mean"], "std": cfg["std"],
        "images": len(training), "classes": len(training.classes), "class_names": training.classes,
        "train_fingerprint": training.fingerprint, "test_fingerprint": test.fingerprint,
        "start_weights_sha256": _start_weights(options, source),
        "precision": precision, "winograd": "on" if by_winograd else "off", "processes": accelerator.num_processes,
        "hardware": hardware(accelerator.device), "versions": versions(), "changes": []}))


def check_resumed(before: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse to go on with other settings, images or classes than the run had.

    Args:
        before: The settings in the run's checkpoint, or in the args.json of one that carries none.
        now: Those of this start, resolved in the same way.

    Raises:
        UserError: they differ; names the settings and both values.
    """
    if isinstance(teacher := before.get("teacher", ()), str | None):  # as older runs have it, which knew one at most
        before = {**before, "teacher": [teacher] if teacher else []}
    kept = [item.name for item in fields(TrainOptions) if item.name not in _FREE]
    other = [name for name in [*kept, "images", "classes"] if name in before and now.get(name) != before[name]]
    if before.get("loss") != now.get("loss"):  # on record where it was somebody's own
        other.append("loss")
    if now["allow_other_hardware"]:
        other = [name for name in other if name not in _HARDWARE]
    said = [f"{name} = {now.get(name)} (was {before.get(name)})" for name in other]
    for label, (name, was) in enumerate(zip(now["class_names"], before.get("class_names", ()), strict=False)):
        if name != was and "classes" not in other:
            other.append("class_names")
            said.append(f"class {label} = {name} (was {was})")
    for key, what in _IMAGES.items():
        if key in before and now[key] != before[key] and "images" not in other:
            other.append(key)
            said.append(f"{what} or their labels have changed")
    if other:
        hint = " or --allow-other-hardware" if set(other) <= set(_HARDWARE) else ""
        raise UserError(
            f"resume with other settings than the run's: {', '.join(said)}; give the same, a new output{hint}")


def changes(before: dict[str, Any], now: dict[str, Any], epochs: int, step: int) -> list[dict[str, Any]]:
    """What was changed about the machine since the run began, oldest first.

    Args:
        before: The settings in the run's checkpoint.
        now: Those of this start.
        epochs: Whole epochs that were done before.
        step: Steps of the next one that were.

    Returns:
        For each change ``epochs``, ``step``, ``before`` and ``after``, the last two by the settings' names.
    """
    other = [name for name in _RECORDED if name in before and before[name] != now[name]]
    entry = {"epochs": epochs, "step": step, "before": {name: before[name] for name in other},
             "after": {name: now[name] for name in other}}
    return [*before.get("changes", []), *([entry] if other else [])]
