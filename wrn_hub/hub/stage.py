"""Stage a finished run: ``model_cards/<arch.tag>/`` becomes a Hub repository to be, and the manifest lists it."""
import json
import shutil
from pathlib import Path
from typing import Any

import timm

from ..errors import UserError
from ..facts import DATASETS
from ..files import read_json, write_whole
from ..models.export import save_model
from ..weights import file_sha256

__all__ = ["list_in_manifest", "stage"]

_PLACES = ("data_dir", "output", "resume")  # where one person's files lie says nothing about the training


def stage(run: str | Path, name: str, checkout: str | Path) -> dict[str, Any]:
    """Copy a run's model, as float16 with float32 BatchNorm, with its settings and its curve; list it in the manifest.

    What was measured of earlier weights of this name is removed with them: measure again with scripts/evaluate.py.

    Args:
        run: Output folder of a finished training.
        name: "arch.tag", where the tag is the dataset that the net was trained on.
        checkout: The source checkout, which holds ``model_cards`` and ``wrn_hub/weights.json``.

    Returns:
        The manifest's new entry.

    Raises:
        UserError: the run isn't finished, was of another net or dataset, or of a part of the images.
    """
    run, checkout = Path(run), Path(checkout)
    tag = name.partition(".")[2]
    if not (run / "model" / "config.json").is_file():
        raise UserError(f"{run} holds no finished model; finish the training with --resume")
    settings = json.loads((run / "args.json").read_text())
    if settings.get("held_out"):
        raise UserError(f"{run} was trained without {settings['held_out']} images held out, for tuning: train on all")
    trained = f"{settings['model'].partition('.')[0]}.{settings['dataset']}"
    if tag not in DATASETS or trained != name:
        raise UserError(f"{run} was a training of {trained}, not of {name}; tags are {', '.join(DATASETS)}")
    model = timm.create_model(f"local-dir:{run / 'model'}", pretrained=True)
    folder = save_model(model, checkout / "model_cards" / name, tag=tag, classes=DATASETS[tag].classes, half=True)
    kept = {key: value for key, value in settings.items() if key not in _PLACES}
    (folder / "args.json").write_text(json.dumps(kept, indent=2) + "\n")
    shutil.copy(run / "metrics.csv", folder / "metrics.csv")

    weights = folder / "model.safetensors"
    return list_in_manifest(
        checkout, name, sha256=file_sha256(weights), bytes=weights.stat().st_size, published=None)


def list_in_manifest(checkout: Path, name: str, **facts: Any) -> dict[str, Any]:
    """Set facts of ``name`` in a checkout's manifest, whose file is replaced whole; returns the entry."""
    file = checkout / "wrn_hub" / "weights.json"
    manifest = read_json(file)
    manifest[name] = {**manifest.get(name, {}), **facts}
    write_whole(file, json.dumps(dict(sorted(manifest.items())), indent=2) + "\n", durable=True)
    return manifest[name]
