"""A net or a loss of one's own in the trainer: what is asked of it, its name on record, and what is written of it."""
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import nn

from ..errors import UserError, first_line
from ..facts import DATASETS
from ..files import write_whole
from ..models.export import save_model
from ..models.preprocess import TURNED
from .options import CUDA_GRAPHS, TrainOptions
from .parts import as_asked
from .pipeline import TrainImages
from .update import Loss

__all__ = ["adopt", "keep_model", "name_of", "own_size", "with_own"]

# what a net is built with by its name
_OF_TIMM = ("pretrained", "drop_rate", "block_drop_rate", "drop_path_rate", "model_kwargs", "sync_bn")
_METHODS = {"freeze": "get_classifier", "grad_checkpointing": "set_grad_checkpointing"}  # which not every module has


def name_of(what: nn.Module | Callable) -> str:
    """A module's class, or a function, as Python names it; of a functools.partial the function."""
    named: Any = type(what) if isinstance(what, nn.Module) else getattr(what, "func", what)
    named = named if hasattr(named, "__qualname__") else type(named)
    return f"{named.__module__}.{named.__qualname__}"


def with_own(options: TrainOptions, model: nn.Module | None, loss: Loss | None) -> TrainOptions:
    """The options with the names of what takes the place of what they name.

    Raises:
        UserError: an option is about something that isn't used then.
    """
    if model is not None:
        idle = [name for name in _OF_TIMM if getattr(options, name)]
        idle += [name for name, method in _METHODS.items() if getattr(options, name) and not hasattr(model, method)]
        if idle:
            raise UserError(f"{', '.join(idle)}: for nets of timm by their name; build {name_of(model)} so before")
        options = replace(options, model=name_of(model))
    if loss is not None:
        if options.teacher:
            raise UserError(f"teacher = {options.teacher}: a loss of your own asks its teachers itself; leave it away")
        if options.bce:
            raise UserError("bce: a loss of your own takes its place; leave it away")
        if options.compile in CUDA_GRAPHS:
            raise UserError(
                f"compile = {options.compile!r}: a loss of your own may call the model several times, and CUDA graphs "
                "keep one answer; use --compile default")
        options = replace(options, label_smoothing=0.0)  # which is a part of the usual loss
    return options


def own_size(model: nn.Module) -> int | None:
    """Side in pixels of the images that a module says it was made for; None where it doesn't say."""
    size = getattr(model, "pretrained_cfg", {}).get("input_size")
    return size[-1] if size else None


def adopt(model: nn.Module, options: TrainOptions, training: TrainImages, size: int) -> nn.Module:
    """Give a module what the rest of the package asks of a net: ``pretrained_cfg`` and ``num_classes``.

    Where it doesn't say how images are normalised, the training images' own mean and standard deviation are taken if
    they are a known dataset's, else ImageNet's.

    Args:
        model: On the CPU or elsewhere; its weights stay.
        options: May name the mean and the standard deviation.
        training: Images to train on.
        size: Their side in pixels.

    Raises:
        UserError: it doesn't take RGB images of this size, or doesn't give a logit for each class of the data.
    """
    classes, before = len(training.classes), dict(getattr(model, "pretrained_cfg", {}))
    facts = DATASETS.get(training.name)
    mean, std = (facts.mean, facts.std) if facts else (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
    cfg = {
        "mean": mean, "std": std, **before, "num_classes": classes, "input_size": (3, size, size),
        "test_input_size": None, "crop_pct": 1.0, "test_crop_pct": None, "crop_mode": "center",
        "interpolation": "bicubic", "notes": [TURNED]}
    cfg |= {"mean": options.mean or cfg["mean"], "std": options.std or cfg["std"]}
    modes = [(module, module.training) for module in model.modules()]
    parameter = next(model.parameters())
    images = torch.zeros(2, 3, size, size, dtype=parameter.dtype, device=parameter.device)
    try:
        with torch.no_grad():
            logits = model.eval()(images)
    except RuntimeError as error:
        raise UserError(
            f"{name_of(model)} can't take images of shape {tuple(images.shape)}, as all are here, gray ones too: "
            f"{first_line(error)}") from error
    finally:
        for module, mode in modes:
            module.training = mode
    found = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
    if found != (2, classes):
        raise UserError(
            f"{name_of(model)} gives {found} for 2 images of {size}x{size}: needed is {(2, classes)}, a logit for each "
            "class of the data")
    model.pretrained_cfg, model.num_classes = cfg, classes
    return as_asked(model, options)


def _timm_builds(model: nn.Module) -> bool:
    """Whether timm, asked for the net by its name, makes one that these weights fit."""
    arch = getattr(model, "pretrained_cfg", {}).get("architecture")
    if not (arch and timm.is_model(arch)):
        return False
    with torch.device("meta"):
        other = timm.create_model(arch, num_classes=model.num_classes).state_dict()
    own = model.state_dict()
    return own.keys() == other.keys() and all(own[key].shape == other[key].shape for key in own)


def keep_model(model: nn.Module, own: bool, folder: Path, tag: str | None, classes: tuple[str, ...]) -> str:
    """Write the folder of the model, and say how it is loaded.

    Args:
        model: A net of timm's, or any module that was adopted.
        own: Whether somebody brought it, so that timm may not know how to build it; the folder then holds
            model.safetensors, the state_dict, and a config.json that names the module in place of an architecture.
        folder: Where to.
        tag: Of the dataset, if it is a known one.
        classes: Their names in the order of the logits.

    Returns:
        A line of Python.
    """
    if not own or _timm_builds(model):
        save_model(model, folder, tag=tag, classes=classes)
        return f'timm.create_model("local-dir:{folder}", pretrained=True)'
    state = {  # of which no two share their memory
        key: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for key, value in model.state_dict().items()}
    config = {"module": name_of(model), "num_classes": len(classes), "label_names": list(classes),
              "pretrained_cfg": model.pretrained_cfg}
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "model.safetensors", save(state, metadata={"format": "pt"}), durable=True)
    write_whole(folder / "config.json", json.dumps(config, indent=2, default=str) + "\n", durable=True)
    return f'{type(model).__name__}(...).load_state_dict(safetensors.torch.load_file("{folder / "model.safetensors"}"))'
