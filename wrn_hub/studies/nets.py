"""Nets that the studies compare Wide ResNets with and that nobody needs otherwise, and how any net is built."""
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from timm.layers import BatchNormAct2d
from torch import nn

from ..models.build import ModelSource
from ..models.wide_resnet import PreActBlock, WideResNet, wide_resnet

__all__ = ["OWN", "PlainNet", "build", "built_on_meta", "misplaced_dropout"]


class PlainNet(nn.Sequential):
    """A ResNet of He et al. for 32x32 pixels (arXiv:1512.03385, section 4.2) without its shortcuts: conv-norm-act one
    after the other.

    Args:
        blocks_per_stage: Pairs of 3x3 convolutions in each of the three stages; 6 of them and 2 are the layers.
        num_classes: Number of classes.
    """

    def __init__(self, blocks_per_stage: int = 3, num_classes: int = 10) -> None:
        layers, before = [self.layer(3, 16)], 16
        for stage, channels in enumerate((16, 32, 64)):
            for number in range(2 * blocks_per_stage):
                layers.append(self.layer(before, channels, stride=2 if stage and not number else 1))
                before = channels
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, num_classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
        nn.init.zeros_(self[-1].bias)

    @staticmethod
    def layer(before: int, channels: int, stride: int = 1) -> nn.Module:
        """conv-norm-act."""
        return nn.Sequential(
            nn.Conv2d(before, channels, 3, stride, padding=1, bias=False), BatchNormAct2d(channels))


def misplaced_dropout(depth: int, width: float, rate: float, num_classes: int = 10) -> WideResNet:
    """A Wide ResNet whose dropout stands before the second norm of each block, as in well-known ports, instead of after
    it: conv1-drop2-norm2-conv2.

    Args:
        depth: Layers as the paper counts them.
        width: Widening factor.
        rate: Of the dropout.
        num_classes: Number of classes.
    """
    model = wide_resnet(depth, width, num_classes=num_classes, block_drop_rate=rate)
    for module in model.modules():
        if isinstance(module, PreActBlock):
            module.residual = nn.Sequential(OrderedDict(
                (name, module.residual.get_submodule(name)) for name in ("conv1", "drop2", "norm2", "conv2")))
    return model


# by the names that the studies' files have for them; wide_resnet for depths and widths that no timm model has
OWN: dict[str, Callable[..., nn.Module]] = {
    "wide_resnet": wide_resnet, "plain_net": PlainNet, "misplaced_dropout": misplaced_dropout}


def build(model: str, kwargs: dict[str, Any], num_classes: int = 10) -> nn.Module:
    """A net with new weights, on torch's default device.

    Args:
        model: One of :data:`OWN`, or a timm model.
        kwargs: Its arguments.
        num_classes: Number of classes.

    Raises:
        UserError: timm has no such model, or it takes no such argument.
    """
    if model in OWN:
        return OWN[model](**kwargs, num_classes=num_classes)
    kwargs = {key: tuple(value) if isinstance(value, list) else value for key, value in kwargs.items()}
    return ModelSource.parse(model).create(False, num_classes, **kwargs)


def built_on_meta(model: str, kwargs: dict[str, Any]) -> nn.Module:
    """The net without memory for its weights, to be counted."""
    with torch.device("meta"):
        return build(model, kwargs)
