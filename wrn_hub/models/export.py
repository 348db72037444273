"""A model as a Hub repository: the folder that timm loads through ``local-dir:`` and, once published, ``hf-hub:``.

A folder is replaced in three renames: the old one becomes ``.<name>.old``, the new one takes the name, the old one
gives up its own and is removed. So whenever a kill comes, one of the two is whole, and whoever writes or reads the
folder next puts it in order.
"""
import json
import secrets
import shutil
from collections.abc import Sequence
from glob import escape
from pathlib import Path

import torch
from safetensors.torch import save
from timm.models._hub import save_config_for_hf
from torch import nn

from ..errors import UserError
from ..files import locked, read_json, write_whole

__all__ = ["half_precision", "recover", "save_model"]

_LOCK = ".lock"


def half_precision(model: nn.Module) -> dict[str, torch.Tensor]:
    """The state dict with float16 weights, but float32 where half precision would hurt: in normalization layers."""
    keep = {
        f"{name}.{key}" for name, module in model.named_modules() if hasattr(module, "running_var")
        for key in module.state_dict()
    }
    return {
        key: value.half() if key not in keep and value.is_floating_point() else value
        for key, value in model.state_dict().items()
    }


def recover(folder: str | Path) -> None:
    """Undo what a killed :func:`save_model` left: the old folder comes back where the new one never came.

    Args:
        folder: The folder of a model, which needn't exist.
    """
    folder = Path(folder).resolve()
    if not _old(folder).is_dir():
        return
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
    if not folder.exists():
        _old(folder).rename(folder)


def _remove_leftovers(folder: Path) -> None:
    """Remove what killed writers left beside a folder, but not what another process is writing there."""
    for left in (_old(folder), *folder.parent.glob(f".{escape(folder.name)}.new.*")):
        try:
            with locked(left / _LOCK, wait=False):
                shutil.rmtree(left, ignore_errors=True)
        except (OSError, UserError):
            continue


def _old(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def _check_replaceable(folder: Path) -> None:
    """Refuse to replace what isn't the folder of a model: it would be deleted with all that it holds."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"{folder} is a file; name a folder for the model")
    held = {path.name: path.is_dir() for path in folder.iterdir()}
    if held and (any(held.values()) or not {"config.json", "model.safetensors"} <= held.keys()):
        raise UserError(f"{folder} holds something else than a model and isn't replaced: name a new folder")
    if folder == Path.cwd():
        raise UserError(f"{folder} is the working directory and can't be replaced: name a folder in it")


def save_model(
    model: nn.Module,
    folder: str | Path,
    tag: str | None = None,
    classes: Sequence[str] | None = None,
    half: bool = False,
) -> Path:
    """Write ``config.json`` and ``model.safetensors``, whole or not at all.

    Args:
        model: A timm model.
        folder: Where to; an existing folder of a model is replaced, with all that it holds, once the new one is
            complete.
        tag: What the weights are of, for example "cifar10"; goes into the config.
        classes: Names of the classes in the order of the logits.
        half: Store float16 weights with float32 normalization layers; they load into a float32 model.

    Returns:
        The folder.

    Raises:
        UserError: what stands there is no folder of a model, nor empty.
        OSError: they can't be written, for want of space for example; what stood there before stands there still.
    """
    place = Path(folder).resolve()  # a link stays one
    recover(place)
    _check_replaceable(place)
    _remove_leftovers(place)
    new = place.with_name(f".{place.name}.new.{secrets.token_hex(6)}")
    new.mkdir(parents=True)
    try:
        with locked(new / _LOCK):
            _write(new, model, tag, classes, half)
        (new / _LOCK).unlink(missing_ok=True)
        if place.exists():
            place.rename(_old(place))
        new.rename(place)
        if _old(place).exists():
            _old(place).rename(new)  # so that what is called old is always whole
    finally:
        recover(place)
        shutil.rmtree(new, ignore_errors=True)
        _remove_leftovers(place)
    return Path(folder)


def _write(folder: Path, model: nn.Module, tag: str | None, classes: Sequence[str] | None, half: bool) -> None:
    state = half_precision(model) if half else model.state_dict()
    state = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    # written by Python, so that whoever may read the folder may read the weights; save_file makes them private
    write_whole(folder / "model.safetensors", save(state, metadata={"format": "pt"}), durable=True)
    overrides: dict = {"tag": tag} if tag else {}
    if classes:
        overrides["label_names"] = list(classes)
    save_config_for_hf(
        model, str(folder / "config.json"),
        model_config={"pretrained_cfg": overrides, **({"label_names": list(classes)} if classes else {})})
    config = read_json(folder / "config.json")
    config.get("model_args", {}).pop("num_classes", None)  # transformers passes it a second time
    config["dtype"] = "float32"  # transformers would otherwise run the net in the file's own precision
    write_whole(folder / "config.json", json.dumps(config, indent=2) + "\n", durable=True)
