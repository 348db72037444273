"""Options beyond the plain training: SAM, mixing, a teacher, normalisation, trackers, and a batch that is too large."""
import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from timm.models import register_model
from torch import nn

import wrn_hub  # noqa: F401
from wrn_hub.data.loader import Augmentation, TrainLoader
from wrn_hub.data.sources import load_dataset
from wrn_hub.errors import UserError
from wrn_hub.evaluation.evaluate import evaluate_source
from wrn_hub.evaluation.memory import is_out_of_memory
from wrn_hub.evaluation.options import EvaluateOptions
from wrn_hub.models.export import save_model
from wrn_hub.training import trackers
from wrn_hub.training.distill import Teacher, distillation
from wrn_hub.training.memory import out_of_memory
from wrn_hub.training.mixing import mix
from wrn_hub.training.options import TrainOptions
from wrn_hub.training.sam import uphill
from wrn_hub.training.trainer import check_processes, train

CPU = torch.device("cpu")


@pytest.fixture
def options(options) -> TrainOptions:
    return replace(options, checkpoint_minutes=5.0)


def weights(run) -> dict[str, torch.Tensor]:
    return load_file(run.folder / "model" / "model.safetensors")


# SAM

@pytest.mark.parametrize("adaptive", [False, True])
def test_sam_goes_uphill_and_back(adaptive):
    """Weights, the formulas of the two papers in numpy; BatchNorm's statistics stay those of the first pass."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    images = torch.randn(8, 4)
    net(images).square().sum().backward()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    gradients = [parameter.grad.double().numpy() for parameter in net.parameters()]
    sizes = [np.abs(p.detach().double().numpy()) + 0.01 if adaptive else 1.0 for p in net.parameters()]
    norm = np.sqrt(sum(((size * g) ** 2).sum() for size, g in zip(sizes, gradients, strict=True)))
    expected = [
        p.detach().double().numpy() + 0.05 * size**2 * g / norm
        for p, size, g in zip(net.parameters(), sizes, gradients, strict=True)]

    with uphill(net, 0.05, adaptive):
        for parameter, value in zip(net.parameters(), expected, strict=True):
            np.testing.assert_allclose(parameter.detach().numpy(), value, atol=1e-6)
            assert parameter.grad is None
        net(images).square().sum().backward()
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert not np.allclose(net[0].weight.grad.numpy(), gradients[0])


@pytest.mark.parametrize("settings", [{"sam_rho": 0.05}, {"asam_rho": 0.5, "block_drop_rate": 0.2}])
def test_sam_trains(options, settings):
    options = replace(options, **settings)
    plain, sharp = train(replace(options, sam_rho=0.0, asam_rho=0.0, output=options.output + "0")), train(options)
    assert sharp.accuracy > 0.8
    first, second = weights(plain), weights(sharp)
    assert not all(torch.equal(first[key], second[key]) for key in first)


# mixup and CutMix

def batch(count=8, classes=5):
    torch.manual_seed(0)
    images = torch.rand(count, 3, 6, 10).contiguous(memory_format=torch.channels_last)
    return images, torch.arange(count) % classes


def test_mixup_is_the_formula():
    images, labels = batch()
    mixed, targets = mix(images.clone(), labels, 5, 1.0, 0.0, (0, 1, 2))
    own = float(targets[0, labels[0]])
    neighbour = torch.tensor([1, 0, 3, 2, 5, 4, 7, 6])
    torch.testing.assert_close(mixed, own * images + (1 - own) * images[neighbour])
    torch.testing.assert_close(
        targets, own * F.one_hot(labels, 5).float() + (1 - own) * F.one_hot(labels[neighbour], 5).float())
    assert 0 < own < 1 and mixed.is_contiguous(memory_format=torch.channels_last)


def test_cutmix_pastes_a_rectangle_and_counts_its_pixels():
    images, labels = batch()
    for step in range(20):
        mixed, targets = mix(images.clone(), labels, 5, 0.0, 1.0, (0, 0, step))
        pasted = (mixed != images).all(1)
        assert torch.equal(mixed[0, :, pasted[0]], images[1, :, pasted[0]])
        rows, columns = pasted[0].any(1), pasted[0].any(0)
        assert torch.equal(pasted[0], rows[:, None] & columns)
        assert float(targets[0, labels[1]]) == pytest.approx(pasted[0].double().mean().item(), abs=1e-6)


@pytest.mark.parametrize("mixup, cutmix", [(0.2, 0.0), (0.0, 1.0), (0.2, 1.0)])
def test_mixing_depends_on_its_key_alone_and_two_halves_are_the_whole(mixup, cutmix):
    images, labels = batch()
    whole = [mix(images.clone(), labels, 5, mixup, cutmix, (3, 1, step)) for step in range(6)]
    for step, (mixed, targets) in enumerate(whole):
        halves = [
            mix(images[half].clone(), labels[half], 5, mixup, cutmix, (3, 1, step))
            for half in (slice(0, 4), slice(4, 8))]
        assert torch.equal(mixed, torch.cat([half[0] for half in halves]))
        assert torch.equal(targets, torch.cat([half[1] for half in halves]))
    assert len({float(targets[0, 0]) for _, targets in whole}) > 3


def test_mixing_trains_and_needs_pairs(options):
    assert train(replace(options, mixup=0.2, cutmix=1.0)).accuracy > 0.6
    with pytest.raises(UserError, match="9 images a process won't do, choose an even number"):
        train(replace(options, mixup=0.2, batch_size=9, output=options.output + "2"))


# distillation

def test_distillation_is_the_formula():
    torch.manual_seed(0)
    student, teacher = torch.randn(6, 4), torch.randn(6, 4)
    p, q = (F.softmax(logits.double() / 3, dim=1) for logits in (teacher, student))
    expected = 9 * (p * (p / q).log()).sum(1).mean()
    assert float(distillation(student, teacher, 3.0)) == pytest.approx(float(expected), rel=1e-5)
    assert float(distillation(teacher, teacher, 3.0)) == pytest.approx(0, abs=1e-6)


def test_a_teacher_sees_images_normalised_and_sized_as_its_own(tmp_path):
    net = timm.create_model("wrn_10_2", num_classes=3).eval()
    net.pretrained_cfg = {
        **net.pretrained_cfg, "mean": (0.1, 0.2, 0.3), "std": (0.5, 0.6, 0.7), "input_size": (3, 8, 8)}
    save_model(net, tmp_path / "teacher", classes=("a", "b", "c"))
    student = timm.create_model("wrn_10_2.cifar10", num_classes=3)
    teacher = Teacher(str(tmp_path / "teacher"), student, ("a", "b", "c"), CPU)

    def normalised(pixels, model):
        mean, std = (torch.tensor(model.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
        return (pixels - mean) / std

    pixels = torch.rand(4, 3, 8, 8)
    torch.testing.assert_close(teacher(normalised(pixels, student)), net(normalised(pixels, net)), atol=1e-4, rtol=1e-4)
    flat = torch.rand(4, 3, 1, 1).expand(4, 3, 16, 16)  # of one colour, in any size
    torch.testing.assert_close(
        teacher(normalised(flat, student)), net(normalised(flat[:, :, :8, :8], net)), atol=1e-4, rtol=1e-4)


def test_a_teacher_may_see_the_size_of_the_step(options, monkeypatch):
    teacher = str(train(replace(options, epochs=1)).folder / "model")
    seen, forward = set(), Teacher.__call__

    def note(self, images):
        hook = self.model.register_forward_pre_hook(lambda _, inputs: seen.add(tuple(inputs[0].shape[2:])))
        logits = forward(self, images)
        hook.remove()
        return logits

    monkeypatch.setattr(Teacher, "__call__", note)
    student = replace(options, teacher=(teacher,), progressive_sizes=(4, 8), epochs=2)
    train(replace(student, output=options.output + "-own"))
    assert seen == {(8, 8)}
    train(replace(student, teacher_size="step", output=options.output + "-step"))
    assert seen == {(4, 4), (8, 8)}


def test_a_student_learns_from_a_teacher_alone(options):
    teacher = train(options)
    student = replace(options, teacher=(str(teacher.folder / "model"),), output=options.output + "-student")
    assert train(replace(student, distill_weight=1.0)).accuracy > 0.8
    with pytest.raises(UserError, match="tells 10 classes apart, not the 3 of the dataset"):
        train(replace(student, teacher=("wrn_16_2.cifar10",), output=options.output + "2"))


def test_several_teachers_teach_the_mean_of_their_logits(options):
    first, second = (
        str(train(replace(options, seed=seed, epochs=1, output=f"{options.output}-{seed}")).folder / "model")
        for seed in (0, 1))

    def student(*teachers: str) -> torch.Tensor:
        name = f"{options.output}-of-{len(list(Path(options.output).parent.iterdir()))}"
        run = train(replace(options, teacher=teachers, distill_weight=1.0, epochs=1, output=name))
        return weights(run)["stem.conv.weight"]

    assert torch.equal(student(first, first), student(first))
    assert torch.allclose(student(first, second), student(second, first), atol=1e-6)
    assert not torch.allclose(student(first, second), student(first), atol=1e-6)


# normalisation, no augmentation

def test_mean_and_std_may_be_set_and_go_with_the_model(options, colours):
    """As the paper has it for SVHN: divided by 255 and no more, no augmentation."""
    options = replace(options, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), crop_padding=0, flip="none", epochs=1)
    result = train(options)
    cfg = json.loads((result.folder / "model" / "config.json").read_text())["pretrained_cfg"]
    assert cfg["mean"] == [0, 0, 0] and cfg["std"] == [1, 1, 1] and cfg["input_size"] == [3, 8, 8]

    data = load_dataset(str(colours), "train", size=8)
    loader = TrainLoader(data, 12, options.mean, options.std, CPU, Augmentation(options.crop_padding, options.flip))
    seen = torch.cat([images for images, _ in loader.epoch(0)]).permute(0, 2, 3, 1).mul(255).round().to(torch.uint8)
    assert sorted(map(bytes, seen.numpy())) == sorted(map(bytes, np.ascontiguousarray(data.images)))


@pytest.mark.parametrize(("settings", "says"), [
    ({"mean": (0.5,)}, "mean = .*allowed are three numbers"),
    ({"std": (1.0, 0.0, 1.0)}, "std = .*allowed are three numbers, above 0, up to 1"),
    ({"sam_rho": 0.1, "asam_rho": 0.1}, "exclude each other"),
    ({"sam_rho": 0.1, "accumulate": 2}, "accumulate = 2: SAM takes one batch an update"),
    ({"distill_temperature": 0.0}, "distill_temperature = 0.0"),
    ({"compile": "reduce-overhead", "accumulate": 2}, "accumulate = 2: the CUDA graphs .* use --compile default"),
    ({"compile": "max-autotune", "sam_rho": 0.1}, "CUDA graphs keep no gradients from SAM's first pass"),
    ({"mean": (125.3, 123.0, 113.9)}, "mean = .*allowed are three numbers, from 0 to 1.*divide by 255"),
    ({"mean": (0.5, float("nan"), 0.5)}, "mean = .*allowed are three numbers, from 0 to 1"),
    ({"std": (63.0, 62.1, 66.7)}, "std = .*allowed are three numbers, above 0, up to 1"),
    ({"progressive_sizes": (16, 24, 32), "epochs": 2}, "2 epochs would end before the last size; name as many at most"),
    ({"lr": float("nan")}, "lr = nan: allowed is 0 or more"),
    ({"distill_temperature": float("nan")}, "distill_temperature = nan"),
    ({"distill_temperature": float("inf")}, "distill_temperature = inf"),
    ({"epochs": 10**30}, "epochs = 1000.*: allowed is 1 to 1000000"),
    ({"batch_size": 2**63}, "batch_size = 9223372036854775808: allowed is 1 to 1000000"),
    ({"seed": 2**32}, "seed = 4294967296: allowed is 0 to 4294967295"),
    ({"lr": 10**400}, "lr = 1000.*: allowed is 0 or more"),
    ({"image_size": 10**9}, "image_size = 1000000000: allowed is 1 to 10000"),
    ({"progressive_sizes": (16, 10**9)}, "allowed is 1 to 10000 pixels"),
    ({"schedule": "step", "decay_at": (10**400,)}, "decay_at = .*allowed are epochs"),
    # as a recipe or another program may have them
    ({"lr": "0.1"}, "lr = '0.1': needed is a number"),
    ({"epochs": 2.5}, "epochs = 2.5: needed is a whole number"),
    ({"epochs": True}, "epochs = True: needed is a whole number"),
    ({"freeze": 1}, "freeze = 1: needed is true or false"),
    ({"model": None}, "model = None: needed is text"),
    ({"decay_at": 60}, "decay_at = 60: needed is a list, each a whole number"),
    ({"teacher": "wrn_16_1"}, "teacher = 'wrn_16_1': needed is a list, each text"),
])
def test_bad_settings_are_refused(settings, says):
    with pytest.raises(UserError, match=says):
        TrainOptions(**settings)


def test_lists_as_json_has_them_are_taken():
    assert TrainOptions(progressive_sizes=[16, 32]) == TrainOptions(progressive_sizes=(16, 32))


def test_frozen_batch_norm_keeps_its_statistics_while_dropout_goes_on(options):
    modes = set()

    def note(module, arguments, output):
        if isinstance(module, (nn.modules.batchnorm._BatchNorm, nn.Dropout)) and torch.is_grad_enabled():
            modes.add((isinstance(module, nn.Dropout), module.training))

    first = train(replace(options, epochs=1))
    hook = nn.modules.module.register_module_forward_hook(note)
    try:
        tuned = train(replace(
            options, model=str(first.folder / "model"), epochs=1, freeze=True, block_drop_rate=0.5,
            output=options.output + "2"))
    finally:
        hook.remove()
    assert modes == {(True, True), (False, False)}
    before, after = weights(first), weights(tuned)
    assert all(torch.equal(before[key], after[key]) for key in before if "running" in key)


# torch.compile

needs_compiler = pytest.mark.skipif(
    not shutil.which(os.environ.get("CXX", "c++")), reason="torch.compile needs a C++ compiler on a CPU")


def test_cuda_graphs_are_for_one_process():
    with pytest.raises(UserError, match="CUDA graphs are for one process, not 2; use --compile default"):
        check_processes(TrainOptions(compile="max-autotune"), SimpleNamespace(num_processes=2), Path("run"), None)


class Tiny(nn.Module):
    """A net with all that matters to a compiler here, in as few kernels as can be."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes, self.num_features, self.global_pool = num_classes, 8, "avg"
        self.pretrained_cfg = dict(timm.create_model("wrn_10_2").pretrained_cfg)
        self.conv, self.norm, self.fc = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.norm(self.conv(x)).relu().mean((2, 3)))


@register_model
def tiny(pretrained=False, num_classes=3, **kwargs):
    return Tiny(num_classes)


@needs_compiler
@pytest.mark.parametrize("settings", [{}, {"sam_rho": 0.05}], ids=["fp32", "sam"])
def test_a_compiled_training_is_the_plain_one(options, settings):
    options = replace(options, model="tiny", image_size=8, winograd="off", epochs=1, **settings)
    plain = train(replace(options, output=options.output + "1"))
    compiled = train(replace(options, output=options.output + "2", compile="default"))
    for key, value in weights(plain).items():
        torch.testing.assert_close(weights(compiled)[key], value, rtol=1e-3, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("settings", [
    {"compile": "reduce-overhead"}, {"compile": "default", "sam_rho": 0.05}, {"compile": "max-autotune"}, {}])
def test_a_gpu_learns_in_every_mode(options, settings):
    assert train(replace(options, precision="auto", ema_decay=0.5, **settings)).accuracy > 0.8


@pytest.mark.gpu
def test_a_gpu_measures_what_it_trained(options, colours):
    trained = train(replace(options, precision="fp32"))
    measured = evaluate_source(EvaluateOptions(
        str(trained.folder / "model"), str(colours), image_size=8, corruption_images=0))
    assert measured.top1 == trained.accuracy and measured.speed.images_per_second > 0
    assert measured.peak_memory.what == "allocated on the GPU"


# out of memory

@register_model
def hungry(pretrained=False, **kwargs):
    """A net whose memory is full beyond 5 images."""
    def forward(model, arguments):
        if len(arguments[0]) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    model = timm.create_model("wrn_10_2", num_classes=kwargs["num_classes"])
    model.register_forward_pre_hook(forward)
    return model


def test_out_of_memory_says_what_to_try(options):
    options = replace(options, model="hungry", batch_size=16, accumulate=3)
    with pytest.raises(UserError) as error:
        train(options)
    assert str(error.value) == (
        "out of memory with 16 images a step; try half: --batch-size 8 --accumulate 6, which keeps the batch an "
        "update; --grad-checkpointing needs less memory too")
    assert not Path(options.output, "metrics.csv").exists()


@pytest.mark.parametrize(("settings", "images", "processes", "says"), [
    ({"sam_rho": 0.1}, 16, 1, "16 images a step; try half: --batch-size 8; --grad"),  # SAM takes one batch an update
    ({"mixup": 0.2}, 18, 1, "18 images a step; try half: --batch-size 8 --accumulate 2; --grad"),  # 9 can't be mixed
    ({"compile": "reduce-overhead"}, 4, 1, "--batch-size 2 --accumulate 2 --compile default, which"),
    ({}, 8, 2, "8 images a step and process; try half: --batch-size 8 --accumulate 2, which"),
    ({"grad_checkpointing": True}, 1, 1, "1 images a step: a smaller model or --image-size is needed$"),
    ({"mixup": 0.2}, 2, 1, "2 images a step: a smaller model"),
])
def test_what_to_try_when_memory_is_too_small(settings, images, processes, says):
    assert re.search(says, str(out_of_memory(TrainOptions(**settings), images, processes)))


@pytest.mark.parametrize("error", [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"), MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to allocate "
                 "4000000000000 bytes. Error code 12 (Cannot allocate memory)"),
    RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
])
def test_too_little_memory_is_known_on_every_device(error):
    assert is_out_of_memory(error)
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_a_cpu_that_is_really_out_of_memory_says_it_so():
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**50, dtype=torch.uint8)
    assert is_out_of_memory(error.value)


@pytest.mark.parametrize(("error", "says"), [
    (MemoryError(), "MemoryError"),  # as Python does, without a word
    (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "DefaultCPUAllocator: can't allocate memory"),
])
def test_out_of_memory_elsewhere_than_in_a_step_is_one_line_too(options, error, says):
    def full():
        raise error

    with pytest.raises(UserError, match=rf"out of memory \({says}\): the images, the model and a batch"):
        train(replace(options, epochs=1), after_step=full)
    with pytest.raises(RuntimeError, match="another matter"):
        train(replace(options, epochs=1, output=options.output + "2"), data=Broken())


class Broken:
    """Data that can't even be looked at, for a reason of its own."""

    def __iter__(self):
        raise RuntimeError("another matter")


# trackers

def test_tensorboard_goes_on_in_the_same_log(options):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(replace(options, report_to="tensorboard"))
    log = EventAccumulator(str(Path(options.output, "tensorboard")))
    log.Reload()
    assert [event.step for event in log.Scalars("test_accuracy")] == [1, 2, 3, 4]


def test_wandb_works_offline_and_a_resumed_run_keeps_its_id(options, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    options = replace(options, epochs=1, report_to="wandb")
    train(options)
    train(replace(options, resume=True))
    sessions = list(Path(options.output, "wandb").glob("offline-run-*"))
    assert len({session.name.rpartition("-")[2] for session in sessions}) == 1
    assert all(list(session.glob("*.wandb")) for session in sessions) and sessions


def test_a_tracker_that_is_not_installed_or_not_known_is_refused(options, monkeypatch):
    with pytest.raises(UserError, match=r"report_to 'wandbe': allowed are .* Did you mean 'wandb'"):
        train(replace(options, report_to="tensorboard,wandbe"))
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="report_to trackio: it isn't installed; pip install trackio"):
        train(replace(options, report_to="trackio"))
    train(replace(options, epochs=1))  # tensorboard isn't missed
    assert not Path(options.output, "tensorboard").exists()
