"""The folder of a model, here or on the Hub: its config.json and its weights, held against what a model needs.

timm loads non-strictly where a net is to tell other classes apart, reads an archive without looking at its check sums,
and fails on a config.json that is wrong with whatever its code meets first.
"""
import io
import warnings
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, BinaryIO

import timm
import torch
from timm.models import PretrainedCfg, load_state_dict
from timm.models._hub import _EXT_PRIORITY, _PREFERRED_FILES, download_from_hf
from torch import nn

from ..errors import UserError, first_line, nearest
from ..files import read_json, read_tensors
from ..options import LARGEST_SIDE
from ..weights import asking_the_hub
from .tensors import State, check_tensors, some

__all__ = [
    "check_config", "check_loaded", "hub_weights", "only_whole", "read_weights", "verify_archive", "weights_in"]

_MOST_CLASSES = 1_000_000
_INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming", "random")


def _whole(value: Any, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high  # which a bool is not


def _number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e9  # which NaN is not


def _size(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(_whole(n, 1, LARGEST_SIDE) for n in value)


def _numbers(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_number, value))


def _names(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(name, str) for name in value))


def _share(value: Any) -> bool:
    return _number(value) and 0 < value <= 10


_Check = tuple[Callable[[Any], bool], str]
_REQUIRED: dict[str, _Check] = {  # where they are there at all
    "num_classes": (lambda value: _whole(value, 0, _MOST_CLASSES), f"a whole number from 0 to {_MOST_CLASSES}"),
    "input_size": (_size, f"three whole numbers from 1 to {LARGEST_SIDE}, [channels, height, width]"),
    "mean": (_numbers, "a list of numbers, one a channel"),
    "std": (lambda value: _numbers(value) and min(value) > 0, "a list of numbers above 0, one a channel"),
    "interpolation": (lambda value: value in _INTERPOLATIONS, f"one of {', '.join(_INTERPOLATIONS)}"),
    "crop_pct": (_share, "a number above 0, 1 for the whole image"),
    "crop_mode": (lambda value: value in ("center", "squash", "border"), "one of center, squash, border"),
    "fixed_input_size": (lambda value: isinstance(value, bool), "true or false"),
}
_OPTIONAL: dict[str, _Check] = {  # these may be null
    "test_input_size": _REQUIRED["input_size"],
    "min_input_size": _REQUIRED["input_size"],
    "test_crop_pct": _REQUIRED["crop_pct"],
    "pool_size": (lambda value: isinstance(value, list), "a list of whole numbers"),
    "test_pool_size": (lambda value: isinstance(value, list), "a list of whole numbers"),
    "tag": (lambda value: isinstance(value, str), "a text"),
    "first_conv": (_names, "the name of a layer, or a list of them"),
    "classifier": (_names, "the name of a layer, or a list of them"),
    "label_offset": (lambda value: _whole(value, 0, 1), "0 or 1"),
    "label_names": (lambda value: isinstance(value, list | dict), "a list of names in the order of the logits"),
    "label_descriptions": (lambda value: isinstance(value, dict), "an object of names and descriptions"),
    "hf_hub_filename": (lambda value: isinstance(value, str), "the name of a file"),
}


def check_config(path: str | Path) -> None:
    """Hold a config.json against what timm and this package read of it.

    Raises:
        UserError: it can't be read, isn't an object, or has an entry of a wrong type, length or range, or one that
            timm doesn't know; says which, and what is allowed.
    """
    config = read_json(path)
    whole = config.get("pretrained_cfg", config)  # older ones are the cfg themselves

    def refuse(name: str, value: Any, allowed: str) -> None:
        shown = repr(value)
        raise UserError(f"{path}: {name} is {shown[:80]}{'...' * (len(shown) > 80)}; it has to be {allowed}")

    if not isinstance(whole, dict):
        refuse("pretrained_cfg", whole, "an object")
    arch = config.get("architecture")
    if arch is None and isinstance(config.get("module"), str):
        raise UserError(
            f"{path}: of the module {config['module']}, which timm can't build: make one in Python and load "
            "model.safetensors into it")
    if not isinstance(arch, str):
        refuse("architecture", arch, "the name of a model of timm or of wrn_hub")
    if not timm.is_model(arch):
        raise UserError(
            f"{path}: architecture is {arch!r}, but timm has no model of this name.{nearest(arch, timm.list_models())}")
    args = config.get("model_args", {})
    if not isinstance(args, dict):
        refuse("model_args", args, "an object")
    if "in_chans" in args and not _whole(args["in_chans"], 1, LARGEST_SIDE):
        refuse("in_chans", args["in_chans"], f"a whole number from 1 to {LARGEST_SIDE}")

    known = {item.name for item in fields(PretrainedCfg)}
    if "pretrained_cfg" in config and (unknown := whole.keys() - known):
        raise UserError(f"{path}: pretrained_cfg has {some(unknown)}, which timm doesn't know; remove it")
    above = {key: config[key] for key in ("num_classes", "label_names", "label_descriptions") if key in config}
    cfg = {**whole, **above}  # as timm merges them
    for name, (fits, allowed) in (_REQUIRED | _OPTIONAL).items():
        if name in cfg and not (cfg[name] is None and name in _OPTIONAL) and not fits(cfg[name]):
            refuse(name, cfg[name], allowed)
    channels = args.get("in_chans", cfg.get("input_size", [3])[0])
    for name in ("mean", "std"):
        if name in cfg and len(cfg[name]) not in (1, 3, channels):
            refuse(name, cfg[name], f"a list of {channels} numbers, one a channel")
    names, classes = cfg.get("label_names"), cfg.get("num_classes", PretrainedCfg.num_classes)
    if isinstance(names, list) and not all(isinstance(name, str) for name in names):
        refuse("label_names", names, "a list of names in the order of the logits")
    if isinstance(names, list) and names and len(names) != classes:
        raise UserError(f"{path}: label_names has {len(names)} names, num_classes is {classes}; they have to agree")


def weights_in(folder: str | Path) -> Path:
    """The file that timm takes for the weights of a folder.

    Raises:
        UserError: there is none.
    """
    folder = Path(folder)
    found = [folder / name for name in _PREFERRED_FILES if (folder / name).exists()]
    for suffix in _EXT_PRIORITY:
        found += sorted(folder.glob(f"*{suffix}"))
    if not found:
        raise UserError(f"{folder} holds no weights: model.safetensors is missing")
    return found[0]


def hub_weights(repository: str, name: str | None = None, cache_dir: str | Path | None = None) -> Path:
    """The file that timm takes for the weights of a Hub repository, brought into the cache where it isn't there.

    Args:
        repository: "organisation/name", with "@revision" or without.
        name: Of the file, where the config.json names one.
        cache_dir: The Hub's cache; its usual place where None.

    Raises:
        UserError: it can't be had.
    """
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    names = [name] if name else ["model.safetensors", "pytorch_model.bin"]
    for candidate in names:
        with asking_the_hub(f"model hf-hub:{repository}"):
            try:
                return Path(download_from_hf(repository, candidate, cache_dir=cache_dir))
            except LocalEntryNotFoundError:
                raise
            except EntryNotFoundError:
                continue
    raise UserError(f"model hf-hub:{repository}: it holds no weights ({', '.join(names)})")


def verify_archive(file: BinaryIO, source: object) -> None:
    """Hold each member of a zip archive, such as torch.save writes, against its check sum; other files pass.

    Args:
        file: The file, which stands at its beginning afterwards.
        source: What it is called, for messages.

    Raises:
        UserError: a member differs, the archive isn't whole, or it is packed suspiciously small.
    """
    start = file.read(4)
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    if start != b"PK\x03\x04":
        return
    try:
        with zipfile.ZipFile(file) as archive:
            if sum(member.file_size for member in archive.infolist()) > 100 * size + 10**7:
                raise UserError(f"{source} would unpack to more than a hundred times its size and isn't read")
            damaged = archive.testzip()
    except UserError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError) as error:
        raise UserError(f"{source} is damaged ({first_line(error)}); get it again") from None
    file.seek(0)
    if damaged:
        raise UserError(f"{source} is damaged: {damaged} in it differs from its check sum; get it again")


def read_weights(path: str | Path) -> State:
    """The weights in a file as timm reads them, on the CPU: safetensors, or what torch.save wrote of tensors.

    Raises:
        UserError: it is damaged, holds more than weights, or a tensor that no net can compute with.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        state: Any = read_tensors(path)
    else:
        try:
            with open(path, "rb") as file:
                verify_archive(file, path)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of protocols and storages, of which the user can make nothing
                state = load_state_dict(str(path))
        except UserError:
            raise
        except Exception as error:  # a damaged file can make a reader fail with anything
            raise UserError(
                f"{path}: not a file of weights ({first_line(error).partition('. ')[0]}); "
                "scripts/convert.py reads checkpoints of other programs") from error
    check_tensors(state, path, whole_numbers=state)
    return state


def _layers(model: nn.Module, layers: Any) -> set[str]:
    """Names of the parameters of a classifier, or of several."""
    several = layers if isinstance(layers, tuple | list) else (layers,)
    return {
        f"{name}.{kind}" for name, module in model.named_modules() if any(module is one for one in several)
        for kind in ("weight", "bias")}


def _named(cfg: PretrainedCfg | None, key: str) -> set[str]:
    names = getattr(cfg, key, None) or ()
    return {f"{name}.{kind}" for name in ((names,) if isinstance(names, str) else names) for kind in ("weight", "bias")}


def check_loaded(
    net: nn.Module, state: State, arch: str, new_classes: bool, new_channels: bool, adapted: bool = False
) -> str | None:
    """Whether a net holds all the weights of a file, and the file all of the net's.

    Args:
        net: The net.
        state: What it was to be given.
        arch: Its name in timm, which says what its first layer and its classifier are called: a config.json may not.
        new_classes: It tells other classes apart than the weights do, so that its classifier is a new one.
        new_channels: It takes other channels, so that its first layer was adapted.
        adapted: timm may have brought further layers to another shape.

    Returns:
        What is wrong, in the words of a message, or None.
    """
    own, cfg = net.state_dict(), timm.get_pretrained_cfg(arch)
    free = {key for key in own | state if key.endswith("num_batches_tracked")}  # older files have none
    if new_classes:
        free |= _named(cfg, "classifier") | (_layers(net, net.get_classifier()) if net.num_classes else set())
    if missing := [key for key in own if key not in state and key not in free]:
        return f"lacks {some(missing, 3)}"
    if unknown := [key for key in state if key not in own and key not in free]:
        return f"has {some(unknown, 3)}, which {arch} has not"
    if new_channels:
        free |= _named(cfg, "first_conv")
    for key, ours in own.items():
        if key in free:
            continue
        theirs = state[key]
        if theirs.shape != ours.shape and not adapted:
            return f"has {key} of shape {tuple(theirs.shape)}, where {arch} needs {tuple(ours.shape)}"
        if theirs.shape == ours.shape and not ours.is_meta and not torch.equal(theirs.to(ours.dtype), ours.cpu()):
            return f"has {key}, which timm passed over: see first_conv and classifier in config.json"
    return None


def only_whole(state: State, model: nn.Module) -> State:
    """A filter of timm's, which returns weights as they are, where a net is built of them.

    Where the net is to tell other classes apart, or is for its feature maps, timm loads what there is and leaves the
    rest at random.

    Raises:
        UserError: the net has a tensor that is missing among them, or they one that it has not, the classifier's aside,
            which timm may drop; or one isn't finite.
    """
    cfg, own = model.pretrained_cfg, model.state_dict()
    source = cfg.get("file") or cfg.get("hf_hub_id") or f"what {cfg.get('architecture')} is given"
    if cfg.get("source") == "local-dir":
        source = weights_in(source)
    classifier = next(name for name, module in model.named_modules() if module is model.get_classifier())
    free = {key for key in own | state if key.startswith(f"{classifier}.") or key.endswith("num_batches_tracked")}
    if missing := [key for key in own if key not in state and key not in free]:
        raise UserError(f"{source} lacks {some(missing, 3)}")
    if unknown := [key for key in state if key not in own and key not in free]:
        raise UserError(f"{source} has {some(unknown, 3)}, which {cfg.get('architecture')} has not")
    check_tensors(state, source)
    return state
