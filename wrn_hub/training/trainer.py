"""The trainer: prepare, then epochs, each measured and kept, then finish; by Accelerate on one process or many."""
import logging
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import gather_object, set_seed
from timm.scheduler.scheduler import Scheduler
from timm.utils import ModelEmaV3, distribute_bn
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..data.file_loader import FileTrainLoader
from ..data.loader import TrainLoader
from ..errors import Stopped, UserError, first_line
from ..evaluation.logits import dataset_logits
from ..evaluation.memory import is_out_of_memory
from ..facts import DATASETS
from ..kernels.winograd import winograd
from ..models.build import ModelSource, compiled
from ..processes import accelerator_for, fast_precision, process_state, use_cores
from . import checkpoint
from .distill import Teacher
from .folder import claimed, read_settings, write_metrics, write_settings
from .interrupt import STOP, Interrupt
from .memory import out_of_memory
from .module import adopt, keep_model, name_of, own_size, with_own
from .options import CUDA_GRAPHS, TrainOptions
from .parts import build_model, build_optimizer, schedule, uses_winograd
from .pipeline import Images, TrainImages, drawn, load_images, make_loader, side_of, side_of_given, workers_for
from .report import Progress, banner, epoch_line, heard
from .settings import changes, check_resumed, resolved
from .state import RunState, check_saved
from .trackers import make_trackers
from .update import Loss, Update

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
        model: The net that was measured and kept, in evaluation mode: with ``ema_decay`` the moving average.
        loading: A line of Python that loads it from the folder.
        test_images: How many were drawn from the test split; 0 where it was measured on as a whole, or not at all.
    """

    folder: Path
    accuracy: float
    measured: str
    seconds: float
    model: nn.Module
    loading: str
    test_images: int = 0

    def summary(self) -> str:
        """Two lines for the screen: how good, how long, and how to load the model."""
        some = f" on {self.test_images:,} images drawn from the test split" if self.test_images else ""
        return (
            f"{self.measured.replace('_', '-')} accuracy {self.accuracy:.2%}{some} in {self.seconds:.0f} s\n"
            f"{self.loading} loads the model")


@dataclass
class Run:
    """A training that is ready to begin, or to go on.

    Attributes:
        options: As they were given.
        settings: With nothing left to be chosen; what args.json holds.
        run_id: Stays the same when the run is resumed.
        folder: Where it is kept.
        accelerator: Device, precision, processes, trackers.
        interrupt: When to save or stop.
        training: Images to train on.
        loader: Batches of them.
        test: Images to measure on.
        sizes: Side of the images in pixels, for each epoch.
        net: The state's model as steps go through it, compiled and spread over the processes.
        state: What a checkpoint holds.
        scheduler: Of the learning rate.
        update: What is done with a batch.
        updates: Updates an epoch.
    """

    options: TrainOptions
    settings: dict[str, Any]
    run_id: str
    folder: Path
    accelerator: Accelerator
    interrupt: Interrupt
    training: TrainImages
    loader: TrainLoader | FileTrainLoader
    test: Images
    sizes: list[int]
    net: nn.Module
    state: RunState
    scheduler: Scheduler
    update: Update
    updates: int

    @property
    def measured(self) -> str:
        """What the accuracy is of: "test" or "held_out"."""
        return "held_out" if self.options.held_out else "test"

    @property
    def measured_on(self) -> str:
        """The same, in words after their number."""
        if self.options.held_out:
            return "held out of the training split"
        return "drawn from the test split" if self.options.test_images else "of the test split"


def train(
    options: TrainOptions,
    recipe: str | None = None,
    data: tuple[Images, Images] | None = None,
    after_step: Callable[[], None] | None = None,
    *,
    model: nn.Module | None = None,
    loss: Loss | None = None,
) -> TrainResult:
    """Train a model as the options say; see :class:`TrainOptions`.

    In the output folder stand afterwards ``args.json``, ``metrics.csv`` (a row an epoch), the log of a tracker, the
    last two checkpoints, and ``model/``, which ``timm.create_model("local-dir:OUTPUT/model", pretrained=True)`` loads.

    Args:
        options: Everything that decides the result.
        recipe: Name of the recipe that the options come from, for the record.
        data: Images to train on and to measure on, in place of the dataset that the options name. Those in memory are
            of one side, which ``image_size`` is by default, and are looked at as they are.
        after_step: Called after every step; what it raises ends the training.
        model: Any module that takes images float32 (B, 3, H, W), normalised, and returns logits (B, classes), in place
            of the net that the options name. It is trained in place. Its ``pretrained_cfg``, where it has one, says how
            images are normalised.
        loss: ``loss(model, images, labels)``, in place of the cross entropy: see :data:`wrn_hub.training.update.Loss`.
            It is called once a batch (twice with SAM) under the options' precision, with torch's generators seeded by
            seed, epoch and step, so that a run is resumed bit for bit unless the loss keeps something of its own.
            ``label_smoothing`` is 0 then.

    Both are on record by their names: to go on with a run, give them again.

    Raises:
        UserError: bad options or data, of which nothing has been written then; a folder in which another process
            trains; a loss that became nan or inf; too little memory.
        Stopped: SIGTERM or Ctrl-C came; the state is saved.
    """
    started = time.perf_counter()
    options = with_own(options, model, loss)
    use_cores(options.threads)
    claim, lines = claimed(options, process_state()), heard(process_state().is_main_process)
    with Interrupt(options.checkpoint_minutes) as interrupt, _in_one_line(options), lines, claim as folder:
        run = prepare(options, recipe, folder, interrupt, data, model, loss)
        for number in range(len(run.state.history), options.epochs):
            row = epoch(run, number, after_step)
            if (number + 1) % options.eval_every == 0 or number + 1 == options.epochs:
                row |= measure(run)
            keep(run, row)
        accuracy, loading = finish(run, own=model is not None)
    return TrainResult(
        folder, accuracy, run.measured, time.perf_counter() - started, run.state.result, loading, options.test_images)


@contextmanager
def _in_one_line(options: TrainOptions) -> Iterator[None]:
    """Errors of torch and of Python that a user can mend, in one line."""
    try:
        yield
    except UserError:
        raise
    except (RuntimeError, MemoryError) as error:  # elsewhere than in a step
        if not is_out_of_memory(error):
            raise
        raise UserError(
            f"out of memory ({first_line(error)}): the images, the model and a batch have to fit at the "
            "same time; try a smaller --image-size, --batch-size or --model") from error
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise UserError(
            f"batch_size = {options.batch_size}: too few values a channel for BatchNorm, whose features are of one "
            "pixel; use a larger batch or larger images") from error


# -- prepare ----------------------------------------------------------------------------------------------------------


def prepare(
    options: TrainOptions, recipe: str | None, folder: Path, interrupt: Interrupt,
    data: tuple[Images, Images] | None, own: nn.Module | None = None, loss: Loss | None = None,
) -> Run:
    """Put a run together, as new or as its newest checkpoint left it; what is wrong with it is found here.

    Args:
        options: As given.
        recipe: As given.
        folder: Of the run, which nobody else works in.
        interrupt: Started when all is ready.
        data: As given.
        own: The model, as given.
        loss: As given.
    """
    device = process_state().device
    precision = fast_precision(device) if options.precision == "auto" else options.precision
    saved = checkpoint.load_newest(folder / "checkpoints") if options.resume else None
    if saved is not None:
        check_saved(saved, checkpoint.newest(folder / "checkpoints") or folder)
    run_id = saved["run_id"] if saved else uuid.uuid4().hex[:8]
    accelerator = accelerator_for(precision, log_with=make_trackers(options.report_to, folder, run_id) or None)
    check_processes(options, accelerator, folder, saved)
    set_seed(options.seed)
    torch.backends.cudnn.benchmark = True  # shapes stay the same for thousands of steps

    source = ModelSource.parse(options.model) if own is None else ModelSource(options.model, {})
    size = options.image_size or (source.size if own is None else own_size(own))
    size = side_of_given(options, data, size) if data else size
    before = (saved.get("settings") or read_settings(folder)) if saved else None  # older checkpoints don't carry them
    training, test = drawn(options, *(data or load_images(options, size, folder, before)))
    size = size or side_of(training)
    options = replace(options, dataset=training.name) if data else options
    model = build_model(source, options, training, size) if own is None else adopt(own, options, training, size)
    by_winograd = uses_winograd(options, precision, device)
    settings = resolved(options, recipe, source, model, training, test, accelerator, precision, by_winograd)
    settings |= {key: name_of(given) for key, given in (("module", own), ("loss", loss)) if given is not None}
    if saved and before:
        _compare(settings, before, saved)
    loader = make_loader(options, settings, training, accelerator)
    updates = -(-len(loader) // options.accumulate)

    optimizer = build_optimizer(model, options)
    scheduler = schedule(optimizer, options, updates)
    if options.channels_last:
        model = model.to(memory_format=torch.channels_last)
    model = model.to(device)
    if by_winograd:
        winograd(model)
    ema = ModelEmaV3(model, decay=options.ema_decay) if options.ema_decay else None
    teachers = [
        Teacher(name, model, training.classes, device, options.teacher_size == "own") for name in options.teacher]
    if by_winograd:
        for teacher in teachers:
            winograd(teacher.model)
    net, optimizer = accelerator.prepare(compiled(model, options.compile), optimizer)
    state = RunState(
        model, ema, optimizer, accelerator.scaler, torch.zeros(len(loader), device=device),
        torch.zeros((), dtype=torch.long, device=device))
    if saved:
        state.load_state_dict(saved, accelerator.process_index)

    parts = options.progressive_sizes or (size,)
    sizes = [parts[number * len(parts) // options.epochs] for number in range(options.epochs)]
    update = Update(options, accelerator, model, optimizer, len(training.classes), teachers, loss)
    run = Run(
        options, settings, run_id, folder, accelerator, interrupt, training, loader, test, sizes, net, state, scheduler,
        update, updates)
    _begin_record(run)
    if accelerator.is_main_process:
        measured = f"{len(test):,} {run.measured_on}"
        _log.info("%s", banner(options, settings, model, loader, sizes, measured, folder))
        if saved:
            _log.info("goes on after epoch %d, step %d", len(state.history), state.step)
    interrupt.start(accelerator, folder)
    return run


def check_processes(
    options: TrainOptions, accelerator: Accelerator, folder: Path, saved: dict[str, Any] | None
) -> None:
    """Refuse what can't be done by this number of processes, and say where there is nothing to resume.

    Args:
        options: As given.
        accelerator: Knows the processes.
        folder: Of the run.
        saved: Its newest checkpoint's state, if there is one.

    Raises:
        UserError: names the number, or the folder that the processes don't share.
    """
    processes = accelerator.num_processes
    if processes > 1 and options.compile in CUDA_GRAPHS:
        # the gradients lie in the graphs' own memory, where the next step may be written while they are still shared
        raise UserError(
            f"compile = {options.compile!r}: CUDA graphs are for one process, not {processes}; use --compile default")
    here = (len(saved["history"]), saved["step"]) if saved else None
    if processes > 1 and len(set(gather_object([here]))) > 1:
        raise UserError(f"{folder} isn't the same folder for every process: name one that all machines see")
    if saved and saved["step"] and len(saved["processes"]) != processes:
        raise UserError(
            f"{folder} was saved within an epoch by {len(saved['processes'])} processes: go on with as many")
    if options.resume and not saved and accelerator.is_main_process:
        _log.warning("%s holds no whole checkpoint; starting from the beginning", folder)


def _compare(settings: dict[str, Any], before: dict[str, Any], saved: dict[str, Any]) -> None:
    """Refuse to resume another run, and take over what the settings keep from its beginning."""
    check_resumed(before, settings)
    settings["changes"] = changes(before, settings, len(saved["history"]), saved["step"])
    settings["start_weights_sha256"] = before.get("start_weights_sha256")


def _begin_record(run: Run) -> None:
    """The first files of a run; of a resumed one, as its checkpoint left it, whatever it has lost since."""
    if run.accelerator.is_main_process:
        write_settings(run.folder, run.settings)
        if run.state.history:
            write_metrics(run.folder, run.state.history)
    run.accelerator.init_trackers("wrn_hub")
    for tracker in run.accelerator.trackers:
        if tracker.name != "tensorboard":  # which would show the settings as a run beside the run
            tracker.store_init_configuration(run.settings)


# -- epoch ------------------------------------------------------------------------------------------------------------


def epoch(run: Run, number: int, after_step: Callable[[], None] | None) -> dict[str, Any]:
    """Train for an epoch, or for what is left of one, and return its row of the curve.

    Args:
        run: Whose.
        number: Of the epoch, from 0.
        after_step: Called after every step.
    """
    state, loader, accumulate = run.state, run.loader, run.options.accumulate
    state.begin_epoch()
    _set_modes(state.model, run.options.freeze)
    run.scheduler.step_update(number * run.updates + state.step // accumulate)
    batches = Progress(
        loader.epoch(number, run.sizes[number], state.step), f"epoch {number + 1}/{run.options.epochs}", state.step,
        len(loader), run.accelerator.is_main_process)
    for step, (images, labels) in enumerate(batches, start=state.step):
        last = train_step(run, number, step, images, labels)
        if last and run.interrupt.wish() and step + 1 < len(loader):
            mean_losses(run, step + 1)  # what is saved has to be worth it
            path = save(run, step + 1)
            if run.interrupt.wished == STOP:
                raise _stopped(run, step + 1, path)
        batches.show(step + 1, partial(_progress, run, step + 1, len(labels)))
        if after_step:
            after_step()

    losses = mean_losses(run, len(loader))
    if run.accelerator.num_processes > 1:  # each process has seen other images: agree on BatchNorm's statistics
        distribute_bn(state.model, run.accelerator.num_processes, reduce=True)
        if state.ema:
            distribute_bn(state.ema.module, run.accelerator.num_processes, reduce=True)
    images_seen = len(loader) * loader.batch_size
    return {
        "epoch": number + 1,
        "lr": state.optimizer.param_groups[-1]["lr"],
        "size": run.sizes[number],
        "train_loss": float(losses.mean()),
        "train_accuracy": float(run.accelerator.reduce(state.correct.float(), "sum")) / images_seen,
        "images_per_second": images_seen / state.elapsed(),
    }


def train_step(run: Run, number: int, step: int, images: torch.Tensor, labels: torch.Tensor) -> bool:
    """Forward and backward for a batch, and an update where it is its last one; returns whether it was.

    Args:
        run: Whose.
        number: Of the epoch, from 0.
        step: Of the epoch, from 0.
        images: float32 (B, 3, H, W), channels_last.
        labels: int64 (B,).
    """
    options, state = run.options, run.state
    first = step - step % options.accumulate
    batches = min(options.accumulate, len(run.loader) - first)  # of this update; an epoch's last has what is left
    last = step + 1 == first + batches
    if not options.channels_last:
        images = images.contiguous()
    try:  # what comes out is on the device, and is copied there: nothing waits for it, no later step writes over it
        loss, hits = run.update(run.net, images, labels, (options.seed, number, step), last, batches)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise out_of_memory(options, len(images), run.accelerator.num_processes) from None
    state.losses[step] = loss
    state.correct += hits
    if last:
        update = number * run.updates + step // options.accumulate + 1
        if state.ema:
            state.ema.update(state.model, step=update)
        run.scheduler.step_update(update)
    return last


def _set_modes(model: nn.Module, freeze: bool) -> None:
    model.train()
    for module in model.modules() if freeze else ():
        if isinstance(module, _BatchNorm):  # keeps its statistics; dropout goes on
            module.eval()


def mean_losses(run: Run, steps: int) -> torch.Tensor:
    """The losses of the epoch's first steps, float32 (steps,), as means over the processes.

    Raises:
        UserError: one is nan or inf.
    """
    means = run.accelerator.reduce(run.state.losses[:steps].clone(), "mean")
    if not torch.isfinite(means).all():
        epochs, bad = len(run.state.history), int((~torch.isfinite(means)).nonzero()[0])
        run.scheduler.step_update(epochs * run.updates + bad // run.options.accumulate)
        good = checkpoint.newest(run.folder / "checkpoints")
        raise UserError(
            f"the loss became {float(means[bad])} in epoch {epochs + 1}, step {bad + 1}, at a learning rate "
            f"of {run.state.optimizer.param_groups[-1]['lr']:.3g}; the last good checkpoint is {good or 'none'}; lower "
            "--lr or raise --warmup")
    return means


def _progress(run: Run, steps: int, share: int) -> str:
    loss, accuracy = run.state.losses[:steps].mean(), run.state.correct / (steps * share)
    rate = steps * share * run.accelerator.num_processes / run.state.elapsed()
    return f"loss {loss:.3f}, accuracy {accuracy:.1%}, {rate:.0f} images/s"


# -- measure, keep, finish --------------------------------------------------------------------------------------------


def measure(run: Run) -> dict[str, float]:
    """Loss and accuracy, 0 to 1, on the images to measure on, by their names in the curve."""
    # without gradients, twice the batch needs less memory than a step did; never compiled: to compile for evaluation,
    # and again for the last batch, takes longer than what it saves here
    batch = min(500, 2 * run.options.batch_size)
    logits = dataset_logits(run.state.result, run.test, run.accelerator, batch, workers=workers_for(run.options))
    labels = torch.tensor(run.test.labels)
    return {
        f"{run.measured}_loss": float(F.cross_entropy(logits, labels)),
        f"{run.measured}_accuracy": float((logits.argmax(1) == labels).double().mean())}


def save(run: Run, step: int) -> Path | None:
    """Checkpoint after the epochs in the history and ``step`` steps; the main process writes, and says where."""
    saved = {"run_id": run.run_id, "settings": run.settings, **run.state.state_dict(step)}
    path = None
    if run.accelerator.is_main_process:
        path = checkpoint.save(run.folder / "checkpoints", len(run.state.history), saved, step)
    run.interrupt.saved()
    return path


def _stopped(run: Run, step: int, path: Path | None) -> Stopped:
    epochs = len(run.state.history)
    where = f"in epoch {epochs + 1} after step {step}" if step else f"after epoch {epochs}"
    return Stopped(
        f"stopped by {run.interrupt.by} {where}; saved {path}; go on with the same command and --output {run.folder} "
        "--resume", run.interrupt.signal or signal.SIGTERM)


def keep(run: Run, row: dict[str, Any]) -> None:
    """Put an epoch on record, save where it is due, and stop where that was wished."""
    epochs, done = run.options.epochs, row["epoch"]
    row["seconds"] = run.state.elapsed()
    run.state.end_epoch(row)
    wished = run.interrupt.wished
    path = save(run, 0) if wished or done in (1, epochs) else None
    if run.accelerator.is_main_process:
        write_metrics(run.folder, run.state.history)
        pixels = sum(later**2 for later in run.sizes[done:])  # which is what an epoch's time goes by
        left = row["seconds"] * pixels / row["size"] ** 2
        _log.info("%s", epoch_line(row, run.measured, epochs, left))
    run.accelerator.log(row, step=done)
    if wished == STOP and done < epochs:
        raise _stopped(run, 0, path)


def finish(run: Run, own: bool = False) -> tuple[float, str]:
    """Write the model, close the trackers, and return the accuracy after the last epoch and how the model is loaded.

    Args:
        run: Whose.
        own: Whether the model was brought as a module.
    """
    run.accelerator.unwrap_model(run.net, keep_fp32_wrapper=False)  # the net computes in its own precision again
    result, loading = run.state.result.eval(), ""
    if run.accelerator.is_main_process:
        tag = run.training.name if run.training.name in DATASETS else None
        loading = keep_model(result, own, run.folder / "model", tag, run.training.classes)
    for tracker in run.accelerator.trackers:
        tracker.finish()
    run.accelerator.wait_for_everyone()
    return run.state.history[-1][f"{run.measured}_accuracy"], loading
