"""Runs that are killed, stopped or damaged, and go on as if nothing had been; with one process and with two."""
import csv
import os
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file

from wrn_hub.data import load_dataset
from wrn_hub.errors import UserError
from wrn_hub.training import checkpoint
from wrn_hub.training.finetune import versus_scratch
from wrn_hub.training.options import TrainOptions
from wrn_hub.training.trainer import TrainResult, train

ROOT = Path(__file__).resolve().parent.parent


def start(options: TrainOptions, first: str = "") -> subprocess.Popen:
    """The training in a process of its own, as scripts/train.py runs it, after some code of the test."""
    script = (
        f"{first}\nfrom wrn_hub.commands.cli import run; from wrn_hub.training.trainer import train; "
        f"from wrn_hub.training.options import TrainOptions; run(lambda: train(TrainOptions(**{vars(options)!r})))")
    return subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)


def start_two(options: TrainOptions) -> subprocess.Popen:
    """The training in two processes, as a user starts it."""
    arguments = []
    for item in fields(options):
        value, flag = getattr(options, item.name), "--" + item.name.replace("_", "-")
        if value is True:
            arguments.append(flag)
        elif value != item.default:
            arguments += [flag, str(value)]
    return subprocess.Popen(
        [sys.executable, "-m", "accelerate.commands.launch", "--config_file",
         str(ROOT / "scripts" / "accelerate" / "two_cpu_processes.yaml"), "--main_process_port", "0",
         str(ROOT / "scripts" / "train.py"), *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def wait_for_checkpoint(process: subprocess.Popen, options: TrainOptions, after: Path | None = None) -> Path:
    folder = Path(options.output, "checkpoints")
    while (newest := checkpoint.newest(folder)) in (None, after):
        assert process.poll() is None, "the run ended before it could be stopped"
        time.sleep(0.01)
    return newest


def without_times(curve: Path) -> list[dict[str, str]]:
    with open(curve) as file:
        return [{key: value for key, value in row.items() if key not in ("seconds", "images_per_second")}
                for row in csv.DictReader(file)]


def assert_same(whole: str, resumed: str) -> None:
    """Weights and curve, bit for bit."""
    expected, found = (load_file(Path(folder, "model", "model.safetensors")) for folder in (whole, resumed))
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    assert without_times(Path(whole, "metrics.csv")) == without_times(Path(resumed, "metrics.csv"))


@pytest.fixture
def whole(options) -> TrainResult:
    """Of a run that nobody stopped."""
    return train(options)


@pytest.fixture
def options(options) -> TrainOptions:
    """With all that draws at random or keeps a state."""
    return replace(
        options, epochs=6, block_drop_rate=0.2, ema_decay=0.9, augment="trivial", mixup=0.2, cutmix=1.0, accumulate=2,
        optimizer="muonsgd")


def test_a_killed_run_resumed_equals_one_never_stopped(options, whole):
    killed = replace(options, output=options.output + "-killed")
    process = start(killed)
    wait_for_checkpoint(process, killed)
    process.kill()
    process.communicate()
    train(replace(killed, resume=True))
    assert_same(whole.folder, killed.output)


def test_a_run_killed_while_it_saves_goes_on_from_the_checkpoint_before(options, whole):
    killed = replace(options, output=options.output + "-killed")
    process = start(killed, first=(
        "import itertools, os, signal; fsync, calls = os.fsync, itertools.count(1)\n"
        "os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL) if next(calls) == 5 else fsync(file)"))
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    folder = Path(killed.output, "checkpoints")
    assert len(list(folder.glob(".epoch-*"))) == 1, "nothing was half written"
    assert len(list(folder.glob("epoch-*"))) == 2

    train(replace(killed, resume=True))
    assert_same(whole.folder, killed.output)
    assert not list(folder.glob(".*"))


def test_sigterm_saves_and_says_how_to_go_on(options, whole):
    stopped = replace(options, output=options.output + "-stopped", checkpoint_minutes=60.0)
    process = start(stopped)
    while not Path(stopped.output, "args.json").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate()
    assert process.returncode == 143
    assert "stopped by SIGTERM" in said and f"--output {stopped.output} --resume" in said
    train(replace(stopped, resume=True))
    assert_same(whole.folder, stopped.output)


def test_two_processes_killed_stopped_and_resumed_equal_two_never_stopped(options):
    """SIGKILL for all of them within an epoch, later SIGTERM for the launcher, which passes it on."""
    options = replace(options, epochs=3)
    process = start_two(options)
    assert process.wait(240) == 0, process.stderr.read()

    killed = replace(options, output=options.output + "-killed")
    process = start_two(killed)
    first = wait_for_checkpoint(process, killed)
    for child in [*psutil.Process(process.pid).children(recursive=True), process]:
        child.kill()
    process.communicate()
    assert not Path(killed.output, "model").exists()

    resumed = replace(killed, resume=True)
    process = start_two(resumed)
    wait_for_checkpoint(process, killed, after=checkpoint.newest(first.parent))
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=240)
    assert process.returncode != 0 and "stopped by SIGTERM" in said, said

    process = start_two(resumed)
    assert process.wait(240) == 0, process.stderr.read()
    assert_same(options.output, killed.output)


def test_several_processes_are_not_resumed_by_another_number_within_an_epoch(options):
    stopped = replace(options, epochs=1)
    process = start(stopped)
    wait_for_checkpoint(process, stopped)
    process.kill()
    process.communicate()
    folder = Path(stopped.output, "checkpoints")
    state = checkpoint.load_newest(folder)
    checkpoint.save(folder, 0, {**state, "processes": state["processes"] * 2}, state["step"] + 1)
    with pytest.raises(UserError, match="saved within an epoch by 2 processes"):
        train(replace(stopped, resume=True))


def test_stopped_in_the_training_from_scratch_the_command_goes_on_with_both(options):
    options = replace(options, epochs=2, checkpoint_minutes=60.0)
    process = start(options, first=(
        "import wrn_hub.training.trainer as trainer; from wrn_hub.training.finetune import versus_scratch\n"
        "trainer.train = versus_scratch"))
    while not Path(f"{options.output}-scratch", "args.json").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate()
    assert f"--output {options.output} --resume" in said, said
    _, scratch = versus_scratch(replace(options, resume=True))
    assert scratch.folder == Path(f"{options.output}-scratch") and (scratch.folder / "model").is_dir()


def test_a_run_is_not_resumed_with_other_settings(options):
    train(replace(options, epochs=1))
    with pytest.raises(UserError, match=r"other settings than the run's: epochs = 2 \(was 1\), lr = 0.1 \(was 0.05\)"):
        train(replace(options, epochs=2, lr=0.1, resume=True))


def test_a_run_is_not_resumed_with_other_images(options, colours):
    training, test = (load_dataset(str(colours), split, size=8) for split in ("train", "test"))
    train(replace(options, epochs=1), data=(training, test))
    with pytest.raises(UserError, match=r"other settings than the run's: images = 60 \(was 72\)"):
        train(replace(options, epochs=1, resume=True), data=(training.subset(np.arange(60)), test))


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(tmp_path, caplog):
    for epoch in (1, 2, 3):
        newest = checkpoint.save(tmp_path, epoch, {"epoch": epoch, "weights": torch.ones(3) * epoch})
    assert len(list(tmp_path.iterdir())) == 2
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    assert checkpoint.load_newest(tmp_path)["epoch"] == 2
    assert newest.name in caplog.text
