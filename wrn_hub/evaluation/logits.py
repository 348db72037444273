"""The logits of a whole dataset, every image exactly once, however many processes share the work."""
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from ..data import FileDataset, ImageDataset
from ..data.loader import EvalLoader
from ..errors import UserError
from ..facts import mean_std
from ..models.preprocess import data_config
from .file_batches import FileEvalLoader

__all__ = ["check_finite", "dataset_logits"]


def check_finite(logits: torch.Tensor, name: str) -> None:
    """Refuse answers that are none.

    Args:
        logits: float (N, classes).
        name: Of the net, for the message.

    Raises:
        UserError: some are nan or inf.
    """
    bad = int((~torch.isfinite(logits).all(dim=1)).sum())
    if bad:
        raise UserError(
            f"{name} answers {bad} of {len(logits)} images with nan or inf: its weights are damaged, or too large for "
            "this precision; restore them, or train again with a lower --lr")


@torch.inference_mode()
def dataset_logits(
    model: nn.Module, dataset: ImageDataset | FileDataset, accelerator: Accelerator | None = None,
    batch_size: int = 500, size: int | None = None, workers: int | None = None, config: dict[str, Any] | None = None,
    mirrored: bool = False,
) -> torch.Tensor:
    """Logits float32 (N, num_classes) on the CPU, in the dataset's order, on every process.

    Args:
        model: A timm model, or any with a ``pretrained_cfg`` that gives mean and std, or one for the images of a known
            dataset; left in evaluation mode.
        dataset: The N images.
        accelerator: Says which device and how many processes; the forward pass runs under its precision. Without one
            it runs where the model lies, in the model's own precision.
        batch_size: Images a step over all processes.
        size: Side in pixels of images in memory; the dataset's own where None.
        workers: Processes that decode images in files; 0: this one does. None: as many as it has cores.
        config: How images in files are brought to the net; as the model's ``pretrained_cfg`` says where None.
        mirrored: Of images in files, left and right changed.

    Raises:
        UserError: mean and std aren't known, or an image in a file can't be decoded.
    """
    model.eval()
    bare = accelerator.unwrap_model(model) if accelerator else model
    cfg = getattr(bare, "pretrained_cfg", {})
    device = accelerator.device if accelerator else next(bare.parameters()).device
    mine = (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)
    loader: EvalLoader | FileEvalLoader
    if isinstance(dataset, FileDataset):
        rank, processes = mine
        loader = FileEvalLoader(
            dataset, batch_size, config or data_config(cfg), device, workers, rank, processes, mirrored)
    else:
        mean, std = mean_std(dataset.name, cfg.get("mean", ()), cfg.get("std", ()))
        loader = EvalLoader(dataset, batch_size, mean, std, device, size, *mine)
    if accelerator is None:
        return torch.cat([model(images).float() for images, _ in loader]).cpu()
    parts = []
    with accelerator.autocast():
        for images, _ in loader:
            parts.append(model(images).float())
    if accelerator.num_processes == 1:
        return torch.cat(parts).cpu()
    padded = torch.zeros(loader.share, bare.num_classes, device=accelerator.device)
    if parts:  # the images may be too few for every process to have some
        mine = torch.cat(parts)
        padded[: len(mine)] = mine
    return accelerator.gather(padded)[: len(dataset)].cpu()  # shares are contiguous: the padding is at the end
