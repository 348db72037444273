"""Training: what a run leaves behind, how it goes on after a kill, and what it says to bad input."""
import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file

import wrn_hub  # noqa: F401
from wrn_hub.data import load_dataset
from wrn_hub.errors import UserError
from wrn_hub.training import checkpoint
from wrn_hub.training.finetune import choose_lr, finetune_defaults
from wrn_hub.training.options import TrainOptions
from wrn_hub.training.trainer import schedule, train

ROOT = Path(__file__).resolve().parent.parent
COLOURS = {"blue": (20, 30, 200), "green": (30, 190, 40), "red": (210, 40, 30)}


@pytest.fixture(scope="session")
def colours(tmp_path_factory) -> Path:
    """An image folder that is easy to learn: 3 classes, 24 training and 7 test images each, of 8x8 pixels."""
    folder = tmp_path_factory.mktemp("colours")
    random = np.random.default_rng(0)
    for split, count in (("train", 24), ("test", 7)):
        for name, colour in COLOURS.items():
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.normal(colour, 30, (8, 8, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{number}.png")
    return folder


@pytest.fixture
def options(colours, tmp_path) -> TrainOptions:
    return TrainOptions(
        model="wrn_10_2", dataset=str(colours), image_size=8, epochs=4, batch_size=12, lr=0.05, crop_padding=1,
        precision="fp32", output=str(tmp_path / "run"), checkpoint_minutes=0)


def test_a_run_learns_and_leaves_a_model_that_timm_loads(options):
    result = train(options)
    assert result.accuracy > 0.9

    model = timm.create_model(f"local-dir:{result.folder / 'model'}", pretrained=True)
    assert model.num_classes == 3
    assert model.pretrained_cfg["label_names"] == ["blue", "green", "red"]

    with open(result.folder / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4]
    assert float(rows[-1]["test_accuracy"]) == result.accuracy
    assert float(rows[-1]["lr"]) == 0.0
    settings = json.loads((result.folder / "args.json").read_text())
    assert settings["epochs"] == 4 and settings["precision"] == "fp32" and "torch" in settings["versions"]


def test_the_same_seed_gives_the_same_weights_bit_for_bit(options):
    options = replace(options, epochs=1, block_drop_rate=0.2, cutout=3, augment="trivial")
    first = train(replace(options, output=options.output + "1"))
    again = train(replace(options, output=options.output + "2"))
    other = train(replace(options, output=options.output + "3", seed=1))
    weights = [load_file(result.folder / "model" / "model.safetensors") for result in (first, again, other)]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert not all(torch.equal(weights[0][key], weights[2][key]) for key in weights[0])


def start(options: TrainOptions) -> subprocess.Popen:
    """The training in a process of its own, as scripts/train.py runs it."""
    script = (
        "from wrn_hub.cli import run; from wrn_hub.training.trainer import train; "
        f"from wrn_hub.training.options import TrainOptions; run(lambda: train(TrainOptions(**{vars(options)!r})))")
    return subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)


def wait_for_checkpoint(process: subprocess.Popen, options: TrainOptions) -> None:
    while not list(Path(options.output, "checkpoints").glob("epoch-*.pt")):
        assert process.poll() is None, "the run ended before it could be stopped"
        time.sleep(0.01)


def without_times(curve: Path) -> list[dict[str, str]]:
    with open(curve) as file:
        return [{key: value for key, value in row.items() if key not in ("seconds", "images_per_second")}
                for row in csv.DictReader(file)]


def test_a_killed_run_resumed_equals_one_never_stopped(options):
    options = replace(options, epochs=6, block_drop_rate=0.2, ema_decay=0.9)
    whole = train(options)

    killed = replace(options, output=options.output + "-killed")
    process = start(killed)
    wait_for_checkpoint(process, killed)
    process.kill()
    process.communicate()

    resumed = train(replace(killed, resume=True))
    assert resumed.accuracy == whole.accuracy
    expected, found = (load_file(result.folder / "model" / "model.safetensors") for result in (whole, resumed))
    assert all(torch.equal(expected[key], found[key]) for key in expected)


def test_sigterm_saves_and_says_how_to_go_on(options):
    options = replace(options, epochs=6, block_drop_rate=0.2)
    whole = train(options)

    stopped = replace(options, output=options.output + "-stopped")
    process = start(stopped)
    wait_for_checkpoint(process, stopped)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate()
    assert process.returncode == 143
    assert "stopped by SIGTERM" in said and f"--output {stopped.output} --resume" in said

    resumed = train(replace(stopped, resume=True))
    expected, found = (load_file(result.folder / "model" / "model.safetensors") for result in (whole, resumed))
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    curves = [without_times(result.folder / "metrics.csv") for result in (whole, resumed)]
    assert curves[0] == curves[1]


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(tmp_path, caplog):
    for epoch in (1, 2, 3):
        newest = checkpoint.save(tmp_path, epoch, {"epoch": epoch, "weights": torch.ones(3) * epoch})
    assert len(list(tmp_path.iterdir())) == 2
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    assert checkpoint.load_newest(tmp_path, torch.device("cpu"))["epoch"] == 2
    assert newest.name in caplog.text


def test_a_finished_run_is_not_overwritten(options):
    train(replace(options, epochs=1))
    with pytest.raises(UserError, match="holds a run already"):
        train(options)


def test_progressive_sizes_share_the_epochs(options):
    result = train(replace(options, epochs=3, progressive_sizes=(4, 8)))
    with open(result.folder / "metrics.csv") as file:
        assert [row["size"] for row in csv.DictReader(file)] == ["4", "4", "8"]


def test_held_out_images_take_the_place_of_the_test_split(options):
    result = train(replace(options, epochs=1, held_out=9))
    assert result.measured == "held_out"
    assert round(result.accuracy * 9) == pytest.approx(result.accuracy * 9)
    assert "test_accuracy" not in (result.folder / "metrics.csv").read_text()


def test_gradients_accumulate_to_the_larger_batch(options):
    """With BatchNorm frozen, as in ``freeze``, two halves of a batch make the step that the whole batch makes."""
    options = replace(options, epochs=1, freeze=True, label_smoothing=0.0, warmup=0.0)
    whole = train(replace(options, batch_size=24, output=options.output + "1"))
    halves = train(replace(options, batch_size=12, accumulate=2, output=options.output + "2"))
    weights = [load_file(result.folder / "model" / "model.safetensors")["head.fc.weight"] for result in (whole, halves)]
    torch.testing.assert_close(*weights)


def test_freeze_trains_the_classifier_alone(options):
    torch.manual_seed(0)
    first = train(replace(options, epochs=1))
    tuned = train(replace(
        options, model=str(first.folder / "model"), freeze=True, epochs=1, output=options.output + "2"))
    before, after = (load_file(result.folder / "model" / "model.safetensors") for result in (first, tuned))
    assert {key for key in before if not torch.equal(before[key], after[key])} == {"head.fc.weight", "head.fc.bias"}


def test_layer_decay_clipping_and_other_optimizers_train(options):
    result = train(replace(
        options, epochs=2, optimizer="adamw", lr=2e-3, layer_decay=0.9, clip_grad=1.0, schedule="cosine",
        grad_checkpointing=True, precision="bf16"))
    assert result.accuracy > 0.5


@pytest.mark.parametrize(("settings", "expected"), [
    # the paper's, at the last update of an epoch and the first of the next
    (dict(schedule="step", decay_at=(6, 12, 16), warmup=0.0),
     {0: 0.1, 59: 0.1, 60: 0.02, 119: 0.02, 120: 0.004, 159: 0.004, 160: 0.0008, 199: 0.0008}),
    (dict(schedule="linear", warmup=0.1), {0: 0.0, 10: 0.05, 20: 0.1, 110: 0.05, 200: 0.0}),
    (dict(schedule="cosine", warmup=0.1), {0: 0.0, 20: 0.1, 110: 0.05, 200: 0.0}),
    (dict(schedule="constant", warmup=0.1), {0: 0.0, 10: 0.05, 20: 0.1, 200: 0.1}),
])
def test_the_learning_rate_follows_the_schedule(settings, expected):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = schedule(optimizer, TrainOptions(epochs=20, lr=0.1, **settings), updates=10)
    for update, rate in expected.items():
        scheduler.step_update(update)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(rate), update


def test_any_timm_model_trains(options):
    assert train(replace(options, model="resnet10t", image_size=32, epochs=1)).accuracy >= 0


def test_a_loss_that_is_no_number_stops_the_run_and_says_where(options):
    with pytest.raises(UserError, match=r"loss became (nan|inf) in epoch \d+, step \d+.*checkpoint"):
        train(replace(options, lr=1e18, warmup=0.0))
    assert not (Path(options.output) / "model").exists()


@pytest.mark.parametrize(("name", "value", "says"), [
    ("epochs", 0, "epochs = 0: allowed is 1 or more"),
    ("label_smoothing", 1.5, "label_smoothing = 1.5: allowed is 0 to 1"),
    ("schedule", "stairs", "allowed are linear, cosine, step, constant"),
    ("schedule", "step", "decay_at and the step schedule need each other"),
    ("resume", True, "resume needs to know which run"),
])
def test_bad_options_are_refused(name, value, says):
    with pytest.raises(UserError, match=says):
        TrainOptions(**{name: value})


def test_learning_rates_are_chosen_on_held_out_images(options, tmp_path):
    chosen = choose_lr(replace(options, held_out=9, epochs=1), (1e-6, 0.05, 0.06), tmp_path / "rates")
    assert set(chosen["tried"]) == {"1e-06", "0.05", "0.06"}
    assert chosen["tried"][str(chosen["lr"])] == max(chosen["tried"].values())
    with pytest.raises(UserError, match="0 images held out"):
        choose_lr(options, (0.1, 0.2, 0.3), tmp_path)


def test_the_recorded_learning_rates_are_the_best_of_those_tried():
    recipe = json.loads((ROOT / "wrn_hub" / "recipes" / "finetune.json").read_text())
    for start in ("pretrained", "scratch"):
        tried = recipe[start]["tried"]
        assert len(tried) >= 3 and tried[str(recipe[start]["lr"])] == max(tried.values())
    assert finetune_defaults()["lr"] == recipe["pretrained"]["lr"]


def test_two_processes_train_and_measure_every_image_once(options, colours):
    """21 test images over two processes; a launcher that quietly starts one fails the assertion on the number."""
    run = [sys.executable, "-m", "accelerate.commands.launch", "--config_file",
           str(ROOT / "scripts" / "accelerate" / "two_cpu_processes.yaml"), "--main_process_port", "0"]
    env = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    arguments = ["--dataset", str(colours), "--image-size", "8"]
    subprocess.run(
        [*run, str(ROOT / "scripts" / "train.py"), *arguments, "--model", "wrn_10_2", "--epochs", "2", "--batch-size",
         "12", "--lr", "0.05", "--crop-padding", "1", "--precision", "fp32", "--output", options.output],
        env=env, check=True, capture_output=True, timeout=240)
    assert json.loads(Path(options.output, "args.json").read_text())["processes"] == 2

    measured = {}
    for processes, command in ((1, [sys.executable]), (2, run)):
        output = Path(options.output) / f"results-{processes}.json"
        subprocess.run(
            [*command, str(ROOT / "scripts" / "evaluate.py"), "--model", f"{options.output}/model", *arguments,
             "--batch-size", "8", "--output", str(output)], env=env, check=True, capture_output=True, timeout=240)
        measured[processes] = json.loads(output.read_text())
        assert measured[processes]["processes"] == processes
    assert measured[1]["dataset"]["images"] == len(load_dataset(str(colours), "test", size=8)) == 21
    assert measured[1]["top1"] == measured[2]["top1"]
    assert measured[1]["loss"] == pytest.approx(measured[2]["loss"], rel=1e-6)
    with open(Path(options.output) / "metrics.csv") as file:
        assert float(list(csv.DictReader(file))[-1]["test_accuracy"]) == measured[1]["top1"]


@pytest.mark.parametrize(("environment", "threads"), [
    ({"OMP_NUM_THREADS": "1"}, 1),  # what somebody asked for
    ({"OMP_NUM_THREADS": "1", "ACCELERATE_MIXED_PRECISION": "no"}, None),  # what the launcher sets unasked
    ({"OMP_NUM_THREADS": "1", "ACCELERATE_MIXED_PRECISION": "no", "LOCAL_WORLD_SIZE": "4096"}, 1),
])
def test_a_process_computes_on_its_share_of_the_cores(environment, threads):
    code = "from wrn_hub.environment import use_cores; use_cores(); import torch; print(torch.get_num_threads())"
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "ACCELERATE_"))}
    used = subprocess.run(
        [sys.executable, "-c", code], env={**inherited, **environment}, capture_output=True, text=True, check=True)
    assert int(used.stdout) == (threads or min(len(os.sched_getaffinity(0)), psutil.cpu_count(logical=False)))
