"""Corrupted images, what evaluate.py measures and keeps, and the same from two processes as from one."""
import copy
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
from forks import Fork, ended_well, two
from PIL import Image
from safetensors.torch import load_file
from timm.data import ImageNetInfo

import wrn_hub  # noqa: F401
from wrn_hub.data import ImageDataset
from wrn_hub.data.classes import logits_for
from wrn_hub.data.names import fitting_order
from wrn_hub.errors import UserError
from wrn_hub.evaluation import metrics
from wrn_hub.evaluation.corruptions import KINDS, SEVERITIES, corrupt
from wrn_hub.evaluation.cost import cost_of, fastest_pass
from wrn_hub.evaluation.evaluate import compared, evaluate, evaluate_source, measure_again, public_command
from wrn_hub.evaluation.memory import enough_memory
from wrn_hub.evaluation.options import EvaluateOptions
from wrn_hub.evaluation.predict import predict
from wrn_hub.evaluation.results import Results
from wrn_hub.evaluation.speed import SpeedTable, measure_speeds
from wrn_hub.kernels.winograd import WinogradConv2d
from wrn_hub.models.build import class_names
from wrn_hub.models.export import save_model
from wrn_hub.processes import accelerator_for
from wrn_hub.training.distill import Teacher

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
    results = evaluate(
        net, "mine", dataset, accelerator_for("fp32"),
        EvaluateOptions(batch_size=20, corruption_images=10, seed=3, output=str(tmp_path)), "evaluate.py")
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
    results = evaluate(
        net, "mine", replace(dataset, revision="0" * 40), accelerator_for("fp32"), EvaluateOptions(corruption_images=0))
    assert results.corruptions is None and results.flip_agreement is None
    assert results.dataset.revision == "0" * 40


def test_winograd_for_the_copies_changes_neither_their_results_nor_the_model(net, dataset, monkeypatch):
    quick = evaluate(net, "mine", dataset, accelerator_for("fp32"), EvaluateOptions(corruption_images=50))
    assert not any(isinstance(module, WinogradConv2d) for module in net.modules())
    monkeypatch.setattr("wrn_hub.evaluation.evaluate.computes", lambda dtype: False)
    direct = evaluate(net, "mine", dataset, accelerator_for("fp32"), EvaluateOptions(corruption_images=50))
    assert (quick.flip_agreement, quick.corruptions) == (direct.flip_agreement, direct.corruptions)


def test_two_processes_write_what_one_writes(tmp_path):
    """But for speed, memory, date, and the number of processes."""
    torch.manual_seed(0)
    save_model(timm.create_model("wrn_10_2", num_classes=20), tmp_path / "model")
    written = []
    words = [ROOT / "scripts" / "evaluate.py", "--model", "../model", "--dataset", "sample", "--image-size", "8",
             "--corruption-images", "30", "--batch-size", "300", "--output", "out"]
    for processes in (1, 2):
        how = {"folder": _folder(tmp_path / str(processes)), "WRN_HUB_CACHE": str(tmp_path / "cache")}
        ended_well(*([Fork(*words, **how, ACCELERATE_USE_CPU="true")] if processes == 1 else two(*words, **how)))
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


# classes by their names

@pytest.mark.parametrize("own, wanted, order", [
    (["dog", "cat"], ["cat", "dog"], [1, 0]),
    (["aquarium_fish", "Sea"], ["sea", "Aquarium  fish"], [1, 0]),
    (["crane", "ant", "crane"], ["crane", "crane", "ant"], [0, 2, 1]),  # the bird, then the machine
    (["cat", "dog"], ["cat", "bird"], None),
    (["cat", "cat"], ["cat", "dog"], None),
])
def test_the_same_classes_in_another_order_are_found(own, wanted, order):
    assert fitting_order(own, wanted) == order


def test_folders_called_as_imagenets_are_known_to_nets_of_it():
    net = timm.create_model("wrn_50_2", device="meta")
    ids = ImageNetInfo("imagenet-1k").label_names()
    assert logits_for(net, "net", ids, "choose another") is None
    assert logits_for(net, "net", ids[::-1], "choose another").tolist() == list(range(999, -1, -1))
    assert logits_for(net, "net", class_names(net)[1:] + class_names(net)[:1], "choose another").tolist()[:2] == [1, 2]
    assert logits_for(net, "net", [str(i) for i in range(1000)], "choose another") is None  # nobody named them


@pytest.fixture
def pets(tmp_path) -> Path:
    """Folders of black cats and white dogs, and beside them a net of the classes dog and cat that knows the colours."""
    for number in range(10):
        for label, shade in (("cat", 0), ("dog", 255)):
            (tmp_path / "pets" / label).mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((8, 8, 3), shade, np.uint8)).save(tmp_path / "pets" / label / f"{number}.png")
    torch.manual_seed(0)
    model = timm.create_model("wrn_10_2", num_classes=2).eval()
    images = torch.stack([torch.ones(3, 8, 8), -torch.ones(3, 8, 8)])
    with torch.no_grad():
        white, black = model.forward_head(model.forward_features(images), pre_logits=True)
        model.head.fc.weight.copy_(torch.stack([white - black, black - white]))
        model.head.fc.bias.copy_(torch.tensor([-1.0, 1.0]) * ((white - black) @ (white + black) / 2))
    model.pretrained_cfg = {**model.pretrained_cfg, "input_size": (3, 8, 8)}
    save_model(model, tmp_path / "net", classes=("Dog", "Cat"))
    return tmp_path


def options(folder: Path, **changes: object) -> EvaluateOptions:
    return EvaluateOptions(**{
        "model": str(folder / "net"), "dataset": str(folder / "pets"), "corruption_images": 0, "image_size": 8,
        **changes})


def test_a_net_with_the_classes_in_another_order_is_measured_by_their_names(pets):
    found = evaluate_source(options(pets, output=str(pets / "out")))
    assert found.top1 == 1.0 and found.match_classes == "name"
    kept = load_file(pets / "out" / "logits.safetensors")
    assert metrics.top_k(kept["logits"], kept["labels"]) == 1.0
    as_they_stand = evaluate_source(options(pets, match_classes="order"))
    assert as_they_stand.top1 == 0.0 and as_they_stand.match_classes == "order"


def test_classes_that_do_not_fit_are_refused_with_both_lists(pets):
    (pets / "pets" / "dog").rename(pets / "pets" / "wolf")
    with pytest.raises(UserError, match=r"net has other classes .*: 'dog' are its alone, 'wolf' the dataset's; .*"
                                        "--match-classes order"):
        evaluate_source(options(pets))
    assert evaluate_source(options(pets, match_classes="order")).match_classes == "order"


def test_a_teacher_with_the_classes_in_another_order_answers_in_the_students(pets):
    student = timm.create_model("wrn_10_2", num_classes=2)
    images, cpu = torch.randn(3, 3, 8, 8), torch.device("cpu")
    as_it_stands = Teacher(str(pets / "net"), student, ("dog", "cat"), cpu)(images)
    assert torch.equal(Teacher(str(pets / "net"), student, ("cat", "dog"), cpu)(images), as_it_stands.flip(1))
    with pytest.raises(UserError, match="'dog' are its alone, 'wolf' the dataset's; take one that was trained on it"):
        Teacher(str(pets / "net"), student, ("cat", "wolf"), cpu)


# where it is written to

def test_the_output_folder_is_tried_first_and_goes_where_nothing_came_of_it(pets):
    with pytest.raises(UserError, match=r"output .*/0\.png/out is a file, or lies below one; name the folder"):
        evaluate_source(options(pets, model="no such net", output=str(pets / "pets" / "cat" / "0.png" / "out")))
    with pytest.raises(UserError, match="no model of this name"):
        evaluate_source(options(pets, model="no such net", output=str(pets / "results" / "out")))
    assert not (pets / "results").exists()


def test_what_was_measured_is_said_where_it_can_not_be_written(pets, caplog):
    (pets / "out" / "results.json").mkdir(parents=True)
    with pytest.raises(UserError, match=r"results\.json is not a regular file"):
        evaluate_source(options(pets, output=str(pets / "out")))
    assert "measured, but not written:" in caplog.text and "top-1 100.00%" in caplog.text


# what is no measurement

def test_a_net_for_images_of_one_channel_is_refused(net, pets):
    gray = save_model(timm.create_model("wrn_10_2", num_classes=2, in_chans=1), pets / "gray", classes=("dog", "cat"))
    says = r"gray for images of 1 channel: here all are RGB, gray ones are made so; leave in_chans out"
    for use in (lambda: predict([pets / "pets" / "cat"], str(gray)),
                lambda: evaluate_source(options(pets, model=str(gray))),
                lambda: Teacher(str(gray), net, ("dog", "cat"))):
        with pytest.raises(UserError, match=says):
            use()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_answers_that_are_not_finite_are_no_measurement(value, net, dataset, tmp_path):
    broken = copy.deepcopy(net)
    with torch.no_grad():
        broken.head.fc.bias[0] = value
    with pytest.raises(UserError, match="mine answers 50 of 50 images with nan or inf"):
        evaluate(broken, "mine", dataset, accelerator_for("fp32"), EvaluateOptions(output=str(tmp_path)))
    assert not list(tmp_path.iterdir())


def test_no_prediction_is_made_of_weights_that_are_not_finite(net, tmp_path):
    broken = copy.deepcopy(net)
    with torch.no_grad():
        broken.head.fc.bias[0] = float("nan")
    save_model(broken, tmp_path / "net")
    Image.new("RGB", (8, 8)).save(tmp_path / "image.png")
    with pytest.raises(UserError, match="holds NaN"):
        predict([tmp_path / "image.png"], str(tmp_path / "net"))


def test_out_of_memory_is_one_line(net, dataset, monkeypatch, pets):
    with pytest.raises(UserError, match=r"out of memory \(.*allocat.*\): fewer"), enough_memory("fewer"):
        torch.empty(2**60, dtype=torch.uint8)
    with pytest.raises(RuntimeError, match="shapes"), enough_memory("fewer"):
        torch.ones(2, 3) @ torch.ones(2, 3)  # another fault stays what it is
    monkeypatch.setattr("wrn_hub.evaluation.evaluate.load_files", lambda *_, **__: np.empty(2**50))
    with pytest.raises(UserError, match=r"out of memory .*try a smaller --batch-size"):
        evaluate_source(options(pets))


@pytest.mark.parametrize("change, says", [
    ({"batch_size": 0}, "batch_size = 0: allowed is 1"), ({"corruption_images": -1}, "corruption_images = -1"),
    ({"image_size": 0}, "image_size = 0"), ({"image_size": 10**5}, "image_size = 100000: allowed is 1 to 10000"),
    ({"seed": 2**40}, "seed = 1099511627776"),
    ({"split": "most"}, "split = 'most': allowed are test, train, all"),
    ({"crop_pct": 1.5}, "crop_pct = 1.5: allowed"), ({"precision": "int8"}, "precision = 'int8'"),
    ({"model_kwargs": ("act_layer",)}, "'act_layer' among the arguments of the model: needed is NAME=VALUE"),
    ({"match_classes": "luck"}, "match_classes = 'luck': allowed are name, order"),
])
def test_a_setting_that_means_nothing_is_refused(change, says):
    with pytest.raises(UserError, match=says):
        EvaluateOptions(**change)


def test_every_module_can_be_imported_where_resource_and_fcntl_are_absent():
    """As on Windows; other packages, which have their own ways there, keep them."""
    code = """
import builtins, pkgutil
whole = builtins.__import__

def windows(name, globals=None, *rest, **more):
    if name in ("resource", "fcntl") and (globals or {}).get("__name__", "").startswith("wrn_hub"):
        raise ModuleNotFoundError(name)
    return whole(name, globals, *rest, **more)

builtins.__import__ = windows
import wrn_hub
for module in pkgutil.walk_packages(wrn_hub.__path__, "wrn_hub."):
    if not module.name.endswith("__main__"):
        __import__(module.name)
import torch
from wrn_hub.evaluation import memory
memory._resident = lambda field: None  # which is Linux's
assert memory.most_held(torch.device("cpu"))[0] > 1e7
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300, cwd=ROOT,
                   env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"})


# the schema

@pytest.fixture(scope="module")
def measured(net, dataset, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("measured")
    evaluate(
        net, "mine", dataset, accelerator_for("fp32"), EvaluateOptions(corruption_images=1, output=str(folder)))
    return folder / "results.json"


@pytest.fixture
def written(measured, tmp_path) -> Path:
    return Path(shutil.copy(measured, tmp_path))


@pytest.mark.parametrize("change, says", [
    ({"nll": ...}, r"missing \['nll'\]"),
    ({"schema_version": 1}, "version 1 of results.json, needed is 2"),
    ({"schema_version": 3}, "version 3 of results.json, this package reads 2: update it"),
    ({"schema_version": "2"}, "version 2 of results.json, needed is 2"),
    ({"dataset": {"name": "cifar10"}}, r"dataset: missing \['fingerprint', 'images', 'split'\]"),
    ({"dataset": "cifar10"}, r'dataset: is "cifar10", needed are the fields of Dataset'),
    ({"corruptions": {}}, r"corruptions: missing"),
    ({"corruptions": {"images": 9, "seed": 0, "clean": 0.5, "accuracy": {}}}, "corruptions: accuracy lacks figures"),
    ({"corruptions": {"images": 9, "seed": 0, "clean": 0.5, "accuracy": {"JPEG": [0.5, "0.4"]}}},
     r'accuracy, JPEG, 1: is "0.4", needed is a finite number'),
    ({"speed": []}, r"speed: is \[\], needed are the fields of Speed"),
    ({"top1": "0.5"}, r'top1: is "0.5", needed is a finite number'),
    ({"top1": True}, r"top1: is true, needed is a finite number"),
    ({"top1": None}, r"top1: is null, needed is a finite number"),
    ({"top1": float("nan")}, r"top1: is NaN, needed is a finite number"),
    ({"flip_agreement": float("inf")}, r"flip_agreement: is Infinity, needed is a finite number"),
    ({"nll": 10**400}, r"nll: is 1000.*\.\.\., needed is a finite number"),
    ({"top1": 93.34}, r"top1: is 93.34, needed is a share from 0 to 1"),
    ({"dataset": {"name": "x", "split": "test", "images": 0, "fingerprint": "0"}}, "dataset: images: is 0, needed"),
    ({"parameters": 1.5}, r"parameters: is 1.5, needed is a whole number"),
    ({"versions": ["torch"]}, r'versions: is \["torch"\], needed is a dict'),
    ({"per_class": {"a": "all"}}, r'per_class, a: is "all", needed is a finite number'),
    ({"preprocessing": {"size": 32, "mean": 0.5, "std": [1]}}, r"preprocessing, mean: is 0.5, needed is a list"),
])
def test_what_is_wrong_in_a_results_file_is_named_in_one_line(change, says, written):
    content = {**json.loads(written.read_text()), **change}
    written.write_text(json.dumps({key: value for key, value in content.items() if value is not ...}))
    with pytest.raises(UserError, match=says) as refused:
        Results.read(written)
    assert str(refused.value).startswith(str(written)) and "\n" not in str(refused.value)


def test_a_file_with_fewer_measures_and_one_with_more_are_read(written, caplog):
    """The one is of an older version of the package, the other of a newer one."""
    caplog.set_level("INFO")
    content = json.loads(written.read_text())
    newer = {**content, "adversarial": 0.1, "dataset": {**content["dataset"], "licence": "unknown"}}
    written.write_text(json.dumps(newer))
    known = Results.read(written)
    assert [record.message.partition(": ")[2] for record in caplog.records] == [
        f"passed over {name}, which this version of wrn_hub doesn't know" for name in ("adversarial", "licence")]
    for name in ("top5", "flip_agreement", "corruptions", "speed", "peak_memory", "processes", "match_classes"):
        del content[name]
    del content["dataset"]["revision"], content["preprocessing"]["crop_pct"]
    written.write_text(json.dumps(content))
    older = Results.read(written)
    assert older.top1 == known.top1 and older.corruptions is older.speed is older.match_classes is None
    assert older.preprocessing.agrees(known.preprocessing) and "corrupted" not in older.summary()


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


@pytest.mark.parametrize("threads", [1, 2])
def test_a_pass_is_timed_on_any_number_of_threads(threads):
    """By another clock on one."""
    torch.set_num_threads(threads)
    assert 0 < fastest_pass(timm.create_model("wrn_10_2"), torch.zeros(1, 3, 8, 8), seconds=0) < 60


# measured again

NAME = "wrn_16_1.cifar10"


@pytest.fixture(scope="module")
def recorded_once(tmp_path_factory, colours) -> Path:
    """A model_cards folder of one model, which was measured on 21 images; a small net under a name of the manifest."""
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("model_cards")
    net = timm.create_model("wrn_10_2", num_classes=3)
    save_model(net, root / NAME, classes=("blue", "green", "red"))
    evaluate_source(EvaluateOptions(
        str(root / NAME), str(colours), split="test", image_size=8, corruption_images=0, output=str(root / NAME)))
    path = root / NAME / "results.json"
    content = json.loads(path.read_text())
    content["dataset"]["name"] = str(colours)  # not an embedded one
    path.write_text(json.dumps(content))
    return root


OTHER = "CPU of another kind, 64 threads"
FLIP = 1 / 21


@pytest.mark.parametrize("flips, changed, agrees, says", [
    (1, {}, False, "recorded are"),
    (1, {"hardware": OTHER}, True, "on CPU of another kind; within what other hardware may change"),
    (0, {"weights_sha256": "0" * 64, "hardware": OTHER}, False, "0" * 64),
])
def test_a_model_measured_again_agrees_to_the_image_or_as_far_as_other_hardware_allows(
        flips, changed, agrees, says, recorded_once, tmp_path):
    root = Path(shutil.copytree(recorded_once, tmp_path / "model_cards"))
    recorded = Results.read(root / NAME / "results.json")
    top1 = recorded.top1 + flips * (FLIP if recorded.top1 < 0.5 else -FLIP)
    replace(recorded, top1=top1, **changed).write(root / NAME / "results.json")
    if agrees:
        (line,) = measure_again(root)
        assert line.startswith(f"{NAME}: top-1 {recorded.top1:.2%}") and line.endswith(says)
        assert not flips or f"recorded {top1:.2%}" in line
    else:
        with pytest.raises(UserError, match=f"^{NAME}: top-1 {recorded.top1:.4%}.*{says}"):
            list(measure_again(root))


def test_other_threads_are_no_other_hardware_and_ten_images_of_ten_thousand_may_flip(recorded_once):
    recorded = replace(Results.read(recorded_once / NAME / "results.json"), top1=0.9334, hardware="CPU A, 2 threads")
    recorded = replace(recorded, dataset=replace(recorded.dataset, images=10_000))
    more = replace(recorded, hardware="CPU A, 8 threads", top1=0.9333)
    assert not compared(more, recorded)[1]
    line, agrees = compared(replace(more, hardware="B"), recorded)
    assert agrees and line == "top-1 93.33%, recorded 93.34% on CPU A; within what other hardware may change"
    assert compared(replace(more, hardware="B", top1=0.9324), recorded)[1]
    assert not compared(replace(more, hardware="B", top1=0.9323), recorded)[1]
    assert not compared(replace(recorded, hardware="B", top5=0.9), replace(recorded, top5=None))[1]
    for hardware in ("B", recorded.hardware):  # other weights never agree
        assert not compared(replace(recorded, hardware=hardware, weights_sha256="0" * 64), recorded)[1]
    assert compared(replace(recorded, hardware="B"), recorded) == ("top-1 93.34% as recorded", True)
