"""Export a model by its name to one file, held against the net before it is written, and measure what int8 costs."""
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..data import FileDataset, load_files
from ..data.classes import logits_for
from ..data.loader import EvalLoader
from ..errors import UserError
from ..facts import DATASETS
from ..files import write_whole
from ..models.build import ModelSource
from ..models.onnx import OnnxNet, exported, metadata, quantized, to_onnx, to_pt2
from ..models.preprocess import data_config, sees_upright
from ..options import LARGEST_SIDE, arguments
from ..processes import accelerator_for
from ..weights import file_sha256
from . import metrics
from .file_batches import FileEvalLoader, for_measuring
from .logits import dataset_logits

__all__ = ["Exported", "Quantization", "export_source"]

_TOLERANCE = 1e-3  # of the largest logit; rounding makes 1e-6 of it


@dataclass(frozen=True)
class Quantization:
    """What 8-bit integers change.

    Attributes:
        calibrated_on: The images that set the scales.
        images: How many test images both nets saw, and of which dataset.
        agreement: Share of them (0 to 1) of which both say the same class.
        top1: Accuracy (0 to 1) before and after; None where the dataset's classes are not the model's.
    """

    calibrated_on: str
    images: str
    agreement: float
    top1: tuple[float, float] | None


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: The file.
        bytes: Its size.
        difference: Largest difference of a logit from the net's, in float32, before any quantization.
        largest: Largest logit among those compared, for scale.
        quantization: What int8 changed; None where it wasn't asked for.
    """

    path: Path
    bytes: int
    difference: float
    largest: float
    quantization: Quantization | None = None

    def lines(self) -> Iterator[str]:
        """What there is to say of it."""
        yield f"{self.path}: {self.bytes / 1e6:.2f} MB"
        yield f"logits: at most {self.difference:.1e} from the net's in float32, the largest being {self.largest:.1f}"
        if (done := self.quantization) is None:
            return
        yield f"int8: calibrated on {done.calibrated_on}"
        yield f"int8: the same class as before on {done.agreement:.2%} of {done.images}"
        if done.top1:
            yield "int8: top-1 {:.2%} before, {:.2%} after".format(*done.top1)
        else:
            yield "int8: accuracy not measured, their classes are not the model's; name its --dataset and --data-dir"


@torch.inference_mode()
def _difference(model: nn.Module, other: nn.Module, size: int) -> tuple[float, float]:
    """(largest difference, largest logit) on one image and on five, which no example batch of the exporter had."""
    channels = model.pretrained_cfg.get("input_size", (3,))[0]
    images = torch.randn(5, channels, size, size, generator=torch.Generator().manual_seed(0))
    pairs = [(model(part), other(part)) for part in (images[:1], images)]
    return (max((ours - theirs).abs().max().item() for ours, theirs in pairs),
            max(ours.abs().max().item() for ours, _ in pairs))


def _some(images: FileDataset, count: int) -> FileDataset:
    return images.subset(np.sort(np.random.default_rng(0).permutation(len(images))[:count]))


def _in_integers(
    model: nn.Module, content: bytes, facts: dict[str, str], dataset: str, data_dir: str | None,
    config: dict[str, Any], count: int
) -> tuple[bytes, Quantization]:
    accelerator = accelerator_for("fp32")
    upright = sees_upright(model.pretrained_cfg)
    train, test = (replace(load_files(dataset, split, data_dir), upright=upright) for split in ("train", "test"))
    chosen, tested = for_measuring(_some(train, count), config), for_measuring(test, config)
    calibrated_on = f"{len(chosen):,} training images of {Path(dataset).name}"
    loader = (
        FileEvalLoader(chosen, 50, config, accelerator.device) if isinstance(chosen, FileDataset)
        else EvalLoader(chosen, 50, config["mean"], config["std"], accelerator.device))
    batches = (images for images, _ in loader)
    content = quantized(content, batches, {**facts, "quantization": f"int8, static, {calibrated_on}"})
    before, after = (
        dataset_logits(net, tested, accelerator, config=config)
        for net in (model.to(accelerator.device), OnnxNet(content, model)))
    labels, known = torch.tensor(test.labels), True
    try:
        index = logits_for(model, facts["model"], test.classes, "choose another dataset", some=True)
        if index is not None:
            before, after = before[:, index], after[:, index]
    except UserError:  # other classes do for calibration
        known = False
    return content, Quantization(
        calibrated_on, f"{len(test):,} test images of {Path(dataset).name}", metrics.agreement(before, after),
        (metrics.top_k(before, labels), metrics.top_k(after, labels)) if known else None)


def export_source(
    model: str,
    output: str | Path | None = None,
    form: str = "onnx",
    int8: bool = False,
    dataset: str | None = None,
    data_dir: str | None = None,
    image_size: int | None = None,
    calibration_images: int = 500,
    crop_pct: float | None = None,
    crop_mode: str | None = None,
    interpolation: str | None = None,
    model_kwargs: Sequence[str] = (),
) -> Exported:
    """What ``wrn-hub export`` does; see :mod:`wrn_hub.models.onnx` for what is in the file.

    Args:
        model: timm name, Hub id, or folder of a model.
        output: File to write; by default the model's name with ``.onnx``, ``.int8.onnx`` or ``.pt2``.
        form: "onnx" or "pt2".
        int8: Static quantization of an ONNX file.
        dataset: Images to calibrate and compare on; by default the dataset of the model's tag where there is a
            ``data_dir``, else the embedded sample, which every net can be calibrated on.
        data_dir: Folder that holds the dataset.
        image_size: Side in pixels; the model's own, that it is tested at, by default, as the three last.
        calibration_images: Training images that set the scales of int8.
        crop_pct: See :func:`wrn_hub.models.preprocess.data_config`, as for the two below.
        crop_mode: The same.
        interpolation: The same.
        model_kwargs: Arguments of the net, see :func:`wrn_hub.options.arguments`.

    Raises:
        UserError: no such model, argument of it or dataset; the model can't be exported; the file would not compute
            what the net does.
    """
    if form == "pt2" and int8:
        raise UserError("int8 is a form of ONNX here: leave --format pt2 or --int8 away")
    if calibration_images < 1:
        raise UserError(f"calibration images {calibration_images}: allowed is 1 or more")
    if image_size is not None and not 1 <= image_size <= LARGEST_SIDE:
        raise UserError(f"image size {image_size}: allowed is 1 to {LARGEST_SIDE} pixels")
    given, source = arguments(model_kwargs), ModelSource.parse(model)
    tag = source.cfg.get("tag")
    name = Path(source.name.partition(":")[2] or source.name).resolve().name
    output = Path(output or f"{name}{'.int8' if int8 else ''}.{form}")
    if output.is_dir() or not output.parent.is_dir():
        raise UserError(f"output {output}: name a file in a folder that there is")
    net = source.create(pretrained=True, **given).eval()
    config = data_config(net.pretrained_cfg, image_size, crop_pct, crop_mode, interpolation)
    size = config["input_size"][-1]
    program = exported(net, size)
    facts = metadata(net, name, config, file_sha256(source.weights_file) if source.weights_file else None)
    content = to_onnx(program, facts) if form == "onnx" else to_pt2(program, facts)
    difference, largest = _difference(net, OnnxNet(content, net) if form == "onnx" else program.module(), size)
    if not difference <= _TOLERANCE * max(1.0, largest):
        raise UserError(
            f"{model}: logits of the exported net differ by up to {difference:.3g} from the net's, whose largest is "
            f"{largest:.3g}; nothing was written")
    quantization = None
    if int8:
        dataset = dataset or (tag if data_dir and tag in DATASETS else "sample")
        content, quantization = _in_integers(net, content, facts, dataset, data_dir, config, calibration_images)
    write_whole(output, content)
    return Exported(output, len(content), difference, largest, quantization)
