"""Wide ResNets for ImageNet

Paper: `Wide Residual Networks` - https://arxiv.org/abs/1605.07146 (section 3.4, Tables 7 and 8)

These are post-activation ResNets with wider layers behind the usual stem of 64 channels; timm's own ResNet builds
them. wrn_50_2 and wrn_101_2 are timm's wide_resnet50_2 and wide_resnet101_2 under the paper's name, with timm's
weights. The basic-block nets of Table 7 have no published weights.
"""
from dataclasses import replace
from typing import Any, Tuple

from timm.models import build_model_with_cfg, generate_default_cfgs, get_arch_pretrained_cfgs, register_model
from timm.models.resnet import BasicBlock, Bottleneck, ResNet

from .folder import only_whole

__all__ = []  # each entrypoint is added by register_model

_BASIC = ('wrn_18_1p5', 'wrn_18_2', 'wrn_18_3', 'wrn_34_1p5', 'wrn_34_2')
_TIMM_NAMES = {'wrn_50_2': 'wide_resnet50_2', 'wrn_101_2': 'wide_resnet101_2'}
_UNTRAINED = dict(
    url='', num_classes=1000, input_size=(3, 224, 224), pool_size=(7, 7), crop_pct=0.875, interpolation='bilinear',
    first_conv='conv1', classifier='fc', paper_ids='arXiv:1605.07146', paper_name='Wide Residual Networks')

default_cfgs = generate_default_cfgs({
    **{f'{variant}.untrained': _UNTRAINED for variant in _BASIC},
    **{
        # timm completes 'timm/' with the name of its own model; here the id has to be whole
        f'{variant}.{cfg.tag}': replace(cfg, hf_hub_id=f'timm/{name}.{cfg.tag}', architecture=variant)
        for variant, name in _TIMM_NAMES.items() for cfg in get_arch_pretrained_cfgs(name).values()
    },
})


def _create_wrn(variant: str, block: type, layers: Tuple[int, ...], pretrained: bool = False, **kwargs: Any) -> ResNet:
    model_args = dict(block=block, layers=layers, pretrained_filter_fn=only_whole)
    return build_model_with_cfg(ResNet, variant, pretrained, **dict(model_args, **kwargs))


def _channels(width: float) -> Tuple[int, ...]:
    return tuple(round(c * width) for c in (64, 128, 256, 512))


@register_model
def wrn_18_1p5(pretrained: bool = False, **kwargs: Any) -> ResNet:
    """WRN-18-1.5 with basic blocks (Table 7)"""
    model_args = dict(channels=_channels(1.5))
    return _create_wrn('wrn_18_1p5', BasicBlock, (2, 2, 2, 2), pretrained, **dict(model_args, **kwargs))


@register_model
def wrn_18_2(pretrained: bool = False, **kwargs: Any) -> ResNet:
    """WRN-18-2 with basic blocks (Table 7)"""
    model_args = dict(channels=_channels(2))
    return _create_wrn('wrn_18_2', BasicBlock, (2, 2, 2, 2), pretrained, **dict(model_args, **kwargs))


@register_model
def wrn_18_3(pretrained: bool = False, **kwargs: Any) -> ResNet:
    """WRN-18-3 with basic blocks (Table 7)"""
    model_args = dict(channels=_channels(3))
    return _create_wrn('wrn_18_3', BasicBlock, (2, 2, 2, 2), pretrained, **dict(model_args, **kwargs))


@register_model
def wrn_34_1p5(pretrained: bool = False, **kwargs: Any) -> ResNet:
    """WRN-34-1.5 with basic blocks (Table 7)"""
    model_args = dict(channels=_channels(1.5))
    return _create_wrn('wrn_34_1p5', BasicBlock, (3, 4, 6, 3), pretrained, **dict(model_args, **kwargs))


@register_model
def wrn_34_2(pretrained: bool = False, **kwargs: Any) -> ResNet:
    """WRN-34-2 with basic blocks, the paper's detection backbone on COCO (Tables 7 and 9)"""
    model_args = dict(channels=_channels(2))
    return _create_wrn('wrn_34_2', BasicBlock, (3, 4, 6, 3), pretrained, **dict(model_args, **kwargs))


@register_model
def wrn_50_2(pretrained: bool = False, **kwargs: Any) -> ResNet:
    """WRN-50-2-bottleneck (Table 8): ResNet-50 with twice the channels in the 3x3 convolutions"""
    model_args = dict(base_width=128)
    return _create_wrn('wrn_50_2', Bottleneck, (3, 4, 6, 3), pretrained, **dict(model_args, **kwargs))


@register_model
def wrn_101_2(pretrained: bool = False, **kwargs: Any) -> ResNet:
    """WRN-101-2-bottleneck: ResNet-101 with twice the channels in the 3x3 convolutions"""
    model_args = dict(base_width=128)
    return _create_wrn('wrn_101_2', Bottleneck, (3, 4, 23, 3), pretrained, **dict(model_args, **kwargs))
