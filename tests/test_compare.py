"""Weights set side by side: what of a difference chance may have done, and the page that says so."""
import json
import math
import shutil
from itertools import product
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
from hub_server import make_model, served
from safetensors.numpy import load_file, save_file

import wrn_hub
from wrn_hub.errors import UserError
from wrn_hub.evaluation import kept
from wrn_hub.evaluation.intervals import EXACT_UP_TO, interval, mcnemar, paired_difference, unpaired_difference
from wrn_hub.evaluation.metrics import nll, reliability
from wrn_hub.hub import compare as module
from wrn_hub.hub.compare import compare, ece_difference, read_answers
from wrn_hub.hub.serve import application
from wrn_hub.hub.store import RESERVED, File, FolderStore

CARDS = Path(__file__).resolve().parent.parent / "model_cards"
TWO = ["wrn_16_1.cifar10", "wrn_16_2.cifar10"]


def test_mcnemars_test_is_exact_where_few_images_tell_and_agrees_where_many_do():
    assert mcnemar(0, 0) == mcnemar(5, 5) == 1
    assert mcnemar(10, 0) == mcnemar(0, 10) == 2 / 2**10
    assert mcnemar(8, 2) == pytest.approx(2 * (1 + 10 + 45) / 2**10)
    half = EXACT_UP_TO // 2  # one image more on either side is approximated, and tells a little more, or less
    assert mcnemar(half - 60, half + 61) < mcnemar(half - 60, half + 60) < mcnemar(half - 59, half + 60)
    assert 0 < mcnemar(24_000, 25_000) < 1e-5 and mcnemar(30_000, 30_000) == 1


def test_the_interval_of_two_shares_is_the_one_of_the_paper():
    """Newcombe (1998), Table II, method 10, example (a): 56 of 70 and 48 of 80."""
    low, high = unpaired_difference(48 / 80, 56 / 70, 80, 70)
    assert (low, high) == (pytest.approx(0.0524, abs=5e-5), pytest.approx(0.3339, abs=5e-5))


def test_the_interval_of_a_paired_difference_covers_it():
    """Every outcome of 40 images, of which nets of given skill disagree, weighed by its probability."""
    for first, second in ((0.1, 0.1), (0.05, 0.25), (0.3, 0.1)):
        covered = 0.0
        for a, b in product(range(41), repeat=2):
            if a + b <= 40:
                low, high = paired_difference(a, b, 40)
                probability = (math.comb(40, a) * math.comb(40 - a, b) * first**a * second**b
                               * (1 - first - second) ** (40 - a - b))
                covered += probability * (low <= second - first <= high)
        assert 0.94 < covered < 0.985
    low, high = paired_difference(0, 0, 1000)
    assert low == -high and 0 < high < 0.005
    assert interval(0.5, 100)[0] < 0.5


@pytest.fixture(scope="module")
def answers():
    return [read_answers(File.read(CARDS / name / "logits.safetensors")) for name in TWO]


def test_answers_are_those_that_the_measurement_counted(answers):
    for name, one in zip(TWO, answers, strict=True):
        results = json.loads((CARDS / name / "results.json").read_text())
        assert one.right().mean() == pytest.approx(results["top1"], abs=1e-12)
        assert one.right(5).mean() == pytest.approx(results["top5"], abs=1e-12)
        assert one.nll.mean() == pytest.approx(results["nll"], abs=1e-6)
        place, gap = module._calibration(one)
        assert np.abs(np.bincount(place, gap)).sum() / len(gap) == pytest.approx(results["ece"], abs=1e-6)
    (low, high), difference = ece_difference(*answers), 0.0
    for sign, name in zip((-1, 1), TWO, strict=True):
        difference += sign * json.loads((CARDS / name / "results.json").read_text())["ece"]
    assert low < difference < high and high - low < 0.02
    assert ece_difference(answers[0], answers[0]) == (0, 0)


def test_answers_of_many_classes_are_read_from_what_is_kept_of_them(tmp_path):
    import torch

    torch.manual_seed(0)
    logits, labels = 3 * torch.randn(300, 1000), torch.randint(1000, (300,))
    logits[torch.arange(300), labels] += 6
    tensors = kept.packed(logits, labels)
    save_file({name: tensor.numpy() for name, tensor in tensors.items()}, tmp_path / "logits.safetensors")
    one = read_answers(File.read(tmp_path / "logits.safetensors"))
    assert one.right().mean() == pytest.approx(wrn_hub.metrics.top_k(logits, labels))
    assert one.right(5).mean() == pytest.approx(wrn_hub.metrics.top_k(logits, labels, 5))
    assert one.nll.mean() == pytest.approx(nll(logits, labels), abs=1e-5)
    place, _ = module._calibration(one)
    assert np.bincount(place, minlength=15).tolist() == reliability(logits, labels).counts.tolist()


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in TWO:
        shutil.copytree(CARDS / name, tmp_path / name)
    make_model(tmp_path / "bare")
    return tmp_path


def test_corrupted_images_are_compared_where_they_are_the_same(folder):
    name = "top-1 accuracy on corrupted images"
    (measure,) = (one for one in compare(FolderStore(folder), TWO).measures if one.name == name)
    assert measure.differences[0]
    results = json.loads((folder / TWO[1] / "results.json").read_text())
    results["corruptions"]["images"] = 100
    (folder / TWO[1] / "results.json").write_text(json.dumps(results))
    found = compare(FolderStore(folder), TWO)
    (other,) = (one for one in found.measures if one.name == name)
    assert other.values == measure.values and other.differences == ("",)
    (note,) = found.notes
    assert note.startswith("Corrupted were different images") and f"{TWO[1]}: the first 100, seed 0" in note


def test_two_weights_differ_as_their_results_do(folder, answers):
    found = compare(FolderStore(folder), TWO)
    assert [side.row.name for side in found.sides] == TWO and not found.notes and not found.unknown
    results = [json.loads((CARDS / name / "results.json").read_text()) for name in TWO]
    by_name = {measure.name: measure for measure in found.measures}
    top1 = by_name["top-1 accuracy"]
    assert top1.values == tuple(f"{100 * one['top1']:.2f} %" for one in results)
    assert top1.differences[0].startswith(f"+{100 * (results[1]['top1'] - results[0]['top1']):.2f} points (+")
    assert len(found.measures) == 6 and all(measure.differences[0].endswith(")") for measure in found.measures)
    (pair,) = found.pairs
    right = [one.right() for one in answers]
    assert (pair.only_first, pair.only_second) == ((right[0] & ~right[1]).sum(), (right[1] & ~right[0]).sum())
    assert pair.neither == (~right[0] & ~right[1]).sum()
    assert pair.probability == mcnemar(pair.only_first, pair.only_second) < 0.001
    for name, first, second, _ in pair.wins[1]:
        assert second > first and second == pytest.approx(results[1]["per_class"][name])
    assert {line.name for line in found.recipe} >= {"model", "epochs"} and found.same
    assert found.costs[0].differences == ("3.95 times",)


def test_what_cannot_be_compared_is_said_in_a_line_and_the_rest_is_shown(folder):
    store = FolderStore(folder)
    (note,) = compare(store, [TWO[0], "bare"]).notes
    assert "bare has no results.json" in note
    (folder / TWO[1] / "logits.safetensors").unlink()
    found = compare(store, TWO)
    assert "logits of wrn_16_2.cifar10 aren't kept" in found.notes[0] and not found.pairs
    one, other = (json.loads((folder / name / "results.json").read_text())["top1"] for name in TWO)
    assert found.measures[0].differences[0].startswith(f"{100 * (other - one):+.2f} points (")
    (folder / TWO[1] / "logits.safetensors").write_bytes(b"cut off")
    assert compare(store, TWO).notes == found.notes
    tensors = load_file(folder / TWO[0] / "logits.safetensors")
    save_file({name: tensor[:100] for name, tensor in tensors.items()}, folder / TWO[1] / "logits.safetensors")
    assert compare(store, TWO).notes == found.notes  # of another measurement
    results = json.loads((folder / TWO[1] / "results.json").read_text())
    results["dataset"]["fingerprint"] = "0" * 64
    (folder / TWO[1] / "results.json").write_text(json.dumps(results))
    found = compare(store, TWO)
    assert "measured on different images" in found.notes[0] and not any(
        difference for measure in found.measures for difference in measure.differences)
    assert found.costs and found.recipe


def test_the_page_says_what_is_unknown_and_offers_what_is_here(folder):
    with served(application(FolderStore(folder))) as address:
        def page(query: str) -> str:
            with urlopen(f"{address}/compare{query}") as answer:
                assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
                return answer.read().decode()

        whole = page("?m=wrn_16_1.cifar10&m=wrn-hub/wrn_16_2.cifar10")
        assert "McNemar" in whole and "image by image" in whole and "wrn_16_2.cifar10 is ahead in" in whole
        assert "no weights of" not in whole and whole.count('checked> wrn_16') == 2
        misspelled = page("?m=wrn_16_1.cifar10&m=wrn_16_3.cifar10&m=<b>")
        assert "There are no weights of wrn_16_3.cifar10 here. Near to it" in misspelled and "&lt;b&gt;" in misspelled
        assert "McNemar" not in misspelled
        for query in ("", "?m=", "?m=bare"):
            assert "Choose two or three" in page(query)
        many = "".join(f"&m={name}" for name in [*TWO, "bare", TWO[0]])
        assert "left out" not in page(f"?{many}")
        make_model(folder / "fourth")
        assert "left out: fourth" in page(f"?{many}&m=fourth")


@pytest.mark.parametrize("name", RESERVED)
def test_no_organisation_has_the_name_of_a_page(tmp_path, name):
    with pytest.raises(UserError, match=f"organisation '{name}': allowed are letters"):
        FolderStore(tmp_path, name)
