"""Several processes: every image once, the gradients of one, and the examples of how to start them."""
import csv
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from forks import Fork, ended_well, two

import wrn_hub  # noqa: F401
from wrn_hub.data import load_dataset
from wrn_hub.data.loader import Augmentation, TrainLoader
from wrn_hub.errors import UserError
from wrn_hub.models.export import save_model
from wrn_hub.processes import fast_precision, process_state, synchronize

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = sorted((ROOT / "scripts" / "accelerate").glob("*.yaml"))
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def test_two_processes_train_and_measure_every_image_once(options, colours):
    """21 test images over two processes; a launcher that quietly starts one fails the assertion on the number."""
    run = [sys.executable, "-m", "accelerate.commands.launch", "--config_file",
           str(ROOT / "scripts" / "accelerate" / "two_cpu_processes.yaml"), "--main_process_port", "0"]
    arguments = ["--dataset", str(colours), "--image-size", "8"]
    ended = subprocess.run(
        [*run, str(ROOT / "scripts" / "train.py"), *arguments, "--model", "wrn_10_2", "--epochs", "2", "--batch-size",
         "12", "--lr", "0.05", "--sam-rho", "0.05", "--mixup", "0.2",
         "--crop-padding", "1", "--precision", "fp32", "--output", options.output],
        env=ENVIRONMENT, check=True, capture_output=True, text=True, timeout=240)
    assert ended.stdout.count("test accuracy") == 1
    assert "broadcast_buffers" not in ended.stderr, ended.stderr
    assert json.loads(Path(options.output, "args.json").read_text())["processes"] == 2

    measured = {}
    for processes in (1, 2):
        output = Path(options.output) / f"measured-{processes}"
        words = [ROOT / "scripts" / "evaluate.py", "--model", f"{options.output}/model", *arguments, "--batch-size",
                 "8", "--corruption-images", "0", "--output", output]
        ended_well(*([Fork(*words)] if processes == 1 else two(*words, ACCELERATE_MIXED_PRECISION="no")))
        measured[processes] = json.loads((output / "results.json").read_text())
        assert measured[processes]["processes"] == processes
    assert measured[1]["dataset"]["images"] == len(load_dataset(str(colours), "test", size=8)) == 21
    assert measured[1]["top1"] == measured[2]["top1"]
    assert measured[1]["nll"] == pytest.approx(measured[2]["nll"], rel=1e-6)
    with open(Path(options.output) / "metrics.csv") as file:
        assert float(list(csv.DictReader(file))[-1]["test_accuracy"]) == measured[1]["top1"]


def test_processes_that_were_meant_for_gpus_do_not_train_on_cpus(monkeypatch):
    """As accelerate launch starts them with scripts/accelerate/eight_gpus.yaml on a machine without."""
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(UserError, match=r"8 processes were started for GPUs, and torch .* sees none here: start one"):
        process_state()


GRADIENTS = """
import sys
import timm, torch, torch.nn.functional as F, wrn_hub
from wrn_hub.data import load_dataset
from wrn_hub.data.loader import Augmentation, TrainLoader
from wrn_hub.processes import accelerator_for

accelerator = accelerator_for("fp32")
assert accelerator.num_processes == 2
torch.manual_seed(0)
net = timm.create_model("wrn_10_2", num_classes=3).eval()
loader = TrainLoader(
    load_dataset(sys.argv[1], "train", size=8), 12, (0.5,) * 3, (0.2,) * 3, accelerator.device,
    Augmentation(crop_padding=1, cutout=3, augment="trivial"), rank=accelerator.process_index, world_size=2)
images, labels = next(loader.epoch(0))
joined = accelerator.prepare(net)
accelerator.backward(F.cross_entropy(joined(images), labels))
if accelerator.is_main_process:
    torch.save({name: parameter.grad for name, parameter in net.named_parameters()}, sys.argv[2])
"""


def test_gradients_of_two_processes_are_those_of_one(colours, tmp_path):
    """All parameters, with BatchNorm frozen; told of each other as by torchrun, which knows nothing of Accelerate."""
    saved = tmp_path / "gradients.pt"
    ended_well(*two("-c", GRADIENTS, colours, saved))
    torch.manual_seed(0)
    net = timm.create_model("wrn_10_2", num_classes=3).eval()
    loader = TrainLoader(
        load_dataset(str(colours), "train", size=8), 12, (0.5,) * 3, (0.2,) * 3, torch.device("cpu"),
        Augmentation(crop_padding=1, cutout=3, augment="trivial"))
    images, labels = next(loader.epoch(0))
    F.cross_entropy(net(images), labels).backward()
    together = torch.load(saved, weights_only=True)
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(together[name], parameter.grad, rtol=1e-4, atol=1e-6, msg=name)
    assert max(gradient.abs().max() for gradient in together.values()) > 0.01


EVALUATING = """
import os, sys, time
import torch
from wrn_hub.commands.cli import run
from wrn_hub.data import sources
from wrn_hub.evaluation.evaluate import evaluate_source
from wrn_hub.evaluation.options import EvaluateOptions

stack = sources.stack

def slowly(*arguments):
    made = open(sys.argv[3], "a")
    made.write(os.environ["RANK"])
    made.close()
    time.sleep(1)  # in which the other would have begun too
    return stack(*arguments)

sources.stack = slowly
run(lambda: evaluate_source(EvaluateOptions(sys.argv[1], sys.argv[2], image_size=7, corruption_images=0)))
assert not torch.distributed.is_initialized()
"""


def test_two_processes_decode_a_dataset_once_and_take_leave_of_each_other(colours, tmp_path):
    save_model(timm.create_model("wrn_10_2", num_classes=3), tmp_path / "model", classes=("blue", "green", "red"))
    decoded = tmp_path / "decoded"
    ended_well(*two(
        "-c", EVALUATING, tmp_path / "model", colours, decoded, WRN_HUB_CACHE=str(tmp_path / "cache")))
    assert decoded.read_text() == "0"


@pytest.mark.parametrize("kind", ["cuda", "mps", "xpu"])
def test_what_any_accelerator_was_told_is_waited_for_before_a_clock_is_read(kind, monkeypatch):
    waited = []
    monkeypatch.setattr(torch.accelerator, "synchronize", waited.append)
    for device in (torch.device("cpu"), torch.device(kind)):
        synchronize(device)
    assert waited == [torch.device(kind)]


FAILING = """
import sys
import wrn_hub
from wrn_hub.commands.cli import run
from wrn_hub.processes import local_main_first, process_state
from wrn_hub.training.options import TrainOptions
from wrn_hub.training.trainer import train

state, seen = process_state(), []

def full():
    if state.process_index == 1:
        raise MemoryError

def note():
    made = open(sys.argv[3], "a")
    made.write(f"{state.process_index}")
    made.close()
    return open(sys.argv[3]).read()

assert local_main_first(note) == ["0", "01"][state.process_index]
run(lambda: train(TrainOptions(
    model="wrn_10_2", dataset=sys.argv[1], image_size=8, epochs=50, batch_size=12, crop_padding=1, precision="fp32",
    output=sys.argv[2], checkpoint_minutes=60.0, report_to="none"), after_step=full))
"""


def test_when_one_process_fails_the_launcher_ends_the_others(colours, tmp_path):
    """Out of memory in one of them, while the other waits for its gradients."""
    script = tmp_path / "failing.py"
    script.write_text(FAILING)
    started = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script),
         str(colours), str(tmp_path / "run"), str(tmp_path / "order")],
        env=ENVIRONMENT, capture_output=True, text=True, timeout=240)
    assert ended.returncode != 0 and "failing.py (process 1): out of memory (MemoryError)" in ended.stderr
    assert time.monotonic() - started < 120


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_accelerate_reads_the_example_configs(config):
    settings = load_config_from_file(str(config))
    written = yaml.safe_load(config.read_text())
    assert settings.num_processes == written["num_processes"] and settings.num_machines == written["num_machines"]
    assert settings.distributed_type == written["distributed_type"] and settings.mixed_precision == "no"


@pytest.mark.parametrize("can, precision", [
    ({"avx512_bf16": True, "cpu_name": "AMD EPYC"}, "bf16"),
    ({"avx512_bf16": True, "amx_bf16": True, "cpu_name": "Intel Xeon"}, "bf16"),
    ({"avx512_bf16": True, "cpu_name": "Intel Xeon"}, "fp32"),
    ({"avx2": True, "cpu_name": "AMD EPYC"}, "fp32"),
    ({}, "fp32"),
])
def test_bf16_is_for_cpus_that_are_faster_in_it(monkeypatch, can, precision):
    monkeypatch.setattr("wrn_hub.processes.cpu_features", lambda: can)
    assert fast_precision(torch.device("cpu")) == precision


def test_accelerate_and_torchrun_know_every_argument_that_the_pages_type():
    known = {text for action in launch_command_parser()._actions for text in action.option_strings}
    readme = (ROOT / "README.md").read_text() + (ROOT / "scripts" / "README.md").read_text()
    launches = re.findall(r"accelerate launch ((?:--\w+ \S+ (?:\\\n\s*)?)+)", readme)
    typed = {flag for launch in launches for flag in re.findall(r"--\w+", launch)}
    assert {"--config_file", "--machine_rank", "--main_process_ip"} <= typed <= known
