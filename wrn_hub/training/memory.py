"""Out of memory: which batch would have fitted."""
import gc
import traceback
from collections.abc import Callable

import torch

from ..errors import UserError
from .options import TrainOptions

__all__ = ["out_of_memory"]


def _fitting(update: Callable[[int], object], images: int) -> int:
    """How many parts a batch has to be cut into, halving it until ``update(images of a part)`` fits; 0: none does."""
    parts = 1
    while images // (parts * 2):
        parts *= 2
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        try:
            update(images // parts)
            return parts
        except torch.OutOfMemoryError as error:
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
    parts = _fitting(update, images)
    if not parts:
        return UserError(f"{said}, and even one doesn't fit: a smaller model or --image-size is needed")
    fits = images // parts
    advice = f"--batch-size {fits * processes}"
    if not (options.sam_rho or options.asam_rho):
        advice += f" --accumulate {options.accumulate * parts}, which keeps the batch an update,"
    cheaper = "" if options.grad_checkpointing else "; --grad-checkpointing needs less memory too"
    return UserError(f"{said}; {fits} fit: try {advice.rstrip(',')}{cheaper}")
