"""Measure a model on a whole split."""
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from safetensors.torch import save
from torch import nn

from ..data import ImageDataset, load_dataset
from ..environment import accelerator_for, hardware, now, use_cores, versions
from ..errors import UserError
from ..inference import dataset_logits
from ..models.build import ModelSource
from ..weights import file_sha256, staged
from .results import Results

__all__ = ["evaluate", "evaluate_source", "measure_again"]


def evaluate(
    model: nn.Module,
    name: str,
    dataset: ImageDataset,
    accelerator: Accelerator,
    command: str,
    weights_sha256: str | None = None,
    batch_size: int = 500,
    logits_file: Path | None = None,
) -> Results:
    """Measure every image of a split once, in one pass, without test-time augmentation.

    Args:
        model: A timm model on the accelerator's device.
        name: Its timm name, with the tag.
        dataset: The images, already of the size that the model is to see.
        accelerator: Device, precision and processes; the result doesn't depend on how many there are.
        command: What was typed, for the record.
        weights_sha256: sha256 of the weights file.
        batch_size: Images a step over all processes.
        logits_file: Where to keep logits (float32 (N, classes)) and labels (int64 (N,)) as safetensors.
    """
    started = time.perf_counter()
    logits = dataset_logits(model, dataset, accelerator, batch_size)
    seconds = time.perf_counter() - started
    labels = torch.tensor(dataset.labels)
    if logits_file and accelerator.is_main_process:
        logits_file.write_bytes(save({"logits": logits, "labels": labels}))
    ranked = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]
    cfg = model.pretrained_cfg
    return Results(
        model=name,
        weights_sha256=weights_sha256,
        dataset={
            "name": dataset.name, "split": dataset.split, "images": len(dataset), "fingerprint": dataset.fingerprint},
        preprocessing={"size": dataset.images.shape[1], "mean": list(cfg["mean"]), "std": list(cfg["std"])},
        top1=float(ranked[:, 0].double().mean()),
        top5=float(ranked.any(dim=1).double().mean()) if logits.shape[1] > 5 else None,
        loss=float(F.cross_entropy(logits.double(), labels)),
        precision={"no": "fp32"}.get(accelerator.mixed_precision, accelerator.mixed_precision),
        processes=accelerator.num_processes,
        images_per_second=round(len(dataset) / seconds, 1),
        command=command,
        versions=versions(),
        hardware=hardware(accelerator.device),
        date=now(),
    )


def evaluate_source(
    model: str,
    dataset: str,
    split: str = "test",
    data_dir: str | None = None,
    image_size: int | None = None,
    precision: str = "fp32",
    batch_size: int = 500,
    output: Path | None = None,
    logits_file: Path | None = None,
    command: str = "",
) -> Results | None:
    """What ``scripts/evaluate.py`` does: measure a model by its name on a dataset by its name, and write results.json.

    Returns:
        The results on the main process, None on the others.

    Raises:
        UserError: no such model, weights or data, or the model doesn't tell as many classes as the dataset has.
    """
    use_cores()
    accelerator = accelerator_for(precision)
    source = ModelSource.parse(model)
    images = load_dataset(dataset, split, data_dir, image_size or source.size)
    net = source.create(pretrained=True)
    if net.num_classes != len(images.classes):
        raise UserError(
            f"{model} tells {net.num_classes} classes, {dataset} has {len(images.classes)}: "
            "choose the tag that was trained on this dataset, or fine-tune first")
    net = net.to(accelerator.device, memory_format=torch.channels_last)
    sha256 = file_sha256(source.weights_file) if source.weights_file else None
    results = evaluate(net, model, images, accelerator, command, sha256, batch_size, logits_file)
    if not accelerator.is_main_process:
        return None
    if output:
        results.write(output)
    return results


def measure_again(root: Path, data_dir: str | None = None, batch_size: int = 500) -> Iterator[str]:
    """Measure every staged model again, in fp32, and hold it against its results.json.

    Args:
        root: A ``model_cards`` folder.
        data_dir: Folder that holds the datasets.
        batch_size: Images a step over all processes.

    Yields:
        A line for each model that still does what its results.json says, to the image.

    Raises:
        UserError: one doesn't, after all have been measured; names each.
    """
    differ = []
    for folder in staged(root):
        recorded = Results.read(folder / "results.json")
        found = evaluate_source(
            str(folder), recorded.dataset["name"], recorded.dataset["split"], data_dir, recorded.preprocessing["size"],
            batch_size=batch_size)
        if found is None:  # another process speaks
            continue
        if (found.top1, found.top5, found.weights_sha256) == (recorded.top1, recorded.top5, recorded.weights_sha256):
            yield f"{folder.name}: top-1 {found.top1:.2%} as recorded"
        else:
            differ.append(f"{folder.name}: top-1 {found.top1:.4%}, top-5 {found.top5}, sha256 {found.weights_sha256}; "
                          f"recorded are {recorded.top1:.4%}, {recorded.top5}, {recorded.weights_sha256}")
    if differ:
        raise UserError("; ".join(differ))
