"""Measure a model on a whole split."""
import copy
import logging
import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL
import torch
from accelerate import Accelerator
from safetensors.torch import save
from torch import nn

from ..data import ImageDataset, load_dataset
from ..data.loader import EvalLoader
from ..errors import UserError
from ..files import write_whole
from ..kernels.winograd import computes, winograd
from ..models.build import ModelSource
from ..processes import accelerator_for, use_cores
from ..record import hardware, now, versions
from ..weights import file_sha256, staged
from . import metrics
from .corruptions import KINDS, SEVERITIES, corrupt
from .cost import cost_of, fastest_pass, peak_memory
from .logits import dataset_logits
from .results import Corruptions, Dataset, PeakMemory, Preprocessing, Results, Speed

__all__ = ["evaluate", "evaluate_source", "measure_again", "public_command"]

_log = logging.getLogger(__name__)


def public_command(argv: Sequence[str]) -> str:
    """What was typed, without the machine's folders: of a path that leads out of the working directory, its name."""
    parts = []
    for argument in argv:
        option, equals, value = argument.rpartition("=") if argument.startswith("--") else ("", "", argument)
        parts.append(option + equals + _public(value))
    return shlex.join([Path(parts[0]).name, *parts[1:]])


def _public(text: str) -> str:
    prefix, path = ("local-dir:", text.removeprefix("local-dir:")) if text.startswith("local-dir:") else ("", text)
    if not (os.path.isabs(path) or ".." in Path(path).parts or path.startswith("~")):
        return text
    inside = os.path.relpath(os.path.expanduser(path))
    return prefix + (Path(path).resolve().name if inside.startswith("..") else inside)


def _logits(
    model: nn.Module, dataset: ImageDataset, accelerator: Accelerator, batch_size: int
) -> torch.Tensor:
    """Logits of a split, each batch holding what it would hold in one process."""
    return dataset_logits(model, dataset, accelerator, batch_size * accelerator.num_processes)


def _speed(model: nn.Module, dataset: ImageDataset, accelerator: Accelerator, batch_size: int) -> Speed:
    cfg = accelerator.unwrap_model(model).pretrained_cfg
    first = dataset.subset(np.arange(min(batch_size, len(dataset))))
    ((images, _),) = EvalLoader(first, len(first), cfg["mean"], cfg["std"], accelerator.device)
    with accelerator.autocast():
        return Speed(round(len(images) / fastest_pass(model, images), 1), len(images))


def _for_copies(model: nn.Module, accelerator: Accelerator) -> nn.Module:
    """The model that sees mirrored and corrupted copies, which are many times the images: the same, on a CPU in fp32 by
    Winograd's algorithm, whose rounding (1e-5) moves a logit by far less than what is measured on them moves it."""
    if accelerator.device.type != "cpu" or accelerator.mixed_precision != "no" or not computes(torch.float32):
        return model
    return winograd(copy.deepcopy(accelerator.unwrap_model(model)))


def _corruptions(
    model: nn.Module, dataset: ImageDataset, accelerator: Accelerator, batch_size: int, count: int, seed: int,
    clean: torch.Tensor
) -> Corruptions:
    count = min(count, len(dataset))
    first = dataset.subset(np.arange(count))
    labels = torch.tensor(first.labels)
    accuracy = {}
    for kind in KINDS:
        accuracy[kind] = [
            metrics.top_k(_logits(
                model, replace(first, images=corrupt(first.images, kind, severity, seed)), accelerator, batch_size),
                labels)
            for severity in SEVERITIES]
    return Corruptions(count, seed, metrics.top_k(clean[:count], labels), accuracy)


def evaluate(
    model: nn.Module,
    name: str,
    dataset: ImageDataset,
    accelerator: Accelerator,
    command: str = "",
    weights_sha256: str | None = None,
    batch_size: int = 250,
    corruption_images: int = 2000,
    seed: int = 0,
    output: Path | None = None,
) -> Results:
    """Measure every image of a split once, without test-time augmentation, then mirrored and corrupted copies.

    Args:
        model: A timm model on the accelerator's device.
        name: Its timm name, with the tag.
        dataset: The images, already of the size that the model is to see.
        accelerator: Device, precision and processes; but for speed and memory the result doesn't depend on how many
            processes there are.
        command: What was typed, for the record.
        weights_sha256: sha256 of the weights file.
        batch_size: Images a forward pass.
        corruption_images: Measure on corrupted copies of so many images, the first ones; with 0 neither these nor
            mirrored ones are measured.
        seed: Of the corruptions.
        output: Folder for what is kept: results.json; logits.safetensors with logits (float32 (N, classes)) and labels
            (int64 (N,)); worst.safetensors with the images (uint8 (M, H, W, 3)) of the worst mistakes, at most 24, and
            their index (int64 (M,)).
    """
    speed = _speed(model, dataset, accelerator, batch_size)
    logits = _logits(model, dataset, accelerator, batch_size)
    memory = peak_memory(accelerator.device)
    most = accelerator.gather(torch.tensor([memory["bytes"]], device=accelerator.device)).max()
    labels, cfg = torch.tensor(dataset.labels), accelerator.unwrap_model(model).pretrained_cfg
    corruptions, agreement = None, None
    if corruption_images:
        mirrored = replace(dataset, images=np.ascontiguousarray(dataset.images[:, :, ::-1]))
        quick = _for_copies(model, accelerator)
        agreement = metrics.agreement(logits, _logits(quick, mirrored, accelerator, batch_size))
        corruptions = _corruptions(quick, dataset, accelerator, batch_size, corruption_images, seed, logits)
    size = dataset.images.shape[1]
    cost = cost_of(model, size)
    shares = [None if np.isnan(share) else share for share in metrics.per_class(logits, labels).tolist()]
    results = Results(
        model=name,
        weights_sha256=weights_sha256,
        dataset=Dataset(
            Path(dataset.name).name if Path(dataset.name).is_dir() else dataset.name, dataset.split, len(dataset),
            dataset.fingerprint, dataset.revision),
        preprocessing=Preprocessing(size, list(cfg["mean"]), list(cfg["std"])),
        top1=metrics.top_k(logits, labels),
        top5=metrics.top_k(logits, labels, 5) if logits.shape[1] > 5 else None,
        nll=metrics.nll(logits, labels),
        ece=metrics.reliability(logits, labels).expected_calibration_error,
        per_class=dict(zip(dataset.classes, shares, strict=True)),
        flip_agreement=agreement,
        corruptions=corruptions,
        parameters=cost.parameters,
        gmacs=cost.gmacs,
        activations=cost.activations,
        speed=speed,
        peak_memory=PeakMemory(int(most), str(memory["what"])),
        precision={"no": "fp32"}.get(accelerator.mixed_precision, accelerator.mixed_precision),
        processes=accelerator.num_processes,
        command=command,
        versions={**versions(), "numpy": np.__version__, "pillow": PIL.__version__},
        hardware=hardware(accelerator.device),
        date=now(),
    )
    if output and accelerator.is_main_process:
        worst = metrics.worst(logits, labels)
        pixels = torch.from_numpy(np.ascontiguousarray(dataset.images[worst.numpy()]))
        write_whole(output / "logits.safetensors", save({"logits": logits, "labels": labels}))
        write_whole(output / "worst.safetensors", save({"images": pixels, "index": worst}))
        results.write(output / "results.json")
    return results


def evaluate_source(
    model: str,
    dataset: str,
    split: str = "test",
    data_dir: str | None = None,
    image_size: int | None = None,
    precision: str = "fp32",
    batch_size: int = 250,
    corruption_images: int = 2000,
    seed: int = 0,
    output: Path | None = None,
    command: str = "",
) -> Results | None:
    """What ``scripts/evaluate.py`` does: measure a model by its name on a dataset by its name; see :func:`evaluate`.

    Returns:
        The results on the main process, None on the others.

    Raises:
        UserError: no such model, weights or data, or the model doesn't tell as many classes as the dataset has.
    """
    if batch_size < 1 or corruption_images < 0:
        raise UserError(
            f"batch size {batch_size}, corruption images {corruption_images}: allowed are 1 or more, and 0 or more")
    if output and output.exists() and not output.is_dir():
        raise UserError(f"{output} is a file; name the folder that results.json is to be written to")
    use_cores()
    accelerator = accelerator_for(precision)
    source = ModelSource.parse(model)
    images = load_dataset(dataset, split, data_dir, image_size or source.size)
    net = source.create(pretrained=True)
    if net.num_classes != len(images.classes):
        raise UserError(
            f"{model} tells {net.num_classes} classes, {dataset} has {len(images.classes)}: "
            "choose the tag that was trained on this dataset, or fine-tune first")
    if (crop := net.pretrained_cfg.get("crop_pct", 1.0)) != 1.0:
        _log.warning("%s was made for %g of the image's side; here it sees all of it", model, crop)
    net = net.to(accelerator.device, memory_format=torch.channels_last)
    sha256 = file_sha256(source.weights_file) if source.weights_file else None
    name = Path(source.name.removeprefix("local-dir:")).resolve().name if "local-dir:" in source.name else model
    results = evaluate(
        net, name, images, accelerator, command, sha256, batch_size, corruption_images, seed, output)
    return results if accelerator.is_main_process else None


def measure_again(root: Path, data_dir: str | None = None, batch_size: int = 250) -> Iterator[str]:
    """Measure every staged model again, in fp32, and hold it against its results.json.

    Args:
        root: A ``model_cards`` folder.
        data_dir: Folder that holds the datasets.
        batch_size: Images a forward pass.

    Yields:
        A line for each model that still does what its results.json says, to the image.

    Raises:
        UserError: one doesn't, after all have been measured; names each.
    """
    differ = []
    for folder in staged(root):
        recorded = Results.read(folder / "results.json")
        found = evaluate_source(
            str(folder), recorded.dataset.name, recorded.dataset.split, data_dir, recorded.preprocessing.size,
            batch_size=batch_size, corruption_images=0)
        if found is None:  # another process speaks
            continue
        if (found.top1, found.top5, found.weights_sha256) == (recorded.top1, recorded.top5, recorded.weights_sha256):
            yield f"{folder.name}: top-1 {found.top1:.2%} as recorded"
        else:
            differ.append(f"{folder.name}: top-1 {found.top1:.4%}, top-5 {found.top5}, sha256 {found.weights_sha256}; "
                          f"recorded are {recorded.top1:.4%}, {recorded.top5}, {recorded.weights_sha256}")
    if differ:
        raise UserError("; ".join(differ))
