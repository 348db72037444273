"""Inference: a forward pass by batch size, memory layout and precision, with BatchNorm folded and without, by
torch.compile with freezing, and in onnxruntime, which people deploy with."""
import copy
import importlib.util
import logging
import os
import re
import shutil
from functools import partial
from typing import Any

import torch
from torch import nn

from ..evaluation.memory import peak_memory
from ..kernels.winograd import computes, winograd
from ..models.build import ModelSource, compiled
from ..models.fold import fold_batch_norm
from ..models.preprocess import data_config
from .measure import Rival, Steps, race, row, steps_for, two_steps
from .options import BenchmarkOptions

__all__ = ["forward_steps", "freezes", "measure_inference", "onnx_nets", "pytorchcv_net"]

_log = logging.getLogger(__name__)

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def pytorchcv_net(name: str, size: int) -> nn.Module | None:
    """pytorchcv's net of the depth and width of ours; None where it is not installed or has none for these images."""
    ours = re.fullmatch(r"wrn_(\d+)_(\d+)", name.partition(".")[0])
    if not ours or size != 32 or not importlib.util.find_spec("pytorchcv"):
        return None
    from pytorchcv.models.wrn_cifar import get_wrn_cifar

    depth, width = map(int, ours.groups())
    return get_wrn_cifar(num_classes=10, blocks=depth, width_factor=width) if depth % 6 == 4 else None


def onnx_nets(model: nn.Module, size: int, device: torch.device) -> dict[str, nn.Module]:
    """The net in onnxruntime by the rivals' names, in float32 and in 8-bit integers, whose scales come from random
    images; none on a GPU, or where onnxruntime isn't installed."""
    if device.type != "cpu" or not importlib.util.find_spec("onnxruntime"):
        return {}
    from ..models.onnx import OnnxNet, exported, metadata, quantized, to_onnx

    net = copy.deepcopy(model).eval()
    facts = metadata(net, "benchmark", data_config(net.pretrained_cfg, size))
    content = to_onnx(exported(net, size), facts)
    in_integers = quantized(content, [torch.randn(8, 3, size, size)], facts)
    return {"onnxruntime, fp32": OnnxNet(content, net), "onnxruntime, int8": OnnxNet(in_integers, net)}


def forward_steps(
    model: nn.Module, batch_size: int, size: int, device: torch.device, precision: str = "fp32",
    channels_last: bool = False, folded: bool = False, compile: str = "none",
    by_winograd: bool = False
) -> Steps:
    """Logits of one batch that lies on the device; in bf16 the weights are bf16 too."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    dtype = _DTYPES[precision]
    model = fold_batch_norm(model) if folded else copy.deepcopy(model).eval()
    if by_winograd:
        winograd(model, frozen=True)
    forward = compiled(model.to(device, dtype, memory_format=layout), compile)
    images = torch.randn(batch_size, 3, size, size, device=device, dtype=dtype).to(memory_format=layout)
    while True:
        with torch.inference_mode():
            forward(images)
        yield


def _session_steps(model: nn.Module, batch_size: int, size: int) -> Steps:
    """The same by a net that is onnxruntime's."""
    images = torch.randn(batch_size, 3, size, size)
    while True:
        model(images)
        yield


def freezes(device: torch.device, quick: bool) -> bool:
    """Whether torch.compile with freezing is a rival here; the log says why not."""
    compiler = os.environ.get("CXX", "g++")  # as inductor looks for it
    if device.type != "cpu":
        return False
    if quick:
        _log.info("torch.compile with freezing is left out of a rehearsal: it compiles for long")
    elif shutil.which(compiler) is None:
        _log.info("torch.compile with freezing is left out: no C++ compiler (%s)", compiler)
    else:
        return True
    return False


def _ways(
    options: BenchmarkOptions, source: ModelSource, device: torch.device,
) -> dict[str, tuple[nn.Module, dict[str, Any] | None]]:
    """Rival -> (its net, arguments of :func:`forward_steps`, or None where the net is a session of onnxruntime's)."""
    ours, theirs = source.create(False, num_classes=10), pytorchcv_net(source.name, options.image_size)
    fast, frozen = options.precision, freezes(device, options.quick)
    ways: dict[str, tuple[nn.Module, dict[str, Any] | None]] = {}
    for precision in dict.fromkeys(("fp32", fast)):
        for channels_last, folded in ((False, False), (True, False), (True, True)):
            if precision == "fp32" or channels_last:
                name = ", ".join([
                    precision, "channels_last" if channels_last else "NCHW", *(["folded"] if folded else [])])
                ways[name] = (ours, dict(precision=precision, channels_last=channels_last, folded=folded))
        if device.type == "cpu" and computes(_DTYPES[precision]):
            ways[f"{precision}, channels_last, folded, Winograd"] = (
                ours, dict(precision=precision, channels_last=True, folded=True, by_winograd=True))
        if frozen:
            ways[f"{precision}, compiled with freezing"] = (
                ours, dict(precision=precision, channels_last=True, compile="freezing"))
    if device.type == "cuda" or options.compile != "none":
        mode = "reduce-overhead" if options.compile == "none" else options.compile
        ways[f"{fast}, channels_last, folded, compiled ({mode})"] = (
            ours, dict(precision=fast, channels_last=True, folded=True, compile=mode))
    if theirs:
        ways["pytorchcv, fp32, NCHW"] = (theirs, {})
    for name, net in onnx_nets(ours, options.image_size, device).items():
        ways[name] = (net, None)
    return ways


def measure_inference(options: BenchmarkOptions, source: ModelSource, device: torch.device) -> dict[str, Any]:
    """The section "inference": images a second, ratio to fp32 in NCHW, and memory, by batch size.

    Args:
        options: With nothing left to the machine.
        source: The model.
        device: Where to compute.
    """
    ways = _ways(options, source, device)

    def runner(model: nn.Module, batch: int, how: dict[str, Any] | None) -> Steps:
        if how is None:
            return _session_steps(model, batch, options.image_size)
        return forward_steps(model, batch, options.image_size, device, **how)

    def first_steps(model: nn.Module, batch: int, how: dict[str, Any] | None) -> None:
        two_steps(runner(model, batch, how))

    sizes = []
    for batch in options.batch_sizes:
        rivals = [Rival(name, runner(model, batch, how)) for name, (model, how) in ways.items()]
        steps = {rival.name: steps_for(rival, options.seconds / 4, device) for rival in rivals}
        seconds = race(rivals, steps, options.rounds, device)
        # of a session, which holds its own from before, it can't be told, nor apart from what a compiler takes
        memory: dict[str, int | None] = dict.fromkeys(ways)
        for name, (model, how) in ways.items():
            if how is not None and how.get("compile") != "freezing":
                memory[name] = peak_memory(device, partial(first_steps, model, batch, how))
        sizes.append({"batch_size": batch, "rows": [
            row(name, taken, batch, seconds["fp32, NCHW"], memory[name]) for name, taken in seconds.items()]})
    return {"image_size": options.image_size, "batches": sizes}
