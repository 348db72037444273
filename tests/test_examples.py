"""The examples for users run as they are typed, at tiny size."""
import csv
import re
import runpy
import sys
from pathlib import Path

import pytest
import timm
import torch

import wrn_hub
from wrn_hub.commands.cli import run as run_command
from wrn_hub.commands.evaluate import main as evaluate_command
from wrn_hub.commands.train import main as train_command
from wrn_hub.evaluation.results import Results
from wrn_hub.models.export import save_model
from wrn_hub.training.options import TrainOptions
from wrn_hub.training.trainer import train

EXAMPLES = Path(__file__).resolve().parent.parent / "scripts" / "examples"


@pytest.fixture(scope="module")
def trained(colours, tmp_path_factory) -> Path:
    """A net that tells the colours apart."""
    output = tmp_path_factory.mktemp("trained") / "run"
    train(TrainOptions(
        model="wrn_10_2", dataset=str(colours), image_size=8, epochs=3, batch_size=12, lr=0.05, crop_padding=1,
        precision="fp32", output=str(output)))
    return output / "model"


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Run an example, or a command; returns what it prints."""
    monkeypatch.chdir(tmp_path)

    def run(what, *arguments: object) -> str:
        name = f"{what}.py" if isinstance(what, str) else "wrn-hub"
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        if isinstance(what, str):
            runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        else:
            run_command(what)
        return capsys.readouterr().out

    return run


def test_every_example_is_short_and_says_how_it_is_started():
    examples = sorted(EXAMPLES.glob("*.py"))
    assert [path.stem for path in examples] == [
        "adversarial", "detect", "distil", "few_labels", "own_photos", "uncertainty"]
    for path in examples:
        text = path.read_text()
        assert f"python scripts/examples/{path.name}" in text.split('"""')[1] and len(text.splitlines()) <= 85


def test_own_photos_to_the_pipeline_and_to_onnx(run, colours, trained):
    said = run("own_photos", "--dataset", colours, "--model", trained, "--epochs", 2, "--output", "run")
    theirs, ours = re.search(r"the pipeline says (.*); timm says (.*)", said).groups()
    assert theirs == ours and "onnxruntime says the same as timm of 100.0% of 21 photos" in said


def test_distillation_by_library_and_by_command(run, colours, trained):
    given = ("--dataset", colours, "--teacher", trained, "--model", "wrn_16_1")
    said = run("distil", *given, "--epochs", 2, "--output", "a")
    assert re.search(r"^alone: .*^taught: .*the student has 174,611 parameters", said, re.DOTALL | re.MULTILINE)
    run(train_command, *given, "--epochs", 1, "--image-size", 8, "--output", "b")
    assert timm.create_model("local-dir:b/model", pretrained=True).num_classes == 3


def test_uncertainty_says_all_it_promises(run, colours, trained, tmp_path):
    torch.manual_seed(0)
    net = timm.create_model("wrn_10_2", num_classes=3)
    other = save_model(net, tmp_path / "other", classes=("blue", "green", "red"))
    said = run("uncertainty", "--models", f"{trained},{other}", "--dataset", colours, "--attacked", 6)
    for what in ("ensemble: top-1", "MC-dropout of the first: top-1", "under FGSM", "under PGD-20", "by energy: area"):
        assert what in said


def test_few_labels_learn_from_the_images_without(run, colours):
    said = run("few_labels", "--dataset", colours, "--model", "wrn_10_2", "--image-size", 8, "--labels", 6,
               "--epochs", 2, "--steps", 6, "--batch-size", 6, "--sure", 0.5)
    assert re.search(r"^[\d.]+% with 6 labels of 72 images$", said, re.MULTILINE)
    with open("runs/few_labels/metrics.csv") as file:
        assert len(list(csv.DictReader(file))) == 2


def test_few_labels_mirror_no_digits(run, colours, tmp_path, monkeypatch):
    for path in (f"{split}/{digit}" for split in ("train", "test") for digit in range(10)):
        (tmp_path / "digits" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "digits" / path).symlink_to(colours / path.partition("/")[0] / "red")
    loaders = []

    class Noted(wrn_hub.TrainLoader):
        def __init__(self, *args) -> None:
            super().__init__(*args)
            loaders.append(self)

    monkeypatch.setattr(wrn_hub, "TrainLoader", Noted)
    run("few_labels", "--dataset", tmp_path / "digits", "--model", "wrn_10_2", "--image-size", 8, "--labels", 10,
        "--epochs", 1, "--steps", 2, "--batch-size", 6)
    assert [loader.augmentation.flip for loader in loaders] == ["none", "none"]


@pytest.mark.parametrize("method", ["pgd", "trades"])
def test_adversarial_training_and_what_evaluate_says_of_it(run, colours, method):
    said = run("adversarial", "--dataset", colours, "--model", "wrn_10_2", "--image-size", 8, "--epochs", 2,
               "--train-images", 36, "--method", method)
    found = Results.read("runs/adversarial/measured/results.json").robustness
    assert (found.attack, found.steps, found.images) == ("pgd", 20, 21) and found.title in said
    if method == "pgd":
        run(evaluate_command, "--model", "runs/adversarial/model", "--dataset", colours, "--image-size", 8,
            "--corruption-images", 0, "--attack", "pgd", "--eps", "8/255", "--output", "again")
        assert Results.read("again/results.json").robustness == found
