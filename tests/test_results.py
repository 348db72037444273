"""Corrupted images, what evaluate.py measures and keeps, and the same from two processes as from one."""
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file

import wrn_hub  # noqa: F401
from wrn_hub.data import ImageDataset
from wrn_hub.errors import UserError
from wrn_hub.evaluation import metrics
from wrn_hub.evaluation.corruptions import KINDS, SEVERITIES, corrupt
from wrn_hub.evaluation.cost import cost_of
from wrn_hub.evaluation.evaluate import evaluate, public_command
from wrn_hub.evaluation.results import Results
from wrn_hub.evaluation.speed import SpeedTable, measure_speeds
from wrn_hub.kernels.winograd import WinogradConv2d
from wrn_hub.models.export import save_model
from wrn_hub.processes import accelerator_for

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Photographs of the embedded sample."""
    from wrn_hub.data import load_dataset

    return np.array(load_dataset("sample", "test").images[:40])


# corruptions

@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_corrupted_in_the_same_way_whatever_batch_it_comes_in(kind, images):
    whole = corrupt(images, kind, 3, seed=1)
    parts = [corrupt(images[i : i + 7], kind, 3, seed=1, numbers=np.arange(i, min(i + 7, 40))) for i in range(0, 40, 7)]
    assert whole.dtype == np.uint8 and whole.shape == images.shape
    assert np.array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("kind", KINDS)
def test_a_higher_severity_changes_an_image_more(kind, images):
    changes = [np.abs(corrupt(images, kind, s).astype(int) - images).mean() for s in SEVERITIES]
    assert changes == sorted(changes) and changes[0] > 0


def test_chance_comes_from_the_seed_the_kind_the_severity_and_the_image(images):
    same = np.repeat(images[:1], 2, axis=0)
    noisy = corrupt(same, "gaussian noise", 2)
    assert not np.array_equal(noisy[0], noisy[1])
    assert not np.array_equal(noisy, corrupt(same, "gaussian noise", 2, seed=1))


def test_corruptions_are_what_they_are_called():
    ramp = np.broadcast_to(np.arange(0, 256, 8, dtype=np.uint8)[:, None], (1, 32, 32, 3)).copy()
    ramp[..., 0] = 255 - ramp[..., 0]
    assert np.ptp(corrupt(ramp, "saturation", 5), axis=3).max() == 0  # red, green and blue are equal: gray
    assert np.array_equal(corrupt(ramp, "brightness", 1), np.minimum(ramp.astype(int) + 20, 255))
    assert corrupt(ramp, "contrast", 5)[..., 1].std() == pytest.approx(0.15 * ramp[..., 1].std(), rel=0.02)
    halved = corrupt(ramp, "pixelation", 5)
    assert np.array_equal(halved[:, ::2, ::2], halved[:, 1::2, 1::2])
    flat = np.full((1, 32, 32, 3), 90, np.uint8)
    assert all(np.array_equal(corrupt(flat, kind, 5), flat) for kind in ("gaussian blur", "motion blur", "pixelation"))
    assert np.isin(corrupt(flat, "impulse noise", 5), (0, 90, 255)).all()


@pytest.mark.parametrize("size", [(8, 8), (20, 33)])
def test_any_size_can_be_corrupted(size):
    small = np.random.default_rng(0).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    assert all(corrupt(small, kind, severity).shape == small.shape for kind in KINDS for severity in (1, 5))


def test_an_unknown_corruption_is_refused(images):
    with pytest.raises(UserError, match=r"fog.*allowed are gaussian noise"):
        corrupt(images, "fog", 1)
    with pytest.raises(UserError, match="severities 1 to 5"):
        corrupt(images, "JPEG", 6)


# metrics and cost

def test_the_worst_mistake_is_the_one_that_gave_the_truth_the_least():
    logits = torch.tensor([[5.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 9.0, 0.0], [2.0, 0.0, 1.0]])
    labels = torch.tensor([0, 0, 2, 2])
    assert metrics.worst(logits, labels).tolist() == [2, 1, 3]
    assert metrics.worst(logits, labels, count=1).tolist() == [2]
    assert metrics.agreement(logits, logits.roll(1, dims=0)) == 0.5


def test_cost_is_what_timms_tables_say():
    """results of timm: wide_resnet50_2 at 224 pixels has 68.88 M parameters, 11.4 GMACs, 14.4 M activations."""
    cost = cost_of(timm.create_model("wrn_50_2", device="meta"), 224)
    assert (round(cost.parameters / 1e6, 2), round(cost.gmacs, 1), round(cost.activations, 1)) == (68.88, 11.4, 14.4)


# evaluate

@pytest.fixture(scope="module")
def net():
    """A net that doesn't say the same of everything, as an untrained one does: its BatchNorm knows the images."""
    torch.manual_seed(0)
    model = timm.create_model("wrn_10_2", num_classes=6)
    with torch.no_grad():
        model.head.fc.weight.mul_(20)
        for _ in range(20):
            model(torch.randn(32, 3, 8, 8))
    return model.eval()


@pytest.fixture(scope="module")
def dataset() -> ImageDataset:
    random = np.random.default_rng(0)
    return ImageDataset(
        "made up", "test", random.integers(0, 256, (50, 8, 8, 3), dtype=np.uint8), np.arange(50) % 6, tuple("abcdef"))


def test_everything_that_is_kept_fits_together(net, dataset, tmp_path):
    results = evaluate(net, "mine", dataset, accelerator_for("fp32"), "evaluate.py", None, 20, 10, 3, tmp_path)
    assert Results.read(tmp_path / "results.json") == results
    kept, worst = load_file(tmp_path / "logits.safetensors"), load_file(tmp_path / "worst.safetensors")
    assert results.top1 == metrics.top_k(kept["logits"], kept["labels"]) and results.top1 < 1
    assert results.nll == metrics.nll(kept["logits"], kept["labels"])
    assert list(results.per_class.values()) == metrics.per_class(kept["logits"], kept["labels"]).tolist()
    assert np.array_equal(worst["images"].numpy(), dataset.images[worst["index"]])
    assert 0 < results.flip_agreement < 1
    assert list(results.corruptions.accuracy) == list(KINDS)
    assert (results.corruptions.images, results.corruptions.seed) == (10, 3)
    assert 0 < results.corruptions.mean < 1
    assert results.dataset.revision is None and results.peak_memory.bytes > 0


def test_mirrored_and_corrupted_images_can_be_left_out(net, dataset):
    results = evaluate(net, "mine", replace(dataset, revision="0" * 40), accelerator_for("fp32"), corruption_images=0)
    assert results.corruptions is None and results.flip_agreement is None
    assert results.dataset.revision == "0" * 40


def test_winograd_for_the_copies_changes_neither_their_results_nor_the_model(net, dataset, monkeypatch):
    quick = evaluate(net, "mine", dataset, accelerator_for("fp32"), corruption_images=50)
    assert not any(isinstance(module, WinogradConv2d) for module in net.modules())
    monkeypatch.setattr("wrn_hub.evaluation.evaluate.computes", lambda dtype: False)
    direct = evaluate(net, "mine", dataset, accelerator_for("fp32"), corruption_images=50)
    assert (quick.flip_agreement, quick.corruptions) == (direct.flip_agreement, direct.corruptions)


def test_two_processes_write_what_one_writes(tmp_path):
    """But for speed, memory, date, and the number of processes."""
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "WRN_HUB_CACHE": str(tmp_path / "cache")}
    torch.manual_seed(0)
    save_model(timm.create_model("wrn_10_2", num_classes=20), tmp_path / "model")
    written = []
    for processes in (1, 2):
        start = [sys.executable] if processes == 1 else [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        subprocess.run(
            [*start, str(ROOT / "scripts" / "evaluate.py"), "--model", "../model", "--dataset", "sample",
             "--image-size", "8", "--corruption-images", "30", "--batch-size", "300", "--output", "out"],
            check=True, capture_output=True, timeout=600, cwd=_folder(tmp_path / str(processes)),
            env={**environment, "ACCELERATE_USE_CPU": "true"})
        written.append(tmp_path / str(processes) / "out")
    alone, shared = (json.loads((folder / "results.json").read_text()) for folder in written)
    assert (alone["processes"], shared["processes"]) == (1, 2)
    for results in (alone, shared):
        assert results["command"].startswith("evaluate.py --model model ")
        for key in ("speed", "peak_memory", "date", "processes"):
            del results[key]
    assert alone == shared
    for file in ("logits.safetensors", "worst.safetensors"):
        assert (written[0] / file).read_bytes() == (written[1] / file).read_bytes()


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.mark.parametrize("typed, recorded", [
    (["/x/scripts/evaluate.py", "--data-dir", "data", "--output", "model_cards/wrn"],
     "evaluate.py --data-dir data --output model_cards/wrn"),
    (["evaluate.py", "--data-dir", "/home/me/data/", "--output=/tmp/out dir"],
     "evaluate.py --data-dir data '--output=out dir'"),
    (["evaluate.py", "--model", "local-dir:/home/me/net", "--data-dir", "../data"],
     "evaluate.py --model local-dir:net --data-dir data"),
])
def test_a_folder_of_the_machine_never_gets_into_the_record(typed, recorded):
    assert public_command(typed) == recorded


def test_a_folder_below_the_working_directory_is_recorded_as_relative(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert public_command(["evaluate.py", f"--output={tmp_path}/a/b"]) == "evaluate.py --output=a/b"


# the schema

@pytest.fixture(scope="module")
def measured(net, dataset, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("measured")
    evaluate(net, "mine", dataset, accelerator_for("fp32"), corruption_images=1, output=folder)
    return folder / "results.json"


@pytest.fixture
def written(measured, tmp_path) -> Path:
    return Path(shutil.copy(measured, tmp_path))


@pytest.mark.parametrize("change, says", [
    ({"topone": 0.5}, r"unknown \['topone'\]"),
    ({"nll": ...}, r"missing \['nll'\]"),
    ({"schema_version": 1}, "version 1 of results.json, needed is 2"),
    ({"dataset": {"name": "cifar10"}}, r"dataset: missing \['fingerprint', 'images', 'revision', 'split'\]"),
    ({"corruptions": {}}, r"corruptions: missing"),
    ({"speed": None}, r"speed: missing"),
])
def test_a_field_too_many_or_too_few_is_refused(change, says, written):
    content = {**json.loads(written.read_text()), **change}
    written.write_text(json.dumps({key: value for key, value in content.items() if value is not ...}))
    with pytest.raises(UserError, match=says):
        Results.read(written)


@pytest.mark.parametrize("content", ["<html>", "[]", "", "\udcff"])
def test_what_is_no_results_file_is_refused(content, tmp_path):
    (tmp_path / "results.json").write_text(content, errors="surrogateescape")
    with pytest.raises(UserError, match=r"measure again with scripts/evaluate\.py"):
        Results.read(tmp_path / "results.json")


def test_speeds_are_measured_side_by_side(tmp_path):
    table = measure_speeds(["wrn_10_2"], batch_size=2, seconds=0)
    assert table.nets["wrn_10_2"].images_per_second > 0
    assert table.nets["wrn_10_2"].memory > 4 * 303_706  # its parameters alone
    table.write(tmp_path / "speed.json")
    assert SpeedTable.read(tmp_path / "speed.json") == table
    with pytest.raises(UserError, match="Did you mean 'wrn_10_2'"):
        measure_speeds(["wrn_10_22"])
