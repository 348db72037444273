"""Stage a finished run: ``model_cards/<arch.tag>/`` becomes a Hub repository to be, and the manifest lists it.

The new folder is built in ``.<arch.tag>.staging`` beside the old one: ``new/``, and ``entry.json``, what the manifest
is going to list. Then the old folder is moved into it, as ``old/``, and the new one out of it. From what is there
anybody can tell how far it came, so a call that was killed is undone, or finished, by the next one.
"""
import json
import math
import shutil
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..facts import DATASETS
from ..files import locked, read_csv, read_json, read_text, write_whole
from ..models.export import save_model
from ..training.options import PLACES
from ..weights import file_sha256, read_manifest, update_manifest
from .check import check_model

__all__ = ["settle", "stage"]

_COLUMNS = ("epoch", "seconds", "train_accuracy")  # of metrics.csv, numbers in every row


def stage(run: str | Path, name: str, checkout: str | Path) -> dict[str, Any]:
    """Copy a run's model, as float16 with float32 BatchNorm, with its settings and its curve; list it in the manifest.

    Of a training that began with the weights that are staged, args.json keeps the settings of the earlier ones too, as
    ``before``.
    What was measured of earlier weights of this name is removed with them: measure again with scripts/evaluate.py.
    Until the run was looked at and its copy answers, everything stays as it is.

    Args:
        run: Output folder of a finished training.
        name: "arch.tag", where the tag is the dataset that the net was trained on.
        checkout: The source checkout, which holds ``model_cards`` and ``wrn_hub/weights.json``.

    Returns:
        The manifest's entry.

    Raises:
        UserError: the run isn't finished or is damaged, was of another net or dataset, or of a part of the images.
    """
    run, checkout = Path(run), Path(checkout)
    root, manifest = checkout / "model_cards", checkout / "wrn_hub" / "weights.json"
    read_manifest(manifest)
    settings, curve = _finished(run, name)
    with locked(root / ".lock"):
        settle(checkout)
        settings |= _earlier(settings, root / name / "args.json", read_manifest(manifest).get(name, {}).get("sha256"))
        staging = root / f".{name}.staging"
        try:
            _build(run, name, staging, settings, curve)
            if (root / name).exists():
                (root / name).rename(staging / "old")
            (staging / "new").rename(root / name)
        finally:
            _settle(staging, checkout)
    return read_manifest(manifest)[name]


def _finished(run: Path, name: str) -> tuple[dict[str, Any], str]:
    """The settings and the curve of a run, if it may be staged under this name."""
    tag = name.partition(".")[2]
    if not (run / "model" / "config.json").is_file():
        raise UserError(f"{run} holds no finished model; finish the training with --resume")
    settings = read_json(run / "args.json")
    if not all(isinstance(settings.get(key), str) for key in ("model", "dataset")):
        raise UserError(f"{run / 'args.json'} doesn't name the model and the dataset: it is damaged, or of another run")
    if settings.get("held_out"):
        raise UserError(f"{run} was trained without {settings['held_out']} images held out, for tuning: train on all")
    if settings.get("loss"):
        raise UserError(f"{run} was trained by a loss of its own, {settings['loss']}, which no command repeats")
    for part in ("train_images", "test_images", "label_column"):
        if settings.get(part):
            raise UserError(f"{run} was trained with {part} = {settings[part]}: train and measure on the whole dataset")
    trained = f"{settings['model'].partition('.')[0]}.{settings['dataset']}"
    if tag not in DATASETS or trained != name:
        raise UserError(f"{run} was a training of {trained}, not of {name}; tags are {', '.join(DATASETS)}")
    curve = read_text(run / "metrics.csv")
    rows = read_csv(run / "metrics.csv")
    try:
        whole = bool(rows) and all(math.isfinite(float(row[column])) for row in rows for column in _COLUMNS)
    except (KeyError, TypeError, ValueError):
        whole = False
    if not whole:
        raise UserError(f"{run / 'metrics.csv'} needs numbers in the columns {', '.join(_COLUMNS)}: it is damaged, or "
                        "of another run")
    return settings, curve


def _earlier(settings: dict[str, Any], args: Path, sha256: str | None) -> dict[str, Any]:
    """Where a training came from that began with the weights that are staged.

    Args:
        settings: Of the training.
        args: args.json of what is staged.
        sha256: Of the weights that are staged.

    Returns:
        ``before``, the settings of the trainings that led to those weights, the first one first, and
        ``start_weights_sha256``; nothing for a training that began with others, or none.
    """
    own = settings["model"] in (args.parent.name, args.parent.name.partition(".")[0])
    start = settings.get("start_weights_sha256") or sha256  # older runs don't say with which
    if not (settings.get("pretrained") and own and args.is_file() and start == sha256):
        return {}
    last = read_json(args)
    return {"before": [*last.pop("before", []), last], "start_weights_sha256": start}


def _build(run: Path, name: str, staging: Path, settings: dict[str, Any], curve: str) -> None:
    """Make ``new/`` and ``entry.json``; whether they are good is found here."""
    arch, _, tag = name.partition(".")
    model = check_model(run / "model")
    found = f"{read_json(run / 'model' / 'config.json').get('architecture')} for {model.num_classes} classes"
    if found != (needed := f"{arch} for {len(DATASETS[tag].classes)} classes"):
        raise UserError(f"{run / 'model'} is of {found}, needed is {needed}")
    staging.mkdir()
    folder = save_model(model, staging / "new", tag=tag, classes=DATASETS[tag].classes, half=True)
    kept = {key: value for key, value in settings.items() if key not in PLACES}
    write_whole(folder / "args.json", json.dumps(kept, indent=2) + "\n")
    write_whole(folder / "metrics.csv", curve.encode())
    check_model(folder)  # float16 may hold less than the net needs
    weights = folder / "model.safetensors"
    entry = {"sha256": file_sha256(weights), "bytes": weights.stat().st_size, "published": None}
    write_whole(staging / "entry.json", json.dumps(entry))


def settle(checkout: str | Path) -> None:
    """Undo, or finish, what calls of :func:`stage` left that were killed. None may be under way."""
    for staging in sorted((Path(checkout) / "model_cards").glob(".*.staging")):
        _settle(staging, Path(checkout))


def _settle(staging: Path, checkout: Path) -> None:
    """Let the manifest and the folder agree, on the new weights where those stand there already, else on the old."""
    if not staging.exists():
        return
    name = staging.name.removeprefix(".").removesuffix(".staging")
    folder, entry = staging.parent / name, staging / "entry.json"
    if entry.exists() and folder.exists() and not (staging / "new").exists():
        facts, manifest = read_json(entry), checkout / "wrn_hub" / "weights.json"
        if read_manifest(manifest).get(name, {}).get("sha256") != facts["sha256"]:
            update_manifest(manifest, name, **facts)
        entry.unlink()  # from here on what follows only tidies up
    elif (staging / "old").exists() and not folder.exists():
        (staging / "old").rename(folder)
    shutil.rmtree(staging)
