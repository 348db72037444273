"""Training: what a run leaves behind, how it goes on after a kill, and what it says to bad input."""
import csv
import json
import os
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import timm
import torch
from safetensors.torch import load_file
from torch.utils._python_dispatch import TorchDispatchMode

import wrn_hub  # noqa: F401
from wrn_hub.data import load_dataset
from wrn_hub.errors import UserError
from wrn_hub.hub.stage import stage
from wrn_hub.processes import open_cores, use_cores
from wrn_hub.recipes import finetune_defaults
from wrn_hub.training.finetune import choose_lr, versus_scratch
from wrn_hub.training.options import TrainOptions
from wrn_hub.training.trainer import schedule, train

ROOT = Path(__file__).resolve().parent.parent

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
    with pytest.raises(UserError, match="without 9 images held out"):  # it was for tuning
        stage(result.folder, "wrn_16_2.cifar10", Path.cwd())


def test_gradients_accumulate_to_the_larger_batch(options):
    """With BatchNorm frozen, as in ``freeze``, two halves of a batch make the step that the whole batch makes."""
    options = replace(options, epochs=1, freeze=True, label_smoothing=0.0, warmup=0.0)
    whole = train(replace(options, batch_size=24, output=options.output + "1"))
    halves = train(replace(options, batch_size=12, accumulate=2, output=options.output + "2"))
    weights = [load_file(result.folder / "model" / "model.safetensors")["head.fc.weight"] for result in (whole, halves)]
    torch.testing.assert_close(*weights)


def test_the_last_batches_of_an_epoch_make_a_whole_step_though_they_are_fewer(options):
    options = replace(options, epochs=1, freeze=True, label_smoothing=0.0, warmup=0.0)
    six = train(replace(options, accumulate=6, output=options.output + "1"))  # all that an epoch has
    twelve = train(replace(options, accumulate=12, output=options.output + "2"))
    weights = [load_file(result.folder / "model" / "model.safetensors")["head.fc.weight"] for result in (six, twelve)]
    assert torch.equal(*weights)


@pytest.mark.parametrize("channels_last", [True, False])
def test_the_memory_layout_is_the_one_asked_for(options, channels_last):
    layouts = set()

    def note(module, arguments, output):
        if isinstance(module, torch.nn.Conv2d) and module.training:
            layouts.add(output.is_contiguous(memory_format=torch.channels_last))

    hook = torch.nn.modules.module.register_module_forward_hook(note)
    try:
        train(replace(options, epochs=1, channels_last=channels_last))
    finally:
        hook.remove()
    assert layouts == {channels_last}


def test_a_timm_model_that_has_to_know_the_size_of_its_images_is_told(options):
    result = train(replace(options, model="test_vit", image_size=48, epochs=1))
    assert timm.create_model(f"local-dir:{result.folder / 'model'}", pretrained=True)(torch.zeros(1, 3, 48, 48)).shape


def test_a_batch_too_small_for_batch_norm_is_refused(options):
    with pytest.raises(UserError, match="batch_size = 1: too few values a channel for BatchNorm"):
        train(replace(options, model="resnet10t", image_size=32, batch_size=1))


@pytest.mark.parametrize("name, says", [
    ("fusedsgd", "optimizer = 'fusedsgd': "), ("adahessian", "needs second derivatives")])
def test_an_optimizer_that_can_not_be_had_is_refused(options, name, says):
    with pytest.raises(UserError, match=says):
        train(replace(options, optimizer=name))


def test_from_scratch_needs_a_net_that_has_a_form_without_weights(options):
    first = train(replace(options, epochs=1))
    with pytest.raises(UserError, match=r"comes with its weights: .* name the timm model"):
        versus_scratch(replace(options, model=str(first.folder / "model"), output=options.output + "2"))


def test_a_run_in_the_place_of_the_second_training_is_found_before_the_first(options, tmp_path, monkeypatch):
    options = replace(options, epochs=1)
    train(replace(options, output=f"{options.output}-scratch"))
    with pytest.raises(UserError, match="run-scratch holds a run already"):
        versus_scratch(options)
    assert not Path(options.output).exists()

    monkeypatch.chdir(tmp_path)
    name = f"wrn_10_2.{Path(options.dataset).name}"
    Path("runs").mkdir()
    Path("run-scratch").rename(f"runs/{name}.1-scratch")
    runs = versus_scratch(replace(options, output=None))
    assert [run.folder.name for run in runs] == [f"{name}.2", f"{name}.2-scratch"]
    assert not Path(f"runs/{name}.1").exists()


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


def test_the_saved_config_prepares_images_as_the_training_did(options, colours):
    """timm's own configs crop and resize in ways of their own."""
    result = train(replace(options, model="resnet18.a1_in1k", image_size=32, epochs=1))
    cfg = timm.create_model(f"local-dir:{result.folder / 'model'}", pretrained=True).pretrained_cfg
    assert cfg["input_size"] == (3, 32, 32) and cfg["crop_pct"] == 1.0 and cfg["interpolation"] == "bicubic"
    assert not cfg.get("test_input_size") and not cfg.get("test_crop_pct")


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


def test_milestones_that_no_epoch_reaches_are_said(caplog):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    paper = TrainOptions(schedule="step", decay_at=(60, 120, 160), warmup=0.0, epochs=200)
    schedule(optimizer, paper, updates=10)
    assert not caplog.messages
    schedule(optimizer, replace(paper, epochs=120), updates=10)
    (said,) = caplog.messages
    assert said.startswith("the training ends after 120 epochs, before decay_at lowers the learning rate at 120, 160: ")


def test_images_in_memory_train_and_every_step_is_told(options, colours):
    data = tuple(load_dataset(str(colours), split, size=8) for split in ("train", "test"))
    steps = []
    result = train(replace(options, dataset="none such", epochs=2), data=data, after_step=lambda: steps.append(1))
    assert len(steps) == 2 * (72 // 12) and (result.folder / "model").is_dir()


class Reads(TorchDispatchMode):
    """Notes the operations for whose result Python waits, on a GPU until all that was started is done."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        if function in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default,
                        torch.ops.aten.equal.default):
            self.seen.append(str(function))
        return function(*arguments, **(named or {}))


def test_no_step_waits_for_the_device(options):
    options = replace(
        options, epochs=1, checkpoint_minutes=5, cutout=3, clip_grad=1.0, ema_decay=0.9, sam_rho=0.05, mixup=0.2,
        optimizer="muonsgd")
    with Reads() as reads:
        train(options, after_step=lambda: reads.seen.append("step"))
    steps = [place for place, what in enumerate(reads.seen) if what == "step"]
    assert reads.seen[steps[0] : steps[-1] + 1] == ["step"] * 6
    assert len(reads.seen) > len(steps), "the epoch's figures are read in the end"


def test_any_timm_model_trains(options):
    assert train(replace(options, model="resnet10t", image_size=32, epochs=1)).accuracy >= 0


def test_a_net_for_gray_images_is_refused(options):
    with pytest.raises(UserError, match=r"model wrn_10_2 for images of 1 channel: .*; leave in_chans out"):
        train(replace(options, model_kwargs=("in_chans=1",)))


def test_a_loss_that_is_no_number_stops_the_run_and_says_where(options):
    with pytest.raises(UserError, match=r"loss became (nan|inf) in epoch \d+, step \d+.*checkpoint"):
        train(replace(options, lr=1e18, warmup=0.0))
    assert not (Path(options.output) / "model").exists()


@pytest.mark.parametrize(("name", "value", "says"), [
    ("epochs", 0, "epochs = 0: allowed is 1 to 1000000"),
    ("label_smoothing", 1.5, "label_smoothing = 1.5: allowed is 0 to 1"),
    ("schedule", "stairs", "allowed are linear, cosine, step, constant"),
    ("schedule", "step", "decay_at and the step schedule need each other"),
    ("resume", True, "resume needs to know which run"),
    ("seed", -1, "seed = -1: allowed is 0 to 4294967295"),
    ("lr", float("inf"), "lr = inf: allowed is 0 or more"),
    ("warmup", 1.0, "warmup = 1: allowed is less"),
    ("progressive_sizes", (16, 0), "allowed is 1 to 10000 pixels"),
    ("decay_at", (120, 60), "allowed are epochs in their order"),
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
    assert finetune_defaults(TrainOptions)["lr"] == recipe["pretrained"]["lr"]


@pytest.mark.parametrize(("environment", "threads"), [
    ({"OMP_NUM_THREADS": "1"}, 1),  # what somebody asked for
    ({"OMP_NUM_THREADS": "1", "ACCELERATE_MIXED_PRECISION": "no"}, None),  # what the launcher sets unasked
    ({"OMP_NUM_THREADS": "1", "ACCELERATE_MIXED_PRECISION": "no", "LOCAL_WORLD_SIZE": "4096"}, 1),
])
def test_a_process_computes_on_its_share_of_the_cores(environment, threads, monkeypatch):
    for name in os.environ:
        if name.startswith(("OMP_", "ACCELERATE_")):
            monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))  # as torch begins with it
    use_cores()
    assert torch.get_num_threads() == (threads or min(open_cores(), psutil.cpu_count(logical=False)))
