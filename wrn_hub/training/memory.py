"""Out of memory: what to try then."""
from ..errors import UserError
from .options import TrainOptions

__all__ = ["out_of_memory"]


def out_of_memory(options: TrainOptions, images: int, processes: int) -> UserError:
    """What to tell a user whose batch doesn't fit: half of it, with twice the batches an update.

    Args:
        options: Those of the run.
        images: Images a step of this process.
        processes: Number of processes.
    """
    said = f"out of memory with {images} images a step{' and process' if processes > 1 else ''}"
    cheaper = "" if options.grad_checkpointing else "; --grad-checkpointing needs less memory too"
    half = images // 2
    if options.mixup or options.cutmix:
        half -= half % 2
    if not half:
        return UserError(f"{said}: a smaller model or --image-size is needed{cheaper}")
    advice = f"--batch-size {half * processes}"
    if not (options.sam_rho or options.asam_rho):
        advice += f" --accumulate {2 * options.accumulate}"
        if options.compile not in ("none", "default"):
            advice += " --compile default"
        if 2 * half == images:
            advice += ", which keeps the batch an update"
    return UserError(f"{said}; try half: {advice}{cheaper}")
