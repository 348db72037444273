"""Whether a training has its images in memory or in files, and what follows: how they are loaded and made batches of.

In memory is right for small images: decoded once, they lie as one array on the device, and a batch is a gather. From
files is right for large ones, and for as many as no memory holds: workers decode each image when its turn comes. Which
it is decides what is drawn, and so the result: it depends on the images alone, never on how much memory is free.
"""
import logging
import math
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator

from ..data import FileDataset, ImageDataset, load_files
from ..data.file_loader import FileAugmentation, FileTrainLoader
from ..data.files import usual_pipeline
from ..data.loader import Augmentation, TrainLoader
from ..data.sources import in_memory, load_stream
from ..data.stream import StreamDataset
from ..data.stream_loader import StreamTrainLoader
from ..errors import UserError
from ..evaluation.file_batches import usual_workers
from ..processes import local_main_first
from .broken import without_broken
from .options import FILES_ALONE, MEMORY_ALONE, TrainOptions

__all__ = [
    "Images", "TrainImages", "drawn", "kind_of", "load_images", "make_loader", "settled", "side_of", "side_of_given",
    "usual_settings", "workers_for"]

Images = ImageDataset | FileDataset
TrainImages = Images | StreamDataset

_log = logging.getLogger(__name__)


def kind_of(images: TrainImages) -> str:
    """"memory" or "files"; those of a stream are files that come one after the other."""
    return "memory" if isinstance(images, ImageDataset) else "files"


def side_of(images: TrainImages) -> int:
    """Side in pixels of images in memory, for a net that says nothing of a size.

    Raises:
        UserError: the images are in files, and may be of many sizes.
    """
    if not isinstance(images, ImageDataset):
        raise UserError("image_size: a net that doesn't say its size, and images in files: give --image-size")
    return images.images.shape[1]


def side_of_given(options: TrainOptions, data: tuple[Images, Images], size: int | None) -> int:
    """Side in pixels to train with where the images were given: that of those in memory, which stay as they are.

    Args:
        options: As given.
        data: Images to train on and to measure on.
        size: What the options or the net say of a side.

    Raises:
        UserError: images in memory are of another; or some are to be held out of those that were given.
    """
    if options.held_out:
        raise UserError(
            f"held_out = {options.held_out}: the images to measure on were given already; to measure on a part of "
            f"those to train on, give data=images.held_out({options.held_out}) and leave this out")
    training, test = data
    if size is None or (options.image_size is None and isinstance(training, ImageDataset)):
        size = side_of(training)
    for what, images, side in (("train", training, size), ("measure", test, options.test_size or size)):
        if isinstance(images, ImageDataset) and images.images.shape[1:3] != (side, side):
            height, width = images.images.shape[1:3]
            raise UserError(
                f"the images to {what} on were given with {width}x{height} pixels, needed are {side}x{side} (image_size"
                f"; by default the side of those to train on): load_dataset(..., size={side}) brings them to it")
    return size


def _choose(options: TrainOptions, size: int | None, images: int, saved: dict[str, Any] | None) -> str:
    """The pipeline that was asked for, that the run began with, or that its images are right for."""
    if options.pipeline != "auto":
        return options.pipeline
    if saved is not None:
        return saved.get("pipeline", "memory")  # older runs knew no other
    return "memory" if size is None else usual_pipeline(size, images)


def _refuse_one_class(training: FileDataset | StreamDataset, found: Sequence[str], options: TrainOptions) -> None:
    """A net that trains on images of one class is soon always right, and of no use."""
    if len(found) < 2:
        by = f", by column {options.label_column!r}" if options.label_column else ""
        raise UserError(
            f"{training.name} (train): all {len(training)} images are of one class, {found[0]!r}{by}: needed are two "
            "or more; add images of another, or name another column (--label-column)")


def load_images(
    options: TrainOptions, size: int | None, folder: Path, saved: dict[str, Any] | None
) -> tuple[TrainImages, Images]:
    """(training images, images to measure on): the test split, or a part held out of the training split.

    Args:
        options: Name the dataset.
        size: Side in pixels that images in memory are brought to; None keeps them as they are.
        folder: Of the run, where images that can't be decoded are listed.
        saved: The settings that the run began with, if it is resumed.

    Raises:
        UserError: the images can't be had, or are of one class; or there are broken ones, which are named.
    """
    def load(split: str) -> FileDataset:
        return load_files(
            options.dataset, split, options.data_dir, image_column=options.image_column,
            label_column=options.label_column)

    if options.streaming:
        stream = local_main_first(lambda: load_stream(
            options.dataset, options.data_dir, image_column=options.image_column, label_column=options.label_column,
            images=options.stream_images))
        test = local_main_first(lambda: load("test"))
        without_broken([None, test], options.broken, workers_for(options), folder)
        _refuse_one_class(stream, stream.classes, options)
        return stream.with_classes(test.classes), test
    splits = ("train",) if options.held_out else ("train", "test")
    files = local_main_first(lambda: [load(split) for split in splits])
    _refuse_one_class(files[0], [files[0].classes[label] for label in np.unique(files[0].labels)], options)
    if _choose(options, size, len(files[0]), saved) == "files":
        copied = local_main_first(files[0].images.in_any_order)
        files[0] = replace(files[0], images=copied)
        found: list[Any] = without_broken(files, options.broken, workers_for(options), folder)
    else:
        found = local_main_first(lambda: [in_memory(each, size) for each in files])
    return found[0].held_out(options.held_out) if options.held_out else (found[0], found[1])


def drawn(options: TrainOptions, training: TrainImages, test: Images) -> tuple[TrainImages, Images]:
    """The images that the options draw from those to train on, by their seed, and from those to measure on, always the
    same."""
    if options.train_images:
        assert not isinstance(training, StreamDataset)  # which the options refuse
        training = training.balanced(options.train_images, options.seed)
    return training, test.balanced(options.test_images) if options.test_images else test


def settled(options: TrainOptions, training: TrainImages, model_cfg: dict[str, Any]) -> dict[str, Any]:
    """What the pipeline leaves nothing open of, for args.json.

    Args:
        options: As given.
        training: The images.
        model_cfg: The net's ``pretrained_cfg``, with the sizes and the crop that are measured in.

    Raises:
        UserError: an option is of the other pipeline.
    """
    pipeline = kind_of(training)
    if options.streaming and not isinstance(training, StreamDataset):
        raise UserError(f"streaming: images {_where(training)} were given already; leave it out")
    others = MEMORY_ALONE if pipeline == "files" else FILES_ALONE
    defaults = {item.name: item.default for item in fields(TrainOptions)}
    advice = "leave it out"
    if not isinstance(training, StreamDataset):
        advice += f", or add --pipeline {'memory' if pipeline == 'files' else 'files'}"
    for name in others:
        if getattr(options, name) != defaults[name]:
            raise UserError(
                f"{name} = {getattr(options, name)}: images {_where(training)} don't take it; {advice}")
    if pipeline == "files" and options.flip == "alternating":
        raise UserError(
            f"flip = 'alternating': images {_where(training)} are mirrored at random; {advice}")
    usual = usual_settings(pipeline, model_cfg["input_size"][-1], model_cfg["crop_pct"])
    given = {name: getattr(options, name) for name in usual}
    return {"pipeline": pipeline, **{name: usual[name] if given[name] in (None, ()) else given[name] for name in usual}}


def usual_settings(pipeline: str, size: int, crop_pct: float) -> dict[str, Any]:
    """What a pipeline does where nobody says otherwise.

    Args:
        pipeline: "memory" or "files".
        size: Side of the images in pixels.
        crop_pct: Of the net.
    """
    if pipeline == "memory":
        return {"crop_padding": 4}
    return {"scale": (0.08, 1.0), "ratio": (3 / 4, 4 / 3), "test_size": size, "crop_pct": crop_pct}


def _where(images: TrainImages) -> str:
    return "of a stream" if isinstance(images, StreamDataset) else f"in {kind_of(images)}"


def workers_for(options: TrainOptions) -> int:
    """Processes that decode for this one: as asked for, or its share of the machine's cores."""
    return usual_workers() if options.workers is None else options.workers


def make_loader(
    options: TrainOptions, settings: dict[str, Any], training: TrainImages, accelerator: Accelerator
) -> TrainLoader | FileTrainLoader:
    """Batches of the training images for this process; the log says how they are made.

    Raises:
        UserError: the batch can't be shared evenly, or mixed two by two.
    """
    mean, std, device = settings["mean"], settings["std"], accelerator.device
    rank, processes = accelerator.process_index, accelerator.num_processes
    loader: TrainLoader | FileTrainLoader
    if not isinstance(training, ImageDataset):
        workers = workers_for(options)
        how = FileAugmentation(
            tuple(settings["scale"]), tuple(settings["ratio"]),
            "random" if options.interpolation == "auto" else options.interpolation, settings["flip"] != "none",
            options.color_jitter, options.auto_augment, options.augment, options.reprob, options.remode,
            options.repeated_aug, options.seed)
        kind = StreamTrainLoader if isinstance(training, StreamDataset) else FileTrainLoader
        loader = kind(
            training, options.batch_size, mean, std, device, settings["image_size"], how, workers, rank, processes)
        said = f"decoded as they are needed, by {workers} worker{'s' * (workers != 1)} a process"
        if isinstance(training, StreamDataset):
            said += f"; {training.sharing(processes)}"
    else:
        loader = TrainLoader(
            training, options.batch_size, mean, std, device,
            Augmentation(settings["crop_padding"], settings["flip"], options.cutout, options.augment, options.seed),
            rank, processes)
        said = f"{math.ceil(training.images.nbytes / 2**20):,} MiB"
    _log.info("%s images %s: %s", f"{len(training):,}", _where(training), said)
    share = loader.batch_size // processes
    if (options.mixup or options.cutmix) and share % 2:
        raise UserError(f"mixup and CutMix mix two by two: {share} images a process won't do, choose an even number")
    return loader
