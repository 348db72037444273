"""Measure a model on a whole split."""
import copy
import logging
import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import PIL
import torch
from accelerate import Accelerator
from safetensors.torch import save
from torch import nn

from ..data import ImageDataset, load_dataset
from ..data.classes import logits_for, named
from ..data.loader import EvalLoader
from ..errors import UserError
from ..files import write_whole
from ..kernels.winograd import computes, winograd
from ..models.build import ModelSource, class_names
from ..processes import accelerator_for, use_cores
from ..record import hardware, now, versions
from ..weights import file_sha256, staged
from . import metrics
from .corruptions import KINDS, SEVERITIES, corrupt
from .cost import cost_of, fastest_pass
from .logits import check_finite, dataset_logits
from .memory import enough_memory, most_held
from .options import EvaluateOptions
from .results import Corruptions, Dataset, PeakMemory, Preprocessing, Results, Speed

__all__ = ["compared", "evaluate", "evaluate_source", "measure_again", "public_command"]

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


@dataclass(frozen=True)
class _Answers:
    """How a net's logits are got, whatever the images: finite, in the order of the dataset's classes."""

    name: str
    accelerator: Accelerator
    batch_size: int
    index: torch.Tensor | None

    def __call__(self, model: nn.Module, dataset: ImageDataset) -> torch.Tensor:
        # each batch holds what it would hold in one process
        logits = dataset_logits(model, dataset, self.accelerator, self.batch_size * self.accelerator.num_processes)
        check_finite(logits, self.name)
        return logits if self.index is None else logits[:, self.index]


def _corruptions(
    answers: _Answers, model: nn.Module, dataset: ImageDataset, options: EvaluateOptions, clean: torch.Tensor
) -> Corruptions:
    count = min(options.corruption_images, len(dataset))
    first = dataset.subset(np.arange(count))
    labels = torch.tensor(first.labels)
    accuracy = {}
    for kind in KINDS:
        accuracy[kind] = [
            metrics.top_k(
                answers(model, replace(first, images=corrupt(first.images, kind, severity, options.seed))), labels)
            for severity in SEVERITIES]
    return Corruptions(count, options.seed, metrics.top_k(clean[:count], labels), accuracy)


def evaluate(
    model: nn.Module,
    name: str,
    dataset: ImageDataset,
    accelerator: Accelerator,
    options: EvaluateOptions | None = None,
    command: str = "",
    weights_sha256: str | None = None,
) -> Results:
    """Measure every image of a split once, without test-time augmentation, then mirrored and corrupted copies.

    In the folder ``options.output``, if it is named, stand afterwards results.json; logits.safetensors with logits
    (float32 (N, classes)) and labels (int64 (N,)); worst.safetensors with the images (uint8 (M, H, W, 3)) of the worst
    mistakes, at most 24, and their index (int64 (M,)).

    Args:
        model: A timm model on the accelerator's device.
        name: Its timm name, with the tag.
        dataset: The images, as :func:`wrn_hub.data.load_dataset` brings them to the size that the model is to see.
        accelerator: Device, precision and processes; but for speed and memory the result doesn't depend on how many
            processes there are.
        options: How to measure; what they say of model, dataset and precision isn't looked at.
        command: What was typed, for the record.
        weights_sha256: sha256 of the weights file.

    Raises:
        UserError: the model tells other classes apart than the dataset's, or answers nan or inf.
    """
    options = options or EvaluateOptions()
    bare = accelerator.unwrap_model(model)
    index = logits_for(
        bare, name, dataset.classes, "choose the tag that was trained on this dataset, or fine-tune first",
        options.match_classes, "; where they mean the same in the same order add --match-classes order")
    if index is not None:
        _log.info("%s has the dataset's classes in another order: its logits are put in the dataset's", name)
    both_named = named(dataset.classes) and named(class_names(bare))
    answers = _Answers(name, accelerator, options.batch_size, index)
    logits = answers(model, dataset)
    speed = _speed(model, dataset, accelerator, options.batch_size)
    memory, what = most_held(accelerator.device)
    most = accelerator.gather(torch.tensor([memory], device=accelerator.device)).max()
    labels, cfg = torch.tensor(dataset.labels), bare.pretrained_cfg
    corruptions, agreement = None, None
    if options.corruption_images:
        mirrored = replace(dataset, images=np.ascontiguousarray(dataset.images[:, :, ::-1]))
        quick = _for_copies(model, accelerator)
        agreement = metrics.agreement(logits, answers(quick, mirrored))
        corruptions = _corruptions(answers, quick, dataset, options, logits)
    size = dataset.images.shape[1]
    cost = cost_of(model, size)
    shares = [None if np.isnan(share) else share for share in metrics.per_class(logits, labels).tolist()]
    results = Results(
        model=name,
        weights_sha256=weights_sha256,
        dataset=Dataset(
            Path(dataset.name).name if Path(dataset.name).is_dir() else dataset.name, dataset.split, len(dataset),
            dataset.fingerprint, dataset.revision),
        preprocessing=Preprocessing(size, list(cfg["mean"]), list(cfg["std"]), 1.0, "center", "bicubic"),
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
        peak_memory=PeakMemory(int(most), what),
        precision={"no": "fp32"}.get(accelerator.mixed_precision, accelerator.mixed_precision),
        processes=accelerator.num_processes,
        match_classes="name" if both_named and options.match_classes == "name" else "order",
        command=command,
        versions={**versions(), "numpy": np.__version__, "pillow": PIL.__version__},
        hardware=hardware(accelerator.device),
        date=now(),
    )
    if options.output and accelerator.is_main_process:
        _keep(Path(options.output), results, logits, dataset)
    return results


def _keep(folder: Path, results: Results, logits: torch.Tensor, dataset: ImageDataset) -> None:
    labels = torch.tensor(dataset.labels)
    worst = metrics.worst(logits, labels)
    pixels = torch.from_numpy(np.ascontiguousarray(dataset.images[worst.numpy()]))
    write_whole(folder / "logits.safetensors", save({"logits": logits, "labels": labels}))
    write_whole(folder / "worst.safetensors", save({"images": pixels, "index": worst}))
    results.write(folder / "results.json")


def evaluate_source(options: EvaluateOptions, command: str = "") -> Results | None:
    """What ``scripts/evaluate.py`` does: measure a model by its name on a dataset by its name; see :func:`evaluate`.

    Returns:
        The results on the main process, None on the others.

    Raises:
        UserError: no such model, weights or data, the model doesn't tell the dataset's classes apart, its weights
            aren't finite, or memory doesn't suffice.
    """
    output = Path(options.output) if options.output else None
    if output and output.exists() and not output.is_dir():
        raise UserError(f"{output} is a file; name the folder that results.json is to be written to")
    use_cores()
    accelerator = accelerator_for(options.precision)
    with enough_memory("the images, the net and a batch have to fit at the same time; try a smaller --batch-size"):
        source = ModelSource.parse(options.model)
        images = load_dataset(
            options.dataset, options.split, options.data_dir, options.image_size or source.size,
            image_column=options.image_column, label_column=options.label_column)
        net = source.create(pretrained=True)
        if (crop := net.pretrained_cfg.get("crop_pct", 1.0)) != 1.0:
            _log.warning("%s was made for %g of the image's side; here it sees all of it", options.model, crop)
        net = net.to(accelerator.device, memory_format=torch.channels_last)
        sha256 = file_sha256(source.weights_file) if source.weights_file else None
        folder = "local-dir:" in source.name
        name = Path(source.name.removeprefix("local-dir:")).resolve().name if folder else options.model
        results = evaluate(net, name, images, accelerator, options, command, sha256)
    return results if accelerator.is_main_process else None


def measure_again(root: Path, data_dir: str | None = None, batch_size: int = 250) -> Iterator[str]:
    """Measure every staged model again, in fp32, and hold it against its results.json.

    Args:
        root: A ``model_cards`` folder.
        data_dir: Folder that holds the datasets.
        batch_size: Images a forward pass.

    Yields:
        A line for each model that still does what its results.json says: to the image on the hardware that this
        names, whatever its number of threads; on other hardware, whose sums are rounded otherwise, to one image in a
        thousand.

    Raises:
        UserError: one doesn't, after all have been measured; names each.
    """
    differ = []
    for folder in staged(root):
        recorded = Results.read(folder / "results.json")
        found = evaluate_source(EvaluateOptions(
            str(folder), recorded.dataset.name, data_dir, recorded.dataset.split, recorded.preprocessing.size,
            batch_size=batch_size, corruption_images=0, match_classes=recorded.match_classes or "name"))
        if found is None:  # another process speaks
            continue
        line, agrees = compared(found, recorded)
        if agrees:
            yield f"{folder.name}: {line}"
        else:
            differ.append(f"{folder.name}: {line}")
    if differ:
        raise UserError("; ".join(differ))


def compared(found: Results, recorded: Results) -> tuple[str, bool]:
    """What was found at a second time, in words, and whether it agrees with the first; see :func:`measure_again`."""
    def device(results: Results) -> str:
        return results.hardware.partition(", ")[0]  # without the threads

    if (found.top1, found.top5, found.weights_sha256) == (recorded.top1, recorded.top5, recorded.weights_sha256):
        return f"top-1 {found.top1:.2%} as recorded", True
    same_weights, images = found.weights_sha256 == recorded.weights_sha256, recorded.dataset.images
    same_kind = found.dataset.images == images and (found.top5 is None) == (recorded.top5 is None)
    flipped = max(
        abs(round((one or 0) * images) - round((other or 0) * images))
        for one, other in ((found.top1, recorded.top1), (found.top5, recorded.top5)))
    may = max(1, images // 1000)
    if same_weights and same_kind and flipped <= may and device(found) != device(recorded):
        return (f"top-1 {found.top1:.2%}, recorded {recorded.top1:.2%} on {device(recorded)}; within what other "
                "hardware may change", True)
    return (f"top-1 {found.top1:.4%}, top-5 {found.top5}, sha256 {found.weights_sha256} on {device(found)}; recorded "
            f"are {recorded.top1:.4%}, {recorded.top5}, {recorded.weights_sha256} on {device(recorded)}", False)
