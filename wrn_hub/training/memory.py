"""Out of memory: which batch would have fitted."""
import gc
import traceback
from collections.abc import Callable

import torch

from ..errors import UserError
from .options import TrainOptions

__all__ = ["out_of_memory"]


def _fitting(update: Callable[[int], object], images: int, pairs: bool) -> int:
    """How many equal parts a batch has to be cut into for ``update(images of a part)`` to fit; 0: no part does.

    Each attempt is at most half of the one before; with ``pairs``, parts hold an even number of images.
    """
    tried = 1
    for parts in range(2, images + 1):
        if parts < 2 * tried or images % parts or (pairs and images // parts % 2):
            continue
        tried = parts
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        try:
            update(images // parts)
            return parts
        except (torch.OutOfMemoryError, ValueError) as error:  # BatchNorm refuses a single value per channel
            traceback.clear_frames(error.__traceback__)  # they hold the activations
    return 0


def out_of_memory(
    error: torch.OutOfMemoryError, update: Callable[[int], object], options: TrainOptions, images: int, processes: int
) -> UserError:
    """What to tell a user whose batch doesn't fit, after trying smaller ones; the run is over.

    Args:
        error: What was raised.
        update: Does a whole update with so many images.
        options: Those of the run.
        images: Images a step of this process.
        processes: Number of processes.
    """
    traceback.clear_frames(error.__traceback__)
    said = f"out of memory with {images} images a step{' and process' if processes > 1 else ''}"
    parts = _fitting(update, images, bool(options.mixup or options.cutmix))
    if not parts:
        return UserError(f"{said}, and no part of them fits: a smaller model or --image-size is needed")
    fits = images // parts
    advice = f"--batch-size {fits * processes}"
    if not (options.sam_rho or options.asam_rho):
        advice += f" --accumulate {options.accumulate * parts}, which keeps the batch an update,"
        if options.compile not in ("none", "default"):
            advice += " with --compile default,"
    cheaper = "" if options.grad_checkpointing else "; --grad-checkpointing needs less memory too"
    return UserError(f"{said}; {fits} fit: try {advice.rstrip(',')}{cheaper}")
