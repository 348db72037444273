"""How other people's code names the layers of a Wide ResNet.

``LAYOUTS`` is the whole knowledge: a row for each family of names, taken from the code that writes such checkpoints.
A net whose forward pass isn't that of the paper has a row too, so that it is refused with a reason: its weights would
load and its predictions would be wrong.
"""
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

__all__ = ["LAYOUTS", "Layout", "recognise"]


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


def recognise(keys: Iterable[str]) -> tuple[Layout | None, set[str]]:
    """The layout that keys are of, and the prefixes that its nets have in them: "", "module.", "student.net.".

    Returns:
        (layout, prefixes); None and an empty set where no layout fits. More than one prefix are more nets than one.
    """
    keys = list(keys)

    def prefixes(pattern: str) -> set[str]:
        matches = (re.fullmatch(rf"((?:.+\.)?)(?:{pattern})", key) for key in keys)
        return {match[1] for match in matches if match}

    for layout in LAYOUTS:
        found = prefixes(layout.marker)
        if found and not found & prefixes(layout.without):
            return layout, found
    return None, set()
