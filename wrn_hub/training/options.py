"""Everything that a training can be told, each setting once: its name, its type, its default, what it means."""
import sys
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import get_args, get_origin, get_type_hints

from ..errors import UserError
from ..facts import check_mean_std
from ..options import LARGEST_SIDE, arguments, documented, option

__all__ = ["CUDA_GRAPHS", "FILES_ALONE", "MEMORY_ALONE", "PACE", "PLACES", "TrainOptions", "option"]

CUDA_GRAPHS = ("reduce-overhead", "max-autotune")  # modes of torch.compile that keep their results in their own memory

# settings that don't change the weights
PLACES = ("data_dir", "output", "resume")  # where one person's files lie
PACE = ("threads", "workers", "eval_every", "checkpoint_minutes", "report_to")  # how fast it goes, what is told of it

# settings that one of the two pipelines alone takes
MEMORY_ALONE = ("crop_padding", "cutout")
FILES_ALONE = (
    "test_size", "crop_pct", "interpolation", "scale", "ratio", "color_jitter", "auto_augment", "reprob", "remode",
    "repeated_aug", "workers", "broken", "streaming", "stream_images")

_MOST = 1_000_000  # of what is counted: beyond it is a slip of the pen
# what is allowed, both ends included
_ALLOWED: dict[str, tuple[float, float | None]] = {
    **dict.fromkeys(("epochs", "batch_size", "accumulate", "eval_every"), (1, _MOST)),
    "threads": (1, 4096), "workers": (0, 4096), "seed": (0, 2**32 - 1),
    **dict.fromkeys(("held_out", "train_images", "test_images", "stream_images"), (0, 1_000_000_000)),
    **dict.fromkeys(("image_size", "test_size"), (1, LARGEST_SIDE)),
    **dict.fromkeys(("cutout", "crop_padding"), (0, LARGEST_SIDE)),
    "repeated_aug": (1, 1000), "color_jitter": (0, 10), "reprob": (0, 1), "crop_pct": (0.01, 1),
    **dict.fromkeys(("lr", "weight_decay", "clip_grad", "checkpoint_minutes"), (0, None)),
    **dict.fromkeys(("mixup", "cutmix", "sam_rho", "asam_rho", "distill_temperature"), (0, None)),
    **dict.fromkeys(("momentum", "warmup", "decay_factor", "ema_decay", "label_smoothing", "layer_decay"), (0, 1)),
    **dict.fromkeys(("distill_weight", "drop_rate", "block_drop_rate", "drop_path_rate"), (0, 1)),
}
_KINDS = {int: (Integral, "a whole number"), float: (Real, "a number"), str: (str, "text")}


@documented
@dataclass
class TrainOptions:
    """Settings of one training run; the defaults are those of ``scripts/train.py``.

    Raises:
        UserError: a value outside what is allowed.
    """

    model: str = option(
        "wrn_16_2", "timm model with or without a tag, Hub id (hf-hub:org/name), or folder of a model or of a run",
        group="what is trained")
    pretrained: bool = option(False, "start from the pretrained weights; those of a Hub id or folder are used anyway")
    drop_rate: float | None = option(None, "dropout before the classifier")
    block_drop_rate: float | None = option(None, "dropout between the convolutions of a block (Wide ResNets)")
    drop_path_rate: float | None = option(None, "stochastic depth")
    model_kwargs: tuple[str, ...] = option(
        (), "arguments of the net besides those, such as block_drop_rate=0.3 act_layer=silu", words=True)
    freeze: bool = option(False, "train the classifier alone; the rest stays as it is, BatchNorm's statistics too")

    dataset: str = option(
        "cifar10", "cifar10, cifar100, svhn, sample, a Hub id, a folder, or a table of images' paths and labels",
        group="on what")
    data_dir: str | None = option(None, "folder that holds the dataset; without it, the Hub's cache or the Hub")
    image_column: str | None = option(None, "column of the images; by default the one of type Image, or of their paths")
    label_column: str | None = option(None, "column of the labels; by default that of type ClassLabel, or called label")
    held_out: int = option(0, "images of the training split to measure on instead of the test split, for tuning")
    train_images: int = option(
        0, "train on so many images, drawn evenly from every class by the seed: a quick try, or few labels; 0: all")
    test_images: int = option(0, "measure on so many images of the test split, evenly of every class; 0: all")
    pipeline: str = option(
        "auto", "where images are: all in memory, decoded once, or in files, decoded each time; auto: the latter from "
        "64 pixels on, or where the array would take more than 4 GiB", ("auto", "memory", "files"))
    workers: int | None = option(
        None, "files: processes that decode for each training process; its share of the cores by default, at most 16")
    broken: str = option(
        "refuse", "files: what to do about images that can't be decoded, which all are looked at before; skip: go on "
        "without those of the training split", ("refuse", "skip"))
    streaming: bool = option(
        False, "files: train on the images as they come from the Hub, or from parquet files or tars, and keep none on "
        "disk; the split that is measured on is loaded as ever")
    stream_images: int = option(
        0, "files: with --streaming, how many images an epoch has; 0: as many as the dataset says")
    image_size: int | None = option(None, "side in pixels that images are brought to; the model's own by default")
    test_size: int | None = option(None, "files: side in pixels of the images to measure on; --image-size by default")
    crop_pct: float | None = option(
        None, "files: share of their shorter side that is measured on; the model's own by default")
    interpolation: str = option(
        "auto", "files: how images are resized; auto: either way at random to train on, bicubic to measure on",
        ("auto", "bilinear", "bicubic"))
    mean: tuple[float, ...] = option(
        (), "subtracted per channel, 0 to 1, of pixels divided by 255; the dataset's or model's by default")
    std: tuple[float, ...] = option(
        (), "divided by then, 0 to 1, of pixels divided by 255; --mean 0,0,0 --std 1,1,1 is no more than that division")
    progressive_sizes: tuple[int, ...] = option(
        (), "sides in pixels, each for an equal share of the epochs, e.g. 16,24,32: earlier epochs cost less")

    epochs: int = option(30, "passes over the training split", group="how often and how fast")
    batch_size: int = option(128, "images a step over all processes")
    accumulate: int = option(1, "batches whose gradients are added up before a step")
    optimizer: str = option(
        "sgd", "any optimizer of timm; sgd has Nesterov momentum; muonsgd, of wrn_hub, is Muon for convolutions")
    lr: float = option(0.2, "highest learning rate")
    momentum: float = option(0.9, "momentum, where the optimizer has one")
    weight_decay: float = option(5e-4, "weight decay")
    decay_norm: bool = option(False, "decay biases and normalization layers too, as the paper does")
    layer_decay: float | None = option(None, "factor of the learning rate from each layer to the one below it")
    schedule: str = option(
        "linear", "learning rate after the warm-up: to 0 in a line or a cosine, in steps, or constant",
        ("linear", "cosine", "step", "constant"))
    decay_at: tuple[int, ...] = option((), "epochs after which the step schedule lowers the learning rate, e.g. 60,120")
    decay_factor: float = option(0.2, "by what it is multiplied then")
    warmup: float = option(0.15, "share of the steps in which the learning rate rises from 0")
    clip_grad: float | None = option(None, "largest norm of the gradient")
    ema_decay: float = option(
        0.0, "decay a step of the moving average of the weights, which is then the result; 0: none")

    crop_padding: int | None = option(
        None, "memory: largest shift of the random crop in pixels, 4 by default; the border is reflected",
        group="regularisation")
    scale: tuple[float, ...] = option(
        (), "files: least and largest share of the area that the random resized crop takes, 0.08,1 by default")
    ratio: tuple[float, ...] = option(
        (), "files: least and largest width of that crop in its heights, 0.75,1.3333 by default")
    flip: str = option(
        "auto", "mirror at random or in every other epoch; auto: the latter, from files the former, and nothing where "
        "the classes are digits or letters", ("auto", "alternating", "random", "none"))
    cutout: int = option(0, "memory: side in pixels of a blanked square; 0: none")
    augment: str = option(
        "none", "trivial: TrivialAugment, an operation of a strength for each image", ("none", "trivial"))
    auto_augment: str | None = option(
        None, "files: one of timm's policies, such as rand-m9-mstd0.5-inc1, augmix-m5-w4-d2 or 3a")
    color_jitter: float = option(
        0.0, "files: largest change of brightness, contrast and saturation, e.g. 0.4; not with most of timm's policies")
    reprob: float = option(0.0, "files: probability of random erasing")
    remode: str = option("pixel", "what is erased becomes noise, or the mean (const)", ("pixel", "const"))
    repeated_aug: int = option(
        1, "files: copies of an image in its batch, each augmented by itself, of as many times fewer images an epoch")
    mixup: float = option(0.0, "mixup: parameter of the Beta distribution of the ratio; 0: none")
    cutmix: float = option(0.0, "CutMix, the same; with both, each batch takes one of them")
    label_smoothing: float = option(0.1, "label smoothing")
    bce: bool = option(False, "binary cross-entropy of each class instead of the cross-entropy over all")
    sam_rho: float = option(0.0, "SAM, a second pass at so many units uphill, e.g. 0.05: twice the time; 0: none")
    asam_rho: float = option(0.0, "adaptive SAM, e.g. 0.5; 0: none")
    teacher: tuple[str, ...] = option(
        (), "models to learn from too, named as --model is, with commas between; of several, the mean of their logits")
    teacher_size: str = option(
        "own", "size in which it sees the images: the one that it was made for, or that of the step, which costs less "
        "with --progressive-sizes and suits a teacher that was trained on them", ("own", "step"))
    distill_weight: float = option(0.9, "share of the teacher in the loss")
    distill_temperature: float = option(4.0, "by what the logits are divided before they are compared")

    precision: str = option(
        "auto", "auto: bf16 where the hardware is faster in it, else fp32", ("auto", "fp32", "bf16", "fp16"),
        group="on which machine")
    channels_last: bool = option(True, "channels_last memory layout")
    winograd: str = option(
        "auto", "3x3 convolutions by Winograd's algorithm on a CPU: about twice as fast; auto: where a C++ compiler is "
        "installed; in bf16 where the CPU has AVX512-BF16 and no AMX", ("auto", "on", "off"))
    threads: int | None = option(None, "threads a process on a CPU; its share of the cores by default")
    compile: str = option(
        "none", "torch.compile of the model; reduce-overhead: with CUDA graphs, for nets that a GPU waits for",
        ("none", "default", "reduce-overhead", "max-autotune"))
    sync_bn: bool = option(False, "BatchNorm over the batches of all processes; on GPUs")
    grad_checkpointing: bool = option(False, "recompute activations in the backward pass to save memory")

    seed: int = option(0, "seed of the weights, the order and the augmentation", group="what is kept")
    eval_every: int = option(1, "epochs between two measurements; the last epoch is always measured")
    output: str | None = option(None, "folder of the run; by default the next free runs/MODEL.DATASET.NUMBER")
    checkpoint_minutes: float = option(
        5.0, "save after the first step or epoch so many minutes after the last checkpoint; 0: after each step")
    report_to: str = option(
        "auto", "some of tensorboard,wandb,trackio, or none; auto: tensorboard where it is installed")
    resume: bool = option(False, "go on from the newest checkpoint in the output folder")
    allow_other_hardware: bool = option(
        False, "with --resume: go on in another precision or without Winograd's algorithm where this machine has them "
        "otherwise; args.json keeps what was changed")

    def __post_init__(self) -> None:
        self._check_types()
        self._check_ranges()
        self._check_together()

    def _check_types(self) -> None:
        for name, hint in get_type_hints(TrainOptions).items():
            value = getattr(self, name)
            several = get_origin(hint) is tuple
            kind, *optional = get_args(hint) or (hint,)
            if several and isinstance(value, list):  # as JSON and TOML have it
                value = tuple(value)
                setattr(self, name, value)
            if value is None and type(None) in optional:
                continue
            needed, said = _KINDS.get(kind, (bool, "true or false"))
            each = value if several and isinstance(value, tuple) else (value,)
            if several != isinstance(value, tuple) or not all(
                    isinstance(one, needed) and isinstance(one, bool) == (kind is bool) for one in each):
                raise UserError(f"{name} = {value!r}: needed is {f'a list, each {said}' if several else said}")

    def _check_ranges(self) -> None:
        for name, (low, high) in _ALLOWED.items():
            value = getattr(self, name)
            if value is not None and not (low <= value <= (sys.float_info.max if high is None else high)):
                top = f" to {high}" if high is not None else " or more"
                raise UserError(f"{name} = {value}: allowed is {low}{top}")
        for item in fields(self):
            choices = item.metadata["choices"]
            if choices and getattr(self, item.name) not in choices:
                raise UserError(f"{item.name} = {getattr(self, item.name)!r}: allowed are {', '.join(choices)}")
        if self.warmup == 1:
            raise UserError("warmup = 1: allowed is less, lest no step is left to train in")
        if self.distill_temperature == 0:
            raise UserError(f"distill_temperature = {self.distill_temperature}: allowed is more than 0")
        if not all(1 <= size <= LARGEST_SIDE for size in self.progressive_sizes):
            raise UserError(f"progressive_sizes = {self.progressive_sizes}: allowed is 1 to {LARGEST_SIDE} pixels")
        if list(self.decay_at) != sorted(set(self.decay_at)) or not all(0 <= at <= _MOST for at in self.decay_at):
            raise UserError(f"decay_at = {self.decay_at}: allowed are epochs in their order, each once")
        for name, most in (("scale", 1.0), ("ratio", 100.0)):
            value = getattr(self, name)
            if value and not (len(value) == 2 and 0 < value[0] <= value[1] <= most):
                raise UserError(f"{name} = {value}: allowed are two numbers above 0, up to {most:g}, the smaller first")
        check_mean_std(self.mean, self.std)
        arguments(self.model_kwargs)

    def _check_together(self) -> None:
        sam = bool(self.sam_rho or self.asam_rho)
        if len(self.progressive_sizes) > self.epochs:
            raise UserError(
                f"progressive_sizes = {self.progressive_sizes}: {self.epochs} epoch{'s' * (self.epochs > 1)} would end "
                "before the last size; name as many at most")
        if self.accumulate > 1 and self.compile in CUDA_GRAPHS:
            raise UserError(
                f"accumulate = {self.accumulate}: the CUDA graphs of compile = {self.compile!r} keep no gradients from "
                "one batch to the next; use --compile default")
        if sam and self.compile in CUDA_GRAPHS:
            raise UserError(
                f"compile = {self.compile!r}: its CUDA graphs keep no gradients from SAM's first pass to the second; "
                "use --compile default")
        if (self.schedule == "step") != bool(self.decay_at):
            raise UserError("decay_at and the step schedule need each other: --schedule step --decay-at 60,120,160")
        if self.held_out and self.test_images:
            raise UserError(
                f"test_images = {self.test_images}: with held_out = {self.held_out} no image of the test split is "
                "measured on; leave one of the two out")
        if self.stream_images and not self.streaming:
            raise UserError(f"stream_images = {self.stream_images}: for --streaming alone; add it, or leave this out")
        whole = {name: getattr(self, name) for name in ("held_out", "train_images")}
        whole |= {name: getattr(self, name) for name, other in (("pipeline", "memory"), ("broken", "skip"))
                  if getattr(self, name) == other}
        if self.streaming and any(whole.values()):
            name = next(name for name, value in whole.items() if value)
            raise UserError(
                f"{name} = {whole[name]}: for that all images have to be at hand, and a stream gives one after the "
                "other; leave it or --streaming out")
        if self.sam_rho and self.asam_rho:
            raise UserError("sam_rho and asam_rho exclude each other: choose one")
        if sam and self.accumulate > 1:
            raise UserError(f"accumulate = {self.accumulate}: SAM takes one batch an update; use --batch-size instead")
        if self.resume and not self.output:
            raise UserError("resume needs to know which run: add --output with its folder")
