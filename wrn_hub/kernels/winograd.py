"""3x3 convolutions on a CPU by Winograd's minimal filtering: a quarter of the multiplications."""
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import nn

from . import ops
from .ops import BLOCK, Kept, computes, conv3x3, prepare

__all__ = ["WinogradConv2d", "computes", "prepare", "winograd"]

Model = TypeVar("Model", bound=nn.Module)

_PLAIN = (torch.Tensor, nn.Parameter)


class WinogradConv2d(nn.Conv2d):
    """A convolution that :func:`winograd` has taken over; computes what ``nn.Conv2d`` does, to about 1e-5 of its
    largest outputs in float32, to about 1 % in bf16, where ``nn.Conv2d`` itself is right to 0.2 %."""

    kept: Kept | None = None  # where filters are frozen
    __jit_ignored_attributes__ = ("kept",)

    def _conv_forward(self, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """As ``nn.Conv2d``: float (B, C, H, W); returned in channels_last where Winograd's algorithm was used."""
        if not torch.jit.is_scripting():
            output = self._by_winograd(input, weight, bias)
            if output is not None:
                return output
        return F.conv2d(input, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def _by_winograd(
        self, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor | None:
        """The output; None where the ordinary convolution is to be used."""
        if (torch.compiler.is_exporting() or torch.jit.is_tracing()  # for those who don't have the operator
                or type(input) not in _PLAIN or type(weight) not in _PLAIN  # a proxy, a fake, a wrapper
                or input.device.type != "cpu" or input.dim() != 4 or input.shape[1] != weight.shape[1]
                or not _suits(self)):
            return None
        casts = torch.is_autocast_enabled("cpu") and input.dtype in (torch.float32, torch.bfloat16, torch.float16)
        dtype = torch.get_autocast_dtype("cpu") if casts else input.dtype
        if not casts and dtype != weight.dtype:
            return None
        compiling = torch.compiler.is_compiling()
        # Filters are kept for inference. A tensor that isn't a parameter won't come again, and compiled code writes to
        # tensors without counting the changes.
        frozen = (
            self.kept is not None and type(weight) is nn.Parameter and not compiling
            and not (torch.is_grad_enabled() and (weight.requires_grad or input.requires_grad)))
        # what is compiled is for any batch, so that it is the operator which decides then
        if not compiling and not (computes(dtype) and ops.pays(input.shape, len(weight), frozen)):
            return None
        return conv3x3(input.to(dtype), weight, bias, id(self.kept) if frozen else 0)


def _suits(layer: nn.Conv2d) -> bool:
    return (
        layer.kernel_size == (3, 3) and layer.stride == (1, 1) and layer.padding in ((1, 1), "same")
        and layer.padding_mode == "zeros" and layer.dilation == (1, 1) and layer.groups == 1
        and layer.in_channels % BLOCK == 0 and layer.out_channels % BLOCK == 0)


def winograd(model: Model, frozen: bool = False) -> Model:
    """Let the 3x3 convolutions of a model on a CPU do with fewer multiplications.

    F(4x4, 3x3) of Lavin & Gray, https://arxiv.org/abs/1509.09308; two to three times as fast as the direct algorithm
    where channels are many. Forward and for both gradients; in float32 and, on a CPU that multiplies it (AVX512-BF16),
    in bf16, by autocast too. Taken over are convolutions of stride 1 and padding 1 without groups and dilation, whose
    channels are multiples of 16, and of those only what is faster so, see :func:`wrn_hub.kernels.ops.pays`. On other
    devices and in other dtypes they go on as before, so that the model may be moved or cast afterwards; so they do when
    it is exported, traced or scripted, differentiated forward or twice, and under ``torch.func``. The state_dict stays
    as it is.

    Args:
        model: Any model, best in channels_last; changed in place.
        frozen: Keep the transformed filters from one batch to the next, for inference on few images at a time. They
            take four times the memory of the weights. They follow every change but one that is made inside ``.data``,
            which torch doesn't count (``weight.data.mul_(2)``; to assign to it is fine).

    Returns:
        The same model.

    Raises:
        UserError: the kernels haven't been compiled for this machine yet, and there is no C++ compiler with OpenMP.
    """
    prepare()
    for module in model.modules():
        if type(module) is nn.Conv2d and _suits(module):
            module.__class__ = WinogradConv2d
        if isinstance(module, WinogradConv2d):
            module.kept = Kept() if frozen else None
    return model
