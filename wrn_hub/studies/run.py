"""Train what a study lacks, one net and seed after the other, each put on record as soon as it is done."""
import hashlib
import json
import logging
import re
import signal
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from ..data import ImageDataset, load_dataset
from ..errors import Stopped, UserError
from ..evaluation.cost import Cost, cost_of
from ..files import locked, read_csv, read_json
from ..processes import process_state, use_cores
from ..record import hardware, now
from ..training.options import TrainOptions
from ..training.report import duration
from ..training.trainer import train
from .nets import OWN, build, built_on_meta
from .results import Results
from .study import Net, Scale

__all__ = ["Machine", "counted", "guess_of_all", "seconds_of", "status", "train_missing"]

Data = tuple[ImageDataset, ImageDataset]

_log = logging.getLogger(__name__)

# Milliseconds that training takes two cores with AVX2, in fp32 by Winograd's algorithm: for an image by what a
# forward pass counts, and for a step besides. Fitted to a dozen nets of the studies; a first guess, until
# something ran.
_MS_A_GMAC, _MS_A_MILLION_ACTIVATIONS = 21.3, 5.1
_MS_A_STEP, _MS_A_MILLION_PARAMETERS = 15.0, 30.0


@dataclass(frozen=True)
class Machine:
    """What one person's machine decides.

    Attributes:
        data_dir: Folder that holds the datasets.
        runs: Folder for the runs and their checkpoints.
        threads: On a CPU; its cores by default.
        precision: As :class:`TrainOptions` has it.
    """

    data_dir: str | None = None
    runs: Path = Path("runs") / "studies"
    threads: int | None = None
    precision: str = "auto"


@cache
def _cost(model: str, kwargs: str, size: int) -> Cost:
    return cost_of(built_on_meta(model, json.loads(kwargs)), size)


def counted(scale: Scale, net: Net) -> Cost:
    """Parameters, and multiply-accumulates and activations for an image of the scale's size."""
    return _cost(net.model, json.dumps(net.kwargs), scale.image_size)


def _guess(scale: Scale, net: Net, images: int) -> float:
    options = TrainOptions(**scale.settings(net))
    images = options.train_images or images
    parts = options.progressive_sizes or (scale.image_size,)
    sizes = [parts[number * len(parts) // options.epochs] for number in range(options.epochs)]
    cost = counted(scale, net)
    image = _MS_A_GMAC * cost.gmacs + _MS_A_MILLION_ACTIVATIONS * cost.activations
    step = _MS_A_STEP + _MS_A_MILLION_PARAMETERS * cost.parameters / 1e6
    steps = images // options.batch_size * options.epochs
    return (images * image * sum((size / scale.image_size) ** 2 for size in sizes) + steps * step) / 1000


def guess_of_all(scale: Scale, images: int = 50_000) -> float:
    """Seconds that all trainings of a scale take two cores with AVX2, computed from what the nets count."""
    return scale.seeds * sum(_guess(scale, net, images) for net in scale.nets)


def seconds_of(results: Results, scale: Scale, net: Net, images: int = 50_000) -> tuple[float, bool]:
    """(seconds that a training of the net takes here, whether runs on this hardware say so or a count does).

    Args:
        results: What has run before.
        scale: Of the training.
        net: Which.
        images: To train on.
    """
    here = hardware(process_state().device)
    known = [record["seconds"] / _guess(scale, scale.net(name), record["images"])
             for (name, _), record in results.runs(scale).items() if record["hardware"] == here]
    return _guess(scale, net, images) * (statistics.median(known) if known else 1.0), bool(known)


def status(results: Results, scale: Scale) -> list[str]:
    """A line a net: what is there, what is missing, and how long that will take."""
    lines, total, told = [], 0.0, False
    runs = results.runs(scale)
    width = max(len(net.name) for net in scale.nets)
    for net in scale.nets:
        done = [seed for seed in range(scale.seeds) if (net.name, seed) in runs]
        if not scale.seeds:
            continue
        seconds, told = seconds_of(results, scale, net)
        left = (scale.seeds - len(done)) * seconds
        total += left
        top1 = ", ".join(f"{100 * runs[net.name, seed]['top1']:.2f}" for seed in done)
        lines.append(f"{net.name:<{width}}  {len(done)} of {scale.seeds} seeds  {top1 or '-':<24}"
                     + (f"  about {duration(left)} missing, {duration(seconds)} a run" if left else ""))
    by = "by the runs on this hardware" if told else "a guess, for two cores with AVX2"
    if total:
        lines.append(f"about {duration(total)} in all ({by})")
    elif scale.seeds:
        lines.append("every training is done")
    if scale.steps:
        lines.append("time and memory of a step: " + ("measured" if results.steps(scale) else "not measured yet"))
    return lines


def train_missing(
    results: Results, scale: Scale, machine: Machine, most: int | None = None, minutes: float | None = None,
    data: Data | None = None
) -> int:
    """Train what isn't on record yet, or go on with it; returns how many trainings were finished.

    The first seed of all nets comes first. What another process is training is left to it.

    Args:
        results: Where the records go.
        scale: What is wanted.
        machine: Where it runs.
        most: Finish so many at most.
        minutes: Stop after so many, with what has begun saved.
        data: Images to train and measure on, in place of the dataset that the settings name.

    Raises:
        Stopped: SIGTERM or Ctrl-C came; the training is saved, and the same command goes on with it.
    """
    end = None if minutes is None else time.monotonic() + 60 * minutes
    finished = 0
    for net, seed in scale.wanted():
        if (net.name, seed) in results.runs(scale):
            continue
        if (most is not None and finished >= most) or (end is not None and time.monotonic() >= end):
            break
        folder = _folder(results.study.name, scale, net, seed, machine.runs)
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            with locked(folder.with_name(f"{folder.name}.lock"), wait=False):
                if (net.name, seed) in results.runs(scale):  # by another process, up to just now
                    continue
                data = data or _images(scale, machine)
                seconds, _ = seconds_of(results, scale, net, len(data[0]))
                _log.info("%s, %s, seed %d: %.4f GMACs, about %s", results.study.name, net.name, seed,
                          counted(scale, net).gmacs, duration(seconds))
                results.add_run(scale, _run(scale, net, seed, folder, machine, data, _stop_at(end)))
        except Stopped as stop:
            if end is not None and time.monotonic() >= end:
                break
            raise Stopped(f"{results.study.name}, {net.name}, seed {seed}: stopped and saved; the same command goes on",
                          stop.signal) from None
        except UserError as error:
            if "is in use by" not in str(error):
                raise
            _log.info("%s, seed %d: another process is at it", net.name, seed)
            continue
        finished += 1
    return finished


def _stop_at(end: float | None) -> Callable[[], None] | None:
    """What ends a training in time, in the way that a scheduler would: it saves then."""
    def after_step() -> None:
        if end is not None and time.monotonic() >= end:
            signal.raise_signal(signal.SIGTERM)

    return after_step if end is not None else None


def _folder(study: str, scale: Scale, net: Net, seed: int, runs: Path) -> Path:
    """Where a training lies: another one if its settings are others."""
    digest = hashlib.sha256(json.dumps(scale.settings(net), sort_keys=True).encode()).hexdigest()[:8]
    slug = re.sub(r"\W+", "_", net.name.lower()).strip("_")
    return runs / study / scale.name / f"{slug}.seed{seed}.{digest}"


def _images(scale: Scale, machine: Machine) -> Data:
    options = TrainOptions(**scale.options)
    train_split, test_split = (
        load_dataset(options.dataset, split, machine.data_dir, scale.image_size) for split in ("train", "test"))
    return train_split, test_split


def _run(
    scale: Scale, net: Net, seed: int, folder: Path, machine: Machine, data: Data,
    after_step: Callable[[], None] | None,
) -> dict[str, Any]:
    """Train a net, or go on with it, measure it after its last epoch on the whole test split, and tell all of it."""
    given = {key: value for key, value in scale.settings(net).items() if key not in ("model", "model_kwargs")}
    options = TrainOptions(**{
        **given, "seed": seed, "data_dir": machine.data_dir, "output": str(folder), "threads": machine.threads,
        "precision": machine.precision, "image_size": scale.image_size, "eval_every": given["epochs"],
        "report_to": "none", "allow_other_hardware": True, "resume": (folder / "args.json").is_file()})
    model = None
    if net.model in OWN:
        use_cores(machine.threads)
        torch.manual_seed(seed)
        model = build(net.model, net.kwargs, len(data[0].classes))
    else:
        options.model, options.model_kwargs = net.model, net.model_kwargs
    result = train(options, data=data, after_step=after_step, model=model)
    settings, curve = read_json(folder / "args.json"), read_csv(folder / "metrics.csv")
    last, cost = curve[-1], counted(scale, net)
    return {
        "net": net.name, "seed": seed, "top1": result.accuracy, "test_loss": float(last["test_loss"]),
        "train_loss": float(last["train_loss"]), "train_accuracy": float(last["train_accuracy"]),
        "seconds": round(sum(float(row["seconds"]) for row in curve), 1),
        "parameters": cost.parameters, "gmacs": cost.gmacs, "activations": cost.activations,
        "dataset": data[0].name, "test_images": result.test_images or len(data[1]),
        **{key: settings[key] for key in ("images", "train_fingerprint", "test_fingerprint", "hardware")},
        "threads": torch.get_num_threads(),
        **{key: settings[key] for key in ("processes", "precision", "winograd", "changes", "versions")},
        "date": now(), "options": scale.settings(net),
        "curve": [[round(float(row["train_loss"]), 4), round(float(row["train_accuracy"]), 4)] for row in curve]}
