"""The parts that a training is put together from, as the options name them: images, net, optimizer, schedule."""
import logging

import torch
from timm.optim import create_optimizer_v2, list_optimizers
from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler import Scheduler
from torch import nn

from ..data import ImageDataset, load_dataset
from ..errors import UserError, first_line, nearest
from ..facts import DATASETS
from ..kernels.winograd import computes, prepare
from ..models.build import ModelSource
from ..record import cpu_features
from . import muon  # noqa: F401  # muonsgd is among timm's optimizers from then on
from .options import TrainOptions

__all__ = ["build_model", "build_optimizer", "drawn", "load_data", "schedule", "uses_winograd"]

_log = logging.getLogger(__name__)


def load_data(options: TrainOptions, size: int) -> tuple[ImageDataset, ImageDataset]:
    """(training images, images to measure on): the test split, or a part held out of the training split."""
    def load(split: str) -> ImageDataset:
        return load_dataset(options.dataset, split, options.data_dir, size, image_column=options.image_column,
                            label_column=options.label_column)

    training = load("train")
    return training.held_out(options.held_out) if options.held_out else (training, load("test"))


def drawn(options: TrainOptions, training: ImageDataset, test: ImageDataset) -> tuple[ImageDataset, ImageDataset]:
    """The images that the options draw from those to train on, by their seed, and from those to measure on, always the
    same."""
    if options.train_images:
        training = training.balanced(options.train_images, options.seed)
    return training, test.balanced(options.test_images) if options.test_images else test


def build_model(source: ModelSource, options: TrainOptions, training: ImageDataset, size: int) -> nn.Module:
    """The net with as many classes as the images have, and the ``pretrained_cfg`` that says what they are brought to.

    Raises:
        UserError: there is no such net, or its weights can't be had or are damaged.
    """
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
    warmup = options.warmup * options.epochs
    scheduler, _ = create_scheduler_v2(
        optimizer, {"linear": "poly", "step": "multistep"}.get(options.schedule, options.schedule),
        decay_rate=1.0 if options.schedule == "linear" else options.decay_factor,  # a polynomial of power 1 is a line
        # timm takes a step one update before the milestone; half an update later it is the first of the new epoch
        decay_milestones=[epoch + 0.5 / updates for epoch in options.decay_at],
        num_epochs=options.epochs - warmup, warmup_epochs=warmup, warmup_lr=0.0,
        warmup_prefix=options.schedule != "step", step_on_epochs=False, updates_per_epoch=updates)
    return scheduler
