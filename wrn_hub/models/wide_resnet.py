"""Wide Residual Networks for small images

Paper: `Wide Residual Networks` - https://arxiv.org/abs/1605.07146 (Zagoruyko & Komodakis, BMVC 2016)

WRN-n-k is the pre-activation ResNet of `Identity Mappings in Deep Residual Networks`
(https://arxiv.org/abs/1603.05027) with n convolutions, k times wider. As in the authors' code:
    * a block is BN-ReLU-conv-BN-ReLU-(dropout)-conv and the first convolution has the stride;
    * where the number of channels changes, the first BN-ReLU is shared with a 1x1 projection shortcut that has
      neither norm nor bias; elsewhere the shortcut is the raw identity, also in the first stage of a net with k = 1;
    * convolutions are drawn from N(0, 2 / fan_in); the classifier's bias starts at 0.
"""
from collections import OrderedDict
from typing import Any, Callable, Dict, List, Optional, Tuple, Type, Union

import torch
import torch.nn as nn
from timm.layers import (
    BatchNormAct2d,
    ClassifierHead,
    DropPath,
    calculate_drop_path_rates,
    get_device_dtype,
    get_norm_act_layer,
)
from timm.models import build_model_with_cfg, checkpoint_seq, generate_default_cfgs, register_model
from timm.models._features import feature_take_indices  # private, and the one place where timm offers it

from ..facts import DATASETS, DEFAULT_TAG
from ..weights import local_file, published_id, verified_cfg
from .folder import only_whole

__all__ = ['WideResNet', 'wide_resnet']  # each entrypoint is added by register_model

LayerType = Union[str, Callable, Type[nn.Module]]


def _solve_depth(depth: int, step: int, extra: int, rule: str) -> int:
    blocks, rest = divmod(depth - extra, step)
    if rest or blocks < 1:
        near = max(blocks, 1) * step + extra
        raise ValueError(
            f'depth {depth} fits no net with {rule} layers; the nearest depths are {near} and {near + step}')
    return blocks


def family_blocks(depth: int) -> int:
    """Blocks per stage of WRN-n-k, n = 6N + 4, used for every block type of the paper's Table 2.

    Raises:
        ValueError: no net has this depth; names the nearest that exist.
    """
    return _solve_depth(depth, 6, 4, '6N + 4')


def deepened_blocks(depth: int, convs_per_block: int) -> int:
    """Blocks per stage when a block has l 3x3 convolutions, N = (n - 4) / 3l (the paper's Table 3).

    Raises:
        ValueError: no net has this depth; names the nearest that exist.
    """
    return _solve_depth(depth, 3 * convs_per_block, 4, f'{3 * convs_per_block}N + 4')


def bottleneck_blocks(depth: int) -> int:
    """Blocks per stage of the pre-activation bottleneck nets that the paper compares with, n = 9N + 2.

    Raises:
        ValueError: no net has this depth; names the nearest that exist.
    """
    return _solve_depth(depth, 9, 2, '9N + 2')


def _conv(in_chs: int, out_chs: int, kernel: int, stride: int = 1, dilation: int = 1, **dd: Any) -> nn.Conv2d:
    return nn.Conv2d(
        in_chs, out_chs, kernel, stride=stride, padding=dilation * (kernel // 2), dilation=dilation, bias=False, **dd)


def _residual_branch(
        in_chs: int,
        out_chs: int,
        kernels: Tuple[int, ...],
        stride: int,
        dilation: int,
        first_dilation: int,
        bottle_ratio: float,
        block_drop_rate: float,
        norm_layer: Callable,
        **dd: Any,
) -> 'OrderedDict[str, nn.Module]':
    """conv1-(norm2-drop2-conv2)-...: what both block types compute between their first and last norm."""
    mid_chs = round(out_chs * bottle_ratio)
    chs = (in_chs,) + (mid_chs,) * (len(kernels) - 1) + (out_chs,)
    layers = OrderedDict(conv1=_conv(chs[0], chs[1], kernels[0], stride, first_dilation, **dd))
    for i in range(1, len(kernels)):
        layers[f'norm{i + 1}'] = norm_layer(chs[i], **dd)
        if block_drop_rate > 0.:
            layers[f'drop{i + 1}'] = nn.Dropout(block_drop_rate)
        layers[f'conv{i + 1}'] = _conv(chs[i], chs[i + 1], kernels[i], dilation=dilation, **dd)
    return layers


class PreActBlock(nn.Module):
    """Pre-activation block B(kernels): norm-act-conv for every kernel, added to the shortcut (paper, section 2)."""

    def __init__(
            self,
            in_chs: int,
            out_chs: int,
            kernels: Tuple[int, ...] = (3, 3),
            stride: int = 1,
            dilation: int = 1,
            first_dilation: int = 1,
            bottle_ratio: float = 1.,
            block_drop_rate: float = 0.,
            drop_path_rate: float = 0.,
            norm_layer: Callable = BatchNormAct2d,
            device=None,
            dtype=None,
    ):
        super().__init__()
        dd = {'device': device, 'dtype': dtype}
        self.norm1 = norm_layer(in_chs, **dd)
        changes = stride != 1 or in_chs != out_chs
        self.shortcut = _conv(in_chs, out_chs, 1, stride, **dd) if changes else None
        self.residual = nn.Sequential(_residual_branch(
            in_chs, out_chs, kernels, stride, dilation, first_dilation, bottle_ratio, block_drop_rate, norm_layer,
            **dd))
        self.drop_path = DropPath(drop_path_rate) if drop_path_rate > 0. else nn.Identity()

    def zero_init_last(self) -> None:
        nn.init.zeros_(self.residual[-1].weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x
        x = self.norm1(x)
        if self.shortcut is not None:
            shortcut = self.shortcut(x)
        return self.drop_path(self.residual(x)) + shortcut


class PostActBlock(nn.Module):
    """Post-activation block: conv-norm-act-(dropout)-conv-norm, added to the shortcut, act."""

    def __init__(
            self,
            in_chs: int,
            out_chs: int,
            kernels: Tuple[int, ...] = (3, 3),
            stride: int = 1,
            dilation: int = 1,
            first_dilation: int = 1,
            bottle_ratio: float = 1.,
            block_drop_rate: float = 0.,
            drop_path_rate: float = 0.,
            norm_layer: Callable = BatchNormAct2d,
            device=None,
            dtype=None,
    ):
        super().__init__()
        dd = {'device': device, 'dtype': dtype}
        changes = stride != 1 or in_chs != out_chs
        self.shortcut = nn.Sequential(OrderedDict(
            conv=_conv(in_chs, out_chs, 1, stride, **dd),
            norm=norm_layer(out_chs, apply_act=False, **dd),
        )) if changes else None
        self.residual = nn.Sequential(_residual_branch(
            in_chs, out_chs, kernels, stride, dilation, first_dilation, bottle_ratio, block_drop_rate, norm_layer,
            **dd))
        self.norm = norm_layer(out_chs, apply_act=False, **dd)
        self.drop_path = DropPath(drop_path_rate) if drop_path_rate > 0. else nn.Identity()
        self.act = norm_layer(1).act  # the activation that the norm layer was made with

    def zero_init_last(self) -> None:
        nn.init.zeros_(self.norm.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x
        if self.shortcut is not None:
            shortcut = self.shortcut(x)
        return self.act(self.drop_path(self.norm(self.residual(x))) + shortcut)


class WideResNet(nn.Module):
    """Wide ResNet for images of about 32x32 pixels: three stages at strides 1, 2 and 4 (paper, Table 1)."""

    def __init__(
            self,
            blocks_per_stage: int = 2,
            width: float = 1.,
            kernels: Tuple[int, ...] = (3, 3),
            channels: Tuple[int, ...] = (16, 32, 64),
            stem_chs: int = 16,
            bottle_ratio: float = 1.,
            preact: bool = True,
            num_classes: int = 10,
            in_chans: int = 3,
            global_pool: str = 'avg',
            output_stride: int = 4,
            act_layer: LayerType = 'relu',
            norm_layer: LayerType = 'batchnorm2d',
            drop_rate: float = 0.,
            block_drop_rate: float = 0.,
            drop_path_rate: float = 0.,
            zero_init_last: bool = False,
            device=None,
            dtype=None,
    ):
        """
        Args:
            blocks_per_stage: Residual blocks in each stage, the paper's N.
            width: Widening factor k; fractions are allowed, channels are rounded to the nearest integer.
            kernels: Kernel sizes of the convolutions in a block, the paper's B(...).
            channels: Channels of each stage at width 1.
            stem_chs: Channels of the first convolution, which is not widened.
            bottle_ratio: Channels inside a block over channels of its output.
            preact: Pre-activation order as in the paper; False gives conv-norm-act blocks.
            num_classes: Number of classes, 0 for no classifier.
            in_chans: Number of input channels.
            global_pool: Global pooling type, '' for none.
            output_stride: Stride of the last stage, 4, 2 or 1; strides beyond it become dilations.
            act_layer: Activation layer.
            norm_layer: Normalization layer.
            drop_rate: Dropout rate before the classifier.
            block_drop_rate: Dropout rate between the convolutions of a block (paper, section 2.4).
            drop_path_rate: Stochastic depth rate of the last block; earlier blocks have linearly less.
            zero_init_last: Start with every residual branch at 0, so that a new net of any depth stays finite.

        Raises:
            ValueError: a number of blocks, kernels, channels or an output stride from which no net can be built.
        """
        super().__init__()
        dd = {'device': device, 'dtype': dtype}
        if blocks_per_stage < 1 or not kernels or any(k < 1 or k % 2 == 0 for k in kernels):
            raise ValueError(
                f'blocks_per_stage={blocks_per_stage}, kernels={kernels}: '
                'need at least one block, and at least one kernel, each of an odd size')
        if output_stride not in (1, 2, 4):
            raise ValueError(f'output_stride={output_stride}: allowed are 1, 2 and 4')
        widened = [round(c * width) for c in channels]
        if min(widened) < 1 or min(round(c * bottle_ratio) for c in widened) < 1:
            raise ValueError(f'width={width}, channels={tuple(channels)}, bottle_ratio={bottle_ratio}: '
                             'leave a layer with no channel; widen the net')
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.drop_rate = drop_rate
        self.zero_init_last = zero_init_last
        self.grad_checkpointing = False
        norm_act: Callable = get_norm_act_layer(norm_layer, act_layer=act_layer)

        self.stem = nn.Sequential(OrderedDict(conv=_conv(in_chans, stem_chs, 3, **dd)))
        if not preact:
            self.stem.add_module('norm', norm_act(stem_chs, **dd))
        self.feature_info = [dict(num_chs=stem_chs, reduction=1, module='stem.conv' if preact else 'stem.norm')]

        block = PreActBlock if preact else PostActBlock
        drop_path_rates = calculate_drop_path_rates(drop_path_rate, [blocks_per_stage] * len(channels), stagewise=True)
        prev_chs, prev_dilation, dilation, reduction = stem_chs, 1, 1, 1
        self.stages = nn.Sequential()
        for i, out_chs in enumerate(widened):
            stride = 1 if i == 0 else 2
            if reduction * stride > output_stride:
                dilation *= stride
                stride = 1
            stage = nn.Sequential()
            for j in range(blocks_per_stage):
                stage.append(block(
                    prev_chs, out_chs, kernels=kernels, stride=stride if j == 0 else 1, dilation=dilation,
                    first_dilation=prev_dilation if j == 0 else dilation, bottle_ratio=bottle_ratio,
                    block_drop_rate=block_drop_rate, drop_path_rate=drop_path_rates[i][j], norm_layer=norm_act, **dd))
                prev_chs = out_chs
            reduction *= stride
            prev_dilation = dilation
            self.stages.append(stage)
            self.feature_info.append(dict(num_chs=out_chs, reduction=reduction, module=f'stages.{i}'))

        self.num_features = prev_chs
        self.norm = norm_act(prev_chs, **dd) if preact else nn.Identity()
        self.head = ClassifierHead(prev_chs, num_classes, pool_type=global_pool, drop_rate=drop_rate, **dd)
        self.head_hidden_size = self.head.num_features

        self.init_weights()

    @torch.jit.ignore
    def init_weights(self) -> None:
        """Draw new weights as the authors' code does: convolutions from N(0, 2 / fan_in), the classifier's bias 0."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode='fan_in', nonlinearity='relu')
            elif isinstance(module, nn.Linear):
                module.reset_parameters()
                nn.init.zeros_(module.bias)
            elif hasattr(module, 'reset_parameters'):
                module.reset_parameters()
        if self.zero_init_last:
            for stage in self.stages:
                for block in stage:
                    block.zero_init_last()

    @torch.jit.ignore
    def group_matcher(self, coarse: bool = False) -> Dict[str, Any]:
        return dict(
            stem=r'^stem',
            blocks=r'^stages\.(\d+)' if coarse else [
                (r'^stages\.(\d+)\.(\d+)', None),
                (r'^norm', (99999,)),
            ],
        )

    @torch.jit.ignore
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        self.grad_checkpointing = enable

    @torch.jit.ignore
    def get_classifier(self) -> nn.Module:
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: Optional[str] = None) -> None:
        """Give the net a new classifier; the pooling stays unless ``global_pool`` names another."""
        self.num_classes = num_classes
        self.head.reset(num_classes, global_pool, in_features=self.num_features, **get_device_dtype(self))
        self.head_hidden_size = self.head.num_features

    def forward_intermediates(
            self,
            x: torch.Tensor,
            indices: Optional[Union[int, List[int]]] = None,
            norm: bool = False,
            stop_early: bool = False,
            output_fmt: str = 'NCHW',
            intermediates_only: bool = False,
    ) -> Union[List[torch.Tensor], Tuple[torch.Tensor, List[torch.Tensor]]]:
        """Forward pass that also returns the outputs of the stem (index 0) and of the stages (from 1).

        Args:
            x: Images (N, C, H, W).
            indices: The last n outputs if an int, all if None, those given if a sequence.
            norm: Apply the final norm and activation to the last stage's output.
            stop_early: Compute no further than the last output asked for.
            output_fmt: 'NCHW' is the only one.
            intermediates_only: Return the list alone.
        """
        assert output_fmt == 'NCHW', 'Output shape must be NCHW.'
        take_indices, max_index = feature_take_indices(len(self.stages) + 1, indices)
        intermediates = []

        x = self.stem(x)
        if 0 in take_indices:
            intermediates.append(x)
        last_idx = len(self.stages)
        if torch.jit.is_scripting() or not stop_early:  # TorchScript can't slice a Sequential
            stages = self.stages
        else:
            stages = self.stages[:max_index]
        feat_idx = 0
        for feat_idx, stage in enumerate(stages, start=1):
            if self.grad_checkpointing and not torch.jit.is_scripting():
                x = checkpoint_seq(stage, x)
            else:
                x = stage(x)
            if feat_idx in take_indices:
                intermediates.append(self.norm(x) if norm and feat_idx == last_idx else x)

        if intermediates_only:
            return intermediates
        if feat_idx == last_idx:
            x = self.norm(x)
        return x, intermediates

    def prune_intermediate_layers(
            self,
            indices: Union[int, List[int]] = 1,
            prune_norm: bool = False,
            prune_head: bool = True,
    ) -> List[int]:
        """Drop the layers that the outputs asked for don't need; returns the indices of those outputs."""
        take_indices, max_index = feature_take_indices(len(self.stages) + 1, indices)
        prune_end = max_index < len(self.stages)
        self.stages = self.stages[:max_index]
        if prune_norm or prune_end:
            self.norm = nn.Identity()  # it is sized for the last stage
        if prune_end:
            self.num_features = self.head_hidden_size = self.feature_info[max_index]['num_chs']
        if prune_head or prune_end:
            self.reset_classifier(0, '')
        return take_indices

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Images (N, C, H, W) to the activated features (N, num_features, H / 4, W / 4) before pooling."""
        x = self.stem(x)
        for stage in self.stages:
            if self.grad_checkpointing and not torch.jit.is_scripting():
                x = checkpoint_seq(stage, x)
            else:
                x = stage(x)
        return self.norm(x)

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Features to logits (N, num_classes), or to the pooled features (N, head_hidden_size)."""
        return self.head(x, pre_logits=pre_logits)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.forward_head(self.forward_features(x))


def wide_resnet(depth: int, width: float, **kwargs: Any) -> WideResNet:
    """Build WRN-depth-width for any depth 6N + 4 and any width, fractions too; no weights exist for it.

    Args:
        depth: Number of layers n as the paper counts them.
        width: Widening factor k.
        **kwargs: Further arguments of :class:`WideResNet`.

    Raises:
        ValueError: the depth fits no net; names the nearest that do.
    """
    return WideResNet(blocks_per_stage=family_blocks(depth), width=width, **kwargs)


def _create_wide_resnet(variant: str, pretrained: bool = False, **kwargs: Any) -> WideResNet:
    if pretrained:
        kwargs['pretrained_cfg'] = verified_cfg(
            variant, kwargs.get('pretrained_cfg'), kwargs.pop('pretrained_cfg_overlay', None), kwargs.get('cache_dir'))
    return build_model_with_cfg(
        WideResNet, variant, pretrained,
        pretrained_filter_fn=only_whole,
        feature_cfg=dict(out_indices=(0, 1, 2, 3), flatten_sequential=True),
        **kwargs,
    )


def _create_wrn(variant: str, depth: int, width: float, pretrained: bool = False, **kwargs: Any) -> WideResNet:
    model_args = dict(blocks_per_stage=family_blocks(depth), width=width)
    return _create_wide_resnet(variant, pretrained=pretrained, **dict(model_args, **kwargs))


def _create_preresnet(variant: str, depth: int, pretrained: bool = False, **kwargs: Any) -> WideResNet:
    model_args = dict(
        blocks_per_stage=bottleneck_blocks(depth), kernels=(1, 3, 1), channels=(64, 128, 256), bottle_ratio=0.25)
    return _create_wide_resnet(variant, pretrained=pretrained, **dict(model_args, **kwargs))


def _cfgs(variant: str) -> Dict[str, Dict[str, Any]]:
    """A tag per dataset. timm takes the first tag that has weights for the bare name's, unless a later one is
    starred; the starred one stands last, so that ``variant`` alone is always the CIFAR-10 net."""
    return {
        f'{variant}.{tag}{"*" if tag == DEFAULT_TAG else ""}': dict(
            url='',
            file=local_file(f'{variant}.{tag}'),
            hf_hub_id=published_id(f'{variant}.{tag}'),
            num_classes=len(DATASETS[tag].classes),
            label_names=DATASETS[tag].classes,
            mean=DATASETS[tag].mean,
            std=DATASETS[tag].std,
            input_size=(3, 32, 32),
            pool_size=(8, 8),
            fixed_input_size=False,
            crop_pct=1.0,
            interpolation='bicubic',
            first_conv='stem.conv',
            classifier='head.fc',
            license='apache-2.0',
            paper_ids='arXiv:1605.07146',
            paper_name='Wide Residual Networks',
        )
        for tag in (*(tag for tag in DATASETS if tag != DEFAULT_TAG), DEFAULT_TAG)
    }


default_cfgs = generate_default_cfgs({
    name: cfg
    for variant in (
        'wrn_10_2', 'wrn_16_1', 'wrn_16_2', 'wrn_16_4', 'wrn_16_8', 'wrn_16_10', 'wrn_22_8', 'wrn_22_10',
        'wrn_28_2', 'wrn_28_4', 'wrn_28_10', 'wrn_28_12', 'wrn_34_10', 'wrn_34_20', 'wrn_40_1', 'wrn_40_2',
        'wrn_40_4', 'wrn_40_8', 'wrn_40_10', 'wrn_52_1', 'wrn_70_16', 'preresnet_164', 'preresnet_1001')
    for name, cfg in _cfgs(variant).items()
})


@register_model
def wrn_10_2(pretrained: bool = False, **kwargs: Any) -> WideResNet:
    """WRN-10-2"""
    return _create_wrn('wrn_10_2', 10, 2, pretrained=pretrained, **kwargs)


@register_model
def wrn_16_1(pretrained: bool = False, **kwargs: Any) -> WideResNet:
    """WRN-16-1"""
    return _create_wrn('wrn_16_1', 16, 1, pretrained=pretrained, **kwargs)


@register_model
def wrn_16_2(pretrained: bool = False, **kwargs: Any) -> WideResNet:
    """WRN-16-2"""
    return _create_wrn('wrn_16_2', 16, 2, pretrained=pretrained, **kwargs)


@register_model
def wrn_16_4(pretrained: bool = False, **kwargs: Any) -> WideResNet:
    """WRN-16-4"""
    return _create_wrn('wrn_16_4', 16, 4, pretrained=pretrained, **kwargs)


@register_model
def wrn_16_8(pretrained: bool = False, **kwargs: Any) -> WideResNet:
    """WRN-16-8"""
    return _create_wrn('wrn_16_8', 16, 8, pretrained=pretrained, **kwargs)


@register_model
def wrn_16_10(pretrained: bool = False, **kwargs: Any) -> WideResNet:
    """WRN-16-10"""
    return _create_wrn('wrn_16_10', 16, 10, pretrained=pretrained, **kwargs)


@register_model
def wrn_22_8(pretrained: bool = False, **kwargs: Any) -> WideResNet:
    """WRN-22-8"""
    return _create_wrn('wrn_22_8', 22, 8, pretrained=pretrained, **kwargs)


@register_model
def wrn_22_10(pretrained: bool = False, **kwargs: Any) -> WideResNet:
    """WRN-22-10"""
    return _create_wrn('wrn_22_10', 22, 10, pretrained=pretrained, **kwargs)


@register_model
def wrn_28_2(pretrained: bool = False, **kwargs: Any) -> WideResNet:
    """WRN-28-2"""
    return _create_wrn('wrn_28_2', 28, 2, pretrained=pretrained, **kwargs)


@register_model
def wrn_28_4(pretrained: bool = False, **kwargs: Any) -> WideResNet:
    """WRN-28-4"""
    return _create_wrn('wrn_28_4', 28, 4, pretrained=pretrained, **kwargs)


@register_model
def wrn_28_10(pretrained: bool = False, **kwargs: Any) -> WideResNet:
    """WRN-28-10"""
    return _create_wrn('wrn_28_10', 28, 10, pretrained=pretrained, **kwargs)


@register_model
def wrn_28_12(pretrained: bool = False, **kwargs: Any) -> WideResNet:
    """WRN-28-12"""
    return _create_wrn('wrn_28_12', 28, 12, pretrained=pretrained, **kwargs)


@register_model
def wrn_34_10(pretrained: bool = False, **kwargs: Any) -> WideResNet:
    """WRN-34-10"""
    return _create_wrn('wrn_34_10', 34, 10, pretrained=pretrained, **kwargs)


@register_model
def wrn_34_20(pretrained: bool = False, **kwargs: Any) -> WideResNet:
    """WRN-34-20"""
    return _create_wrn('wrn_34_20', 34, 20, pretrained=pretrained, **kwargs)


@register_model
def wrn_40_1(pretrained: bool = False, **kwargs: Any) -> WideResNet:
    """WRN-40-1"""
    return _create_wrn('wrn_40_1', 40, 1, pretrained=pretrained, **kwargs)


@register_model
def wrn_40_2(pretrained: bool = False, **kwargs: Any) -> WideResNet:
    """WRN-40-2"""
    return _create_wrn('wrn_40_2', 40, 2, pretrained=pretrained, **kwargs)


@register_model
def wrn_40_4(pretrained: bool = False, **kwargs: Any) -> WideResNet:
    """WRN-40-4"""
    return _create_wrn('wrn_40_4', 40, 4, pretrained=pretrained, **kwargs)


@register_model
def wrn_40_8(pretrained: bool = False, **kwargs: Any) -> WideResNet:
    """WRN-40-8"""
    return _create_wrn('wrn_40_8', 40, 8, pretrained=pretrained, **kwargs)


@register_model
def wrn_40_10(pretrained: bool = False, **kwargs: Any) -> WideResNet:
    """WRN-40-10"""
    return _create_wrn('wrn_40_10', 40, 10, pretrained=pretrained, **kwargs)


@register_model
def wrn_52_1(pretrained: bool = False, **kwargs: Any) -> WideResNet:
    """WRN-52-1"""
    return _create_wrn('wrn_52_1', 52, 1, pretrained=pretrained, **kwargs)


@register_model
def wrn_70_16(pretrained: bool = False, **kwargs: Any) -> WideResNet:
    """WRN-70-16"""
    return _create_wrn('wrn_70_16', 70, 16, pretrained=pretrained, **kwargs)


@register_model
def preresnet_164(pretrained: bool = False, **kwargs: Any) -> WideResNet:
    """Pre-activation ResNet-164 with bottlenecks, which the paper compares with"""
    return _create_preresnet('preresnet_164', 164, pretrained=pretrained, **kwargs)


@register_model
def preresnet_1001(pretrained: bool = False, **kwargs: Any) -> WideResNet:
    """Pre-activation ResNet-1001 with bottlenecks, which the paper compares with

    Its residual branches start at 0, unlike the authors': before the running statistics are learned, an evaluation
    doubles the variance in each of 333 blocks and overflows float32.
    """
    model_args = dict(zero_init_last=True)
    return _create_preresnet('preresnet_1001', 1001, pretrained=pretrained, **dict(model_args, **kwargs))
