"""A net as a file that runs without this package: ONNX, also in 8-bit integers, or what torch.export saves (pt2).

The file takes ``images``, float32 (N, channels, size, size) with any N, normalised as its metadata say, and gives
``logits``, float32 (N, classes). ``metadata_props`` of an ONNX file, and ``metadata.json`` among the extra files of a
pt2, hold strings: ``model``; ``classes``, a JSON list in the order of the logits; ``mean`` and ``std``, JSON lists per
channel in units of 1 (pixel / 255); ``size`` in pixels; ``interpolation``; ``crop_pct``, the share of the side that
the crop takes; ``crop_mode``, where it lies, as timm calls it; ``weights_sha256`` where it is known, and
``quantization`` where there is one.
"""
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime
import onnxscript  # noqa: F401  torch's exporter needs it and says so less plainly
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import nn

from ..errors import UserError, first_line
from .build import class_names

__all__ = ["OnnxNet", "exported", "metadata", "quantized", "to_onnx", "to_pt2"]

_LIMIT = 2**31 - 1  # bytes of a protobuf message
# where the time goes; a norm that reads a sum stays in float32, since it isn't folded into a convolution
_QUANTIZED = ["Conv", "Gemm", "MatMul", "Add", "Relu"]


def metadata(model: nn.Module, name: str, config: dict[str, Any], weights_sha256: str | None = None) -> dict[str, str]:
    """What the file says of itself; see the head of this module.

    Args:
        model: The net.
        name: What to call it.
        config: How images are brought to it, see :func:`wrn_hub.models.preprocess.data_config`.
        weights_sha256: Of its file.
    """
    facts = {
        "model": name, "classes": json.dumps(class_names(model)), "mean": json.dumps(list(config["mean"])),
        "std": json.dumps(list(config["std"])), "size": str(config["input_size"][-1]),
        "interpolation": str(config["interpolation"]), "crop_pct": str(config["crop_pct"]),
        "crop_mode": str(config["crop_mode"])}
    return {**facts, **({"weights_sha256": weights_sha256} if weights_sha256 else {})}


def exported(model: nn.Module, size: int) -> torch.export.ExportedProgram:
    """The net through torch.export, with a batch of any size.

    Args:
        model: On the CPU, in evaluation mode.
        size: Side of the images in pixels.

    Raises:
        UserError: something in its forward pass can't be exported.
    """
    channels = getattr(model, "pretrained_cfg", {}).get("input_size", (3,))[0]
    example = torch.zeros(2, channels, size, size)  # one image would be taken for a batch that is always one
    try:
        with torch.no_grad():
            return torch.export.export(model, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    except Exception as error:  # of whatever kind the many parts of the exporter raise
        raise UserError(f"{type(model).__name__} can't be exported: {first_line(error)}") from error


def to_pt2(program: torch.export.ExportedProgram, facts: Mapping[str, str]) -> bytes:
    """The file that torch.export.load reads."""
    file = io.BytesIO()
    torch.export.save(program, file, extra_files={"metadata.json": json.dumps(dict(facts))})
    return file.getvalue()


def to_onnx(program: torch.export.ExportedProgram, facts: Mapping[str, str]) -> bytes:
    """The ONNX file.

    Raises:
        UserError: an operation has no counterpart in ONNX, or the file would exceed the 2 GiB of its format.
    """
    try:
        converted = torch.onnx.export(
            program, input_names=["images"], output_names=["logits"], dynamo=True, verbose=False)
    except torch.onnx.OnnxExporterError as error:
        raise UserError(f"can't be written as ONNX: {first_line(error)}") from error
    assert converted is not None
    return _with_metadata(converted.model_proto, facts)


def _with_metadata(proto: Any, facts: Mapping[str, str]) -> bytes:
    onnx.helper.set_model_props(proto, dict(facts))
    if proto.ByteSize() > _LIMIT:
        raise UserError(f"{proto.ByteSize():,} bytes: an ONNX file without others beside it holds 2 GiB; use pt2")
    return proto.SerializeToString()


class _Batches(CalibrationDataReader):
    def __init__(self, batches: Iterable[torch.Tensor]) -> None:
        self.batches: Iterator[torch.Tensor] = iter(batches)

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self.batches, None)
        return None if batch is None else {"images": batch.cpu().numpy()}


def quantized(content: bytes, batches: Iterable[torch.Tensor], facts: Mapping[str, str]) -> bytes:
    """The ONNX file with weights and activations in 8-bit integers (QDQ, weights per channel).

    Args:
        content: A file of :func:`to_onnx`.
        batches: Normalised images, float32 (N, channels, size, size), whose least and largest activations set the
            scales.
        facts: The file's metadata.
    """
    with TemporaryDirectory() as place:
        whole, ready, done = (Path(place) / f"{step}.onnx" for step in ("whole", "ready", "done"))
        whole.write_bytes(content)
        # folds BatchNorm into the convolutions, without which every norm would be rounded by itself
        quant_pre_process(whole, ready, skip_symbolic_shape=True)
        quantize_static(
            ready, done, _Batches(batches), quant_format=QuantFormat.QDQ, op_types_to_quantize=_QUANTIZED,
            per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
        return _with_metadata(onnx.load(done), facts)


class OnnxNet(nn.Module):
    """An ONNX file in onnxruntime on the CPU, as a module, so that what measures nets measures it too.

    Args:
        content: The file.
        like: The net that it was made from, whose ``pretrained_cfg`` and ``num_classes`` it takes.
    """

    def __init__(self, content: bytes, like: nn.Module) -> None:
        super().__init__()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # its warnings are about graphs, not about what the user did
        self.session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self.pretrained_cfg, self.num_classes = getattr(like, "pretrained_cfg", {}), like.num_classes

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits float32 (N, classes) of images float32 (N, channels, size, size)."""
        (logits,) = self.session.run(["logits"], {"images": images.float().cpu().numpy()})
        return torch.from_numpy(logits).to(images.device)
