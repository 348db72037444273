"""A net of ours with the weights of somebody's checkpoint."""
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from timm.models import get_arch_pretrained_cfgs
from torch import nn

from ...errors import UserError
from ...facts import check_mean_std
from ..build import ModelSource
from ..export import save_model
from ..tensors import State, check_tensors, some
from .checkpoint import read_checkpoint
from .layouts import LAYOUTS, Layout, recognise

__all__ = ["Converted", "convert", "convert_file"]


@dataclass(frozen=True)
class Converted:
    """A net with the weights of a checkpoint.

    Attributes:
        model: The net; its ``pretrained_cfg`` has the preprocessing.
        net: What it is, for example "WRN-28-10 with 100 classes".
        layout: Where its names came from.
        assumed: What was assumed since the checkpoint doesn't show it, a sentence each.
    """

    model: nn.Module
    net: str
    layout: Layout
    assumed: tuple[str, ...]


def convert(
    state: Mapping[str, torch.Tensor],
    model: str,
    tag: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    source: str | Path = "the checkpoint",
) -> Converted:
    """Give a registered model the weights of a checkpoint, whatever their names.

    Args:
        state: The weights, as :func:`read_checkpoint` returns them; they are copied.
        model: Name of the model, for example "wrn_28_10".
        tag: Tag of the model whose dataset the weights were trained on: its mean, std and class names are taken.
        mean: Per channel, in units of 1 (pixel / 255), instead of the tag's.
        std: As ``mean``.
        source: Where the weights come from, for messages.

    Raises:
        UserError: the layout is unknown, the net isn't the one named or isn't ours at all, keys are missing or left
            over, or there is no such model, tag or normalisation.
    """
    named = ModelSource.parse(f"{model}.{tag}" if tag else model)
    if ":" in named.name:
        raise UserError(f"model {model!r}: the name of a model is needed, for example wrn_28_10")
    arch, _, tag = named.name.partition(".")
    translated = _translate(state, source)
    layout, ours, buffers = translated.layout, translated.state, translated.buffers
    head = ours.get("head.fc.weight", ours.get("fc.weight"))
    if head is None:
        raise UserError(f"{source} has no classifier, so its classes can't be counted")
    classes = head.shape[0]
    if tag and named.cfg["num_classes"] != classes:
        raise UserError(
            f"{source} has {classes} classes, {tag} has {named.cfg['num_classes']}: "
            "name the tag of its own dataset, or none")

    name = named.name if tag else _likely(arch, classes)
    net = ModelSource.parse(name).create(pretrained=False, num_classes=classes, device="meta")
    expected = net.state_dict()
    size = _describe(ours)
    described = f"{size} with {classes} classes"
    if size != _describe(expected):
        other = re.sub(r"WRN-(\d+)-([\d.]+).*", r"wrn_\1_\2", size).replace(".", "p")
        fits = timm.is_model(other) and _describe(timm.create_model(other, device="meta").state_dict()) == size
        advice = f"try --model {other}" if fits else "no model of this size is registered"
        raise UserError(f"{source} is a {described}, not {arch}: {advice}")
    counters = {key for key in expected if key.endswith("num_batches_tracked")}  # older checkpoints have none
    ours = {**{key: torch.zeros((), dtype=torch.long) for key in counters}, **ours}
    for what, keys in (("lacks", expected.keys() - ours.keys()), ("has left over", ours.keys() - expected.keys())):
        if keys:
            raise UserError(f"{source} is a {described} but {what} {some(keys)}")
    for key, tensor in ours.items():
        if tensor.shape != expected[key].shape:
            raise UserError(f"{source}: {key} is {tuple(tensor.shape)}, {arch} needs {tuple(expected[key].shape)}")
    net.load_state_dict(
        {key: value.detach().to(expected[key].dtype, copy=True) for key, value in ours.items()}, assign=True)

    cfg = net.pretrained_cfg
    assumed = [layout.assumed] if layout.assumed else []
    if translated.guessed:
        assumed.append(f"{some(translated.guessed, 3)}: projections of the shortcuts, by their shape and place, which "
                       "read what BN and ReLU give, as in the paper")
    if not (mean or "mean" in buffers) or not (std or "std" in buffers):
        assumed.append(
            f"the preprocessing of {name}, mean {tuple(cfg['mean'])} and std {tuple(cfg['std'])} where none was given, "
            "since the checkpoint doesn't hold its own; --mean and --std set others")
    check_mean_std(mean := mean or buffers.get("mean") or cfg["mean"], std := std or buffers.get("std") or cfg["std"])
    cfg.update(mean=tuple(mean), std=tuple(std))
    for key in ("license", "origin_url", *(() if tag else ("tag", "label_names"))):
        cfg.pop(key, None)  # facts of the weights that have this name, not of these
    return Converted(net.eval(), described, layout, tuple(assumed))


def convert_file(
    path: str | Path,
    folder: str | Path,
    model: str,
    tag: str | None = None,
    entry: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Converted:
    """Convert a checkpoint into a folder that timm loads as ``local-dir:folder``.

    Args:
        path: The checkpoint.
        folder: Where to; must not exist, or be empty.
        model, tag, mean, std: As of :func:`convert`.
        entry: As of :func:`read_checkpoint`.

    Raises:
        UserError: the folder isn't empty, or as of those two; nothing is written then.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists already: name a new folder, or an empty one")
    check_mean_std(mean, std)
    converted = convert(read_checkpoint(path, entry), model, tag, mean, std, source=path)
    cfg = converted.model.pretrained_cfg
    save_model(converted.model, folder, tag=cfg.get("tag"), classes=cfg.get("label_names"))
    return converted


@dataclass(frozen=True)
class _Translated:
    """Weights in our names.

    Attributes:
        layout: What they were called by.
        state: The weights.
        buffers: "mean" and "std" where the net kept its normalisation in buffers.
        guessed: Keys that were understood by their shape and place alone.
    """

    layout: Layout
    state: State
    buffers: dict[str, list[float]]
    guessed: list[str]


def _translate(state: Mapping[str, torch.Tensor], source: str | Path) -> _Translated:
    layout, prefixes = recognise(state)
    if layout is None:
        known = "; ".join(layout.name for layout in LAYOUTS)
        raise UserError(f"{source}: no known layout has keys such as {some(state, 3)}; known are: {known}")
    if len(prefixes) > 1:
        raise UserError(f"{source} holds more than one net: their names begin with "
                        + ", ".join(repr(prefix) for prefix in sorted(prefixes)))
    if layout.differs:
        raise UserError(f"{source} is of the layout of {layout.name} and not converted, for the net differs from ours: "
                        f"{layout.differs}")
    (prefix,) = prefixes
    ours: State = {}
    buffers: dict[str, list[float]] = {}
    unknown: dict[str, str] = {}
    for key, tensor in state.items():
        # what lies beside the net, a layer that normalises or a classifier, may have a part of its prefix
        bare = key[len(prefix):] if key.startswith(prefix) else re.sub(_WRAPPERS, "", key)
        buffer = re.fullmatch(r"(?:.+\.)?(?:(mean|mu)|std|sigma)", bare)
        if buffer and tensor.numel() == 3:
            buffers["mean" if buffer[1] else "std"] = [round(value, 6) for value in tensor.flatten().tolist()]
        elif bare != "n_averaged" and not re.fullmatch(layout.unused, bare):  # that of AveragedModel
            renamed = layout.rename(bare)
            if renamed is None or renamed in ours:
                unknown[bare] = key
            else:
                ours[renamed] = tensor
    guessed = _shortcuts(layout, ours, {bare: state[key] for bare, key in unknown.items()})
    for bare, renamed in guessed.items():
        ours[renamed] = state[unknown.pop(bare)]
    if unknown:
        raise UserError(f"{source} is of the layout of {layout.name}, which has no {some(set(unknown.values()))}")
    used = {id(tensor) for tensor in ours.values()}
    check_tensors({key: tensor for key, tensor in state.items() if id(tensor) in used}, source)
    for key, tensor in ours.items():
        dimensions = 4 if re.search(_CONVS, key) else 2 if key.endswith("fc.weight") else 1
        if tensor.ndim != dimensions and not key.endswith("num_batches_tracked"):
            raise UserError(f"{source}: {key} is {tuple(tensor.shape)}, where {dimensions} dimensions are needed")
        if tensor.is_floating_point() and tensor.element_size() < 2:
            ours[key] = tensor.float()  # nothing can be computed in float8

    biases = [key for key in ours if key.endswith(".bias") and _is_conv(ours, key.removesuffix("bias") + "weight")]
    if any(ours.pop(key).any() for key in biases):  # zeros are as good as none
        raise UserError(f"{source} is not converted, for the net differs from ours: its convolutions have biases")
    if _untouched(ours, 1) and _untouched(ours, 2) and not _untouched(ours, 0):
        # as in MixMatch, FixMatch and TorchSSL; no other trained net leaves a norm as it was initialised
        raise UserError(
            f"{source} is not converted, for the net differs from ours: the first BatchNorm of stages 2 and 3 was "
            "never trained, as in MixMatch and FixMatch, which skip it and have leaky ReLU (0.1) for ReLU")
    return _Translated(layout, ours, buffers, sorted(guessed))


def _shortcuts(layout: Layout, ours: State, unknown: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Our names of projection shortcuts that somebody calls otherwise than the layout does.

    Such a one is the only layer of its block that the layout doesn't know, and projects the block's input channels to
    those of its output, in a block that changes them and has no projection yet.
    """
    blocks: dict[str, list[str]] = {}
    for key in unknown:
        if layout.block and (match := re.match(rf"{layout.block}\.", key)):
            block = f"stages.{int(match[1]) - layout.first[0]}.{int(match[2]) - layout.first[1]}"
            blocks.setdefault(block, []).append(key)
    found = {}
    for block, keys in blocks.items():
        first, last = (ours.get(f"{block}.residual.{conv}.weight") for conv in ("conv1", "conv2"))
        name = f"{block}.shortcut.weight"
        if len(keys) == 1 and name not in ours and first is not None and last is not None:
            shape = (last.shape[0], first.shape[1], 1, 1)
            if unknown[keys[0]].shape == shape and shape[0] != shape[1]:
                found[keys[0]] = name
    return found


_CONVS = r"(?:conv\d?|shortcut|downsample\.0)\.weight$"
_WRAPPERS = r"^(?:(?:module|model|net|backbone|_orig_mod|[01])\.)+"


def _is_conv(state: State, key: str) -> bool:
    return key in state and state[key].ndim == 4


def _untouched(state: State, stage: int) -> bool:
    """Whether a stage's first norm has no gradient behind it: all channels are alike, decayed at most."""
    weight, bias = (state.get(f"stages.{stage}.0.norm1.{kind}") for kind in ("weight", "bias"))
    if weight is None or bias is None:
        return False
    return bool((weight.max() - weight.min()).abs() < 1e-4) and bool(bias.abs().max() < 1e-6)


def _describe(state: Mapping[str, torch.Tensor]) -> str:
    """Depth and width as the paper counts them, from the weights in our names: "WRN-28-10"."""
    blocks: set[str] = set()
    convs: set[str | None] = set()
    for key in state:
        if match := re.match(r"((?:stages\.|layer)\d+\.\d+)\.(?:.*\b(conv\d+)\.weight$)?", key):
            blocks.add(match[1])
            convs.add(match[2])
    small = "stem.conv.weight" in state
    widest = state.get("head.fc.weight") if small else state.get("layer1.0.conv2.weight")
    if widest is None:
        return "net of another kind"
    width = widest.shape[1 if small else 0] / 64
    convs.discard(None)
    # the paper counts the three projections of a net of 3x3 convolutions, but neither those of bottlenecks nor these
    depth = len(blocks) * len(convs) + (4 if small and len(convs) == 2 else 2)
    return f"WRN-{depth}-{width:g}" + ("" if small else " for ImageNet")


def _likely(arch: str, classes: int) -> str:
    """The name with the tag whose normalisation is the best guess: the default, unless only another has the classes."""
    default = timm.get_pretrained_cfg(arch)
    fitting = [cfg for cfg in (default, *get_arch_pretrained_cfgs(arch).values()) if cfg.num_classes == classes]
    return f"{arch}.{(fitting or [default])[0].tag}"
