"""Measure a model on a whole split."""
import copy
import logging
import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from accelerate import Accelerator
from safetensors.torch import save
from torch import nn

from ..data import FileDataset, ImageDataset, load_files
from ..data.classes import logits_for
from ..data.loader import EvalLoader
from ..data.names import named
from ..data.sources import split_to_measure
from ..errors import UserError
from ..files import read_json, writable, write_whole
from ..kernels.winograd import computes, winograd
from ..models.build import ModelSource, class_names
from ..models.preprocess import data_config, sees_upright
from ..options import arguments
from ..processes import accelerator_for, local_main_first, use_cores
from ..record import hardware, now, versions
from ..weights import file_sha256, staged
from . import metrics
from .attacks import measure_robustness
from .corruptions import KINDS, SEVERITIES, corrupt
from .cost import cost_of, fastest_pass
from .file_batches import for_measuring, prepared
from .kept import packed, unpacked
from .logits import check_finite, dataset_logits
from .memory import enough_memory, most_held
from .options import CORRUPTED_IMAGES, EvaluateOptions
from .real_labels import read_real_labels, real_accuracy
from .results import Corruptions, Dataset, PeakMemory, Preprocessing, Results, Robustness, Speed

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


Images = ImageDataset | FileDataset


def _seen(dataset: Images, config: dict[str, Any], workers: int | None, count: int | None = None) -> ImageDataset:
    """Images as the net sees them, all or the first."""
    if count is not None:
        dataset = dataset.subset(np.arange(min(count, len(dataset))))
    return prepared(dataset, config, workers) if isinstance(dataset, FileDataset) else dataset


def _speed(model: nn.Module, first: ImageDataset, accelerator: Accelerator) -> Speed:
    cfg = accelerator.unwrap_model(model).pretrained_cfg
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
    workers: int | None
    config: dict[str, Any]
    index: torch.Tensor | None

    def __call__(self, model: nn.Module, dataset: Images, mirrored: bool = False) -> torch.Tensor:
        if mirrored and isinstance(dataset, ImageDataset):
            dataset = replace(dataset, images=np.ascontiguousarray(dataset.images[:, :, ::-1]))
        # each batch holds what it would hold in one process
        logits = dataset_logits(
            model, dataset, self.accelerator, self.batch_size * self.accelerator.num_processes, None, self.workers,
            self.config, mirrored)
        check_finite(logits, self.name)
        return logits if self.index is None else logits[:, self.index]


def _on_copies(
    answers: _Answers, model: nn.Module, dataset: Images, options: EvaluateOptions, clean: torch.Tensor
) -> tuple[float | None, Corruptions | None]:
    """(share of the images that get the same answer when mirrored, accuracy on corrupted copies), where wanted."""
    count = options.corruption_images
    if count is None:
        count = 0 if isinstance(dataset, FileDataset) else CORRUPTED_IMAGES
    if not count:
        return None, None
    quick = _for_copies(model, answers.accelerator)
    agreement = metrics.agreement(clean, answers(quick, dataset, mirrored=True))
    first = _seen(dataset, answers.config, options.workers, count)
    return agreement, _corruptions(answers, quick, first, options.seed, clean)


def _attacked(answers: _Answers, model: nn.Module, dataset: Images, options: EvaluateOptions) -> Robustness | None:
    """How much of the first images the net still knows when they are attacked, where wanted."""
    if options.attack == "none":
        return None
    first = _seen(dataset, answers.config, options.workers, options.attack_images)
    quick = answers.accelerator.unwrap_model(_for_copies(model, answers.accelerator))
    return measure_robustness(
        quick, first, answers.accelerator, options.attack, options.eps, options.attack_images, options.seed,
        options.batch_size, answers.index)


def _corruptions(
    answers: _Answers, model: nn.Module, first: ImageDataset, seed: int, clean: torch.Tensor
) -> Corruptions:
    labels, count = torch.tensor(first.labels), len(first)
    accuracy = {}
    for kind in KINDS:
        accuracy[kind] = [
            metrics.top_k(
                answers(model, replace(first, images=corrupt(first.images, kind, severity, seed))), labels)
            for severity in SEVERITIES]
    return Corruptions(count, seed, metrics.top_k(clean[:count], labels), accuracy)


def evaluate(
    model: nn.Module,
    name: str,
    dataset: Images,
    accelerator: Accelerator,
    options: EvaluateOptions | None = None,
    command: str = "",
    weights_sha256: str | None = None,
) -> Results:
    """Measure every image of a split once, without test-time augmentation, then copies: attacked, mirrored, corrupted.

    In the folder ``options.output``, if it is named, stand afterwards results.json; logits.safetensors with logits
    (float32 (N, classes)) and labels (int64 (N,)), of many classes with what :mod:`wrn_hub.evaluation.kept` says, which
    then is what the metrics are of; worst.safetensors with the images (uint8 (M, H, W, 3)) of the worst mistakes, at
    most 24, and their index (int64 (M,)).

    Where the dataset has only some of the net's classes, the net may answer with any of its own.

    Args:
        model: A timm model on the accelerator's device.
        name: Its timm name, with the tag.
        dataset: The images, as :func:`wrn_hub.data.load_dataset` brings them to the size that the model is to see, or
            in their files, from which timm's transforms bring them to it as the model's ``pretrained_cfg`` and the
            options say.
        accelerator: Device, precision and processes; but for speed and memory the result doesn't depend on how many
            processes there are.
        options: How to measure; what they say of model, dataset and precision isn't looked at.
        command: What was typed, for the record.
        weights_sha256: sha256 of the weights file.

    Raises:
        UserError: the model tells other classes apart than the dataset's, or answers nan or inf; an image in a file
            can't be decoded.
    """
    options = options or EvaluateOptions()
    bare = accelerator.unwrap_model(model)
    in_files = isinstance(dataset, FileDataset)
    config = data_config(
        bare.pretrained_cfg, options.image_size, options.crop_pct, options.crop_mode, options.interpolation)
    index = logits_for(
        bare, name, dataset.classes, "choose the tag that was trained on this dataset, or fine-tune first",
        options.match_classes, "; where they mean the same in the same order add --match-classes order", some=True)
    if index is not None:
        _log.info("%s has the dataset's classes in another order: its logits are put in the dataset's", name)
    by_name = options.match_classes == "name" and (
        index is not None or (named(dataset.classes) and named(class_names(bare))))
    real = read_real_labels(Path(options.real_labels), _in_files(dataset)) if options.real_labels else None
    answers = _Answers(name, accelerator, options.batch_size, options.workers, config, index)
    logits = answers(model, dataset)
    speed = _speed(model, _seen(dataset, config, options.workers, options.batch_size), accelerator)
    memory, what = most_held(accelerator.device)
    most = accelerator.gather(torch.tensor([memory], device=accelerator.device)).max()
    labels = torch.tensor(dataset.labels)
    kept = packed(logits, labels)
    logits = unpacked(kept)
    agreement, corruptions = _on_copies(answers, model, dataset, options, logits)
    robustness = _attacked(answers, model, dataset, options)
    preprocessing = _preprocessing(dataset, config)
    size = preprocessing.size
    cost = cost_of(model, size)
    recognised = metrics.per_class(logits, labels)[: len(dataset.classes)].tolist()
    shares = [None if np.isnan(share) else share for share in recognised]
    results = Results(
        model=name,
        weights_sha256=weights_sha256,
        dataset=Dataset(
            Path(dataset.name).name if Path(dataset.name).exists() else dataset.name, dataset.split, len(dataset),
            dataset.fingerprint, dataset.revision),
        preprocessing=preprocessing,
        top1=metrics.top_k(logits, labels),
        top5=metrics.top_k(logits, labels, 5) if logits.shape[1] > 5 else None,
        nll=metrics.nll(logits, labels),
        ece=metrics.reliability(logits, labels).expected_calibration_error,
        per_class=dict(zip(dataset.classes, shares, strict=True)),
        flip_agreement=agreement,
        corruptions=corruptions,
        robustness=robustness,
        parameters=cost.parameters,
        gmacs=cost.gmacs,
        activations=cost.activations,
        speed=speed,
        peak_memory=PeakMemory(int(most), what),
        precision={"no": "fp32"}.get(accelerator.mixed_precision, accelerator.mixed_precision),
        processes=accelerator.num_processes,
        match_classes="name" if by_name else "order",
        among=bare.num_classes if bare.num_classes > len(dataset.classes) else None,
        pipeline="files" if in_files else "memory",
        real=real_accuracy(logits, real) if real else None,
        command=command,
        versions={**versions(), "numpy": np.__version__, "pillow": PIL.__version__},
        hardware=hardware(accelerator.device),
        date=now(),
    )
    if options.output and accelerator.is_main_process:
        worst = metrics.worst(logits, labels)
        pixels = _seen(dataset.subset(worst.numpy()), config, options.workers).images if len(worst) else np.empty(
            (0, size, size, 3), dtype=np.uint8)
        worst_images = {"images": torch.from_numpy(np.ascontiguousarray(pixels)), "index": worst}
        _write(Path(options.output), results, kept, worst_images)
    return results


def _write(folder: Path, results: Results, kept: dict[str, torch.Tensor], worst: dict[str, torch.Tensor]) -> None:
    """All that is kept of a measurement; where that fails, what was found is said at least."""
    try:
        write_whole(folder / "logits.safetensors", save(kept))
        write_whole(folder / "worst.safetensors", save(worst))
        results.write(folder / "results.json")
    except (OSError, UserError):
        _log.warning("measured, but not written:\n%s", results.summary())
        raise


def _in_files(dataset: Images) -> FileDataset:
    if isinstance(dataset, FileDataset):
        return dataset
    raise UserError(f"ReaL's labels are for ImageNet's validation images in their files, not for {dataset.name}")


def _preprocessing(dataset: Images, config: dict[str, Any]) -> Preprocessing:
    """What was done to the images, of those in memory what :func:`wrn_hub.data.load_dataset` did."""
    mean, std = list(config["mean"]), list(config["std"])
    if isinstance(dataset, ImageDataset):
        return Preprocessing(dataset.images.shape[1], mean, std, 1.0, "center", "bicubic", True)
    return Preprocessing(
        config["input_size"][-1], mean, std, config["crop_pct"], config["crop_mode"], config["interpolation"],
        dataset.upright)


def _trained_on(model: str, dataset: str) -> bool:
    """Whether a net lies in the folder of its training, and that was on this dataset."""
    settings = Path(model.removeprefix("local-dir:")).parent / "args.json"
    if not model.startswith("local-dir:") or not settings.is_file():
        return False
    trained = read_json(settings).get("dataset")
    return isinstance(trained, str) and (trained == dataset or Path(trained).resolve() == Path(dataset).resolve())


def _load(options: EvaluateOptions, model: str, config: dict[str, Any], upright: bool) -> Images:
    """The images that the options name, in memory or in files; the log says how they are prepared."""
    split = options.split or split_to_measure(options.dataset, options.data_dir)
    if split == "all" and not options.split and _trained_on(model, options.dataset):
        split = "test"
        _log.info("%s has no train and test splits: measured is the fifth of every class that the net's training left "
                  "out", options.dataset)
    files = load_files(
        options.dataset, split, options.data_dir, image_column=options.image_column, label_column=options.label_column)
    files = replace(files, upright=upright)
    if split == "all" and not options.split:
        _log.warning(
            "%s has no train and test splits: all of its %d images are measured; where the net was trained on it, add "
            "--split test, for the fifth that its training left out", options.dataset, len(files))
    if options.real_labels:
        return files
    images = for_measuring(files, config)
    if isinstance(images, FileDataset):
        _log.info("%s images in files, at %d pixels, crop %g (%s), %s, %s", f"{len(images):,}",
                  config["input_size"][-1], config["crop_pct"], config["crop_mode"], config["interpolation"],
                  "upright by EXIF" if upright else "not turned by EXIF")
    return images


def evaluate_source(options: EvaluateOptions, command: str = "") -> Results | None:
    """What ``scripts/evaluate.py`` does: measure a model by its name on a dataset by its name; see :func:`evaluate`.

    Returns:
        The results on the main process, None on the others.

    Raises:
        UserError: no such model, weights or data, the model doesn't tell the dataset's classes apart, its weights
            aren't finite, memory doesn't suffice, or the output folder can't be written to, which is found first.
    """
    use_cores()
    accelerator = accelerator_for(options.precision)
    output = writable(options.output) if options.output and accelerator.is_main_process else nullcontext()
    enough = enough_memory("the images, the net and a batch have to fit at the same time; try a smaller --batch-size")
    with output, enough:
        source = ModelSource.parse(options.model)
        # before the images: that weights are missing is known at once
        net = source.create_for_rgb(pretrained=True, **arguments(options.model_kwargs))
        config = data_config(
            net.pretrained_cfg, options.image_size, options.crop_pct, options.crop_mode, options.interpolation)
        images = local_main_first(lambda: _load(options, source.name, config, sees_upright(net.pretrained_cfg)))
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
            recorded.preprocessing.crop_pct, recorded.preprocessing.crop_mode, recorded.preprocessing.interpolation,
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
