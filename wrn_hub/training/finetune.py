"""Fine-tuning: the trainer with other defaults, the same net from scratch beside it, and how they were chosen."""
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import Stopped, UserError
from ..models.build import ModelSource
from ..processes import process_state
from ..recipes import finetune_recipe
from .folder import claimed
from .options import TrainOptions
from .trainer import TrainResult, train

__all__ = ["choose_lr", "versus_scratch"]


def _with_free_folders(options: TrainOptions) -> TrainOptions:
    """The options with an output folder that is free, and the one with ``-scratch`` behind it is too.

    Raises:
        UserError: the folder was named, and one of the two isn't.
    """
    with ExitStack() as held:  # a number that was tried and isn't wanted has to stay taken for the next to come
        while True:
            folder = held.enter_context(claimed(options, process_state()))
            try:
                with claimed(replace(options, output=f"{folder}-scratch"), process_state()):
                    return replace(options, output=str(folder))
            except UserError:
                if options.output:
                    raise


def versus_scratch(options: TrainOptions) -> tuple[TrainResult, TrainResult]:
    """Fine-tune, then train the same net from scratch with equal epochs and augmentation at its own learning rate.

    Returns:
        (fine-tuned, from scratch); the second run's folder is the first's with ``-scratch`` behind it.

    Raises:
        UserError: besides bad options: the model is a folder or a Hub id, which has no form without weights; one of the
            two folders holds a run already, which is found before the first training.
        Stopped: SIGTERM came; says how to go on with both.
    """
    if ":" in ModelSource.parse(options.model).name:
        raise UserError(
            f"model {options.model} comes with its weights: to train from scratch too, name the timm model that it is")
    options = _with_free_folders(options)
    tuned = train(options)
    scratch = replace(
        options, pretrained=False, lr=finetune_recipe()["scratch"]["lr"], output=f"{tuned.folder}-scratch",
        freeze=False, layer_decay=None)
    try:
        return tuned, train(scratch)
    except Stopped as stop:  # the one command is about both
        both = stop.args[0].replace(f"--output {scratch.output} ", f"--output {tuned.folder} ")
        raise Stopped(both, stop.signal) from None


def choose_lr(options: TrainOptions, rates: Sequence[float], runs: Path) -> dict[str, Any]:
    """Try learning rates on images held out of the training split, and say which was best.

    Args:
        options: What to train; ``held_out`` must be set, so that the test split has no say.
        rates: At least three learning rates.
        runs: Folder for the runs.

    Returns:
        ``lr``, the best, and ``tried``, each rate with its accuracy on the images held out.
    """
    if len(rates) < 3 or not options.held_out:
        raise UserError(f"{len(rates)} learning rates, {options.held_out} images held out: need three or more, and one")
    tried = {
        str(rate): round(train(replace(options, lr=rate, output=str(runs / f"lr-{rate}"))).accuracy, 4)
        for rate in rates
    }
    return {"lr": float(max(tried, key=tried.__getitem__)), "tried": tried}
