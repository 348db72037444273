"""A 3x3 convolution as an operator of torch, computed by Winograd's algorithm on a CPU.

``torch.ops.wrn_hub.conv3x3`` is what ``conv2d`` with a padding of 1 is, its last argument the id of the :class:`Kept`
that keeps the transformed filters, or 0; its two gradients are operators too. Each has one kernel by Winograd's
algorithm, for dense tensors on a CPU; whatever else torch does with an operator goes to the ordinary convolution, which
knows how to be differentiated twice or forward, batched, transformed and traced.

They are registered by key, not by ``torch.library.custom_op``, which takes 40 us more for a layer forward and backward.
"""
import ctypes
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import torch
import torch.nn.functional as F
from torch.autograd.forward_ad import unpack_dual
from torch.library import Library
from torch.nn.grad import conv2d_input, conv2d_weight
from torch.utils.flop_counter import conv_flop_count, register_flop_formula

from ..errors import UserError
from .build import library

__all__ = ["BLOCK", "Kept", "computes", "conv3x3", "pays", "prepare"]

BLOCK = 16  # channels that the kernels take at a time

_SUFFIX = {torch.float32: "", torch.bfloat16: "_bf16"}  # of the kernels; those of bf16 are there if the CPU has them


def prepare() -> None:
    """Load the kernels, compiled where they haven't been yet.

    Raises:
        UserError: they haven't been, and there is no C++ compiler with OpenMP.
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
    kernels = library(Path(__file__).with_name("winograd.cpp"))
    pointer, number = ctypes.c_void_p, ctypes.c_long
    for suffix in _SUFFIX.values():
        if hasattr(kernels, f"forward{suffix}"):
            getattr(kernels, f"filters{suffix}").argtypes = [pointer, *[number] * 6, pointer, number]
            getattr(kernels, f"forward{suffix}").argtypes = [*[pointer] * 4, *[number] * 6]
            getattr(kernels, f"filter_gradient{suffix}").argtypes = [*[pointer] * 3, *[number] * 10]
    return kernels


def pays(shape: torch.Size, filters: int, frozen: bool = False) -> bool:
    """Whether Winograd's algorithm is faster than the ordinary convolution.

    What it saves grows with the tiles of 4x4 pixels and the pairs of channels. What it costs is, whatever the tiles, to
    transform the filters, 36 numbers a pair, and for the gradient of the weights to sum as many: 15 ns a pair where
    they fit in the second cache, 30 to 100 ns from 512 x 512 on. Measured on an AMD EPYC with AVX512 on one thread,
    against what torch computes, in float32 and in bf16 alike, forward and both gradients together win from 16 tiles on
    where channels are up to 64, from 32 on at 128, 64 at 256 and 128 at 512. Filters that are transformed already win
    from the second tile on.

    Args:
        shape: (B, C, H, W) of the images.
        filters: Channels of the output.
        frozen: The filters are transformed already, and no gradient is asked for.
    """
    batch, channels, height, width = shape
    tiles = batch * -(-height // 4) * -(-width // 4)
    if min(height, width) < 3:  # a tile would be mostly border
        return False
    return tiles >= 2 if frozen else tiles >= 16 and 16 * tiles**2 >= channels * filters


# What the kernels compute, and how they are called.

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


class Kept:
    """The transformed filters of a weight, for as long as it stays what it is. A copy, and one that is unpickled,
    begins empty. A weight can't hold them itself: they would be saved with it, and a reference to it that is weak keeps
    torch from exchanging it."""

    _what: tuple[torch.Tensor | None, Any, Any, torch.Tensor | None] = (None, None, None, None)

    def __init__(self) -> None:
        _keepers[id(self)] = self

    def __reduce__(self) -> tuple[type, tuple]:
        return Kept, ()

    def transformed(self, weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """As the kernels take them for images of a dtype."""
        if weight.is_inference():  # it has no version
            return _transformed(weight, dtype)
        # Its memory is held, so that no other has its address: another one means that ``weight.data`` was assigned to.
        state = (weight._version, weight.data_ptr(), dtype)
        of, before, _, kept = self._what
        if kept is None or of is not weight or before != state:
            kept = _transformed(weight, dtype)
            self._what = (weight, state, weight.untyped_storage(), kept)
        return kept


_keepers: WeakValueDictionary[int, Kept] = WeakValueDictionary()  # by their id, for an operator takes no objects


def _convolved(
    images: torch.Tensor, transformed: torch.Tensor, filters: int, bias: torch.Tensor | None
) -> torch.Tensor:
    images = images.contiguous(memory_format=torch.channels_last)
    batch, channels, height, width = images.shape
    offset = torch.zeros(filters) if bias is None else bias.float().contiguous()
    result = torch.empty((batch, filters, height, width), dtype=images.dtype, memory_format=torch.channels_last)
    getattr(_kernels(), f"forward{_SUFFIX[images.dtype]}")(
        images.data_ptr(), transformed.data_ptr(), offset.data_ptr(), result.data_ptr(), batch, height,
        width, channels, filters, torch.get_num_threads())
    return result


def _fits(images: torch.Tensor, weight: torch.Tensor, turned: bool = False) -> bool:
    """Whether the kernels can take them."""
    return (
        images.dim() == 4 and weight.dim() == 4 and images.shape[1] == weight.shape[not turned]
        and weight.shape[2:] == (3, 3) and weight.shape[0] % BLOCK == weight.shape[1] % BLOCK == 0
        and images.numel() > 0 and weight.numel() > 0 and weight.device == images.device
        and weight.is_floating_point() and computes(images.dtype))


# The three operators: by Winograd's algorithm where it pays, and by the ordinary one.

def _conv(images: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, kept: int) -> torch.Tensor:
    fits = _fits(images, weight) and (bias is None or bias.shape == weight.shape[:1])
    keeper = _keepers.get(kept)
    if not fits or not pays(images.shape, len(weight), keeper is not None):
        return _channels_last(_ordinary_conv)(images, weight, bias)
    transformed = keeper.transformed(weight, images.dtype) if keeper else _transformed(weight, images.dtype)
    return _convolved(images, transformed, len(weight), bias)


def _ordinary_conv(
    images: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, kept: int = False
) -> torch.Tensor:
    return F.conv2d(images, weight.to(images.dtype), None if bias is None else bias.to(images.dtype), padding=1)


def _to_images(gradient: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    if not _fits(gradient, weight, turned=True) or not pays(gradient.shape, weight.shape[1]):
        return _channels_last(_ordinary_to_images)(gradient, weight)
    return _convolved(gradient, _transformed(weight, gradient.dtype, turned=True), weight.shape[1], None)


def _ordinary_to_images(gradient: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    batch, _, height, width = gradient.shape
    return conv2d_input((batch, weight.shape[1], height, width), weight.to(gradient.dtype), gradient, padding=1)


def _to_weight(gradient: torch.Tensor, images: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    if not _fits(images, weight) or not pays(images.shape, len(weight)):
        return _like_weight(gradient, images, weight)
    gradient = gradient.contiguous(memory_format=torch.channels_last)
    images = images.contiguous(memory_format=torch.channels_last)
    batch, channels, height, width = images.shape
    result = torch.empty_like(weight, dtype=torch.float32)
    getattr(_kernels(), f"filter_gradient{_SUFFIX[images.dtype]}")(
        images.data_ptr(), gradient.data_ptr(), result.data_ptr(), batch, height, width, channels,
        len(weight), *result.stride(), torch.get_num_threads())
    return result.to(weight.dtype)


def _ordinary_to_weight(gradient: torch.Tensor, images: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return conv2d_weight(images, weight.shape, gradient, padding=1).to(weight.dtype)


# Beneath autograd every operator returns one layout, whatever computes it; a compiler relies on that.

def _channels_last(ordinary: Callable) -> Callable:
    return lambda *tensors: ordinary(*tensors).contiguous(memory_format=torch.channels_last)


def _like_weight(gradient: torch.Tensor, images: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(weight).copy_(_ordinary_to_weight(gradient, images, weight))


class _Conv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, images: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, kept: int
    ) -> torch.Tensor:
        ctx.save_for_backward(images, weight)
        ctx.of_bias = None if bias is None else bias.dtype
        with torch._C._AutoDispatchBelowAutograd():
            return conv3x3(images, weight, bias, kept)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        images, weight = ctx.saved_tensors
        needs = ctx.needs_input_grad
        return (
            conv3x3_to_images(gradient, weight) if needs[0] else None,
            conv3x3_to_weight(gradient, images, weight) if needs[1] else None,
            gradient.sum((0, 2, 3), dtype=ctx.of_bias) if needs[2] else None, None)


def _differentiable(
    images: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, kept: int
) -> torch.Tensor:
    if _forward_differentiated(images, weight, bias):
        return _ordinary_conv(images, weight, bias)
    if _differentiated(images, weight, bias):
        # once for forward and backward, and here, where it is differentiated as well
        images = images.contiguous(memory_format=torch.channels_last)
        return _Conv.apply(images, weight, bias, kept)
    with torch._C._AutoDispatchBelowAutograd():
        return conv3x3(images, weight, bias, kept)


def _differentiable_as(ordinary: Callable, operator: str) -> Callable:
    """A gradient, whose own gradients are the ordinary one's."""
    def gradient(*tensors: torch.Tensor) -> torch.Tensor:
        if _differentiated(*tensors) or _forward_differentiated(*tensors):
            return ordinary(*tensors)
        with torch._C._AutoDispatchBelowAutograd():
            return getattr(torch.ops.wrn_hub, operator)(*tensors)

    return gradient


def _differentiated(*tensors: torch.Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors)


def _forward_differentiated(*tensors: torch.Tensor | None) -> bool:
    return any(tensor is not None and unpack_dual(tensor).tangent is not None for tensor in tensors)


# What torch is told.

def _register(operators: Library) -> None:
    for schema, by_winograd, ordinary, elsewhere, differentiable, flops in (
        ("conv3x3(Tensor images, Tensor weight, Tensor? bias, int kept) -> Tensor",
         _conv, _ordinary_conv, _channels_last(_ordinary_conv), _differentiable,
         lambda images, weight, *_, out_shape, **__: conv_flop_count(images, weight, out_shape)),
        ("conv3x3_to_images(Tensor gradient, Tensor weight) -> Tensor",
         _to_images, _ordinary_to_images, _channels_last(_ordinary_to_images),
         _differentiable_as(_ordinary_to_images, "conv3x3_to_images"),
         lambda gradient, weight, *_, out_shape, **__: conv_flop_count(gradient, weight, out_shape)),
        ("conv3x3_to_weight(Tensor gradient, Tensor images, Tensor weight) -> Tensor",
         _to_weight, _ordinary_to_weight, _like_weight,
         _differentiable_as(_ordinary_to_weight, "conv3x3_to_weight"),
         lambda gradient, images, weight, *_, **__: conv_flop_count(images, weight, gradient)),
    ):
        name = schema.partition("(")[0]
        operators.define(schema)
        operators.impl(name, by_winograd, "CPU")
        operators.impl(name, elsewhere, "CompositeExplicitAutograd")  # on tensors without numbers too
        operators.impl(name, differentiable, "Autograd")
        for mode in ("FuncTorchDynamicLayerFrontMode", "Tracer"):  # torch.func, and jit.trace
            operators.impl(name, ordinary, mode)
        register_flop_formula(getattr(torch.ops.wrn_hub, name))(flops)


_operators = Library("wrn_hub", "FRAGMENT")  # they last as long as it does
if not hasattr(torch.ops.wrn_hub, "conv3x3"):  # where this is imported anew they are those of before
    _register(_operators)
conv3x3 = torch.ops.wrn_hub.conv3x3
conv3x3_to_images = torch.ops.wrn_hub.conv3x3_to_images
conv3x3_to_weight = torch.ops.wrn_hub.conv3x3_to_weight
