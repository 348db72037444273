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

_SUFFIX = {torch.float32: "", torch.bfloat16: "_bf16"}  # of the kernels; those of bf16 are there if the CPU has them
_BLOCK = 16  # channels that the kernels take at a time


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
        return dtype in _SUFFIX and hasattr(_kernels(), f"forward{_SUFFIX[dtype]}")
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
    for suffix in _SUFFIX.values():
        if hasattr(kernels, f"forward{suffix}"):
            getattr(kernels, f"filters{suffix}").argtypes = [pointer, *[number] * 6, pointer, number]
            getattr(kernels, f"forward{suffix}").argtypes = [*[pointer] * 4, *[number] * 6]
            getattr(kernels, f"filter_gradient{suffix}").argtypes = [*[pointer] * 3, *[number] * 10]
    return kernels


def _transformed(weight: torch.Tensor, dtype: torch.dtype, turned: bool = False) -> torch.Tensor:
    """Filters as the kernels take them.

    Args:
        weight: (out, in, 3, 3), of any strides.
        dtype: That of the images.
        turned: Turned around by 180 degrees, and outputs for inputs: as they take the gradient to the images.
    """
    weight = weight.float()
    strides, first = weight.stride(), weight.data_ptr()
    if turned:
        out, channel, row, column = strides
        strides, first = (channel, out, -row, -column), first + weight.element_size() * 2 * (row + column)
    filters, channels = weight.shape[turned], weight.shape[not turned]
    result = torch.empty(36 * filters * channels, dtype=dtype)
    getattr(_kernels(), f"filters{_SUFFIX[dtype]}")(
        first, filters, channels, *strides, result.data_ptr(), torch.get_num_threads())
    return result


def _convolved(
    images: torch.Tensor, transformed: torch.Tensor, filters: int, bias: torch.Tensor | None
) -> torch.Tensor:
    """Images (B, C, H, W), channels_last, convolved with transformed filters."""
    batch, channels, height, width = images.shape
    offset = torch.zeros(filters) if bias is None else bias.float().contiguous()
    result = torch.empty((batch, filters, height, width), dtype=images.dtype, memory_format=torch.channels_last)
    getattr(_kernels(), f"forward{_SUFFIX[images.dtype]}")(
        images.data_ptr(), transformed.data_ptr(), offset.data_ptr(), result.data_ptr(), batch, height,
        width, channels, filters, torch.get_num_threads())
    return result


def _gradient(images: torch.Tensor, gradient: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The weight's gradient from that of the output, both in channels_last and of one dtype."""
    batch, channels, height, width = images.shape
    result = torch.empty_like(weight, dtype=torch.float32)
    getattr(_kernels(), f"filter_gradient{_SUFFIX[images.dtype]}")(
        images.data_ptr(), gradient.data_ptr(), result.data_ptr(), batch, height, width, channels,
        len(weight), *result.stride(), torch.get_num_threads())
    return result.to(weight.dtype)


class _Winograd(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        images = images.contiguous(memory_format=torch.channels_last)
        ctx.save_for_backward(images, weight)
        return _convolved(images, _transformed(weight, images.dtype), len(weight), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        images, weight = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        of_images = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            of_images = _convolved(gradient, _transformed(weight, images.dtype, turned=True), weight.shape[1], None)
        if ctx.needs_input_grad[1]:
            of_weight = _gradient(images, gradient, weight)
        if ctx.needs_input_grad[2]:
            of_bias = gradient.sum((0, 2, 3), dtype=weight.dtype)
        return of_images, of_weight, of_bias


class WinogradConv2d(nn.Conv2d):
    """A convolution that :func:`winograd` has taken over; computes what ``nn.Conv2d`` does, to about 1e-5 of its
    largest outputs in float32, to about 1 % in bf16, where ``nn.Conv2d`` itself is right to 0.2 %."""

    frozen = False
    _kept: tuple[Any, torch.Tensor] | None = None  # the transformed filters, and of what

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """As ``nn.Conv2d``: float (B, C, H, W); returned in channels_last where Winograd's algorithm was used."""
        casts = torch.is_autocast_enabled("cpu") and input.dtype in (torch.float32, torch.bfloat16, torch.float16)
        dtype = torch.get_autocast_dtype("cpu") if casts else input.dtype
        if not self._takes(input, dtype, casts):
            return super().forward(input)
        images = input.to(dtype)
        if torch.is_grad_enabled() and (input.requires_grad or any(p.requires_grad for p in self.parameters())):
            return _Winograd.apply(images, self.weight, self.bias)
        images = images.contiguous(memory_format=torch.channels_last)
        return _convolved(images, self._filters(dtype), self.out_channels, self.bias)

    def _takes(self, input: torch.Tensor, dtype: torch.dtype, casts: bool) -> bool:
        return (
            input.device.type == "cpu" and (casts or input.dtype == self.weight.dtype) and computes(dtype)
            and input.dim() == 4 and input.shape[1] == self.in_channels
            and min(input.shape[2:]) >= 3  # a tile of 4x4 pixels would be mostly border
            and input.numel() > 0 and not torch.compiler.is_compiling())

    def _filters(self, dtype: torch.dtype) -> torch.Tensor:
        weight = self.weight
        keep = self.frozen and not weight.is_inference()  # which has no version that would tell a change
        of = (weight.data_ptr(), weight._version, dtype) if keep else None
        if self._kept and keep and self._kept[0] == of:
            return self._kept[1]
        transformed = _transformed(weight, dtype)
        self._kept = (of, transformed) if keep else None
        return transformed


def winograd(model: Model, frozen: bool = False) -> Model:
    """Let the 3x3 convolutions of a model on a CPU do with fewer multiplications.

    F(4x4, 3x3) of Lavin & Gray, https://arxiv.org/abs/1509.09308; two to three times as fast as the direct algorithm
    where channels are many. Forward and for both gradients; in float32 and, on a CPU that multiplies it (AVX512-BF16),
    in bf16, by autocast too. Taken over are convolutions of stride 1 and padding 1 without groups and dilation, whose
    channels are multiples of 16. On other devices and in other dtypes they go on as before, so that the model may be
    moved or cast afterwards. The state_dict stays as it is.

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
