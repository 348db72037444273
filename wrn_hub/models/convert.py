"""Checkpoints of other Wide ResNets, in our names.

``LAYOUTS`` is the whole knowledge: a row for each family of names, taken from the code that writes such checkpoints.
A net whose forward pass isn't that of the paper has a row too, so that it is refused with a reason: its weights would
load and its predictions would be wrong.
"""
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from timm.models import get_arch_pretrained_cfgs
from torch import nn

from ..errors import UserError
from ..facts import check_mean_std
from .build import ModelSource
from .export import save_model

__all__ = ["LAYOUTS", "Converted", "Layout", "convert", "convert_file", "read_checkpoint", "recognise"]

State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Layout:
    """How one family of checkpoints names the layers of a Wide ResNet.

    Attributes:
        name: Whose it is.
        marker: Pattern of a key that every checkpoint of this layout has.
        without: Pattern of keys that none of them has.
        block: Pattern of a block's name, with the numbers of its stage and of itself as groups; empty where the
            names are ours already.
        first: Numbers of the first stage and of its first block.
        inside: Their names of a block's layers to ours.
        outside: Their names of the other layers to ours.
        unused: Pattern of keys that the net's forward pass never reads.
        differs: What the net does otherwise than ours; it isn't converted then.
        assumed: What such a checkpoint doesn't show.
    """

    name: str
    marker: str
    without: str = r"(?!)"
    block: str = ""
    first: tuple[int, int] = (0, 0)
    inside: Mapping[str, str] = field(default_factory=dict)
    outside: Mapping[str, str] = field(default_factory=dict)
    unused: str = r"(?!)"
    differs: str = ""
    assumed: str = ""

    def rename(self, key: str) -> str | None:
        """Our name of a key, or None where the layout has no such key."""
        if not self.block:
            return key
        kinds = "weight|bias|running_mean|running_var|num_batches_tracked"  # none of them stands for a weight
        match = re.fullmatch(rf"(?:{self.block}\.)?(.+?)(?:\.({kinds}))?", key)
        if match is None:
            return None
        stage, number, theirs, kind = match.groups()
        ours = (self.outside if stage is None else self.inside).get(theirs)
        if ours is None:
            return None
        where = "" if stage is None else f"stages.{int(stage) - self.first[0]}.{int(number) - self.first[1]}."
        return f"{where}{ours}.{kind or 'weight'}"


_UNACTIVATED = "the projection shortcuts read the block's raw input, where the paper's read it after BN and ReLU"

LAYOUTS = (
    Layout("wrn_hub", marker=r"stem\.conv\.weight"),
    Layout("torchvision and timm (ImageNet)", marker=r"layer4\.0\.downsample\.0\.weight"),
    Layout(
        "functional-zoo and pytorchcv (ImageNet)",
        marker=r"group3\.block0\.conv0\.weight|features\.stage4\.unit1\.body\.conv1\.conv\.bias",
        differs="BatchNorm is folded into the convolutions, so that they have biases and no statistics are left"),
    Layout(
        "szagoruyko/wide-residual-networks", marker=r"group0\.block0\.conv0(\.weight)?",
        block=r"group(\d+)\.block(\d+)",
        inside={
            "bn0": "norm1", "conv0": "residual.conv1", "bn1": "residual.norm2", "conv1": "residual.conv2",
            "convdim": "shortcut"},
        outside={"conv0": "stem.conv", "bn": "norm", "fc": "head.fc"}),
    Layout(
        "xternalz/WideResNet-pytorch, AugMix, TRADES, RobustBench", marker=r"block1\.layer\.0\.conv1\.weight",
        block=r"block(\d+)\.layer\.(\d+)", first=(1, 0),
        inside={
            "bn1": "norm1", "conv1": "residual.conv1", "bn2": "residual.norm2", "conv2": "residual.conv2",
            "convShortcut": "shortcut", "conv_shortcut": "shortcut"},  # the latter in AugMix
        outside={"conv1": "stem.conv", "bn1": "norm", "fc": "head.fc"},
        unused=r"sub_block1\..+",  # a second first stage of TRADES that its forward pass leaves out
        assumed="ReLU and BatchNorm's eps of 1e-5; some nets of these names have others, which weights don't show"),
    Layout(
        "pytorchcv", marker=r"features\.post_activ\.bn\.weight",
        block=r"features\.stage(\d+)\.unit(\d+)", first=(1, 1),
        inside={
            "body.conv1.bn": "norm1", "body.conv1.conv": "residual.conv1", "body.conv2.bn": "residual.norm2",
            "body.conv2.conv": "residual.conv2", "identity_conv": "shortcut"},
        outside={"features.init_block": "stem.conv", "features.post_activ.bn": "norm", "output": "head.fc"}),
    Layout(
        # its --depth counts a block a stage too few: 16 there is 22 here
        "davda54/sam", marker=r"f\.1_block\.block\.0\.norm_act\.0_normalization\.weight",
        block=r"f\.(\d+)_block\.block\.(\d+)", first=(1, 0),
        inside={
            "norm_act.0_normalization": "norm1", "block.0_convolution": "residual.conv1",
            "block.1_normalization": "residual.norm2", "block.4_convolution": "residual.conv2",
            "downsample": "shortcut",
            "block.0_normalization": "norm1", "block.2_convolution": "residual.conv1",
            "block.3_normalization": "residual.norm2", "block.6_convolution": "residual.conv2"},
        outside={"f.0_convolution": "stem.conv", "f.4_normalization": "norm", "f.8_classification": "head.fc"}),
    Layout(
        "meliketoy and bmsookim/wide-resnet.pytorch", marker=r"layer3\.0\.shortcut\.0\.bias",
        differs=f"{_UNACTIVATED}, a block's second convolution has the stride, and all convolutions have biases"),
    Layout(
        "torchdistill", marker=r"layer3\.0\.shortcut\.0\.weight", without=r"layer\d\.0\.shortcut\.1\..+|layer4\..+",
        differs=_UNACTIVATED),
    Layout(
        "DeepMind's adversarial_robustness", marker=r"layer\.0\.block\.0\.batchnorm_0\.weight",
        differs="strided convolutions are padded at the right and at the bottom only, where ours are on all sides, and "
                "most of these nets have SiLU for ReLU"),
)


def recognise(keys: Iterable[str]) -> Layout | None:
    """The layout that keys without prefixes are of, or None."""
    keys = list(keys)

    def has(pattern: str) -> bool:
        return any(re.fullmatch(pattern, key) for key in keys)

    return next((layout for layout in LAYOUTS if has(layout.marker) and not has(layout.without)), None)


def read_checkpoint(path: str | Path, entry: str | None = None) -> State:
    """The weights in a file of PyTorch or safetensors; nothing that the file would like to run is run.

    Args:
        path: The file.
        entry: Which entry holds the weights, needed where several do ("state_dict", "ema_state_dict").

    Raises:
        UserError: there is no such file, it holds no weights or more than weights, or several sets of them.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    with path.open("rb") as file:
        start = file.read(64)
    if start.lstrip().startswith(b"<"):
        raise UserError(f"{path} is a web page, not a checkpoint; download it in a browser and see what it asks")
    try:
        if start.startswith((b"PK", b"\x80")):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of protocols and storages, of which the user can make nothing
                loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
        elif start[8:9] == b"{":
            loaded = load_file(path)
        else:
            raise UserError(f"{path} is no checkpoint: it begins with {start[:16]!r}")
    except (UserError, OSError):
        raise
    except UnpicklingError as error:
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        what = f"it asks for {wanted[1]}" if wanted else "it asks for more than tensors, or is damaged"
        raise UserError(
            f"{path} was not loaded, nothing in it was run: {what}. Where you trust it, save its state_dict() alone"
        ) from None
    except Exception as error:  # a damaged file can make a reader fail with anything
        reason = re.split(r"\.\s|\n", str(error))[0] or type(error).__name__
        raise UserError(f"{path} can't be read ({reason}); it may be damaged") from error

    if not isinstance(loaded, Mapping):
        raise UserError(f"{path} holds no weights but a {type(loaded).__name__}")
    if isinstance(loaded.get("params"), Mapping) and isinstance(loaded.get("stats"), Mapping):
        loaded = {**loaded, "params": {**loaded["params"], **loaded["stats"]}}  # the author's older checkpoints
    if (whole := _tensors(loaded)) and entry is None:
        return whole
    sets = {str(key): tensors for key, value in loaded.items() if (tensors := _tensors(value))}
    if entry in sets:
        return sets[entry]
    if entry is None and len(sets) == 1:
        return next(iter(sets.values()))
    if sets:
        raise UserError(f"{path} holds weights in {', '.join(sets)}: name the one to convert with --entry")
    if whole:
        raise UserError(f"{path} has no entry {entry!r}: it is a single set of weights, leave --entry out")
    raise UserError(f"{path} holds no weights of a convolutional net")


def _tensors(value: object) -> State:
    """The tensors of a state dict; empty for what is none, as optimizer states are, for want of convolutions."""
    tensors = {str(k): v for k, v in value.items() if isinstance(v, torch.Tensor)} if isinstance(value, Mapping) else {}
    return tensors if any(tensor.ndim == 4 for tensor in tensors.values()) else {}


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
    layout, ours, buffers = _translate(state, source)
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
            raise UserError(f"{source} is a {described} but {what} {_some(keys)}")
    for key, tensor in ours.items():
        if tensor.shape != expected[key].shape:
            raise UserError(f"{source}: {key} is {tuple(tensor.shape)}, {arch} needs {tuple(expected[key].shape)}")
    net.load_state_dict(
        {key: value.detach().to(expected[key].dtype, copy=True) for key, value in ours.items()}, assign=True)

    cfg = net.pretrained_cfg
    assumed = [layout.assumed] if layout.assumed else []
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


def _translate(state: Mapping[str, torch.Tensor], source: str | Path) -> tuple[Layout, State, dict[str, list[float]]]:
    """The layout, the weights in our names, and the normalisation where the net kept it in buffers."""
    bare = {re.sub(r"^(?:(?:module|model|net|backbone|_orig_mod|[01])\.)+", "", key): key for key in state}
    if len(bare) < len(state):
        twice = set(state) - set(bare.values())
        raise UserError(f"{source} holds more than one net: without prefixes, {_some(twice, 2)} comes twice")
    layout = recognise(bare)
    if layout is None:
        known = "; ".join(layout.name for layout in LAYOUTS)
        raise UserError(f"{source}: no known layout has keys such as {_some(bare, 3)}; known are: {known}")
    if layout.differs:
        raise UserError(f"{source} is of the layout of {layout.name} and not converted, for the net differs from ours: "
                        f"{layout.differs}")
    ours: State = {}
    buffers: dict[str, list[float]] = {}
    unknown = set()
    for bare_key, key in bare.items():
        tensor = state[key]
        buffer = re.fullmatch(r"(?:.+\.)?(?:(mean|mu)|std|sigma)", bare_key)
        if buffer and tensor.numel() == 3:
            buffers["mean" if buffer[1] else "std"] = [round(value, 6) for value in tensor.flatten().tolist()]
        elif bare_key != "n_averaged" and not re.fullmatch(layout.unused, bare_key):  # that of AveragedModel
            renamed = layout.rename(bare_key)
            if renamed is None or renamed in ours:
                unknown.add(key)
            else:
                ours[renamed] = tensor
    if unknown:
        raise UserError(f"{source} is of the layout of {layout.name}, which has no {_some(unknown)}")

    biases = [key for key in ours if key.endswith(".bias") and _is_conv(ours, key.removesuffix("bias") + "weight")]
    if any(ours.pop(key).any() for key in biases):  # zeros are as good as none
        raise UserError(f"{source} is not converted, for the net differs from ours: its convolutions have biases")
    if _untouched(ours, 1) and _untouched(ours, 2) and not _untouched(ours, 0):
        # as in MixMatch, FixMatch and TorchSSL; no other trained net leaves a norm as it was initialised
        raise UserError(
            f"{source} is not converted, for the net differs from ours: the first BatchNorm of stages 2 and 3 was "
            "never trained, as in MixMatch and FixMatch, which skip it and have leaky ReLU (0.1) for ReLU")
    return layout, ours, buffers


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


def _some(keys: Iterable[str], number: int = 5) -> str:
    keys = list(keys) if isinstance(keys, Mapping) else sorted(keys)
    return ", ".join(keys[:number]) + (f" and {len(keys) - number} more" if len(keys) > number else "")
