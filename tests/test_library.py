"""The package from Python: what it offers at its top, a module and a loss of one's own in the trainer, attacks."""
import copy
import json
import os
import re
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import DataLoader

import wrn_hub
from wrn_hub import Augmentation, TrainLoader, TrainOptions, UserError, attacks, train
from wrn_hub.cards.user_card import user_card
from wrn_hub.errors import Stopped, by_command
from wrn_hub.files import read_csv
from wrn_hub.hub.stage import stage
from wrn_hub.kernels.winograd import WinogradConv2d, computes, winograd
from wrn_hub.models.build import ModelSource
from wrn_hub.processes import accelerator_for


@pytest.fixture
def data(colours):
    return tuple(wrn_hub.load_dataset(str(colours), split, size=8) for split in ("train", "test"))


class Mine(nn.Module):
    """A net that knows nothing of timm."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.head = nn.Linear(16, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(images).mean((2, 3)))


def confident(model, images, labels):
    """A loss that asks the model twice: cross entropy, and the same for the mirrored images."""
    with torch.no_grad():
        mirrored = model(images.flip(3))
    logits = model(images)
    return F.cross_entropy(logits, labels) + F.mse_loss(logits, mirrored), logits


# A module of one's own.

@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_module_of_ones_own_trains_in_place_and_its_folder_says_what_it_is(options, data, precision):
    net = Mine()
    result = train(replace(options, precision=precision, lr=0.5), data=data, model=net)
    assert result.accuracy > 0.9 and result.model is net and not net.training
    assert net.forward.__func__ is Mine.forward  # in its own precision again
    logits = wrn_hub.dataset_logits(net, data[1])
    assert wrn_hub.metrics.top_k(logits, torch.tensor(data[1].labels)) == pytest.approx(result.accuracy, abs=0.05)

    again = Mine()
    again.load_state_dict(load_file(result.folder / "model" / "model.safetensors"))
    assert torch.equal(again.head.weight, net.head.weight) and "load_state_dict" in result.summary()
    settings = json.loads((result.folder / "args.json").read_text())
    assert settings["model"] == settings["module"] == f"{__name__}.Mine" and "loss" not in settings
    with pytest.raises(UserError, match=r"config.json: of the module .*Mine, which timm can't build"):
        ModelSource.parse(str(result.folder / "model"))


def test_a_net_of_timms_that_was_brought_is_one_that_timm_loads(options, data):
    net = timm.create_model("wrn_10_2", num_classes=3)
    result = train(replace(options, epochs=1), data=data, model=net)
    assert timm.create_model(f"local-dir:{result.folder / 'model'}", pretrained=True).num_classes == 3
    card = user_card(result.folder, "ada/net")
    assert re.search(r"from Python with a module `.*WideResNet` of its own", card)
    net.head.fc = nn.Sequential(nn.Linear(128, 8), nn.Linear(8, 3))  # no longer what timm would build
    result = train(replace(options, epochs=1, output=options.output + "2"), data=data, model=net)
    assert json.loads((result.folder / "model" / "config.json").read_text())["module"].endswith("WideResNet")


def test_a_net_of_any_depth_and_width_trains(options, data):
    assert train(replace(options, lr=0.1), data=data, model=wrn_hub.wide_resnet(10, 1.5, num_classes=3)).accuracy > 0.9


def test_a_module_that_does_not_fit_is_refused(options, data):
    with pytest.raises(UserError, match=r"Mine gives \(2, 5\) for 2 images of 8x8: needed is \(2, 3\)"):
        train(options, data=data, model=Mine(5))
    gray = nn.Sequential(nn.Conv2d(1, 3, 8), nn.Flatten())
    with pytest.raises(UserError, match=r"Sequential can't take images of shape \(2, 3, 8, 8\), as all .* channels"):
        train(options, data=data, model=gray)
    with pytest.raises(UserError, match=r"drop_rate, freeze: for nets of timm by their name; build .*Mine so before"):
        train(replace(options, drop_rate=0.1, freeze=True), data=data, model=Mine())
    assert not Path(options.output).exists()


# A loss of one's own.

def interrupted(options, **given) -> None:
    with pytest.raises(Stopped):
        train(options, after_step=lambda: os.kill(os.getpid(), signal.SIGTERM), **given)


def test_a_run_with_a_module_and_a_loss_of_ones_own_is_resumed_bit_for_bit(options, data):
    options = replace(options, epochs=2)
    whole = train(options, data=data, model=Mine(), loss=confident)
    assert json.loads((whole.folder / "args.json").read_text())["loss"] == f"{__name__}.confident"
    other = replace(options, output=options.output + "2")
    interrupted(other, data=data, model=Mine(), loss=confident)
    with pytest.raises(UserError, match=r"loss = None \(was .*confident\)"):
        train(replace(other, resume=True), data=data, model=Mine())
    resumed = train(replace(other, resume=True), data=data, model=Mine(), loss=confident)
    weights = [load_file(run.folder / "model" / "model.safetensors") for run in (whole, resumed)]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    with pytest.raises(UserError, match="by a loss of its own"):
        stage(whole.folder, "wrn_16_2.cifar10", Path.cwd())


def test_the_usual_loss_written_by_hand_is_the_usual_loss(options, data):
    def usual(model, images, labels):
        logits = model(images)
        return F.cross_entropy(logits, labels), logits

    options = replace(options, epochs=1, mixup=0.2, sam_rho=0.05, label_smoothing=0.0)
    one = train(options, data=data)
    two = train(replace(options, output=options.output + "2"), data=data, loss=usual)
    assert torch.equal(one.model.get_classifier().weight, two.model.get_classifier().weight)


@pytest.mark.parametrize("returned", [torch.tensor(1.0), (torch.ones(12), torch.ones(12, 3)), None])
def test_a_loss_that_returns_something_else_is_told_what_is_needed(options, data, returned):
    with pytest.raises(UserError, match=r"loss returned .*needed are the loss, .* shape \(\), and .*\(12, 3\)"):
        train(options, data=data, loss=lambda *_: returned)


def test_a_loss_leaves_no_place_for_teachers_and_cuda_graphs(options, data):
    for given, says in (({"teacher": ("wrn_16_2",)}, "asks its teachers itself"),
                        ({"compile": "reduce-overhead"}, "several times, and CUDA graphs")):
        with pytest.raises(UserError, match=says):
            train(replace(options, **given), data=data, loss=confident)


# Images of one's own.

@pytest.fixture
def larger(colours):
    return tuple(wrn_hub.load_dataset(str(colours), split, size=12) for split in ("train", "test"))


def test_arrays_are_trained_and_measured_at_their_own_side(options, larger):
    result = train(replace(options, image_size=None, epochs=2, progressive_sizes=(6, 12)), data=larger)
    assert [row["size"] for row in read_csv(result.folder / "metrics.csv")] == ["6", "12"]
    assert result.model.pretrained_cfg["input_size"] == (3, 12, 12)


def test_arrays_of_another_side_are_refused(options, data, larger):
    with pytest.raises(UserError, match=r"images to train on .* 12x12 pixels, needed are 8x8 \(image_size; by default"):
        train(options, data=larger)
    with pytest.raises(UserError, match=r"images to measure on .* 12x12 pixels, needed are 8x8 .*size=8\) brings them"):
        train(replace(options, image_size=None), data=(data[0], larger[1]))
    assert not Path(options.output).exists()


def test_nothing_is_held_out_of_images_that_were_given(options, data):
    with pytest.raises(UserError, match=r"held_out = 9: .* were given already; .* data=images\.held_out\(9\)"):
        train(replace(options, held_out=9), data=data)


# Loaders and datasets.

def test_a_loader_runs_one_epoch_after_another(data):
    loader, by_number = (TrainLoader(data[0], 12, (0.5,) * 3, (0.2,) * 3) for _ in range(2))
    for number in range(3):
        for (images, labels), (others, same) in zip(loader, by_number.epoch(number), strict=True):
            assert torch.equal(images, others) and torch.equal(labels, same)


def test_two_loaders_give_two_views_of_the_same_images(data):
    weak = TrainLoader(data[0], 12, (0.5,) * 3, (0.2,) * 3)
    strong = TrainLoader(data[0], 12, (0.5,) * 3, (0.2,) * 3, augmentation=Augmentation(augment="trivial", cutout=4))
    pairs = list(zip(weak, strong, strict=True))
    assert all(torch.equal(labels, same) for (_, labels), (_, same) in pairs)
    assert not any(torch.equal(images, others) for (images, _), (others, _) in pairs)


def test_a_known_dataset_brings_its_mean_and_another_is_asked_for(data):
    loader = TrainLoader(replace(data[0], name="cifar10"), 12)
    assert loader.mean.tolist() == pytest.approx([0.4914, 0.4822, 0.4465])
    with pytest.raises(UserError, match="mean and std of its images aren't known"):
        TrainLoader(data[0], 12)


def test_a_dataset_is_one_of_torchs(data):
    image, label = data[0][5]
    assert image.shape == (8, 8, 3) and image.dtype == np.uint8 and label == data[0].labels[5]
    assert sum(len(labels) for _, labels in DataLoader(data[0], 10)) == len(data[0]) == len(list(data[0]))


def test_a_teacher_may_be_a_net(data):
    net = timm.create_model("wrn_10_2", num_classes=3).eval()
    teacher = wrn_hub.Teacher(copy.deepcopy(net), net, data[0].classes)
    images = torch.randn(2, 3, 32, 32)
    assert torch.allclose(teacher(images), net(images), atol=1e-6)


# Messages.

def test_a_command_reads_options():
    error = UserError("try --batch-size 64 or --no-pretrained")
    with by_command():
        assert str(error) == "try --batch-size 64 or --no-pretrained"
        assert str(Stopped("go on with --resume")) == "go on with --resume"


def test_python_reads_arguments(monkeypatch):
    monkeypatch.setattr("wrn_hub.errors._by_command", False)
    said = "try --batch-size 64 or --no-pretrained; --mean 0,0,0; add --output runs/a --resume (--held-out)"
    assert str(UserError(said)) == (
        "try batch_size=64 or pretrained=False; mean=(0, 0, 0); add output='runs/a' resume (held_out)")
    assert str(Stopped("go on with --output again --resume")) == "go on with output='again' resume"
    other = "accelerate launch --multi_gpu, -- and a--b"
    assert str(UserError(other)) == other
    with pytest.raises(UserError, match="allowed is 1 to 1000000"):
        TrainOptions(epochs=0)


# Attacks.

class Linear(nn.Module):
    """Two classes by the sum of the pixels, so that the strongest attack is known."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, 4, 4))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        total = (pixels * self.weight).sum((1, 2, 3))
        return torch.stack([-total, total], 1)


@pytest.mark.parametrize("attack", [attacks.fgsm, attacks.pgd])
def test_an_attack_goes_as_far_as_it_may_and_no_further(attack):
    net = Linear().train()
    pixels, labels = torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1] * 3)
    found = attack(net, pixels, labels, eps=0.1)
    towards = torch.where(labels == 0, 0.1, -0.1).view(-1, 1, 1, 1)
    assert torch.allclose(found, (pixels + towards).clamp(0, 1), atol=1e-6)
    assert net.training and net.weight.requires_grad and net.weight.grad is None


@pytest.mark.skipif(not computes(torch.float32), reason="no C++ compiler")
def test_an_attack_on_winograds_convolutions_is_that_on_ordinary_ones(monkeypatch):
    monkeypatch.setattr("wrn_hub.kernels.ops.pays", lambda *_, **__: True)
    torch.manual_seed(0)
    net = timm.create_model("wrn_10_2").eval()
    fast = winograd(copy.deepcopy(net))
    assert any(isinstance(module, WinogradConv2d) for module in fast.modules())
    pixels, labels = torch.rand(4, 3, 32, 32), torch.arange(4)
    start = torch.zeros_like(pixels)
    found, same = (attacks.pgd(attacks.PixelNet(model), pixels, labels, steps=2, start=start) for model in (net, fast))
    assert ((found - same).abs() < 1e-4).double().mean() > 0.99  # where the gradient is next to 0 its sign may differ


def test_robustness_depends_on_seed_and_images_alone(data):
    torch.manual_seed(0)
    net, accelerator = timm.create_model("wrn_10_2", num_classes=3).eval(), accelerator_for("fp32")
    results = [attacks.measure_robustness(net, data[1], accelerator, "pgd", 8 / 255, 15, batch_size=batch)
               for batch in (4, 15)]
    assert results[0] == results[1] and results[0].images == 15 and results[0].steps == 20
    assert results[0].accuracy <= results[0].clean
    assert results[0].title == "under PGD-20, pixels changed by at most 8/255 (15 images)"


def test_the_area_under_the_curve_is_how_often_one_is_above_the_other():
    inside, outside = torch.tensor([3.0, 2.0, 5.0]), torch.tensor([1.0, 2.0])
    pairs = [(a > b) + 0.5 * (a == b) for a in inside.tolist() for b in outside.tolist()]
    assert wrn_hub.metrics.auroc(inside, outside) == sum(pairs) / len(pairs)
    assert wrn_hub.metrics.energy(torch.zeros(1, 4)).item() == pytest.approx(np.log(4))
