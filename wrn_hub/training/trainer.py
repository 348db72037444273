"""The trainer: one flat function, run by Accelerate on one process or many."""
import csv
import json
import logging
import math
import signal
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator, DistributedDataParallelKwargs, PartialState
from accelerate.utils import set_seed
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler import Scheduler
from timm.utils import ModelEmaV3, distribute_bn
from torch import nn
from tqdm import tqdm

from ..data import ImageDataset, load_dataset
from ..data.loader import TrainLoader
from ..environment import accelerator_for, cpu_features, hardware, use_cores, versions
from ..errors import Stopped, UserError
from ..facts import DATASETS
from ..inference import dataset_logits
from ..models.build import ModelSource
from ..models.export import save_model
from . import checkpoint
from .options import TrainOptions

__all__ = ["TrainResult", "schedule", "train"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainResult:
    """What a training ended in.

    Attributes:
        folder: The run's folder; the model lies in ``model`` below it.
        accuracy: Top-1 on the test split, or on the images held out, after the last epoch, 0 to 1.
        measured: "test" or "held_out".
        seconds: Wall-clock, reading the data and measuring included.
    """

    folder: Path
    accuracy: float
    measured: str
    seconds: float

    def summary(self) -> str:
        """Two lines for the screen: how good, how long, and how to load the model."""
        return (
            f"{self.measured.replace('_', '-')} accuracy {self.accuracy:.2%} in {self.seconds:.0f} s\n"
            f'timm.create_model("local-dir:{self.folder / "model"}", pretrained=True) loads the model')


def fast_precision(device: torch.device) -> str:
    """'bf16' where the hardware multiplies matrices in it, else 'fp32' (an emulated bf16 is many times slower)."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if device.type == "cpu":
        can = cpu_features()
        return "bf16" if can.get("avx512_bf16") or can.get("amx_bf16") else "fp32"
    return "fp32"


class _StopSignal:
    """Turns SIGTERM into a wish that the loop asks for, between two steps or two epochs."""

    def __enter__(self) -> "_StopSignal":
        self.seen, self.before = False, None
        if threading.current_thread() is threading.main_thread():  # no other may handle signals
            self.before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *_: Any) -> None:
        if self.before is not None:
            signal.signal(signal.SIGTERM, self.before)

    def _note(self, *_: Any) -> None:
        self.seen = True

    def after_step(self, accelerator: Accelerator) -> bool:
        """Whether to stop within an epoch. Several processes go on to its end: their BatchNorm statistics differ
        until they are averaged there, and no step waits to ask the others."""
        return self.seen and accelerator.num_processes == 1

    def after_epoch(self, accelerator: Accelerator) -> bool:
        """Whether to stop here, the same answer on every process."""
        return bool(accelerator.reduce(torch.tensor(float(self.seen), device=accelerator.device), "sum"))


def _next_free(options: TrainOptions) -> Path:
    model, dataset = (Path(text.split(":")[-1]).name for text in (options.model, options.dataset))
    number = 1
    while (folder := Path("runs") / f"{model}.{dataset}.{number}").exists():
        number += 1
    return folder


def _build(source: ModelSource, options: TrainOptions, training: ImageDataset) -> nn.Module:
    model = source.create(
        options.pretrained, num_classes=len(training.classes), drop_rate=options.drop_rate,
        block_drop_rate=options.block_drop_rate, drop_path_rate=options.drop_path_rate)
    if training.name in DATASETS and not options.pretrained and ":" not in source.name:
        facts = DATASETS[training.name]  # a new net is normalised by the statistics of what it is trained on
        model.pretrained_cfg = {**model.pretrained_cfg, "mean": facts.mean, "std": facts.std}
    if options.freeze:
        model.requires_grad_(False)
        model.get_classifier().requires_grad_(True)
    if options.grad_checkpointing:
        model.set_grad_checkpointing()
    return model


def _data(options: TrainOptions, size: int) -> tuple[ImageDataset, ImageDataset]:
    """(training images, images to measure on): the test split, or a part held out of the training split."""
    training = load_dataset(options.dataset, "train", options.data_dir, size)
    if options.held_out:
        return training.held_out(options.held_out)
    return training, load_dataset(options.dataset, "test", options.data_dir, size)


def schedule(optimizer: torch.optim.Optimizer, options: TrainOptions, updates: int) -> Scheduler:
    """timm's scheduler for the options; ``step_update(n)`` sets the learning rate of update n, counted from 0.

    Args:
        optimizer: Whose learning rate is set.
        options: The schedule, its warm-up and its epochs.
        updates: Updates an epoch.
    """
    warmup = options.warmup * options.epochs
    scheduler, _ = create_scheduler_v2(
        optimizer, {"linear": "poly", "step": "multistep"}.get(options.schedule, options.schedule),
        decay_rate=1.0 if options.schedule == "linear" else options.decay_factor,  # a polynomial of power 1 is a line
        # timm takes a step one update before the milestone; half an update later it is the first of the new epoch
        decay_milestones=[epoch + 0.5 / updates for epoch in options.decay_at],
        num_epochs=options.epochs - warmup, warmup_epochs=warmup, warmup_lr=0.0,
        warmup_prefix=options.schedule != "step", step_on_epochs=False, updates_per_epoch=updates)
    return scheduler


def train(options: TrainOptions) -> TrainResult:
    """Train a model as the options say; see :class:`TrainOptions`.

    In the output folder stand afterwards ``args.json``, ``metrics.csv`` (a row an epoch), a tensorboard log where
    tensorboard is installed, the last two checkpoints, and ``model/``, which
    ``timm.create_model("local-dir:OUTPUT/model", pretrained=True)`` loads.

    Raises:
        UserError: bad options or data, of which nothing has been written then; or a loss that became nan or inf.
        Stopped: SIGTERM came; the state is saved after the step, or with several processes after the epoch.
    """
    with _StopSignal() as stop:
        return _train(options, stop)


def _train(options: TrainOptions, stop: _StopSignal) -> TrainResult:
    started = time.perf_counter()
    use_cores(options.threads)
    precision = fast_precision(PartialState().device) if options.precision == "auto" else options.precision
    accelerator = accelerator_for(
        precision,
        # every process keeps its own running statistics in an epoch; they are averaged at its end
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)])
    set_seed(options.seed)

    folder = Path(options.output) if options.output else _next_free(options)
    if not options.resume and (folder / "metrics.csv").exists():
        raise UserError(f"output {folder} holds a run already: name another folder, or add --resume to go on with it")
    state = checkpoint.load_newest(folder / "checkpoints", accelerator.device) if options.resume else None
    if options.resume and not state and accelerator.is_main_process:
        _log.warning("%s holds no whole checkpoint; starting from the beginning", folder)

    source = ModelSource.parse(options.model)
    size = options.image_size or source.size
    training, test = _data(options, size)
    model = _build(source, options, training)
    cfg = model.pretrained_cfg
    flip = options.flip
    if flip == "auto":
        flip = "alternating" if training.name not in DATASETS or DATASETS[training.name].flip else "none"
    loader = TrainLoader(
        training, options.batch_size, cfg["mean"], cfg["std"], accelerator.device, options.crop_padding, flip,
        options.cutout, options.augment, options.seed, accelerator.process_index, accelerator.num_processes)
    updates = -(-len(loader) // options.accumulate)

    optimizer = create_optimizer_v2(
        model, options.optimizer, lr=options.lr, weight_decay=options.weight_decay, momentum=options.momentum,
        filter_bias_and_bn=not options.decay_norm, layer_decay=options.layer_decay)
    scheduler = schedule(optimizer, options, updates)
    if options.channels_last:
        model = model.to(memory_format=torch.channels_last)
    bare = model.to(accelerator.device)
    ema = ModelEmaV3(bare, decay=options.ema_decay) if options.ema_decay else None
    history: list[dict[str, Any]] = []
    first_step, losses, correct, seconds = 0, torch.zeros(len(loader)), torch.zeros((), dtype=torch.long), 0.0
    if state:
        bare.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        if ema:
            ema.module.load_state_dict(state["ema"])
        history, (first_step, losses, correct, seconds) = state["history"], state["within_epoch"]
    losses, correct = losses.to(accelerator.device), correct.to(accelerator.device)
    model = torch.compile(bare) if options.compile else bare
    model, optimizer = accelerator.prepare(model, optimizer)

    if accelerator.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        settings = {
            **asdict(options), "flip": flip, "image_size": size, "precision": precision,
            "processes": accelerator.num_processes, "hardware": hardware(accelerator.device), "versions": versions()}
        (folder / "args.json").write_text(json.dumps(settings, indent=2) + "\n")
    writer = _tensorboard(folder) if accelerator.is_main_process else None
    sizes = options.progressive_sizes or (size,)
    measured = "held_out" if options.held_out else "test"

    def save(step: int) -> Path | None:
        """Checkpoint after the epochs in the history and ``step`` steps; the main process writes."""
        if not accelerator.is_main_process:
            return None
        saved = {
            "model": bare.state_dict(), "optimizer": optimizer.state_dict(), "history": history,
            "within_epoch": (step, losses, correct, time.perf_counter() - epoch_started)}
        if ema:
            saved["ema"] = ema.module.state_dict()
        return checkpoint.save(folder / "checkpoints", len(history), saved, step)

    for epoch in range(len(history), options.epochs):
        epoch_started = time.perf_counter() - seconds
        epoch_size = sizes[epoch * len(sizes) // options.epochs]
        bare.train()
        if options.freeze:
            bare.eval()  # BatchNorm keeps its statistics
        scheduler.step_update(epoch * updates + first_step // options.accumulate)
        bar = tqdm(
            loader.epoch(epoch, epoch_size, first_step), total=len(loader), initial=first_step, unit="step",
            mininterval=1.0, leave=False, desc=f"epoch {epoch + 1}/{options.epochs}",
            disable=not accelerator.is_main_process or None)
        shown = 0.0
        for step, (images, labels) in enumerate(bar, start=first_step):
            # what is dropped out depends on the step alone, not on what came before: a resumed run draws the same
            torch.manual_seed(hash((options.seed, epoch, step, accelerator.process_index)))
            last = (step + 1) % options.accumulate == 0 or step + 1 == len(loader)
            with accelerator.autocast():
                logits = model(images)
                loss = F.cross_entropy(logits, labels, label_smoothing=options.label_smoothing)
            accelerator.backward(loss / options.accumulate)
            losses[step] = loss.detach()  # stays on the device: nothing waits for it
            correct += (logits.detach().argmax(1) == labels).sum()
            if last:
                if options.clip_grad is not None:
                    accelerator.clip_grad_norm_(model.parameters(), options.clip_grad)
                optimizer.step()
                optimizer.zero_grad()
                update = epoch * updates + step // options.accumulate + 1
                if ema:
                    ema.update(bare, step=update)
                scheduler.step_update(update)
                if stop.after_step(accelerator) and step + 1 < len(loader):
                    path = save(step + 1)
                    raise Stopped(
                        f"stopped by SIGTERM in epoch {epoch + 1} after step {step + 1}; saved {path}; go on with "
                        f"--output {folder} --resume")
            if not bar.disable and time.perf_counter() - shown > 1.0:  # the one read-out, at most once a second
                shown = time.perf_counter()
                seen = (step + 1) * len(labels)
                rate = seen * accelerator.num_processes / (shown - epoch_started)
                bar.set_postfix_str(
                    f"loss {losses[: step + 1].mean():.3f}, accuracy {correct / seen:.1%}, {rate:.0f} images/s")

        mean_loss = accelerator.reduce(losses, "mean")
        if not torch.isfinite(mean_loss).all():
            bad = int((~torch.isfinite(mean_loss)).nonzero()[0])
            raise UserError(
                f"the loss became {float(mean_loss[bad])} in epoch {epoch + 1}, step {bad + 1}, at a highest learning "
                f"rate of {options.lr}; the last good checkpoint is in {folder / 'checkpoints'}; lower --lr or raise "
                "--warmup")
        if accelerator.num_processes > 1:  # each process has seen other images: agree on BatchNorm's statistics
            distribute_bn(bare, accelerator.num_processes, reduce=True)
            if ema:
                distribute_bn(ema.module, accelerator.num_processes, reduce=True)
        row: dict[str, Any] = {
            "epoch": epoch + 1,
            "lr": optimizer.param_groups[-1]["lr"],
            "size": epoch_size,
            "train_loss": float(mean_loss.mean()),
            "train_accuracy": float(accelerator.reduce(correct.float(), "sum")) / (len(loader) * loader.batch_size),
            "images_per_second": len(loader) * loader.batch_size / (time.perf_counter() - epoch_started),
        }
        if (epoch + 1) % options.eval_every == 0 or epoch + 1 == options.epochs:
            logits = dataset_logits(ema.module if ema else bare, test, accelerator)
            labels = torch.tensor(test.labels)
            row[f"{measured}_loss"] = float(F.cross_entropy(logits, labels))
            row[f"{measured}_accuracy"] = float((logits.argmax(1) == labels).double().mean())
        row["seconds"] = time.perf_counter() - epoch_started
        history.append(row)
        first_step, seconds, epoch_started = 0, 0.0, time.perf_counter()
        losses.zero_()
        correct.zero_()
        path = save(0)
        if accelerator.is_main_process:
            _write_metrics(folder / "metrics.csv", history)
            left = row["seconds"] * (options.epochs - epoch - 1)
            _log.info("%s", _line(row, measured, options.epochs, left))
            if writer:
                for key, value in row.items():
                    writer.add_scalar(key, value, epoch + 1)
        accelerator.wait_for_everyone()
        if stop.after_epoch(accelerator) and epoch + 1 < options.epochs:
            raise Stopped(
                f"stopped by SIGTERM after epoch {epoch + 1}; saved {path}; go on with --output {folder} --resume")

    result = ema.module if ema else bare
    result.eval()
    if accelerator.is_main_process:
        tag = training.name if training.name in DATASETS else None
        save_model(result, folder / "model", tag=tag, classes=training.classes)
    accelerator.wait_for_everyone()
    return TrainResult(folder, history[-1][f"{measured}_accuracy"], measured, time.perf_counter() - started)


def _line(row: dict[str, Any], measured: str, epochs: int, left: float) -> str:
    accuracy = row.get(f"{measured}_accuracy")
    return (
        f"epoch {row['epoch']}/{epochs}: loss {row['train_loss']:.3f}, train accuracy {row['train_accuracy']:.2%}, "
        + (f"{measured.replace('_', '-')} accuracy {accuracy:.2%}, " if accuracy is not None else "")
        + f"{row['images_per_second']:.0f} images/s, {row['seconds']:.0f} s, about {math.ceil(left / 60)} min left")


def _write_metrics(path: Path, history: list[dict[str, Any]]) -> None:
    columns = list(dict.fromkeys(key for row in history for key in row))
    beside = path.with_name(f".{path.name}")
    with open(beside, "w", newline="") as file:
        table = csv.DictWriter(file, columns)
        table.writeheader()
        table.writerows(history)
    beside.replace(path)


def _tensorboard(folder: Path) -> Any | None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"))
