"""Metrics against values worked out by hand, and the staged cards: up to date, complete, and true."""
import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from wrn_hub.recipes import load_recipe
from wrn_hub.reporting import metrics
from wrn_hub.reporting.card import PICTURES, card_text, check_card, index_text, write_card
from wrn_hub.reporting.command import train_command
from wrn_hub.reporting.plots import digest_of
from wrn_hub.training.options import TrainOptions
from wrn_hub.weights import MANIFEST, staged

ROOT = Path(__file__).resolve().parent.parent / "model_cards"
STAGED = [folder.name for folder in staged(ROOT)]


@pytest.fixture
def answers() -> tuple[torch.Tensor, torch.Tensor]:
    """Four images of three classes: probabilities of the likeliest 0.8, 0.8, 0.6, 0.6; the second is wrong."""
    probabilities = torch.tensor([[0.8, 0.1, 0.1], [0.8, 0.15, 0.05], [0.1, 0.6, 0.3], [0.3, 0.1, 0.6]])
    return probabilities.log(), torch.tensor([0, 1, 1, 2])


def test_metrics_are_what_they_are_by_hand(answers):
    assert metrics.top_k(*answers) == 0.75
    assert metrics.top_k(*answers, k=2) == 1.0
    assert metrics.nll(*answers) == pytest.approx(-(math.log(0.8) + math.log(0.15) + 2 * math.log(0.6)) / 4)
    assert metrics.confusion(*answers).tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    assert metrics.per_class(*answers).tolist() == [1.0, 0.5, 1.0]


def test_calibration_error_is_the_mean_gap_of_confidence_and_accuracy(answers):
    measured = metrics.reliability(*answers, bins=4)
    assert measured.counts.tolist() == [0, 0, 2, 2]
    # half the images are said with 0.6 and all right, half with 0.8 and half right
    assert measured.expected_calibration_error == pytest.approx(0.5 * 0.4 + 0.5 * 0.3, abs=1e-6)


@pytest.mark.parametrize("name", STAGED)
def test_every_staged_card_is_up_to_date(name):
    assert check_card(ROOT / name) == []


def test_the_comparison_of_all_variants_is_up_to_date():
    assert (ROOT / "README.md").read_text() == index_text(), "run: python scripts/make_cards.py"


@pytest.mark.parametrize("name", STAGED)
def test_a_card_has_no_holes_and_its_pictures_are_there(name):
    text = card_text(ROOT / name)
    assert not re.search(r"None|nan|TODO|More Information Needed|\|\s*\|\n(?!\|-)", text)
    assert set(re.findall(r"\]\((\w+\.png)\)", text)) == set(PICTURES)
    assert all(digest_of(ROOT / name / picture) for picture in PICTURES)


@pytest.mark.parametrize("name", STAGED)
def test_the_metadata_is_what_the_hub_reads(name):
    """The fields that the Hub's validator demands of a timm classifier, checked without asking it."""
    metadata = yaml.safe_load(card_text(ROOT / name).split("---\n")[1])
    assert metadata["library_name"] == "timm" and metadata["pipeline_tag"] == "image-classification"
    assert metadata["license"] == "apache-2.0" and "timm" in metadata["tags"] and metadata["datasets"]
    (entry,) = metadata["model-index"]
    assert entry["name"] == name
    (result,) = entry["results"]
    assert result["task"]["type"] == "image-classification" and result["dataset"]["type"] in metadata["datasets"]
    (metric,) = result["metrics"]
    top1 = json.loads((ROOT / name / "results.json").read_text())["top1"]
    assert metric["type"] == "accuracy" and metric["value"] == round(100 * top1, 2)


@pytest.mark.parametrize("name", STAGED)
def test_every_snippet_of_a_card_runs(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.full((50, 40, 3), 100, np.uint8)).save("image.png")
    snippets = re.findall(r"```python\n(.*?)```", card_text(ROOT / name), re.DOTALL)
    assert len(snippets) == 2
    for snippet in snippets:
        exec(snippet, {})
    assert len(capsys.readouterr().out.splitlines()) == 3  # the three likeliest classes


def test_a_changed_number_makes_the_card_stale_and_a_card_made_twice_is_the_same(tmp_path):
    folder = tmp_path / STAGED[0]
    shutil.copytree(ROOT / STAGED[0], folder)
    before = (folder / "README.md").read_bytes()
    write_card(folder)
    assert (folder / "README.md").read_bytes() == before and check_card(folder) == []

    results = json.loads((folder / "results.json").read_text())
    (folder / "results.json").write_text(json.dumps({**results, "top1": results["top1"] - 0.01}))
    assert any("README.md is stale" in line for line in check_card(folder))
    (folder / "results.json").write_text(json.dumps({**results, "weights_sha256": "0" * 64}))
    assert any("other weights" in line for line in check_card(folder))
    (folder / "results.json").write_text(json.dumps(results))
    Image.new("RGB", (8, 8)).save(folder / "curve.png")
    assert check_card(folder) == [f"{folder.name}/curve.png is stale: run scripts/make_cards.py"]


def test_the_command_of_a_training_is_what_differs_from_the_defaults():
    settings = {"model": "wrn_16_2", "dataset": "cifar10", "epochs": 28, "progressive_sizes": [16, 32], "lr": 0.2,
                "decay_norm": True, "channels_last": False, "precision": "fp32", "flip": "alternating"}
    assert train_command(settings) == (
        "accelerate launch scripts/train.py --model wrn_16_2 --dataset cifar10 --data-dir data "
        "--progressive-sizes 16,32 --epochs 28 --decay-norm --precision fp32 --no-channels-last")


def test_the_cpu_recipe_states_what_was_measured():
    """The staged wrn_16_2 was trained by it."""
    folder = ROOT / "wrn_16_2.cifar10"
    recipe = load_recipe("cpu", TrainOptions)
    settings = json.loads((folder / "args.json").read_text())
    for key, value in recipe.options.items():
        assert settings[key] == (list(value) if isinstance(value, tuple) else value), key
    assert f"{100 * json.loads((folder / 'results.json').read_text())['top1']:.2f} %" in recipe.accuracy


def test_something_is_staged():
    assert "wrn_16_2.cifar10" in MANIFEST and "wrn_16_2.cifar10" in STAGED
