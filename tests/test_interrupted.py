"""Runs that are killed, stopped or damaged, and go on as if nothing had been; with one process and with two."""
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from forks import Fork, ended_well, two
from safetensors.torch import load_file

from wrn_hub.commands.cli import run
from wrn_hub.data import load_dataset
from wrn_hub.errors import Stopped, UserError
from wrn_hub.files import locked
from wrn_hub.processes import process_state
from wrn_hub.training import checkpoint, interrupt
from wrn_hub.training.finetune import versus_scratch
from wrn_hub.training.folder import claimed
from wrn_hub.training.options import TrainOptions
from wrn_hub.training.trainer import TrainResult, train
from wrn_hub.weights import file_sha256

ROOT = Path(__file__).resolve().parent.parent


def start(options: TrainOptions, first: str = "") -> Fork:
    """The training in a process of its own, as scripts/train.py runs it, after some code of the test."""
    return Fork("-c", (
        f"{first}\nfrom wrn_hub.commands.cli import run; from wrn_hub.training.trainer import train; "
        f"from wrn_hub.training.options import TrainOptions; run(lambda: train(TrainOptions(**{vars(options)!r})))"))


def typed(options: TrainOptions) -> list[str]:
    """The command that trains so."""
    words = [str(ROOT / "scripts" / "train.py")]
    for item in fields(options):
        value, flag = getattr(options, item.name), "--" + item.name.replace("_", "-")
        if value is True:
            words.append(flag)
        elif value != item.default:
            words += [flag, str(value)]
    return words


def wait_for_checkpoint(process: Fork | subprocess.Popen, options: TrainOptions, after: Path | None = None) -> Path:
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


class Enough(Exception):
    """Ends a training from within, as little prepared for it as a kill."""


def train_steps(options: TrainOptions, steps: int, **kwargs) -> None:
    """Train, and end after so many steps."""
    done = iter(range(1, steps + 1))

    def after_step() -> None:
        if next(done) == steps:
            raise Enough

    with pytest.raises(Enough):
        train(options, after_step=after_step, **kwargs)


def rewrite_newest(options: TrainOptions, change) -> dict:
    """Put what ``change`` makes of the newest checkpoint in the place of all; returns what it was."""
    folder = Path(options.output, "checkpoints")
    state = checkpoint.load_newest(folder)
    shutil.rmtree(folder)
    checkpoint.save(folder, len(state["history"]), change(state), state["step"])
    return state


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
    process.wait()
    train(replace(killed, resume=True))
    assert_same(whole.folder, killed.output)


def test_threads_that_compute_together_give_the_same_bits_again(short):
    short = replace(short, threads=2, epochs=1, batch_size=24)
    whole, stopped = train(short), replace(short, output=short.output + "-stopped")
    train_steps(stopped, 2)
    train(replace(stopped, resume=True))
    assert_same(whole.folder, stopped.output)


def test_a_run_killed_while_it_saves_goes_on_from_the_checkpoint_before(options, whole):
    killed = replace(options, output=options.output + "-killed")
    process = start(killed, first=(
        "import itertools, os, signal; fsync, calls = os.fsync, itertools.count(1)\n"
        "os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL) if next(calls) == 5 else fsync(file)"))
    assert process.wait() == -signal.SIGKILL
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
    assert process.wait() == 143
    said = process.err()
    assert "stopped by SIGTERM" in said and f"--output {stopped.output} --resume" in said
    train(replace(stopped, resume=True))
    assert_same(whole.folder, stopped.output)


def test_two_processes_killed_stopped_and_resumed_equal_two_never_stopped(options):
    """SIGKILL for all of them within an epoch, later SIGTERM for a launcher, which passes it on."""
    options = replace(options, epochs=3)
    environment = {"OMP_NUM_THREADS": "1", "ACCELERATE_MIXED_PRECISION": "no"}  # as the launcher sets it
    ended_well(*two(*typed(options), **environment))

    killed = replace(options, output=options.output + "-killed")
    processes = two(*typed(killed), **environment)
    first = wait_for_checkpoint(processes[0], killed)
    for process in processes:
        process.kill()
    for process in processes:
        process.wait()
    assert not Path(killed.output, "model").exists()

    resumed = replace(killed, resume=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
         "--main_process_port", "0", *typed(resumed)],
        env={**os.environ, **environment, "ACCELERATE_USE_CPU": "true"}, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True)
    wait_for_checkpoint(process, killed, after=checkpoint.newest(first.parent))
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=240)
    assert process.returncode != 0 and "stopped by SIGTERM" in said, said

    ended_well(*two(*typed(resumed), **environment))
    assert_same(options.output, killed.output)


def test_several_processes_are_not_resumed_by_another_number_within_an_epoch(options):
    stopped = replace(options, epochs=1)
    process = start(stopped)
    wait_for_checkpoint(process, stopped)
    process.kill()
    process.wait()
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
        assert process.poll() is None, process.err()
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    process.wait()
    assert f"--output {options.output} --resume" in process.err(), process.err()
    _, scratch = versus_scratch(replace(options, resume=True))
    assert scratch.folder == Path(f"{options.output}-scratch") and (scratch.folder / "model").is_dir()


def test_a_run_is_not_resumed_with_other_settings(options):
    train(replace(options, epochs=1))
    with pytest.raises(UserError, match=r"other settings than the run's: epochs = 2 \(was 1\), lr = 0.1 \(was 0.05\)"):
        train(replace(options, epochs=2, lr=0.1, resume=True))


@pytest.fixture
def short(options) -> TrainOptions:
    """Three epochs of six steps with a checkpoint after each, plain."""
    return replace(
        options, epochs=3, block_drop_rate=None, ema_decay=0.0, augment="none", mixup=0.0, cutmix=0.0, accumulate=1,
        optimizer="sgd")


def test_a_run_is_not_resumed_with_other_images_or_classes(short, colours):
    training, test = (load_dataset(str(colours), split, size=8) for split in ("train", "test"))
    train_steps(short, 8, data=(training, test))

    def resumed_with(training=training, test=test):
        train(replace(short, resume=True), data=(training, test))

    changed = training.images.copy()
    changed[5, 0, 0, 0] ^= 1
    with pytest.raises(UserError, match=r"the run's: images = 60 \(was 72\)"):
        resumed_with(training.subset(np.arange(60)))
    with pytest.raises(UserError, match="the run's: the training images or their labels have changed; give the same"):
        resumed_with(replace(training, images=changed))
    with pytest.raises(UserError, match="the images to measure on or their labels have changed"):
        resumed_with(test=replace(test, labels=test.labels[::-1].copy()))
    with pytest.raises(UserError, match=r"the run's: class 1 = verde \(was green\); give the same"):
        resumed_with(replace(training, classes=("blue", "verde", "red")))
    resumed_with()


def test_the_checkpoint_of_another_run_in_the_folder_is_not_gone_on_with(short):
    """Whatever args.json says."""
    other = replace(short, lr=0.01, output=short.output + "-other")
    train_steps(short, 8)
    train_steps(other, 8)
    shutil.rmtree(Path(short.output, "checkpoints"))
    shutil.copytree(Path(other.output, "checkpoints"), Path(short.output, "checkpoints"))
    with pytest.raises(UserError, match=r"the run's: lr = 0.05 \(was 0.01\)"):
        train(replace(short, resume=True))


def test_a_checkpoint_of_the_older_format_is_gone_on_with_bit_for_bit(options, whole):
    """Which had neither the settings nor what they came to have since."""
    stopped = replace(options, output=options.output + "-stopped")
    train_steps(stopped, 8)
    old = ("run_id", "model", "optimizer", "history", "step", "seconds", "ema", "processes")
    state = rewrite_newest(stopped, lambda state: {key: state[key] for key in old})
    assert set(state) == {*old, "settings"} and state["step"] == 2
    settings = Path(stopped.output, "args.json")
    new = ("class_names", "train_fingerprint", "test_fingerprint", "start_weights_sha256", "changes",
           "allow_other_hardware")
    known = {key: value for key, value in json.loads(settings.read_text()).items() if key not in new}
    for damaged, says in (("{", "json: not JSON"), ("[]", "json: holds a list"), (None, "json: No such file")):
        settings.unlink() if damaged is None else settings.write_text(damaged)
        with pytest.raises(UserError, match=says):
            train(replace(stopped, resume=True))
    settings.write_text(json.dumps({**known, "teacher": None}))  # it may be of one teacher at most, or of none
    with pytest.raises(UserError, match=r"lr = 0.1 \(was 0.05\)"):
        train(replace(stopped, lr=0.1, resume=True))
    train(replace(stopped, resume=True))
    assert_same(whole.folder, stopped.output)


def test_a_checkpoint_of_another_net_is_refused_in_one_line(short):
    train_steps(short, 8)
    rewrite_newest(short, lambda state: {**state, "model": {"weight": torch.zeros(1)}})
    with pytest.raises(UserError, match="newest checkpoint is of another net or optimizer"):
        train(replace(short, resume=True))


def test_a_damaged_args_json_is_mended_from_the_checkpoint(short):
    train_steps(short, 8)
    settings = Path(short.output, "args.json")
    known = json.loads(settings.read_text())
    settings.write_text("{")
    train(replace(short, resume=True))
    assert json.loads(settings.read_text()) == {**known, "resume": True}


def test_on_other_hardware_a_run_goes_on_where_that_is_asked_for_and_it_is_on_record(short):
    """Here another precision stands for it."""
    train_steps(short, 8)
    other = replace(short, precision="bf16", resume=True)
    with pytest.raises(UserError, match=r"precision = bf16 \(was fp32\).*a new output or --allow-other-hardware$"):
        train(other)
    allowed = replace(other, allow_other_hardware=True)
    with pytest.raises(UserError, match=r"the run's: lr = 0.2 \(was 0.05\); give the same, a new output$"):
        train(replace(allowed, lr=0.2))
    train_steps(allowed, 3)
    train(replace(short, resume=True, allow_other_hardware=True))
    found = json.loads(Path(short.output, "args.json").read_text())["changes"]
    assert [(entry["epochs"], entry["step"]) for entry in found] == [(1, 2), (1, 5)]
    assert [(entry["before"]["precision"], entry["after"]["precision"]) for entry in found] == [
        ("fp32", "bf16"), ("bf16", "fp32")]


def test_the_weights_that_a_run_starts_from_are_on_record(short):
    first = train(replace(short, epochs=1))
    assert json.loads((first.folder / "args.json").read_text())["start_weights_sha256"] is None
    tuned = replace(short, model=str(first.folder / "model"), output=short.output + "-tuned")
    expected = file_sha256(first.folder / "model" / "model.safetensors")
    train_steps(tuned, 8)
    assert json.loads(Path(tuned.output, "args.json").read_text())["start_weights_sha256"] == expected


def test_the_curve_is_whole_though_the_run_was_killed_before_its_last_row(short):
    train(short)
    curve = Path(short.output, "metrics.csv")
    rows = curve.read_text()
    curve.write_text("".join(rows.splitlines(keepends=True)[:-1]))
    train(replace(short, resume=True))
    assert curve.read_text() == rows.replace("\r\n", "\n")


def test_the_first_epoch_ends_in_a_checkpoint(short):
    train_steps(replace(short, checkpoint_minutes=60.0), 8)
    assert checkpoint.newest(Path(short.output, "checkpoints")).name.startswith("epoch-00001.000000-")


# Ctrl-C

def interrupted(options: TrainOptions, times: int = 1) -> Stopped:
    def after_step() -> None:
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises((Stopped, KeyboardInterrupt)) as stop:
        train(options, after_step=after_step)
    return stop.value


def test_ctrl_c_saves_and_says_how_to_go_on(short):
    plain, stopped = train(short), replace(short, output=short.output + "-stopped", checkpoint_minutes=60.0)
    stop = interrupted(stopped)
    assert str(stop).startswith("stopped by Ctrl-C in epoch 1 after step 2; saved ")
    assert str(stop).endswith(f"--output {stopped.output} --resume")
    train(replace(stopped, resume=True))
    assert_same(plain.folder, stopped.output)

    def again():
        raise stop

    with pytest.raises(SystemExit) as ended:
        run(again)
    assert ended.value.code == 130


def test_ctrl_c_tells_at_once_how_to_go_on(short, capfd):
    """Before the state is saved: accelerate launch with one process leaves within a quarter of a second."""
    interrupted(short)
    assert f"the same command with --output {short.output} --resume goes on" in capfd.readouterr().err


def test_a_closed_terminal_saves_too(short):
    """Which ssh's end is; nohup keeps it away."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may be started by it
    with pytest.raises(Stopped, match="stopped by the end of its terminal in epoch 1 after step 2; saved ") as stop:
        train(replace(short, checkpoint_minutes=60.0), after_step=lambda: os.kill(os.getpid(), signal.SIGHUP))
    assert stop.value.signal == signal.SIGHUP and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
    assert checkpoint.newest(Path(short.output, "checkpoints")).name.startswith("epoch-00000.000002-")


def test_ctrl_c_under_a_launcher_of_one_process_loses_nothing(short):
    """The launcher ends at once and not well; the training, in its group, saves and says how to go on."""
    arguments = [
        "--model", short.model, "--dataset", short.dataset, "--image-size", "8", "--crop-padding", "1",
        "--epochs", "20", "--batch-size", "12", "--precision", "fp32", "--checkpoint-minutes", "60", "--threads", "1",
        "--output", short.output]
    process = subprocess.Popen(
        [sys.executable, "-m", "accelerate.commands.launch", "--config_file",
         str(ROOT / "scripts" / "accelerate" / "one_process.yaml"), str(ROOT / "scripts" / "train.py"), *arguments],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # which in the background is ignored
    wait_for_checkpoint(process, short)  # that of the first epoch
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=120)  # until the training has closed its end too
    assert process.returncode != 0
    told = [line for line in said.splitlines() if "stopped by Ctrl-C in epoch" in line]  # before the launcher, or after
    assert len(told) == 1 and told[0].endswith(f"{short.output} --resume"), said
    assert train(replace(short, epochs=20, lr=0.2, checkpoint_minutes=60.0, resume=True)).accuracy > 0.8


def test_ctrl_c_again_ends_at_once_unless_a_launcher_only_passed_it_on(short, monkeypatch):
    assert isinstance(interrupted(short, times=2), Stopped)
    monkeypatch.setattr(interrupt, "_ECHO", 0.0)
    assert isinstance(interrupted(replace(short, output=short.output + "2"), times=2), KeyboardInterrupt)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# two at once

def test_nobody_trains_in_the_folder_of_a_running_run(short):
    said = []

    def after_step() -> None:
        for options in (short, replace(short, resume=True)):
            with pytest.raises(UserError) as error:
                train(options)
            said.append(str(error.value))
        raise Enough

    with pytest.raises(Enough):
        train(short, after_step=after_step)
    assert all(line.startswith(f"{short.output} is in use by process {os.getpid()} on ") for line in said) and said
    train(replace(short, resume=True))  # whoever held the lock is gone


def test_two_runs_at_once_have_two_folders_and_what_stays_empty_goes(short, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    unnamed = replace(short, output=None, dataset="sample")
    with claimed(unnamed, process_state()) as first, claimed(unnamed, process_state()) as second:
        assert [str(first), str(second)] == ["runs/wrn_10_2.sample.1", "runs/wrn_10_2.sample.2"]
        (first / "args.json").write_text("{}")
    assert [path.name for path in Path("runs").iterdir()] == ["wrn_10_2.sample.1"]
    with pytest.raises(UserError, match="no model of this name"):
        train(replace(short, model="none", output="some/where"))
    assert not Path("some").exists()


def test_the_lock_of_a_run_that_was_killed_keeps_nobody_out(short):
    holder = subprocess.Popen(
        [sys.executable, "-c", "import sys, time; from pathlib import Path; from wrn_hub.files import locked\n"
         "Path(sys.argv[1]).mkdir()\nwith locked(sys.argv[1] + '/.lock'): print('held', flush=True); time.sleep(600)",
         short.output], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(UserError, match=f"in use by process {holder.pid} on "):
        train(short)
    holder.kill()
    holder.wait()
    with claimed(short, process_state()) as folder, pytest.raises(UserError), locked(folder / ".lock", wait=False):
        pass
    holder.stdout.close()


# damage

def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(tmp_path, caplog):
    for epoch in (1, 2, 3):
        newest = checkpoint.save(tmp_path, epoch, {"epoch": epoch, "weights": torch.ones(3) * epoch})
    assert len(list(tmp_path.iterdir())) == 2
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    assert checkpoint.load_newest(tmp_path)["epoch"] == 2
    assert newest.name in caplog.text


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_damaged_checkpoints_are_set_aside_and_no_new_one_is_dropped_for_them(tmp_path):
    kept = [checkpoint.save(tmp_path, epoch, {"epoch": epoch}) for epoch in (7, 8)]
    for path in kept:
        damage(path)
    assert checkpoint.load_newest(tmp_path) is None
    again = checkpoint.save(tmp_path, 1, {"epoch": 1})
    assert {path.name for path in tmp_path.iterdir()} == {again.name, *(f"{path.stem}.damaged" for path in kept)}
    assert checkpoint.load_newest(tmp_path)["epoch"] == 1


def test_files_of_others_among_the_checkpoints_are_left_alone(tmp_path):
    for name in ("epoch-1.pt", "epoch-.pt", "epoch-00009.000000-xyz.pt", "epoch-best-of-all.pt", "notes.txt"):
        (tmp_path / name).write_text("mine")
    (tmp_path / f"epoch-00009.000000-{'0' * 16}.pt").mkdir()
    assert checkpoint.newest(tmp_path) is None and checkpoint.load_newest(tmp_path) is None
    for epoch in (99_999, 100_000, 100_001):
        checkpoint.save(tmp_path, epoch, {"epoch": epoch})
    assert checkpoint.load_newest(tmp_path)["epoch"] == 100_001
    assert len(list(tmp_path.iterdir())) == 6 + 2
