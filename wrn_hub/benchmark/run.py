"""A whole benchmark: training beside other loops, inference, how cost grows, and images made ready."""
import importlib.util
import logging
from dataclasses import asdict
from functools import partial
from importlib.metadata import version

import torch
import torchvision
from accelerate import PartialState

from ..models.build import ModelSource
from ..processes import fast_precision, open_cores, use_cores
from ..record import hardware, now, versions
from .data import measure_data
from .growth import measure_growth
from .inference import measure_inference, pytorchcv_net
from .options import SECTIONS, BenchmarkOptions
from .report import Benchmark
from .train import measure_training

__all__ = ["measure"]

_log = logging.getLogger(__name__)


def _onnxruntime() -> dict[str, str]:
    """Its version, where it is installed."""
    return {"onnxruntime": version("onnxruntime")} if importlib.util.find_spec("onnxruntime") else {}


def measure(options: BenchmarkOptions, sections: tuple[str, ...] = SECTIONS, command: str = "") -> Benchmark:
    """Measure the sections asked for, in one process on one device, the one that Accelerate would train on.

    Raises:
        UserError: timm has no such model.
    """
    source = ModelSource.parse(options.model)
    use_cores()
    device = PartialState().device
    torch.backends.cudnn.benchmark = True  # as the trainer has it: no rival is slower for it
    fast = fast_precision(device)
    options = options.resolved(device, fast, open_cores())
    notes = []
    if options.precision == "fp32" and fast == "fp32":
        notes.append("bf16: this hardware is no faster in it; --precision bf16 measures it nevertheless.")
    if "inference" in sections and not pytorchcv_net(source.name, options.image_size):
        notes.append("pytorchcv: not installed, or has no such net for such images.")
    if "inference" in sections and device.type == "cpu" and not _onnxruntime():
        notes.append("onnxruntime: not installed.")
    measures = {
        "train": partial(measure_training, options, source, device),
        "inference": partial(measure_inference, options, source, device),
        "growth": partial(measure_growth, options, device),
        "data": partial(measure_data, options, device)}
    results = {}
    for section in (name for name in SECTIONS if name in sections):
        _log.info("measuring %s on %s", section, hardware(device))
        results[section] = measures[section]()
    return Benchmark(
        source.name, results, notes, asdict(options), command,
        {**versions(), "torchvision": torchvision.__version__, **_onnxruntime()}, hardware(device), now())
