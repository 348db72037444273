"""The trainer: one flat function, run by Accelerate on one process or many."""
import csv
import json
import logging
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Optional

import timm
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3, distribute_bn
from torch import nn
from tqdm import tqdm

from ..data import ImageDataset, load_dataset
from ..data.loader import TrainLoader
from ..errors import UserError, nearest
from ..facts import DATASETS
from ..inference import dataset_logits
from ..models.export import save_model
from . import checkpoint
from .options import TrainOptions

__all__ = ["TrainResult", "build_model", "train"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainResult:
    """What a training ended in: the folder of the model, the last row of metrics, and seconds of wall-clock."""

    folder: Path
    metrics: dict[str, float]
    seconds: float


def fast_precision(device: torch.device) -> str:
    """'bf16' where the hardware multiplies matrices in it, else 'fp32' (an emulated bf16 is many times slower)."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if device.type == "cpu":
        can = torch.cpu.get_capabilities()
        return "bf16" if can.get("avx512_bf16") or can.get("amx_bf16") else "fp32"
    return "fp32"


def build_model(options: TrainOptions, classes: tuple[str, ...]) -> nn.Module:
    """The model to train, with as many outputs as there are classes.

    Raises:
        UserError: no such model, or weights that don't fit it.
    """
    name, source = options.model, {}
    if options.checkpoint:
        where = Path(options.checkpoint)
        if not where.exists():
            raise UserError(f"checkpoint {where}: no such folder or file")
        if where.is_dir():
            name, source = f"local-dir:{where}", {}
        else:
            source = dict(pretrained_cfg_overlay=dict(file=str(where), hf_hub_id=None, url=""))
    elif not timm.is_model(name.split(":")[-1]) and ":" not in name:
        raise UserError(f"model {name!r}: timm has no model of this name.{nearest(name, timm.list_models())}")
    rates = {key: getattr(options, key) for key in ("drop_rate", "block_drop_rate", "drop_path_rate")}
    try:
        model = timm.create_model(
            name, pretrained=options.pretrained or bool(options.checkpoint), num_classes=len(classes),
            **source, **{key: value for key, value in rates.items() if value is not None})
    except UserError:
        raise
    except TypeError as error:
        raise UserError(f"model {name}: {error}") from error
    except RuntimeError as error:
        raise UserError(f"model {name}: {str(error).splitlines()[0]}") from error
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


def train(options: TrainOptions) -> TrainResult:
    """Train a model as the options say; see :class:`TrainOptions`.

    In the output folder stand afterwards ``args.json``, ``metrics.csv`` (a row an epoch), a tensorboard log where
    tensorboard is installed, the last two checkpoints, and ``model/``, which
    ``timm.create_model("local-dir:OUTPUT/model", pretrained=True)`` loads.

    Raises:
        UserError: bad options or data; nothing has been written then.
    """
    started = time.perf_counter()
    accelerator = Accelerator()
    precision = fast_precision(accelerator.device) if options.precision == "auto" else options.precision
    if precision != "fp32":
        accelerator = Accelerator(mixed_precision=precision)
    set_seed(options.seed)

    folder = Path(options.output)
    state = checkpoint.load_newest(folder / "checkpoints", accelerator.device) if options.resume else None
    if not options.resume and (folder / "metrics.csv").exists():
        raise UserError(f"output {folder} holds a run already: name another folder, or add --resume to go on with it")

    # the model's own configuration says how large images are and how they are normalised
    probe = timm.get_pretrained_cfg(options.model) if timm.is_model(options.model) else None
    size = options.image_size or (probe.input_size[-1] if probe else 32)
    training, test = _data(options, size)
    model = build_model(options, training.classes)
    facts = DATASETS.get(training.name)
    if facts and not options.pretrained and not options.checkpoint:
        model.pretrained_cfg = {**model.pretrained_cfg, "mean": facts.mean, "std": facts.std}
    cfg = model.pretrained_cfg
    flip = options.flip if options.flip is not None else (facts.flip if facts else True)
    loader = TrainLoader(
        training, options.batch_size, cfg["mean"], cfg["std"], accelerator.device, options.crop_padding, flip,
        options.cutout, options.seed, accelerator.process_index, accelerator.num_processes)
    updates = -(-len(loader) // options.accumulate)

    optimizer = create_optimizer_v2(
        model, options.optimizer, lr=options.lr, weight_decay=options.weight_decay, momentum=options.momentum,
        filter_bias_and_bn=not options.decay_norm, layer_decay=options.layer_decay)
    warmup_epochs = options.warmup * options.epochs
    scheduler, _ = create_scheduler_v2(  # a power of 1 makes timm's polynomial decay linear
        optimizer, {"linear": "poly"}.get(options.schedule, options.schedule), decay_rate=1.0,
        num_epochs=options.epochs - warmup_epochs, warmup_epochs=warmup_epochs, warmup_prefix=True, warmup_lr=0.0,
        step_on_epochs=False, updates_per_epoch=updates)
    if options.channels_last:
        model = model.to(memory_format=torch.channels_last)
    bare = model.to(accelerator.device)
    ema = ModelEmaV3(bare, decay=options.ema_decay) if options.ema_decay else None
    history: list[dict[str, Any]] = []
    if state:
        bare.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        if ema:
            ema.module.load_state_dict(state["ema"])
        history = state["history"]
    model = torch.compile(bare) if options.compile else bare
    model, optimizer = accelerator.prepare(model, optimizer)

    if accelerator.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        settings = {**asdict(options), "precision": precision, "processes": accelerator.num_processes}
        (folder / "args.json").write_text(json.dumps(settings, indent=2) + "\n")
    writer = _tensorboard(folder) if accelerator.is_main_process else None
    sizes = options.progressive_sizes or (size,)

    for epoch in range(len(history), options.epochs):
        set_seed(options.seed + 1_000_003 * (epoch + 1) + accelerator.process_index)  # dropout, stochastic depth
        epoch_started = time.perf_counter()
        epoch_size = sizes[epoch * len(sizes) // options.epochs]
        bare.train()
        if options.freeze:
            bare.eval()  # BatchNorm keeps its statistics
        losses = torch.zeros(len(loader), device=accelerator.device)
        correct = torch.zeros((), dtype=torch.long, device=accelerator.device)
        scheduler.step_update(epoch * updates)
        bar = tqdm(
            loader.epoch(epoch, epoch_size), total=len(loader), unit="step", mininterval=1.0, leave=False,
            desc=f"epoch {epoch + 1}/{options.epochs}", disable=not accelerator.is_main_process or None)
        shown = 0.0
        for step, (images, labels) in enumerate(bar):
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
            if not bar.disable and time.perf_counter() - shown > 1.0:  # the one read-out, at most once a second
                shown = time.perf_counter()
                seen = (step + 1) * len(labels)
                rate = seen * accelerator.num_processes / (shown - epoch_started)
                bar.set_postfix_str(f"loss {losses[: step + 1].mean():.3f}, acc {correct / seen:.1%}, {rate:.0f} images/s")

        mean_loss = accelerator.reduce(losses, "mean")
        if not torch.isfinite(mean_loss).all():
            bad = int((~torch.isfinite(mean_loss)).nonzero()[0])
            raise UserError(
                f"the loss became {float(mean_loss[bad])} in epoch {epoch + 1}, step {bad + 1}, at a highest learning "
                f"rate of {options.lr}; the last good checkpoint is in {folder / 'checkpoints'}; lower --lr or raise --warmup")
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
            labels = torch.as_tensor(test.labels)
            row["test_loss"] = float(F.cross_entropy(logits, labels))
            row["test_accuracy"] = float((logits.argmax(1) == labels).double().mean())
        row["seconds"] = time.perf_counter() - epoch_started
        history.append(row)
        if accelerator.is_main_process:
            saved = {"model": bare.state_dict(), "optimizer": optimizer.state_dict(), "history": history}
            if ema:
                saved["ema"] = ema.module.state_dict()
            checkpoint.save(folder / "checkpoints", epoch + 1, saved)
            _write_metrics(folder / "metrics.csv", history)
            left = row["seconds"] * (options.epochs - epoch - 1)
            _log.info("%s", _line(row, options.epochs, left))
            if writer:
                for key, value in row.items():
                    writer.add_scalar(key, value, epoch + 1)
        accelerator.wait_for_everyone()

    result = ema.module if ema else bare
    result.eval()
    if accelerator.is_main_process:
        save_model(result, folder / "model", tag=training.name if training.name in DATASETS else None, classes=training.classes)
    accelerator.wait_for_everyone()
    return TrainResult(folder, history[-1], time.perf_counter() - started)


def _line(row: dict[str, Any], epochs: int, left: float) -> str:
    measured = f", test accuracy {row['test_accuracy']:.2%}" if "test_accuracy" in row else ""
    return (
        f"epoch {row['epoch']}/{epochs}: loss {row['train_loss']:.3f}, train accuracy {row['train_accuracy']:.2%}{measured}, "
        f"{row['images_per_second']:.0f} images/s, {row['seconds']:.0f} s, about {math.ceil(left / 60)} min left")


def _write_metrics(path: Path, history: list[dict[str, Any]]) -> None:
    columns = list(dict.fromkeys(key for row in history for key in row))
    beside = path.with_name(f".{path.name}")
    with open(beside, "w", newline="") as file:
        table = csv.DictWriter(file, columns)
        table.writeheader()
        table.writerows(history)
    beside.replace(path)


def _tensorboard(folder: Path) -> Optional[Any]:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"))
