"""The trainer: one flat function, run by Accelerate on one process or many."""
import csv
import io
import json
import logging
import math
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import DistributedDataParallelKwargs
from accelerate.utils import gather_object, set_seed
from timm.optim import create_optimizer_v2, list_optimizers
from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler import Scheduler
from timm.utils import ModelEmaV3, distribute_bn
from torch import nn
from tqdm import tqdm

from ..data import ImageDataset, load_dataset
from ..data.loader import TrainLoader
from ..errors import Stopped, UserError, first_line, nearest
from ..evaluation.logits import dataset_logits
from ..facts import DATASETS
from ..files import write_whole
from ..kernels.winograd import computes, prepare, winograd
from ..models.build import ModelSource, compiled
from ..models.export import save_model
from ..processes import accelerator_for, fast_precision, process_state, use_cores
from ..record import cpu_features, hardware, versions
from . import checkpoint, muon  # noqa: F401  # muonsgd is among timm's optimizers from then on
from .distill import Teacher
from .interrupt import STOP, Interrupt
from .memory import out_of_memory
from .options import TrainOptions, check_resumed
from .trackers import make_trackers
from .update import Update

__all__ = ["TrainResult", "schedule", "train", "uses_winograd"]

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


def _next_free(options: TrainOptions) -> Path:
    model, dataset = (Path(text.split(":")[-1]).name for text in (options.model, options.dataset))
    number = 1
    while (folder := Path("runs") / f"{model}.{dataset}.{number}").exists():
        number += 1
    return folder


def _build(source: ModelSource, options: TrainOptions, training: ImageDataset, size: int) -> nn.Module:
    fixed = source.cfg.get("fixed_input_size") and size != source.size  # a net that has to know its images' size
    model = source.create(
        options.pretrained, num_classes=len(training.classes), img_size=size if fixed else None,
        drop_rate=options.drop_rate,
        block_drop_rate=options.block_drop_rate, drop_path_rate=options.drop_path_rate)
    cfg = dict(model.pretrained_cfg)
    if training.name in DATASETS and not options.pretrained and ":" not in source.name:
        facts = DATASETS[training.name]  # a new net is normalised by the statistics of what it is trained on
        cfg.update(mean=facts.mean, std=facts.std)
    cfg.update(  # what the images were really brought to, which a model of timm's may have had otherwise
        mean=options.mean or cfg["mean"], std=options.std or cfg["std"], input_size=(3, size, size),
        test_input_size=None, crop_pct=1.0, test_crop_pct=None, crop_mode="center", interpolation="bicubic")
    model.pretrained_cfg = cfg
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


def _optimizer(model: nn.Module, options: TrainOptions) -> torch.optim.Optimizer:
    known = list_optimizers()
    if options.optimizer.lower().removeprefix("lookahead_") not in known:
        near = nearest(options.optimizer, known)
        raise UserError(f"optimizer = {options.optimizer!r}: allowed are those of timm.optim and muonsgd.{near}")
    try:
        optimizer = create_optimizer_v2(
            model, options.optimizer, lr=options.lr, weight_decay=options.weight_decay, momentum=options.momentum,
            filter_bias_and_bn=not options.decay_norm, layer_decay=options.layer_decay)
    except (AssertionError, ImportError, NameError, TypeError, ValueError) as error:  # a package or a GPU is missing
        raise UserError(f"optimizer = {options.optimizer!r}: {first_line(error)}") from error
    if getattr(optimizer, "is_second_order", False):
        raise UserError(f"optimizer = {options.optimizer!r}: needs second derivatives, which aren't computed here")
    return optimizer


def uses_winograd(options: TrainOptions, precision: str, device: torch.device) -> bool:
    """Whether convolutions are to be computed by Winograd's algorithm.

    Raises:
        UserError: the options insist on it, but it has no place here, or there is no compiler for it.
    """
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}.get(precision)
    of_use = device.type == "cpu" and dtype and options.channels_last and options.compile == "none"
    if options.winograd == "off" or (options.winograd == "auto" and not of_use):
        return False
    if not of_use:
        raise UserError(
            "winograd = 'on': works on a CPU in fp32 or bf16 and channels_last without --compile, not on "
            f"{device.type} in {precision} with channels_last {options.channels_last} and compile {options.compile!r}; "
            "leave it at auto")
    if dtype == torch.bfloat16 and options.winograd == "auto" and cpu_features().get("amx_bf16"):
        return False  # tiles multiply many times as fast as the vectors that the kernels use
    try:
        prepare()
    except UserError as error:
        if options.winograd == "on":
            raise
        _log.info("%s; training goes on without, at about half the speed", error)
        return False
    if options.winograd == "on" and not computes(dtype):
        raise UserError(f"winograd = 'on': this CPU doesn't multiply {precision} (AVX512-BF16); use --precision fp32")
    return computes(dtype)


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


def train(
    options: TrainOptions,
    recipe: str | None = None,
    data: tuple[ImageDataset, ImageDataset] | None = None,
    after_step: Callable[[], None] | None = None,
) -> TrainResult:
    """Train a model as the options say; see :class:`TrainOptions`.

    In the output folder stand afterwards ``args.json``, ``metrics.csv`` (a row an epoch), the log of a tracker, the
    last two checkpoints, and ``model/``, which ``timm.create_model("local-dir:OUTPUT/model", pretrained=True)`` loads.

    Args:
        options: Everything that decides the result.
        recipe: Name of the recipe that the options come from, for the record.
        data: Images to train on and to measure on, in place of the dataset that the options name.
        after_step: Called after every step; what it raises ends the training.

    Raises:
        UserError: bad options or data, of which nothing has been written then; a loss that became nan or inf; too
            little memory.
        Stopped: SIGTERM came; the state is saved.
    """
    with Interrupt(options.checkpoint_minutes) as interrupt:
        try:
            return _train(options, recipe, interrupt, data, after_step)
        except (torch.OutOfMemoryError, MemoryError) as error:  # elsewhere than in a step
            raise UserError(
                f"out of memory ({first_line(error)}): the images, the model and a batch have to fit at the "
                "same time; try a smaller --image-size, --batch-size or --model") from error
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise UserError(
                f"batch_size = {options.batch_size}: too few values a channel for BatchNorm, whose features are of one "
                "pixel; use a larger batch or larger images") from error


def _train(
    options: TrainOptions,
    recipe: str | None,
    interrupt: Interrupt,
    data: tuple[ImageDataset, ImageDataset] | None,
    after_step: Callable[[], None] | None,
) -> TrainResult:
    started = time.perf_counter()
    use_cores(options.threads)
    device = process_state().device
    precision = fast_precision(device) if options.precision == "auto" else options.precision
    folder = Path(options.output) if options.output else _next_free(options)
    if not options.resume and ((folder / "metrics.csv").exists() or checkpoint.newest(folder / "checkpoints")):
        raise UserError(f"output {folder} holds a run already: name another folder, or add --resume to go on with it")
    state = checkpoint.load_newest(folder / "checkpoints") if options.resume else None
    run_id = state["run_id"] if state else uuid.uuid4().hex[:8]
    accelerator = accelerator_for(
        precision, log_with=make_trackers(options.report_to, folder, run_id) or None,
        # every process keeps its own running statistics in an epoch; they are averaged at its end
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)])
    rank, processes = accelerator.process_index, accelerator.num_processes
    set_seed(options.seed)
    torch.backends.cudnn.benchmark = True  # shapes stay the same for thousands of steps
    if options.resume and not state and accelerator.is_main_process:
        _log.warning("%s holds no whole checkpoint; starting from the beginning", folder)

    source = ModelSource.parse(options.model)
    size = options.image_size or source.size
    training, test = data or _data(options, size)
    classes = len(training.classes)
    model = _build(source, options, training, size)
    by_winograd = uses_winograd(options, precision, device)
    cfg = model.pretrained_cfg
    flip = options.flip
    if flip == "auto":
        flip = "alternating" if training.name not in DATASETS or DATASETS[training.name].flip else "none"
    settings = json.loads(json.dumps({
        "recipe": recipe, **asdict(options), "flip": flip, "image_size": size, "mean": cfg["mean"], "std": cfg["std"],
        "images": len(training), "classes": classes,
        "precision": precision, "winograd": "on" if by_winograd else "off", "processes": processes,
        "hardware": hardware(device), "versions": versions()}))
    if state:
        check_resumed(json.loads((folder / "args.json").read_text()), settings)
    loader = TrainLoader(
        training, options.batch_size, cfg["mean"], cfg["std"], device, options.crop_padding, flip,
        options.cutout, options.augment, options.seed, rank, processes)
    share = loader.batch_size // processes
    if (options.mixup or options.cutmix) and share % 2:
        raise UserError(f"mixup and CutMix mix two by two: {share} images a process won't do, choose an even number")
    updates = -(-len(loader) // options.accumulate)

    optimizer = _optimizer(model, options)
    scheduler = schedule(optimizer, options, updates)
    if options.channels_last:
        model = model.to(memory_format=torch.channels_last)
    bare = model.to(device)
    if by_winograd:
        winograd(bare)
    ema = ModelEmaV3(bare, decay=options.ema_decay) if options.ema_decay else None
    teachers = [Teacher(name, bare, training.classes, device) for name in options.teacher]
    if by_winograd:
        for teacher in teachers:
            winograd(teacher.model)
    history: list[dict[str, Any]] = []
    first_step, losses, correct, seconds = 0, torch.zeros(len(loader)), torch.zeros((), dtype=torch.long), 0.0
    if state:
        bare.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        if ema:
            ema.module.load_state_dict(state["ema"])
        history, first_step, seconds = state["history"], state["step"], state["seconds"]
    model, optimizer = accelerator.prepare(compiled(bare, options.compile), optimizer)
    if state and accelerator.scaler:
        accelerator.scaler.load_state_dict(state["scaler"])
    if processes > 1 and len(set(gather_object([(len(history), first_step)]))) > 1:
        raise UserError(f"{folder} isn't the same folder for every process: name one that all machines see")
    if state and first_step:
        if len(state["processes"]) != processes:
            raise UserError(
                f"{folder} was saved within an epoch by {len(state['processes'])} processes: go on with as many")
        mine = state["processes"][rank]
        losses, correct = mine["losses"], mine["correct"]
        _load_buffers(bare, mine["buffers"])
        if ema:
            _load_buffers(ema.module, mine["ema_buffers"])
    losses, correct = losses.to(device), correct.to(device)

    if accelerator.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "args.json", json.dumps(settings, indent=2) + "\n")
    accelerator.init_trackers("wrn_hub")
    for tracker in accelerator.trackers:
        if tracker.name != "tensorboard":  # which would show the settings as a run beside the run
            tracker.store_init_configuration(settings)
    parts = options.progressive_sizes or (size,)
    sizes = [parts[epoch * len(parts) // options.epochs] for epoch in range(options.epochs)]
    measured = "held_out" if options.held_out else "test"
    update = Update(options, accelerator, bare, optimizer, classes, teachers)
    interrupt.start(accelerator)

    def save(step: int) -> Path | None:
        """Checkpoint after the epochs in the history and ``step`` steps; the main process writes."""
        saved = {
            "run_id": run_id, "model": bare.state_dict(), "optimizer": optimizer.state_dict(), "history": history,
            "step": step, "seconds": time.perf_counter() - epoch_started}
        if ema:
            saved["ema"] = ema.module.state_dict()
        if accelerator.scaler:
            saved["scaler"] = accelerator.scaler.state_dict()
        if step:  # within an epoch each process has its own statistics
            mine = {"losses": losses.cpu(), "correct": correct.cpu(), "buffers": _buffers(bare)}
            if ema:
                mine["ema_buffers"] = _buffers(ema.module)
            saved["processes"] = gather_object([mine])
        path = None
        if accelerator.is_main_process:
            path = checkpoint.save(folder / "checkpoints", len(history), saved, step)
        interrupt.saved()
        return path

    def stopped(step: int, path: Path | None) -> Stopped:
        where = f"in epoch {len(history) + 1} after step {step}" if step else f"after epoch {len(history)}"
        return Stopped(
            f"stopped by SIGTERM {where}; saved {path}; go on with the same command and --output {folder} --resume")

    def refuse_nan(steps: int) -> torch.Tensor:
        """The mean losses of the epoch's first steps, over all processes."""
        means = accelerator.reduce(losses[:steps].clone(), "mean")
        if not torch.isfinite(means).all():
            bad = int((~torch.isfinite(means)).nonzero()[0])
            scheduler.step_update(len(history) * updates + bad // options.accumulate)
            good = checkpoint.newest(folder / "checkpoints")
            raise UserError(
                f"the loss became {float(means[bad])} in epoch {len(history) + 1}, step {bad + 1}, at a learning rate "
                f"of {optimizer.param_groups[-1]['lr']:.3g}; the last good checkpoint is {good or 'none'}; lower --lr "
                "or raise --warmup")
        return means

    for epoch in range(len(history), options.epochs):
        epoch_started = time.perf_counter() - seconds
        bare.train()
        if options.freeze:
            bare.eval()  # BatchNorm keeps its statistics
        scheduler.step_update(epoch * updates + first_step // options.accumulate)
        bar = tqdm(
            loader.epoch(epoch, sizes[epoch], first_step), total=len(loader), initial=first_step, unit="step",
            mininterval=1.0, leave=False, desc=f"epoch {epoch + 1}/{options.epochs}",
            disable=not accelerator.is_main_process or None)
        shown, wish = 0.0, 0
        for step, (images, labels) in enumerate(bar, start=first_step):
            key, first = (options.seed, epoch, step), step - step % options.accumulate
            batches = min(options.accumulate, len(loader) - first)  # of this update; an epoch's last has what is left
            last = step + 1 == first + batches
            if not options.channels_last:
                images = images.contiguous()
            try:  # what comes out is on the device: nothing waits for it
                losses[step], hits = update(model, images, labels, key, last, batches)
            except torch.OutOfMemoryError as error:
                def again(count: int, images=images, labels=labels, key=key) -> None:
                    update(bare, images[:count], labels[:count], key, True, 1)

                raise out_of_memory(error, again, options, len(images), processes) from None
            correct += hits
            if last:
                number = epoch * updates + step // options.accumulate + 1
                if ema:
                    ema.update(bare, step=number)
                scheduler.step_update(number)
                wish = interrupt.wish()
                if wish and step + 1 < len(loader):
                    refuse_nan(step + 1)
                    path = save(step + 1)
                    if wish == STOP:
                        raise stopped(step + 1, path)
            if not bar.disable and time.perf_counter() - shown > 1.0:  # the one read-out, at most once a second
                shown = time.perf_counter()
                seen = (step + 1) * len(labels)
                rate = seen * processes / (shown - epoch_started)
                bar.set_postfix_str(
                    f"loss {losses[: step + 1].mean():.3f}, accuracy {correct / seen:.1%}, {rate:.0f} images/s")
            if after_step:
                after_step()

        mean_loss = refuse_nan(len(loader))
        if processes > 1:  # each process has seen other images: agree on BatchNorm's statistics
            distribute_bn(bare, processes, reduce=True)
            if ema:
                distribute_bn(ema.module, processes, reduce=True)
        row: dict[str, Any] = {
            "epoch": epoch + 1,
            "lr": optimizer.param_groups[-1]["lr"],
            "size": sizes[epoch],
            "train_loss": float(mean_loss.mean()),
            "train_accuracy": float(accelerator.reduce(correct.float(), "sum")) / (len(loader) * loader.batch_size),
            "images_per_second": len(loader) * loader.batch_size / (time.perf_counter() - epoch_started),
        }
        if (epoch + 1) % options.eval_every == 0 or epoch + 1 == options.epochs:
            # without gradients, twice the batch needs less memory than a step did
            logits = dataset_logits(ema.module if ema else bare, test, accelerator, min(500, 2 * options.batch_size))
            labels = torch.tensor(test.labels)
            row[f"{measured}_loss"] = float(F.cross_entropy(logits, labels))
            row[f"{measured}_accuracy"] = float((logits.argmax(1) == labels).double().mean())
        row["seconds"] = time.perf_counter() - epoch_started
        history.append(row)
        first_step, seconds, epoch_started = 0, 0.0, time.perf_counter()
        losses.zero_()
        correct.zero_()
        if wish or epoch + 1 == options.epochs:
            path = save(0)
        if accelerator.is_main_process:
            _write_metrics(folder / "metrics.csv", history)
            pixels = sum(later**2 for later in sizes[epoch + 1 :])  # which is what an epoch's time goes by
            left = row["seconds"] * pixels / sizes[epoch] ** 2
            _log.info("%s", _line(row, measured, options.epochs, left))
        accelerator.log(row, step=epoch + 1)
        if wish == STOP and epoch + 1 < options.epochs:
            raise stopped(0, path)

    result = ema.module if ema else bare
    result.eval()
    if accelerator.is_main_process:
        tag = training.name if training.name in DATASETS else None
        save_model(result, folder / "model", tag=tag, classes=training.classes)
    for tracker in accelerator.trackers:
        tracker.finish()
    accelerator.wait_for_everyone()
    return TrainResult(folder, history[-1][f"{measured}_accuracy"], measured, time.perf_counter() - started)


def _buffers(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: buffer.cpu() for name, buffer in model.named_buffers()}


def _load_buffers(model: nn.Module, saved: dict[str, torch.Tensor]) -> None:
    for name, buffer in model.named_buffers():
        buffer.copy_(saved[name])


def _line(row: dict[str, Any], measured: str, epochs: int, left: float) -> str:
    accuracy = row.get(f"{measured}_accuracy")
    return (
        f"epoch {row['epoch']}/{epochs}: loss {row['train_loss']:.3f}, train accuracy {row['train_accuracy']:.2%}, "
        + (f"{measured.replace('_', '-')} accuracy {accuracy:.2%}, " if accuracy is not None else "")
        + f"{row['images_per_second']:.0f} images/s, {row['seconds']:.0f} s, about {math.ceil(left / 60)} min left")


def _write_metrics(path: Path, history: list[dict[str, Any]]) -> None:
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, list(dict.fromkeys(key for row in history for key in row)))
    table.writeheader()
    table.writerows(history)
    write_whole(path, text.getvalue())
