"""The studies of the paper's claims: what their files say, a tiny one from its first training to its page, and that
the pages that are kept say what was measured."""
import json
import math
import re
import signal
import sys
from pathlib import Path

import pytest
import torch

from wrn_hub.commands.cli import run as run_command
from wrn_hub.commands.study import main
from wrn_hub.errors import UserError
from wrn_hub.evaluation.cost import Cost
from wrn_hub.studies import run as study_run
from wrn_hub.studies.nets import PlainNet, build
from wrn_hub.studies.page import check_index, check_study, index_text, page_text, write_study
from wrn_hub.studies.results import Results
from wrn_hub.studies.run import Machine, counted, train_missing
from wrn_hub.studies.study import load_study, study_names
from wrn_hub.studies.tally import difference, student_t

ROOT = Path(__file__).resolve().parent.parent / "model_cards" / "studies"

TINY = """
title = "Tiny"
claim = "A wider net errs less"
source = "nobody"
learns = "Nothing, with so few images"
columns = ["parameters", "step", "train_error", "error", "paper"]

[plot]
x = "x"
y = "error"
x_label = "width"

[small]
about = "A hundred images"
seeds = 2
steps = 4

[small.options]
dataset = "sample"
train_images = 100
test_images = 100
epochs = 2
batch_size = 20

[[small.nets]]
name = "narrow"
model = "wide_resnet"
kwargs = {depth = 10, width = 0.5}
x = 0.5
paper = 9

[[small.nets]]
name = "wider"
model = "wrn_10_2"
kwargs = {channels = [8, 8, 8]}
options = {lr = 0.1}
x = 2

[[small.claims]]
says = "The wider net errs less"
lower = "wider"
higher = "narrow"
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    (tmp_path / "tiny.toml").write_text(TINY)
    return tmp_path / "tiny.toml"


@pytest.fixture
def study(tmp_path, tiny, monkeypatch, capfd):
    """The command, with its places below a folder for trying; returns (exit code, stdout, stderr)."""
    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [
            "study.py", *map(str, arguments), "--results", str(tmp_path / "results"), "--output",
            str(tmp_path / "runs")])
        capfd.readouterr()
        try:
            run_command(main)
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        return code, *capfd.readouterr()
    return call


# -- what the files say -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", study_names())
def test_every_net_of_a_study_is_built_and_claims_are_of_what_is_shown(name):
    study = load_study(name)
    assert study.learns and study.source and not study.learns.endswith(".")
    for scale in study.scales.values():
        for claim in scale.claims:
            assert claim.column in study.columns
        assert scale.seeds or scale.steps
        if {"step", "memory"} & set(study.columns):
            assert scale.steps
    small = study.scale("small")
    for net in small.nets:
        assert counted(small, net).parameters > 10_000


def costs(name: str, scale: str = "small") -> dict[str, Cost]:
    of = load_study(name).scale(scale)
    return {net.name: counted(of, net) for net in of.nets}


def test_the_nets_are_those_of_the_tables_that_they_are_compared_with():
    millions = {net: round(cost.parameters / 1e6, 1) for net, cost in costs("block_types", "paper").items()}
    assert millions == {"B(1,3,1)": 1.4, "B(3,1)": 1.2, "B(1,3)": 1.3, "B(3,1,1)": 1.3, "B(3,3)": 1.5, "B(3,1,3)": 1.1}
    assert {cost.parameters for cost in costs("deepening").values()} == {563_930}
    one_size = [cost for net, cost in costs("depth_against_width").items() if "WRN" in net]
    assert max(cost.parameters for cost in one_size) < 1.05 * min(cost.parameters for cost in one_size)
    assert max(cost.gmacs for cost in one_size) < 1.06 * min(cost.gmacs for cost in one_size)
    residual = {net: cost.parameters for net, cost in costs("degradation").items()}
    projections = 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64  # with their norms
    for layers in (20, 56):
        assert residual[f"plain, {layers} layers"] + projections == residual[f"post-activation, {layers} layers"]


def test_a_plain_net_is_as_deep_as_it_says_and_has_no_shortcut():
    net = PlainNet(3, num_classes=7).eval()
    assert sum(isinstance(module, torch.nn.Conv2d | torch.nn.Linear) for module in net.modules()) == 20
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 7)
    torch.nn.init.zeros_(net[5][0].weight)  # what a shortcut would carry past this layer doesn't come through
    assert torch.equal(net(torch.randn(1, 3, 32, 32)), net(torch.randn(1, 3, 32, 32)))


def test_dropout_in_the_wrong_place_computes_the_same_where_nothing_is_dropped():
    torch.manual_seed(0)
    right = build("wide_resnet", {"depth": 10, "width": 1, "block_drop_rate": 0.3})
    wrong = build("misplaced_dropout", {"depth": 10, "width": 1, "rate": 0.3})
    assert [*wrong.stages[0][0].residual._modules] == ["conv1", "drop2", "norm2", "conv2"]
    assert [*right.stages[0][0].residual._modules] == ["conv1", "norm2", "drop2", "conv2"]
    wrong.load_state_dict(right.state_dict())
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(right.eval()(images), wrong.eval()(images))


@pytest.mark.parametrize(("wrong", "right", "said"), [
    ('lower = "wider"', 'lower = "widest"', "no net 'widest'. Did you mean 'wider'?"),
    ("epochs = 2", "epoch = 2", "no setting 'epoch'. Did you mean 'epochs'?"),
    ("epochs = 2", "epochs = 0", "epochs = 0: allowed is 1"),
    ('y = "error"', 'y = "errors"', "no column 'errors'. Did you mean 'error'?"),
    ('name = "wider"', 'name = "narrow"', "each name once"),
    ("seeds = 2", "seed = 2", "no key 'seed'. Did you mean 'seeds'?"),
    ('title = "Tiny"', "", "missing 1 required positional argument: 'title'"),
])
def test_what_is_wrong_with_a_study_is_said_in_one_line(tiny, wrong, right, said):
    tiny.write_text(TINY.replace(wrong, right, 1))
    with pytest.raises(UserError, match=re.escape(said)) as error:
        load_study(str(tiny))
    assert str(tiny) in str(error.value) and "\n" not in str(error.value)


def test_a_name_that_is_no_study_gets_one_line(study):
    code, _, said = study("depth_and_width")
    assert code == 2 and said.count("\n") == 1 and "Did you mean 'depth_against_width'?" in said
    assert study("step_cost", "--scale", "paper")[::2] == (
        2, "study.py: scale 'paper': step_cost has small\n")


# -- a tiny study, from its first training to its page ----------------------------------------------------------------


def stopped_after(steps: int):
    """In place of a time that is over: the signal that a scheduler sends, after so many steps."""
    done = iter(range(1, 1000))
    return lambda _end: lambda: signal.raise_signal(signal.SIGTERM) if next(done) == steps else None


def test_a_study_is_interrupted_resumed_and_gathered(tiny, tmp_path, study, monkeypatch):
    read, machine = load_study(str(tiny)), Machine(runs=tmp_path / "other", threads=1)
    whole = Results(read, tmp_path / "whole")
    assert train_missing(whole, read.scale("small"), machine, most=1) == 1

    monkeypatch.setattr(study_run, "_stop_at", stopped_after(7))
    code, _, said = study(tiny, "--threads", 1)
    assert code == 128 + signal.SIGTERM and "stopped and saved; the same command goes on" in said
    results = tmp_path / "results" / "tiny"
    assert not (results / "results.json").exists()
    assert "Not run yet." in (results / "README.md").read_text()
    monkeypatch.undo()

    study_call = study(tiny, "--threads", 1, "--runs", 1)
    assert study_call[0] == 0
    (record,) = json.loads((results / "results.json").read_text())["small"]["runs"]
    (other,) = json.loads((tmp_path / "whole" / "tiny" / "results.json").read_text())["small"]["runs"]
    same = ("net", "seed", "top1", "train_loss", "test_loss", "curve", "options", "parameters", "train_fingerprint")
    assert {key: record[key] for key in same} == {key: other[key] for key in same}  # as if nothing had stopped it
    assert record["images"] == 100 and record["threads"] == 1 and record["versions"]["torch"] == torch.__version__


@pytest.fixture
def finished(tiny, tmp_path, study):
    """Every training of the tiny study but one, and its steps."""
    code, _, said = study(tiny, "--threads", 1, "--runs", 3)
    assert code == 0, said
    return tmp_path / "results" / "tiny"


def test_what_is_missing_is_trained_and_the_page_says_what_was_seen(tiny, finished, study, tmp_path):
    runs = json.loads((finished / "results.json").read_text())["small"]["runs"]
    assert [(run["net"], run["seed"]) for run in runs] == [("narrow", 0), ("narrow", 1), ("wider", 0)]
    page = (finished / "README.md").read_text()
    assert "Not run yet: wider (seed 1); time and memory of a step." in page and "1 of 2" in page
    assert "one seed each, which tells little" in page and "after 3 of 4 trainings" in page
    assert "1 of 2 seeds" in study(tiny, "--status")[1]
    read = load_study(str(tiny))  # what is learnt waits for all of them
    assert "Nothing, with so few images" not in page + index_text([read], finished.parent)

    code, said, _ = study(tiny, "--threads", 1)
    assert code == 0 and str(finished / "README.md") in said
    page = (finished / "README.md").read_text()
    assert "Not run yet" not in page and "The claim checked here " in page and "95 % interval" in page
    assert "**What a reader learns:** Nothing, with so few images." in page
    assert "100 images of sample in 32x32 pixels" in page and "saw the same images" not in page  # all of a seed did
    assert "| Nothing, with so few images. |" in index_text([read], finished.parent)
    assert "Its memory is the least of 3 measurements of the plain one." in page
    errors = [100 * (1 - run["top1"]) for run in json.loads((finished / "results.json").read_text())["small"]["runs"]]
    assert f"{sum(errors[:2]) / 2:.2f} ± {abs(errors[0] - errors[1]) / math.sqrt(2):.2f}" in page
    assert study(tiny, "--status")[1].splitlines()[-1].strip() == "time and memory of a step: measured"

    before = {path.name: path.read_bytes() for path in finished.iterdir()}
    assert study(tiny, "--threads", 1)[0] == 0  # nothing is left to do
    for picture in ("small.png", "small.svg"):
        (finished / picture).unlink()
    study(tiny, "--page")
    assert {path.name: path.read_bytes() for path in finished.iterdir()} == before
    caught_when_changed(tiny, finished, study)
    forgotten_when_changed(tiny, finished.parent)


def test_runs_that_saw_other_images_are_told_of(tiny, finished, study):
    path = finished / "results.json"
    content = json.loads(path.read_text())
    content["small"]["runs"][0]["train_fingerprint"] = "another"
    path.write_text(json.dumps(content))
    study(tiny, "--page")
    assert "Not all of them saw the same images" in (finished / "README.md").read_text()


def test_images_of_the_studys_own_size_are_trained_on_and_counted(tiny, tmp_path):
    whole = counted(load_study(str(tiny)).scale("small"), load_study(str(tiny)).scale("small").nets[0])
    tiny.write_text(TINY.replace("epochs = 2", "image_size = 16\nepochs = 2"))
    scale = load_study(str(tiny)).scale("small")
    half = counted(scale, scale.nets[0])
    assert half.parameters == whole.parameters and 3.9 < whole.gmacs / half.gmacs <= 4
    results = Results(load_study(str(tiny)), tmp_path / "results")
    train_missing(results, scale, Machine(runs=tmp_path / "runs", threads=1), most=1)
    (record,) = results.runs(scale).values()
    assert record["gmacs"] == half.gmacs and record["options"]["image_size"] == 16
    (settings,) = (tmp_path / "runs").rglob("args.json")
    assert json.loads(settings.read_text())["image_size"] == 16


def caught_when_changed(tiny, folder, study):
    path = folder / "results.json"
    good, content = path.read_text(), json.loads(path.read_text())
    assert "tiny" not in study(tiny, "--check")[2]
    content["small"]["runs"][0]["top1"] += 0.01
    path.write_text(json.dumps(content))
    code, _, said = study(tiny, "--check")
    assert code == 2 and "tiny/README.md, tiny/small.png, tiny/small.svg" in said
    path.write_text(good.replace('"top1"', '"top"', 1))
    assert "a run lacks top1" in study(tiny, "--check")[2]
    path.write_text(good)
    (folder / "small.svg").unlink()
    assert "tiny/small.svg" in study(tiny, "--check")[2]
    write_study(load_study(str(tiny)), folder.parent)
    assert check_study(load_study(str(tiny)), folder.parent) == []


def forgotten_when_changed(tiny, root):
    """A record is of the settings that it was trained with, and of no others."""
    tiny.write_text(TINY.replace("lr = 0.1", "lr = 0.2"))
    read = load_study(str(tiny))
    assert {net for net, _ in Results(read, root).runs(read.scale("small"))} == {"narrow"}
    assert "Not run yet: wider (seeds 0 and 1)" in page_text(read, root)


def test_what_another_process_trains_is_left_to_it(tiny, tmp_path):
    from wrn_hub.files import locked

    read, machine = load_study(str(tiny)), Machine(runs=tmp_path / "runs")
    scale = read.scale("small")
    folder = study_run._folder("tiny", scale, scale.nets[0], 0, machine.runs)
    folder.parent.mkdir(parents=True)
    with locked(folder.with_name(f"{folder.name}.lock")):
        assert train_missing(Results(read, tmp_path / "results"), scale, machine, most=1) == 1
    assert [*Results(read, tmp_path / "results").runs(scale)] == [("wider", 0)]


def test_time_that_is_over_ends_it_in_peace(tiny, tmp_path, monkeypatch):
    read = load_study(str(tiny))
    results, scale = Results(read, tmp_path / "results"), read.scale("small")
    machine = Machine(runs=tmp_path / "runs", threads=1)
    assert train_missing(results, scale, machine, minutes=0) == 0
    times = iter([0, 0, *[0] * 6, *[1e9] * 1000])  # it is over after some steps
    monkeypatch.setattr(study_run.time, "monotonic", lambda: next(times))
    assert train_missing(results, scale, machine, minutes=1) == 0
    monkeypatch.undo()
    assert [*(tmp_path / "runs").rglob("epoch-*.pt")] and results.runs(scale) == {}


# -- numbers and pages ------------------------------------------------------------------------------------------------


def test_intervals_are_those_of_the_tables():
    assert [round(student_t(freedom), 3) for freedom in (1, 2, 4, 30)] == [12.706, 4.303, 2.776, 2.042]
    gap = difference([3.0, 4.0, 5.0], [1.0, 2.0, 3.0])  # equal variances of 1: four degrees of freedom
    assert gap.value == 2 and gap.half == pytest.approx(2.776 * math.sqrt(2 / 3), abs=1e-3) and not gap.beyond_spread
    assert difference([4.0], [1.0, 2.0]).half is None


def test_every_page_that_is_kept_is_what_its_results_make_of_it():
    studies = [load_study(name) for name in study_names()]
    stale = [name for study in studies for name in check_study(study, ROOT)] + check_index(studies, ROOT)
    assert stale == [], "run: python scripts/study.py --page"
