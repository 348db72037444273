"""The parts that a training is put together from, as the options name them: net, optimizer, schedule."""
import logging

import torch
from timm.data import DEFAULT_CROP_PCT
from timm.layers import convert_sync_batchnorm
from timm.optim import create_optimizer_v2, list_optimizers
from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler import Scheduler
from torch import nn

from ..errors import UserError, first_line, nearest
from ..facts import DATASETS
from ..kernels.winograd import computes, prepare
from ..models.build import ModelSource
from ..models.preprocess import TURNED
from ..options import arguments
from ..processes import process_state
from ..record import cpu_features
from . import muon  # noqa: F401  # muonsgd is among timm's optimizers from then on
from .options import TrainOptions
from .pipeline import TrainImages, kind_of

__all__ = ["as_asked", "build_model", "build_optimizer", "schedule", "uses_winograd"]

_log = logging.getLogger(__name__)


def build_model(source: ModelSource, options: TrainOptions, training: TrainImages, size: int) -> nn.Module:
    """The net with as many classes as the images have, and the ``pretrained_cfg`` that says what they are brought to.

    Raises:
        UserError: there is no such net, it isn't for RGB, or its weights can't be had or are damaged.
    """
    fixed = source.cfg.get("fixed_input_size") and size != source.size  # a net that has to know its images' size
    rates = {name: getattr(options, name) for name in ("drop_rate", "block_drop_rate", "drop_path_rate")}
    model = source.create_for_rgb(
        options.pretrained, num_classes=len(training.classes),
        **{"img_size": size if fixed else None, **rates, **arguments(options.model_kwargs)})
    cfg = dict(model.pretrained_cfg)
    if training.name in DATASETS and not options.pretrained and ":" not in source.name:
        facts = DATASETS[training.name]  # a new net is normalised by the statistics of what it is trained on
        cfg.update(mean=facts.mean, std=facts.std)
    whole = kind_of(training) == "memory"
    other = options.test_size not in (None, size)
    if other and cfg.get("fixed_input_size"):
        raise UserError(f"test_size = {options.test_size}: {options.model} takes images of {size} pixels alone")
    cfg.update(  # what the images were really brought to, which a model of timm's may have had otherwise
        mean=options.mean or cfg["mean"], std=options.std or cfg["std"], input_size=(3, size, size),
        test_input_size=(3, options.test_size, options.test_size) if other else None,
        crop_pct=1.0 if whole else options.crop_pct or cfg.get("crop_pct", DEFAULT_CROP_PCT), test_crop_pct=None,
        crop_mode="center", interpolation="bicubic" if options.interpolation == "auto" else options.interpolation,
        notes=[TURNED])
    model.pretrained_cfg = cfg
    if options.sync_bn:
        model = _synchronized(model)
    return as_asked(model, options)


def as_asked(model: nn.Module, options: TrainOptions) -> nn.Module:
    """The net, frozen but for its classifier or with checkpointed gradients where the options want it."""
    if options.freeze:
        model.requires_grad_(False)
        model.get_classifier().requires_grad_(True)
    if options.grad_checkpointing:
        model.set_grad_checkpointing()
    return model


def _synchronized(model: nn.Module) -> nn.Module:
    """The net with BatchNorm over all processes.

    Raises:
        UserError: torch has none for this device.
    """
    device = process_state().device
    if device.type != "cuda":
        raise UserError(f"sync_bn: torch has it for GPUs, not for {device.type}; leave it out")
    cfg = model.pretrained_cfg
    model = convert_sync_batchnorm(model)
    model.pretrained_cfg = cfg
    return model


def build_optimizer(model: nn.Module, options: TrainOptions) -> torch.optim.Optimizer:
    """timm's optimizer, or muonsgd.

    Raises:
        UserError: there is none of this name, or it can't be had here.
    """
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
    if idle := [epoch for epoch in options.decay_at if epoch >= options.epochs]:
        _log.warning(
            "the training ends after %d epochs, before decay_at lowers the learning rate at %s: name earlier ones (the "
            "paper's are 30, 60 and 80%% of the way), or take the linear schedule, which fits any number of epochs",
            options.epochs, ", ".join(map(str, idle)))
    warmup = options.warmup * options.epochs
    scheduler, _ = create_scheduler_v2(
        optimizer, {"linear": "poly", "step": "multistep"}.get(options.schedule, options.schedule),
        decay_rate=1.0 if options.schedule == "linear" else options.decay_factor,  # a polynomial of power 1 is a line
        # timm takes a step one update before the milestone; half an update later it is the first of the new epoch
        decay_milestones=[epoch + 0.5 / updates for epoch in options.decay_at],
        num_epochs=options.epochs - warmup, warmup_epochs=warmup, warmup_lr=0.0,
        warmup_prefix=options.schedule != "step", step_on_epochs=False, updates_per_epoch=updates)
    return scheduler
