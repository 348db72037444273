"""3x3 convolutions in float32 on a CPU by Winograd's minimal filtering: a quarter of the multiplications."""
import ctypes
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from ..errors import UserError, first_line

__all__ = ["WinogradConv2d", "prepare", "winograd"]

Model = TypeVar("Model", bound=nn.Module)

_BLOCK = 16  # channels that the kernels take at a time
# Tiles that a thread works on at a time: as many as the cache holds, and for the filters' gradient twice as many,
# since each time all of its sums are read and written.
_TILES, _TILES_OF_GRADIENT = 48, 96


def prepare() -> None:
    """Compile the kernels, unless this process has done so.

    Raises:
        UserError: there is no C++ compiler with OpenMP.
    """
    _kernels()


@cache
def _kernels() -> ctypes.CDLL:
    """The kernels, compiled for this very CPU, in a second or two, once a process.

    Raises:
        UserError: there is no compiler, or it fails.
    """
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    command = next(filter(None, map(shutil.which, names)), None)
    if command is None:
        raise UserError(
            f"winograd: no C++ compiler ({', '.join(names)}): install one (on Debian and Ubuntu: apt-get install g++), "
            "or name it in the variable CXX")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "winograd.so"
        try:
            subprocess.run(
                [command, "-O3", "-march=native", "-std=c++17", "-fopenmp", "-shared", "-fPIC",
                 str(Path(__file__).with_suffix(".cpp")), "-o", str(library)],
                check=True, capture_output=True, text=True)
            kernels = ctypes.CDLL(str(library))
        except subprocess.CalledProcessError as error:
            reason = first_line(RuntimeError(error.stderr))
            raise UserError(f"winograd: {command} can't compile its kernels ({reason}); name another in CXX") from None
        except OSError as error:
            raise UserError(f"winograd: {command} made nothing that can be loaded ({first_line(error)})") from None
    pointer, number = ctypes.c_void_p, ctypes.c_long
    kernels.filters.argtypes = [pointer, *[number] * 6, pointer, number]
    kernels.forward.argtypes = [*[pointer] * 4, *[number] * 7]
    kernels.filter_gradient.argtypes = [*[pointer] * 3, *[number] * 11]
    return kernels


def _convolved(
    images: torch.Tensor, filters: int, strides: tuple[int, int, int, int], offset: torch.Tensor
) -> torch.Tensor:
    """Images convolved with filters.

    Args:
        images: (B, C, H, W), channels_last.
        filters: Address of the upper left weight of the first filter's first channel.
        strides: From a filter, a channel, a row and a column to the next.
        offset: Added to what a filter yields; as many as there are filters.
    """
    out = len(offset)
    batch, channels, height, width = images.shape
    threads = torch.get_num_threads()
    transformed = torch.empty(36 * out * channels)
    result = torch.empty((batch, out, height, width), memory_format=torch.channels_last)
    _kernels().filters(filters, out, channels, *strides, transformed.data_ptr(), threads)
    _kernels().forward(
        images.data_ptr(), transformed.data_ptr(), offset.contiguous().data_ptr(), result.data_ptr(), batch, height,
        width, channels, out, _TILES, threads)
    return result


class _Winograd(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        images = images.contiguous(memory_format=torch.channels_last)
        ctx.save_for_backward(images, weight)
        offset = weight.new_zeros(len(weight)) if bias is None else bias
        return _convolved(images, weight.data_ptr(), weight.stride(), offset)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        images, weight = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        of_images = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:  # the gradient convolved with the filters turned around, outputs for inputs
            out, channel, row, column = weight.stride()
            last = weight.data_ptr() + weight.element_size() * 2 * (row + column)
            of_images = _convolved(
                gradient, last, (channel, out, -row, -column), weight.new_zeros(weight.shape[1]))
        if ctx.needs_input_grad[1]:
            of_weight = torch.empty_like(weight)
            batch, channels, height, width = images.shape
            _kernels().filter_gradient(
                images.data_ptr(), gradient.data_ptr(), of_weight.data_ptr(), batch, height, width, channels,
                len(weight), *of_weight.stride(), _TILES_OF_GRADIENT, torch.get_num_threads())
        if ctx.needs_input_grad[2]:
            of_bias = gradient.sum((0, 2, 3))
        return of_images, of_weight, of_bias


class WinogradConv2d(nn.Conv2d):
    """A convolution that :func:`winograd` has taken over; computes what ``nn.Conv2d`` does, to about 1e-5."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """As ``nn.Conv2d``: float (B, C, H, W); returned in channels_last where Winograd's algorithm was used."""
        plain = (
            input.device.type != "cpu" or input.dtype != torch.float32 or self.weight.dtype != torch.float32
            or torch.is_autocast_enabled("cpu") or input.dim() != 4 or input.shape[1] != self.in_channels
            or min(input.shape[2:]) < 3  # a tile of 4x4 pixels would be mostly border
            or not input.numel() or torch.compiler.is_compiling())
        return super().forward(input) if plain else _Winograd.apply(input, self.weight, self.bias)


def winograd(model: Model) -> Model:
    """Let the 3x3 convolutions of a model that is trained or used in float32 on a CPU do with fewer multiplications.

    F(4x4, 3x3) of Lavin & Gray, https://arxiv.org/abs/1509.09308, forward and for both gradients; two to three times
    as fast as the direct algorithm where channels are many. Taken over are convolutions of stride 1 and padding 1
    without groups and dilation, whose channels are multiples of 16. Elsewhere than in float32 on a CPU they go
    on as before, so that the model may be moved or cast afterwards. The state_dict stays as it is.

    Args:
        model: Any model, best in channels_last; changed in place.

    Returns:
        The same model.

    Raises:
        UserError: there is no C++ compiler with OpenMP, by which the kernels are compiled for the CPU at hand.
    """
    prepare()
    for module in model.modules():
        if (type(module) is nn.Conv2d and module.kernel_size == (3, 3) and module.stride == (1, 1)
                and module.padding in ((1, 1), "same") and module.padding_mode == "zeros"
                and module.dilation == (1, 1) and module.groups == 1
                and module.in_channels % _BLOCK == 0 and module.out_channels % _BLOCK == 0):
            module.__class__ = WinogradConv2d
    return model
