"""The list of wanted weights and its command, in a checkout of its own: train, stage, measure, go on from there."""
import importlib.util
import json
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from forks import Fork
from test_data import write_official

from wrn_hub.errors import UserError
from wrn_hub.weights import MANIFEST

ROOT = Path(__file__).resolve().parent.parent
LIST = """
["wrn_10_2.cifar10"]
mark = 50.0
aim = 60
chosen = "for this test"

[["wrn_10_2.cifar10".trainings]]
recipe = "cpu"
epochs = 2
batch_size = 10
progressive_sizes = [8, 16]

[["wrn_10_2.cifar10".trainings]]
recipe = "cpu"
epochs = 1
batch_size = 10
progressive_sizes = [16]
lr = 0.01

["wrn_16_1.cifar100"]
mark = 70.0
"""


@pytest.fixture(scope="module")
def zoo():
    spec = importlib.util.spec_from_file_location("zoo", ROOT / "scripts" / "maintain" / "zoo.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["zoo"] = module
    spec.loader.exec_module(module)
    return module


def test_the_list_of_this_repository(zoo):
    weights = {weight.name: weight for weight in zoo.read_zoo()}
    assert set(MANIFEST) <= {*weights, "wrn_16_1.cifar10", "wrn_16_1.cifar100"}
    flagship = weights["wrn_28_10.cifar10"]
    assert flagship.mark == 95.5 and flagship.trainings[0].settings["optimizer"] == "muonsgd"  # from its recipe
    assert flagship.done(ROOT) >= 1
    lines = zoo.status(list(weights.values()), Path("none"), ROOT)
    assert len(lines) == 1 + len(weights) and f"{flagship.measured(ROOT):.2f}" in lines[1]


@pytest.mark.parametrize(("text", "said"), [
    ('["a.cifar10"]\nmark = 1\nchosen = "x"\n[["a.cifar10".trainings]]\nepoch = 3', "no setting 'epoch'. Did you mean"),
    ('["a.cifar10"]\naim = 1', "mark"),
    ('["a.cifar10"]\nmark = 1\ncolour = 2', "colour"),
    ('["a.cifar10"]\nmark = 1\n[["a.cifar10".trainings]]\nepochs = 3', "how they were chosen"),
    ('["a.cifar10"]\nmark = 1\n[["a.cifar10".trainings]]\nrecipe = "cpuu"', "recipe 'cpuu'"),
    ("[", "not TOML"),
])
def test_a_bad_list(zoo, tmp_path, text, said):
    (tmp_path / "zoo.toml").write_text(text)
    with pytest.raises(UserError, match=said):
        zoo.read_zoo(tmp_path / "zoo.toml")


@pytest.fixture
def run(tmp_path):
    """``run("next")`` in a checkout without weights whose list is the one above."""
    checkout = tmp_path / "checkout"
    for part in ("wrn_hub", "scripts/maintain"):
        shutil.copytree(ROOT / part, checkout / part, ignore=shutil.ignore_patterns("__pycache__", "*.parquet"))
    (checkout / "wrn_hub" / "weights.json").write_text("{}\n")
    (checkout / "scripts" / "maintain" / "zoo.toml").write_text(LIST)
    (checkout / "model_cards").mkdir()
    shutil.copy(ROOT / "model_cards" / "speed.json", checkout / "model_cards")
    write_official(tmp_path / "data", per_file=10)

    def run(*arguments: str, stop_when: Path | None = None) -> str:
        process = Fork("scripts/maintain/zoo.py", *arguments, folder=checkout, PYTHONPATH=str(checkout),
                       WRN_HUB_CACHE=str(tmp_path / "cache"))
        while stop_when and not list(stop_when.parent.glob(stop_when.name)) and process.poll() is None:
            time.sleep(0.02)
        if stop_when and process.poll() is None:
            process.send_signal(signal.SIGTERM)
        assert process.wait(600) in (0, 143 if stop_when else 0), process.err()
        return process.out() + process.err()

    run.checkout = checkout
    return run


def test_a_finished_run_of_other_settings_is_not_taken_for_the_lists(zoo, tmp_path):
    weight = next(weight for weight in zoo.read_zoo() if weight.name == "wrn_16_2.cifar10")
    recorded = {"recipe": "cpu", **weight.trainings[0].settings}
    for path, content in (("model/config.json", {}), ("args.json", recorded)):
        (tmp_path / "wrn_16_2.cifar10.1" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "wrn_16_2.cifar10.1" / path).write_text(json.dumps(content))
    assert zoo.train_next(weight, 1, tmp_path, None, {}) == tmp_path / "wrn_16_2.cifar10.1"
    (tmp_path / "wrn_16_2.cifar10.1" / "args.json").write_text(json.dumps({**recorded, "epochs": 3}))
    with pytest.raises(UserError, match="isn't training 1 of wrn_16_2"):
        zoo.train_next(weight, 1, tmp_path, None, {})


def test_a_weight_is_trained_in_two_trainings_stopped_and_gone_on_with(run, tmp_path):
    data, staged = ("--data-dir", str(tmp_path / "data")), run.checkout / "model_cards" / "wrn_10_2.cifar10"
    assert "0 of 2" in run("status") and "none chosen yet" in run("status")
    run("next", *data, stop_when=run.checkout / "runs" / "zoo" / "wrn_10_2.cifar10.1" / "args.json")
    if not staged.exists():  # it was stopped in time, as it nearly always is
        assert "of 2, step" in run("status")
    assert "training 1 of 2 is staged" in run("next", *data)
    (staged / "results.json").unlink()  # as if it had been killed before it was measured
    assert "training 1 of 2 is staged" in run("next", *data) and (staged / "results.json").is_file()
    first = json.loads((staged / "args.json").read_text())
    assert first["epochs"] == 2 and not first["pretrained"]
    assert "\naccelerate launch scripts/evaluate.py --model wrn_10_2.cifar10 " in (staged / "README.md").read_text()

    assert "training 2 of 2 is staged" in run("next", *data)
    second = json.loads((staged / "args.json").read_text())
    assert second["pretrained"] and [before["epochs"] for before in second["before"]] == [2]
    assert "2 of 2" in run("status")
    assert "every weight of the list is trained and staged" in run("next", *data)
