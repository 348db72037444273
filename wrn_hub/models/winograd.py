"""3x3 convolutions on a CPU by Winograd's minimal filtering: a quarter of the multiplications."""
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

__all__ = ["WinogradConv2d", "computes", "prepare", "winograd"]

Model = TypeVar("Model", bound=nn.Module)

_FORWARD = {torch.float32: "forward", torch.bfloat16: "forward_bf16"}  # the second where the CPU multiplies bf16
_BLOCK = 16  # channels that the kernels take at a time
# Tiles that a thread works on at a time: few, so that the cache holds them, and for the gradient of the filters more,
# since each time all of its sums are read and written.
_TILES, _TILES_OF_GRADIENT = 24, 96


def prepare() -> None:
    """Compile the kernels, unless this process has done so.

    Raises:
        UserError: there is no C++ compiler with OpenMP.
    """
    _kernels()


@cache
def computes(dtype: torch.dtype) -> bool:
    """Whether convolutions of a dtype can be computed by Winograd's algorithm on this machine's CPU."""
    try:
        return hasattr(_kernels(), _FORWARD[dtype]) if dtype in _FORWARD else False
    except UserError:
        return False


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
    kernels.filter_gradient.argtypes = [*[pointer] * 3, *[number] * 11]
    kernels.forward.argtypes = [*[pointer] * 4, *[number] * 7]
    if hasattr(kernels, _FORWARD[torch.bfloat16]):
        kernels.filters_bf16.argtypes = [pointer, *[number] * 2, pointer, number]
        kernels.forward_bf16.argtypes = kernels.forward.argtypes
    return kernels


def _transformed(
    address: int, filters: int, channels: int, strides: tuple[int, ...], dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """Filters as the kernels take them.

    Args:
        address: Of the upper left float32 weight of the first filter's first channel.
        filters: How many.
        channels: Of each.
        strides: From a filter, a channel, a row and a column to the next.
        dtype: That of the images.
    """
    threads = torch.get_num_threads()
    result = torch.empty(36 * filters * channels)
    _kernels().filters(address, filters, channels, *strides, result.data_ptr(), threads)
    if dtype == torch.float32:
        return result
    rounded = torch.empty_like(result, dtype=dtype)
    _kernels().filters_bf16(result.data_ptr(), filters, channels, rounded.data_ptr(), threads)
    return rounded


def _convolved(images: torch.Tensor, transformed: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
    """Images convolved with filters.

    Args:
        images: (B, C, H, W), channels_last.
        transformed: The filters.
        offset: float32, contiguous, added to what a filter yields; as many as there are filters.
    """
    batch, channels, height, width = images.shape
    result = torch.empty(
        (batch, len(offset), height, width), dtype=images.dtype, memory_format=torch.channels_last)
    getattr(_kernels(), _FORWARD[images.dtype])(
        images.data_ptr(), transformed.data_ptr(), offset.data_ptr(), result.data_ptr(), batch, height,
        width, channels, len(offset), _TILES, torch.get_num_threads())
    return result


def _offset(weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return torch.zeros(len(weight)) if bias is None else bias.float().contiguous()


class _Winograd(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        images = images.contiguous(memory_format=torch.channels_last)
        ctx.save_for_backward(images, weight)
        transformed = _transformed(weight.data_ptr(), *weight.shape[:2], weight.stride())
        return _convolved(images, transformed, _offset(weight, bias))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        images, weight = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        of_images = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:  # the gradient convolved with the filters turned around, outputs for inputs
            out, channel, row, column = weight.stride()
            last = weight.data_ptr() + weight.element_size() * 2 * (row + column)
            turned = _transformed(last, weight.shape[1], len(weight), (channel, out, -row, -column))
            of_images = _convolved(gradient, turned, torch.zeros(weight.shape[1]))
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
    """A convolution that :func:`winograd` has taken over; computes what ``nn.Conv2d`` does, to about 1e-5 of its
    largest outputs in float32, to about 1 % in bf16, where ``nn.Conv2d`` itself is right to 0.2 %."""

    frozen = False
    _kept: tuple[Any, torch.Tensor] | None = None  # the transformed filters, and of what

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """As ``nn.Conv2d``: float (B, C, H, W); returned in channels_last where Winograd's algorithm was used."""
        if not self._takes(input):
            return super().forward(input)
        if torch.is_grad_enabled() and (input.requires_grad or any(p.requires_grad for p in self.parameters())):
            if input.dtype != torch.float32:  # the kernels of the gradients take no other
                return super().forward(input)
            return _Winograd.apply(input, self.weight, self.bias)
        images = input.contiguous(memory_format=torch.channels_last)
        return _convolved(images, self._filters(input.dtype), _offset(self.weight, self.bias))

    def _takes(self, input: torch.Tensor) -> bool:
        return (
            input.device.type == "cpu" and input.dtype == self.weight.dtype and computes(input.dtype)
            and not torch.is_autocast_enabled("cpu") and input.dim() == 4 and input.shape[1] == self.in_channels
            and min(input.shape[2:]) >= 3  # a tile of 4x4 pixels would be mostly border
            and input.numel() > 0 and not torch.compiler.is_compiling())

    def _filters(self, dtype: torch.dtype) -> torch.Tensor:
        weight = self.weight
        keep = self.frozen and not weight.is_inference()  # which has no version that would tell a change
        of = (weight.data_ptr(), weight._version, dtype) if keep else None
        if self._kept and keep and self._kept[0] == of:
            return self._kept[1]
        weight = weight.float()
        transformed = _transformed(weight.data_ptr(), *weight.shape[:2], weight.stride(), dtype)
        self._kept = (of, transformed) if keep else None
        return transformed


def winograd(model: Model, frozen: bool = False) -> Model:
    """Let the 3x3 convolutions of a model on a CPU do with fewer multiplications.

    F(4x4, 3x3) of Lavin & Gray, https://arxiv.org/abs/1509.09308; two to three times as fast as the direct algorithm
    where channels are many. In float32 forward and for both gradients; in bf16, on a CPU that multiplies it
    (AVX512-BF16), for inference alone. Taken over are convolutions of stride 1 and padding 1 without groups and
    dilation, whose channels are multiples of 16. Elsewhere, under autocast for instance, they go on as before, so
    that the model may be moved or cast afterwards. The state_dict stays as it is.

    Args:
        model: Any model, best in channels_last; changed in place.
        frozen: Keep the transformed filters from one batch to the next, for inference on few images at a time. They
            take four times the memory of the weights, and don't follow a change that is made through ``.data``.

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
        if isinstance(module, WinogradConv2d):
            module.frozen = frozen
    return model
