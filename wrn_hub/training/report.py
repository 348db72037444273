"""What a training says while it runs: what it is about to do, how far it is, what an epoch came to."""
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn
from tqdm.auto import tqdm

from ..data.file_loader import FileTrainLoader
from ..data.loader import TrainLoader
from .options import TrainOptions

__all__ = ["Progress", "banner", "duration", "epoch_line", "heard"]

LOG_SECONDS = 30.0  # from one line to the next within an epoch, where there is no bar

_log = logging.getLogger(__name__)
_NOTEBOOK = any(kind.__module__ == "tqdm.notebook" for kind in tqdm.__mro__)
_MIRRORED = {
    "alternating": "mirrored in every other epoch", "random": "mirrored at random", "none": "not mirrored"}


@contextmanager
def heard(main: bool) -> Iterator[None]:
    """Show the package's lines for a while where nobody has said what is to be logged, as in a notebook.

    Args:
        main: Whether this is the process that speaks.
    """
    package, _, _ = __name__.partition(".")
    log = logging.getLogger(package)
    said = any(logging.getLogger(name).level for name in (package, f"{package}.training", __name__))
    if said or not main or log.isEnabledFor(logging.INFO):
        yield
        return
    handler = None if log.hasHandlers() else logging.StreamHandler()  # as the commands do, to stderr
    if handler:
        log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(logging.NOTSET)
        if handler:
            log.removeHandler(handler)


def duration(seconds: float) -> str:
    """A time to wait: in seconds where that is below two minutes, in minutes below two hours, else in hours."""
    if seconds < 120:
        return f"{math.ceil(seconds)} s"
    return f"{math.ceil(seconds / 60)} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def banner(
    options: TrainOptions, settings: dict[str, Any], model: nn.Module, loader: TrainLoader | FileTrainLoader,
    sizes: list[int], test: str, folder: Path,
) -> str:
    """What a training is about to do, in six lines.

    Args:
        options: As given.
        settings: With nothing left to be chosen, as args.json has them.
        model: The net.
        loader: Of an epoch's batches, which are smaller than asked for where there are fewer images.
        sizes: Side of the images in pixels, for each epoch.
        test: How many images are measured on, and which.
        folder: Of the run.
    """
    weights = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    mirrored = f"{_MIRRORED[settings['flip']]} (--flip {settings['flip']})"
    if options.flip == "auto" and settings["flip"] == "none":
        mirrored = "not mirrored, as digits and letters shouldn't be (--flip alternating does it)"
    processes = settings["processes"]
    rows = {
        "model": f"{options.model}, {weights:,} parameters" + (f", {trained:,} trained" if trained < weights else ""),
        "images": f"{settings['images']:,} of {options.dataset} in {settings['classes']:,} classes; "
                  f"measured on {test}",
        "pixels": f"{', '.join(f'{size}x{size}' for size in dict.fromkeys(sizes))}; {mirrored}",
        "steps": f"{options.epochs:,} epoch{'s' * (options.epochs > 1)} of {len(loader):,} "
                 f"step{'s' * (len(loader) > 1)}, {loader.batch_size:,} images a step"
                 + (f", {options.accumulate} steps an update" if options.accumulate > 1 else ""),
        "on": f"{settings['hardware']}; {processes} process{'es' * (processes > 1)}; {settings['precision']}"
              + ("; 3x3 convolutions by Winograd's algorithm" if settings["winograd"] == "on" else ""),
        "output": f"{folder}; SIGTERM or Ctrl-C saves and ends, the same command with --output {folder} --resume goes "
                  "on"}
    return "\n".join(f"{name:<7} {text}" for name, text in rows.items())


def epoch_line(row: dict[str, Any], measured: str, epochs: int, left: float) -> str:
    """What an epoch came to.

    Args:
        row: Of the curve.
        measured: "test" or "held_out".
        epochs: How many there are.
        left: Seconds that the others will take.
    """
    accuracy = row.get(f"{measured}_accuracy")
    return (
        f"epoch {row['epoch']}/{epochs}: loss {row['train_loss']:.3f}, train accuracy {row['train_accuracy']:.2%}, "
        + (f"{measured.replace('_', '-')} accuracy {accuracy:.2%}, " if accuracy is not None else "")
        + f"{row['images_per_second']:.0f} images/s, {row['seconds']:.0f} s"
        + (f", about {duration(left)} left" if left else ""))


class Progress:
    """The batches of an epoch, with a bar in a terminal or a notebook, elsewhere with a line every half minute.

    Args:
        batches: The steps that are left.
        name: Of the epoch.
        done: Steps that were done before.
        total: Steps of the epoch.
        main: Whether this is the process that speaks.
    """

    def __init__(self, batches: Iterable, name: str, done: int, total: int, main: bool) -> None:
        self.name, self.done, self.total, self.main = name, done, total, main
        self.bar = tqdm(
            batches, total=total, initial=done, unit="step", mininterval=1.0, leave=False, desc=name,
            disable=(not _NOTEBOOK and None) if main else True)  # None: where this is no terminal
        self.every = LOG_SECONDS if self.bar.disable else 1.0
        self.started = self.shown = time.perf_counter()

    def __iter__(self) -> Iterator:
        return iter(self.bar)

    def show(self, step: int, text: Callable[[], str]) -> None:
        """Say how far it is, unless that was said just now.

        Args:
            step: Steps of the epoch that are done.
            text: Says more; what it asks the device for is waited for.
        """
        now = time.perf_counter()
        if not self.main or now - self.shown < self.every or step == self.total:
            return
        self.shown = now
        if not self.bar.disable:
            self.bar.set_postfix_str(text())
            return
        left = (now - self.started) / (step - self.done) * (self.total - step)
        _log.info("%s, step %d/%d: %s, %s left of it", self.name, step, self.total, text(), duration(left))
