"""Metrics against values worked out by hand, and the staged cards: up to date, complete, and true."""
import dataclasses
import json
import math
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import yaml
from hub_server import served
from huggingface_hub import EvalResult, ModelCardData
from jinja2 import UndefinedError
from matplotlib.text import Text
from PIL import Image
from timm.models import get_arch_pretrained_cfgs

import wrn_hub
from wrn_hub.cards import plots
from wrn_hub.cards.card import PICTURES, card_text, check_card, write_card
from wrn_hub.cards.command import train_command
from wrn_hub.cards.frontier_plot import frontier_plot
from wrn_hub.cards.index import check_cards, frontier, index_text
from wrn_hub.cards.markdown import listed, render, table
from wrn_hub.cards.metadata import check_metadata, check_text, front_matter
from wrn_hub.cards.origin import changes, origin
from wrn_hub.cards.plots import digest_of
from wrn_hub.cards.reported import Reported, reported
from wrn_hub.cards.sample import SAMPLE, SAMPLES, sample_of
from wrn_hub.cards.standing import SHORT_EPOCHS, standing, unbeaten
from wrn_hub.cards.timm_card import PHOTOGRAPH, timm_card_text, timm_cards
from wrn_hub.commands.cli import Parser, add_options, options_from
from wrn_hub.errors import UserError
from wrn_hub.evaluation import metrics
from wrn_hub.evaluation.corruptions import KINDS
from wrn_hub.evaluation.results import Results
from wrn_hub.facts import DATASETS
from wrn_hub.hub.serve import application
from wrn_hub.hub.store import FolderStore
from wrn_hub.recipes import load_recipe
from wrn_hub.training.options import TrainOptions
from wrn_hub.weights import MANIFEST, staged

CHECKOUT = Path(__file__).resolve().parent.parent
ROOT = CHECKOUT / "model_cards"
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


def test_a_picture_is_not_stale_for_the_last_bits_of_another_processor(answers):
    logits, labels = answers
    here, elsewhere = metrics.reliability(logits, labels), metrics.reliability(logits.double() * (1 + 1e-12), labels)
    assert here.confidence.tolist() != elsewhere.confidence.tolist()
    assert plots.digest(*plots.reliability_inputs(here)) == plots.digest(*plots.reliability_inputs(elsewhere))


def test_every_card_and_the_comparison_are_up_to_date():
    assert check_cards(ROOT) == [], "run: python scripts/maintain/make_cards.py"


@pytest.mark.parametrize("name", STAGED)
def test_a_card_has_no_holes_and_its_pictures_are_there(name):
    text = card_text(ROOT / name)
    assert check_text(text) == []
    assert set(re.findall(r"\]\((\w+\.png)\)", text)) == set(PICTURES)
    drawings = set(re.findall(r"\]\((\w+\.svg)\)", text))
    assert drawings == {picture.replace("png", "svg") for picture in PICTURES} - {"worst.svg"}
    assert {path.name for path in (ROOT / name).glob("*.*g")} == {*PICTURES, *drawings, SAMPLE}
    for picture in PICTURES:
        assert digest_of(ROOT / name / picture)
        assert picture == "worst.png" or digest_of(ROOT / name / picture) == digest_of(
            (ROOT / name / picture).with_suffix(".svg"))


@pytest.mark.parametrize("hole", [
    "| accuracy | None |", "| accuracy | |", "The accuracy is nan %.", "[More Information Needed]", "![curve]()",
    "TODO", "by {author}"])
def test_a_hole_is_seen(hole):
    assert check_text("# Title\n\n| measure | value |\n| --- | ---: |\n| top-1 | 92.64 % |\n") == []
    assert check_text(f"# Title\n\n{hole}\n")


@pytest.mark.parametrize("name", STAGED)
def test_the_metadata_is_what_the_hub_reads(name):
    """The fields that the Hub's validator demands of a timm classifier, checked without asking it."""
    text = card_text(ROOT / name)
    assert check_metadata(text) == []
    metadata = yaml.safe_load(text.split("---\n")[1])
    assert {"timm", "transformers"} <= set(metadata["tags"])
    (entry,) = metadata["model-index"]
    (result,) = entry["results"]
    assert entry["name"] == name and result["dataset"]["type"] in metadata["datasets"]
    top1 = json.loads((ROOT / name / "results.json").read_text())["top1"]
    assert result["metrics"][0] == {"type": "accuracy", "value": round(100 * top1, 2), "name": "top-1 accuracy"}
    kinds = [metric["type"] for metric in result["metrics"]]  # a measure each, so that the Hub compares like with like
    assert kinds == ["accuracy", "top_5_accuracy", "nll", "ece", "corruption_accuracy"]


GOOD = {
    "license": "apache-2.0", "library_name": "timm", "pipeline_tag": "image-classification", "tags": ["timm"],
    "datasets": ["uoft-cs/cifar10"], "model-index": [{"name": "net", "results": [{
        "task": {"type": "image-classification"}, "dataset": {"type": "uoft-cs/cifar10", "name": "CIFAR-10"},
        "metrics": [{"type": "accuracy", "value": 92.64}]}]}]}


@pytest.mark.parametrize("change, says", [
    ({"license": "Apache 2.0"}, "not an identifier that the Hub knows"),
    ({"license": "other"}, "needs license_name"),
    ({"base_model": "org/net", "base_model_relation": "child"}, "allowed is one of finetune"),
    ({"base_model_relation": "finetune"}, "with a base_model"),
    ({"licence": "mit"}, "unknown field 'licence'"),
    ({"tags": "timm"}, "wrong type"),
    ({"tags": ["wide-resnet"]}, "timm among them"),
    ({"pipeline_tag": "classification"}, "needed is 'image-classification'"),
    ({"datasets": ["CIFAR 10"]}, "not a list of ids"),
    ({"model-index": [{"name": "net"}]}, "lacks results"),
    ({"model-index": [{"name": "net", "results": [{"task": {}, "dataset": {}, "metrics": []}]}]}, "lacks task"),
    ({"model-index": [{"name": "net", "results": [{
        "task": {"type": "x"}, "dataset": {"type": "x"}, "metrics": [{"type": "accuracy", "value": "92"}]}]}]},
     "finite number"),
])
def test_metadata_that_the_hub_would_refuse_is_seen(change, says):
    assert check_metadata(f"---\n{yaml.safe_dump(GOOD)}---\n# net\n") == []
    assert any(says in line for line in check_metadata(f"---\n{yaml.safe_dump({**GOOD, **change})}---\n# net\n"))


def test_a_head_says_what_it_was_given_in_the_order_of_the_hubs_pages():
    head = front_matter(ModelCardData(
        tags=["timm"], library_name="timm", license="mit", model_name="net",
        eval_results=[EvalResult("image-classification", "org/ünïcode", "name", "accuracy", 92.64)]))
    assert head.startswith("---\nlicense: mit\nlibrary_name: timm\ntags:\n- timm\nmodel-index:\n- name: net\n")
    assert "org/ünïcode" in head and head.endswith("value: 92.64\n---\n")


def test_a_card_without_metadata_is_seen():
    assert check_metadata("# net\n") == check_metadata("---\n: [\n---\n# net\n") != []


# snippets

@pytest.fixture
def desk(tmp_path, monkeypatch) -> Path:
    """Where a reader of a card works: nothing lies there."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def snippets(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(text: str) -> list[str]:
    return [line for snippet in snippets(text, "bash") for line in snippet.splitlines()]


RUN_ALL = """
import contextlib, io, json, sys
said = {}
for name, snippets in json.load(open(sys.argv[1])).items():
    said[name] = []
    for snippet in snippets:
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(snippet, {"__name__": "__main__"})
        said[name].append(out.getvalue())
json.dump(said, open(sys.argv[1], "w"))
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory) -> dict[str, list[str]]:
    """What the Python of every card prints, pasted as it stands where nothing lies, against the package's own hub; and
    one card's download."""
    place = tmp_path_factory.mktemp("reader")
    (place / "said.json").write_text(json.dumps({name: snippets(card_text(ROOT / name), "python") for name in STAGED}))
    (download,) = (line for line in commands(card_text(ROOT / STAGED[0])) if line.startswith("hf "))
    with served(application(FolderStore(ROOT))) as endpoint:
        reader = {**os.environ, "PYTHONPATH": str(CHECKOUT), "HF_ENDPOINT": endpoint, "HF_HOME": str(place / "cache"),
                  "HF_HUB_OFFLINE": "0"}
        hf = str(Path(sys.executable).parent / "hf")
        for command in ([sys.executable, "-c", RUN_ALL, "said.json"], [hf, *download.split()[1:]]):
            done = subprocess.run(command, cwd=place, env=reader, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
    assert {path.name for path in (place / STAGED[0]).iterdir()} >= {"README.md", "model.safetensors", SAMPLE}
    return json.loads((place / "said.json").read_text())


@pytest.mark.parametrize("name", STAGED)
def test_every_python_snippet_of_a_card_works_as_pasted(name, said):
    timms, transformers, _ = said[name]
    three = [line.split(" ")[0] for line in timms.splitlines()]
    assert len(three) == 3 and three[0] == {"cifar10": "ship", "cifar100": "sunflower"}[name.partition(".")[2]]
    assert re.findall(r"'label': '(\w+)'", transformers) == three  # transformers says what timm says


def test_the_samples_are_drawn_by_this_project(tmp_path, monkeypatch):
    script = runpy.run_path(str(CHECKOUT / "scripts" / "maintain" / "draw_pictures.py"))
    assert script["DRAWN"].keys() == {path.stem for path in SAMPLES.iterdir()} == DATASETS.keys()
    for dataset, draw in script["DRAWN"].items():
        with Image.open(sample_of(dataset)) as kept:  # another Pillow may round an edge otherwise
            assert np.abs(np.asarray(kept.convert("RGB"), int) - np.asarray(draw(), int)).mean() < 1
    assert sample_of("pets") == sample_of()


def test_a_repository_without_its_sample_is_seen(copy):
    (copy / SAMPLE).write_bytes(sample_of("svhn").read_bytes())
    assert check_card(copy) == [f"{copy.name}/{SAMPLE} is stale: run scripts/maintain/make_cards.py"]
    write_card(copy)
    assert (copy / SAMPLE).read_bytes() == sample_of("cifar10").read_bytes()


@pytest.mark.parametrize("name", STAGED)
def test_every_command_of_a_card_is_understood(name, desk, monkeypatch, capsys):
    """Fine-tuning runs, and the export of one net; training and measuring, which take hours, are parsed by what parses
    them."""
    def run(script: str, *arguments: str) -> object:
        monkeypatch.setattr(sys, "argv", [script, *arguments])
        try:
            runpy.run_path(str(CHECKOUT / script), run_name="__main__")
        except SystemExit as stop:
            return stop.code
        return 0

    download, finetune, export, measure, *trainings = commands(card_text(ROOT / name))
    assert download == f"hf download wrn-hub/{name} --local-dir {name}"
    assert run(*measure.split()[2:]) == 2 and "data folder data: no such folder" in capsys.readouterr().err

    parser = Parser(None)
    add_options(parser, TrainOptions)
    last = json.loads((ROOT / name / "args.json").read_text())
    left = {"image_size", "mean", "std", "flip", "crop_padding", "pipeline"}  # to the model and the dataset
    for number, (train, settings) in enumerate(zip(trainings, [*last.get("before", []), last], strict=True)):
        assert train.startswith("accelerate launch scripts/train.py ")
        parsed = vars(options_from(TrainOptions, parser.parse_args(train.split()[3:])))
        if number:  # what it goes on from is the run of the command before, no longer what is staged
            assert trainings[number - 1].endswith(f"--output {parsed['model']}") and not parsed["pretrained"]
        for key in set(settings) & set(parsed) - left - ({"model", "pretrained"} if number else set()):
            recorded = tuple(settings[key]) if isinstance(settings[key], list) else settings[key]
            assert parsed[key] == recorded or (parsed[key], recorded) == ((), None), key

    monkeypatch.setenv("WRN_HUB_CACHE", str(desk / "cache"))
    for label in ("cat", "dog"):
        (desk / "FOLDER" / label).mkdir(parents=True)
        for number in range(5):
            Image.fromarray(np.full((32, 32, 3), 20 * number, np.uint8)).save(f"FOLDER/{label}/{number}.png")
    assert run(*finetune.split()[2:], "--epochs", "1", "--batch-size", "8", "--precision", "fp32") == 0
    assert export.startswith("python scripts/export.py ")
    if name == STAGED[0]:
        assert run(*export.split()[1:]) == 0 and (desk / f"{name}.onnx").is_file()


@pytest.mark.parametrize("name", timm_cards())
def test_the_snippets_of_a_card_of_timms_weights(name, desk, capsys):
    """Run with random weights and a picture from here in place of the downloads; the pipeline, which is nothing but a
    download, is compiled."""
    classify, pipeline, features = snippets(timm_card_text(name), "python")
    assert PHOTOGRAPH in classify and PHOTOGRAPH in pipeline
    exec(classify.replace("pretrained=True", "pretrained=False").replace(PHOTOGRAPH, sample_of().as_uri()), {})
    assert len(capsys.readouterr().out.splitlines()) == 3
    compile(pipeline, name, "exec")
    smaller = features.replace("224, 224", "32, 32").replace("pretrained=True", "pretrained=False")
    namespace: dict = {}
    exec(smaller, namespace)
    assert f"# (2, {namespace['embeddings'].shape[1]})" in features and len(namespace["maps"]) == 5


@pytest.mark.parametrize("name", timm_cards())
def test_a_card_of_timms_weights_says_that_nothing_was_measured(name):
    text = timm_card_text(name)
    assert check_metadata(text) == [] == check_text(text) and "model-index" not in text
    assert "Nothing on this page was measured here." in text and "Not measured" in text
    licences = {cfg.license for cfg in get_arch_pretrained_cfgs(name).values()}
    head = yaml.safe_load(text.split("---\n")[1])
    assert {head["license"]} == licences or head["license_name"] == "-or-".join(sorted(licences))
    tags = {entry.weights for entry in reported(name, "imagenet")} - {""}
    assert tags and all(timm.get_pretrained_cfg(f"{name}.{tag}").hf_hub_id in text for tag in tags)


# what makes a card stale

@pytest.fixture
def copy(tmp_path) -> Path:
    return Path(shutil.copytree(ROOT / STAGED[0], tmp_path / STAGED[0]))


def change(folder: Path, **fields: object) -> None:
    results = json.loads((folder / "results.json").read_text())
    (folder / "results.json").write_text(json.dumps({**results, **fields}, indent=2) + "\n")


def test_a_card_made_twice_is_the_same(copy):
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    write_card(copy)
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before


@pytest.mark.parametrize("fields, says", [
    ({"top1": 0.91}, "different measurements"),
    ({"nll": 0.2}, "different measurements"),
    ({"weights_sha256": "0" * 64}, "other weights"),
    ({"flip_agreement": 0.5}, "README.md is stale"),
    ({"activations": 0.30}, "README.md is stale"),
    ({"date": "2020-01-01T00:00:00+00:00"}, "README.md is stale"),
])
def test_a_change_of_one_number_is_seen(fields, says, copy):
    assert check_card(copy) == []
    change(copy, **fields)
    assert any(says in line for line in check_card(copy))


def test_a_change_of_one_corruption_makes_its_picture_stale(copy):
    results = json.loads((copy / "results.json").read_text())
    results["corruptions"]["accuracy"]["JPEG"][2] += 0.001
    change(copy, corruptions=results["corruptions"])
    assert [line.split()[0] for line in check_card(copy)] == [
        f"{copy.name}/README.md", f"{copy.name}/corruptions.png", f"{copy.name}/corruptions.svg"]


def test_no_card_is_made_of_other_weights(copy):
    before = (copy / "README.md").read_bytes()
    change(copy, weights_sha256="0" * 64)
    with pytest.raises(UserError, match="other weights than the manifest's; measure again"):
        write_card(copy)
    assert (copy / "README.md").read_bytes() == before


def test_another_picture_or_one_cut_short_is_stale(copy):
    Image.new("RGB", (8, 8)).save(copy / "curve.png")
    whole = (copy / "worst.png").read_bytes()
    (copy / "worst.png").write_bytes(whole[: len(whole) // 2])
    (copy / "curve.svg").write_bytes((copy / "curve.svg").read_bytes()[:-5])
    assert check_card(copy) == [
        f"{copy.name}/{name} is stale: run scripts/maintain/make_cards.py"
        for name in ("curve.png", "curve.svg", "worst.png")]
    write_card(copy)
    assert check_card(copy) == []


@pytest.mark.parametrize("file", ["logits.safetensors", "worst.safetensors", "results.json"])
def test_a_missing_or_damaged_file_is_named(file, copy):
    (copy / file).write_bytes(b"half")
    assert len(check_card(copy)) == 1 and file in check_card(copy)[0]
    (copy / file).unlink()
    assert len(check_card(copy)) == 1 and file in check_card(copy)[0]


def test_what_was_not_measured_is_said(copy):
    results = json.loads((copy / "results.json").read_text())
    for measure in ("top5", "flip_agreement", "corruptions", "speed", "peak_memory"):  # as without them
        del results[measure]
    (copy / "results.json").write_text(json.dumps(results))
    text = card_text(copy)
    assert "| top-5 accuracy | Not measured |" in text and "name: top-5 accuracy" not in text
    assert "| the same answer for the mirrored image | Not measured |" in text and check_text(text) == []
    assert "corruptions.png" not in text


def test_several_trainings_are_stated_as_mean_and_standard_deviation(copy):
    assert "one training (seed 0)" in card_text(copy) and "mean and standard deviation" not in card_text(copy)
    results = json.loads((copy / "results.json").read_text())
    for seed, top1 in ((1, results["top1"] - 0.002), (2, results["top1"] + 0.002)):
        (copy / f"results.seed{seed}.json").write_text(json.dumps({**results, "top1": top1}))
    text = card_text(copy)
    assert f"standard deviation of 3 trainings | {100 * results['top1']:.2f} % ± 0.20 |" in text
    assert "one of 3" in text


def test_a_training_measured_otherwise_is_not_counted_among_the_seeds(copy):
    results = json.loads((copy / "results.json").read_text())
    results["dataset"]["split"] = "train"
    (copy / "results.seed1.json").write_text(json.dumps(results))
    assert ["results.seed1.json was measured on other images" in line for line in check_card(copy)] == [True]


def test_a_picture_of_what_is_measured_no_more_goes(copy):
    change(copy, corruptions=None)
    assert f"{copy.name}/corruptions.png is stale: run scripts/maintain/make_cards.py" in check_card(copy)
    write_card(copy)
    assert not (copy / "corruptions.png").exists() and check_card(copy) == []


@pytest.mark.parametrize("file, content, says", [
    ("args.json", "{", r"args.json: not JSON .*; stage the run again"),
    ("args.json", "[]", r"args.json: holds a list, needed is a dict; stage the run again"),
    ("args.json", "{}", r"args.json or metrics.csv can't be read .*; stage the run again"),
    ("metrics.csv", "epoch\n1\n", r"args.json or metrics.csv can't be read .*; stage the run again"),
    ("metrics.csv", "", r"args.json or metrics.csv can't be read .*; stage the run again"),
])
def test_a_record_of_the_training_that_can_not_be_read_is_named(file, content, says, copy):
    before = (copy / "README.md").read_bytes()
    (copy / file).write_text(content)
    with pytest.raises(UserError, match=says):
        write_card(copy)
    assert (copy / "README.md").read_bytes() == before


def test_a_card_that_can_not_be_written_whole_leaves_the_old_one(copy, monkeypatch):
    before = (copy / "README.md").read_bytes()
    change(copy, date="2020-01-01T00:00:00+00:00")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space"):
        write_card(copy)
    assert (copy / "README.md").read_bytes() == before and not list(copy.glob(".*"))


# what the first line says

def retrained(folder: Path, **settings: object) -> str:
    """The card of the same weights, had they been trained otherwise."""
    before = json.loads((folder / "args.json").read_text())
    (folder / "args.json").write_text(json.dumps({**before, **settings}))
    return card_text(folder)


def first_line(text: str) -> str:
    return text.split("\n# ")[1].split("\n")[2]


def test_the_interval_is_wilsons():
    """Newcombe, Statistics in Medicine 17, 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29."""
    for right, count, low, high in (
            (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611), (1, 29, 0.0061, 0.1718)):
        assert metrics.interval(right / count, count) == pytest.approx((low, high), abs=5e-5)


def test_the_first_line_says_how_sure_how_far_behind_and_how_long_trained():
    line = first_line(card_text(ROOT / "wrn_40_2.cifar10"))
    top1 = Results.read(ROOT / "wrn_40_2.cifar10" / "results.json").top1
    low, high = metrics.interval(top1, 10_000)
    assert line.startswith(f"**{100 * top1:.2f} %** of the 10,000 test images of CIFAR-10")
    assert f"95 % interval {100 * low:.2f} to {100 * high:.2f} %" in line
    assert "the paper's 94.67 % (preprocessing: ZCA whitening), " in line and "94.87 % (torchdistill" in line
    assert re.search(r"Trained for \d+ epochs? \(", line)


@pytest.mark.parametrize("points, epochs, short", [
    (-0.6, SHORT_EPOCHS - 1, True),
    (-0.6, SHORT_EPOCHS, False),  # behind, but not for want of epochs
    (-0.5, SHORT_EPOCHS - 1, False),  # as good as what others report, however short
    (0.3, 1, False),
    (-0.6, None, None),  # a record without the epochs says neither
])
def test_a_run_is_short_that_had_few_epochs_and_is_behind(points, epochs, short, monkeypatch):
    others = [Reported(5.0, "the paper, Table 0", "mean/std"), Reported(1.0, "somebody", "ZCA whitening")]
    monkeypatch.setattr("wrn_hub.cards.standing.reported", lambda *_: others)
    results = dataclasses.replace(Results.read(ROOT / STAGED[0] / "results.json"), top1=0.95 + points / 100)
    assert standing("net", "cifar10", results, epochs and {"epochs": epochs}).short_run is short


def test_of_a_net_of_which_others_report_nothing_the_epochs_decide(monkeypatch):
    monkeypatch.setattr("wrn_hub.cards.standing.reported", lambda *_: [])
    results = Results.read(ROOT / STAGED[0] / "results.json")
    assert [standing("net", "cifar10", results, {"epochs": n}).short_run for n in (29, 30)] == [True, False]


def test_a_short_run_is_marked_everywhere():
    for row in wrn_hub.table():
        if row["top1"] is not None:
            name = f"{row['model']}.{row['dataset']}"
            text, short = (ROOT / name / "README.md").read_text(), row["short_run"]
            assert isinstance(short, bool)
            settings = json.loads((ROOT / name / "args.json").read_text())
            assert row["epochs"] == sum(training["epochs"] for training in [*settings.get("before", []), settings])
            assert ("**A short run**" in first_line(text)) is short
            assert ("short-run" in yaml.safe_load(text.split("---\n")[1])["tags"]) is short
            assert (f"({name}/README.md), short run |" in (ROOT / "README.md").read_text()) is short
        else:
            assert row["short_run"] is None


def test_corruptions_of_fewer_images_than_usual_say_so(copy):
    assert "mean of all below |" in card_text(copy)
    results = json.loads((copy / "results.json").read_text())
    change(copy, corruptions={**results["corruptions"], "images": 200})
    assert "mean of all below (200 images) |" in card_text(copy)


def test_accuracy_under_attack_is_shown_where_it_was_measured(copy):
    assert "PGD" not in card_text(copy)
    change(copy, robustness={"attack": "pgd", "eps": 8 / 255, "step": 2 / 255, "steps": 20, "images": 1000, "seed": 0,
                             "clean": 0.93, "accuracy": 0.0125})
    text = card_text(copy)
    row = "| top-1 accuracy under PGD-20, pixels changed by at most 8/255 (1,000 images) | 1.25 % |"
    assert row in text and check_text(text) == []


def test_speed_and_memory_are_those_of_all_nets_not_the_evaluators(copy):
    before = card_text(copy)
    change(copy, speed={"images_per_second": 12345.0, "batch_size": 250}, peak_memory={"bytes": 2**40, "what": "all"})
    text = card_text(copy)
    (changed,) = (a for a, b in zip(before.splitlines(), text.splitlines(), strict=True) if a != b)
    assert changed.startswith("| results.json |")
    nets = json.loads((ROOT / "speed.json").read_text())["nets"]
    assert f"| {nets[copy.name.partition('.')[0]]['images_per_second']:,.0f} images/s, fp32, batch" in text


def test_a_training_that_began_with_other_weights_says_which(copy):
    arch = copy.name.partition(".")[0]
    assert "trained from scratch on CIFAR-10." in card_text(copy)
    text = retrained(
        copy, pretrained=True, start_weights_sha256="0123456789abcdef" * 4,
        teacher=["wrn_28_2.cifar10", "/home/me/big"],
        distill_weight=0.5, distill_temperature=2.0, changes=[
            {"epochs": 3, "step": 1200, "before": {"precision": "bf16", "threads": 2},
             "after": {"precision": "fp32", "threads": 8}},
            {"epochs": 5, "step": 0, "before": {"winograd": "on"}, "after": {"winograd": "off"}}])
    assert (
        "trained on from earlier weights of this hub (sha256 `0123456789ab`) on CIFAR-10, taught by `wrn_28_2.cifar10` "
        "and `big` as well (50 % of the loss is the distance from the mean of their logits at temperature 2).") in text
    assert f"The training began with earlier weights of this hub (sha256 `{'0123456789abcdef' * 4}`)." in text
    assert (
        "- After 3 epochs and 1,200 steps it went on otherwise: precision bf16 became fp32, threads 2 became 8.\n"
        "- After 5 epochs it went on otherwise: winograd on became off.\n\n```bash") in text
    assert "), on from weights that were trained before." in first_line(text) and "from scratch" not in text
    assert "/home" not in text and check_text(text) == []
    assert "base_model" not in text  # it is of this very repository
    text = retrained(copy, model=f"{arch}.cifar100", teacher="wrn_28_2.cifar10", changes=[], start_weights_sha256=None)
    assert f"fine-tuned from `{arch}.cifar100` on CIFAR-10, taught by `wrn_28_2.cifar10` as well" in text
    assert f"base_model: wrn-hub/{arch}.cifar100\nbase_model_relation: finetune\n" in text
    assert check_metadata(text) == []
    assert "whose sha256 isn't on record" in text and "the distance from its logits" in text


def test_a_training_that_went_on_from_others_counts_their_epochs_and_tells_their_commands(copy):
    before = json.loads((copy / "args.json").read_text())
    text = retrained(copy, pretrained=True, before=[{**before, "epochs": 20}, {**before, "epochs": 7}])
    assert "), on from the weights of 27 earlier epochs." in first_line(text)
    lines = text.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("The weights came of 3 trainings"))
    first, second, third = lines[first + lines[first:].index("```bash") + 1 :][:3]
    assert first.startswith(train_command(before).partition(" --epochs")[0]) and "--epochs 20" in first
    run = f"runs/{copy.name}"  # what each goes on from; the weights of the card's own name are the last one's
    assert f"--model {run}.1 " in second and "--epochs 7" in second and second.endswith(f"--output {run}.2")
    assert f"--model {run}.2 " in third and "--pretrained" not in second + third
    assert "--output runs" in first and "| before |" not in text and check_text(text) == []
    assert standing("wrn_16_2", "cifar10", Results.read(copy / "results.json"),
                    {"epochs": 3, "before": [{"epochs": 20}, {"epochs": 7}]}).epochs == 30


def test_older_records_of_a_training_are_understood():
    told = origin("wrn_16_2", "cifar10", {"model": "wrn_16_2", "pretrained": False, "teacher": None})
    assert (told["how"], told["start"], told["teachers"]) == ("trained from scratch", None, [])
    assert changes({}) == changes({"changes": []}) == []


# Markdown

def test_a_table_is_markdown_whatever_its_cells():
    rows = [["a|b", "1"], ["two\nlines", "1,000"]]
    assert table(["name", "value"], rows, right=[1]) == (
        "| name | value |\n| --- | ---: |\n| a\\|b | 1 |\n| two lines | 1,000 |")
    assert table(["name", "n"], [["a", "1,000"]], right=[1], padded=True) == (
        "| name |     n |\n| ---- | ----: |\n| a    | 1,000 |")


def test_a_list_of_names():
    assert [listed(names) for names in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]


def test_a_template_without_one_of_its_values_is_no_page():
    with pytest.raises(UndefinedError):
        render("timm_card", head="---\n---\n")


@pytest.mark.parametrize("name", [*STAGED, *timm_cards(), "."])
def test_the_markdown_is_clean(name):
    text = (ROOT / name / "README.md").read_text(encoding="utf-8")
    assert text.endswith("\n") and not text.endswith("\n\n")
    prose = re.sub(r"```.*?```", "```", text, flags=re.DOTALL)
    assert "\n\n\n" not in prose and not re.search(r"[ \t]+$", prose, re.MULTILINE)
    for kind in (r"#+ ", r"\|", r"!\[", r"<details>"):  # each begins after a blank line, or goes on
        assert not re.search(rf"^(?!{kind}|\s*$).*\n{kind}", prose, re.MULTILINE), kind


def test_every_number_that_others_report_has_its_footnote():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    notes = dict(re.findall(r"^\[\^(\d+)\]: (.+)$", text, re.MULTILINE))
    assert set(re.findall(r"%\[\^(\d+)\]", text)) == set(notes)
    best = min(reported("wrn_28_10", "cifar10"), key=lambda entry: entry.error)
    (number,) = re.findall(r"`wrn_28_10`.*cifar10.*\| 97\.61 %\[\^(\d+)\] \|", text)
    assert notes[number] == f"{best.source}; {best.preprocessing}"


# pictures and tables

def test_the_pictures_of_a_hundred_classes_are_drawn(tmp_path):
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(300) % 100
    logits = torch.randn(300, 100, generator=random)
    classes = DATASETS["cifar100"].classes
    worst = metrics.worst(logits, labels)
    pixels = torch.zeros(len(worst), 32, 32, 3, dtype=torch.uint8)
    for name, draw, inputs in (
            ("a.png", plots.many_classes_plot, (metrics.per_class(logits, labels), classes)),
            ("c.png", plots.worst_plot, (
                pixels, [classes[i] for i in logits[worst].argmax(1)], [0.5] * len(worst),
                [classes[i] for i in labels[worst]])),
            ("d.png", plots.corruption_plot, ({kind: [0.9, 0.7, 0.5, 0.3, 0.1] for kind in KINDS}, 0.95))):
        plots.save(tmp_path / name, draw, *inputs)
        assert digest_of(tmp_path / name) == plots.digest(*inputs)
        with Image.open(tmp_path / name) as image:
            assert min(image.size) > 300


CURVE = ([1, 2], [0.93, 0.94], [(2, 0.947)])
BINS = (torch.tensor([0, 1, 20, 100]), torch.tensor([float("nan"), 1.0, 0.5, 0.9]))


def test_a_drawing_made_twice_is_the_same_to_the_byte(tmp_path):
    for name in ("one.svg", "two.svg", "one.png", "two.png"):
        plots.save(tmp_path / name, plots.curve_plot, *CURVE)
        assert digest_of(tmp_path / name) == plots.digest(*CURVE)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert ">top-1 accuracy, %</text>" in (tmp_path / "one.svg").read_text()  # letters are letters


@pytest.fixture
def drawn():
    """Draws a figure as it is saved, and forgets it afterwards."""
    def drawn(draw, *inputs):
        figure = draw(*inputs)
        figure.canvas.draw()
        return figure

    yield drawn
    plots.plt.close("all")


def test_a_short_curve_has_whole_epochs_for_ticks(drawn):
    (axes,) = drawn(plots.curve_plot, *CURVE).axes
    low, high = axes.get_xlim()
    assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [1, 2]


def test_the_bars_of_reliability_have_their_intervals(drawn):
    above, _ = drawn(plots.reliability_plot, *BINS).axes
    (bars,) = (made for made in above.containers if made.get_label() == "95 % interval")
    ends = [tuple(y for _, y in segment) for segment in bars.lines[2][0].get_segments()]
    assert ends == pytest.approx(
        [pytest.approx(metrics.interval(share, count)) for share, count in ((1.0, 1), (0.5, 20), (0.9, 100))])


@pytest.mark.parametrize("draw, inputs", [
    (plots.curve_plot, CURVE), (plots.reliability_plot, BINS), (frontier_plot, (frontier(), "parameters", 0, False))])
def test_no_legend_covers_data(draw, inputs, drawn):
    legends = [axes for axes in drawn(draw, *inputs).axes if axes.get_legend()]
    assert legends
    for axes in legends:
        assert axes.get_legend().get_window_extent().y0 >= axes.get_window_extent().y1


@pytest.mark.parametrize("column, more_is_better", [(0, False), (1, False), (2, True)])
def test_no_label_of_the_frontier_covers_another_or_a_mark(column, more_is_better, drawn):
    figure = drawn(frontier_plot, frontier(), "cost", column, more_is_better)
    for axes, points in zip(figure.axes, frontier().values(), strict=True):
        boxes = [Text.get_window_extent(label) for label in axes.texts]  # without the lines that lead there
        assert len(boxes) == len(points)
        for place, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[:place])
            marks = axes.transData.transform([(p.costs[column], p.error) for p in points])
            assert not any(box.contains(x, y) for x, y in marks)


def test_the_frontier_is_what_nothing_cheaper_is_better_than():
    places = [(10, 5.0), (1, 9.0), (3, 6.0), (3, 7.0), (5, 6.0), (20, 5.5)]
    assert [places[i] for i in unbeaten(places)] == [(1, 9.0), (3, 6.0), (10, 5.0)]
    assert [places[i] for i in unbeaten(places, x_more=True)] == [(20, 5.5), (10, 5.0)] and unbeaten([]) == []
    assert [places[i] for i in unbeaten(places, y_more=True)] == [(1, 9.0)]


def test_studies_are_listed_with_their_first_sentence(tmp_path):
    assert "## Studies" not in index_text(tmp_path)
    for name, text in (
            ("width", "# What width buys\n\n![picture](plot.png)\n\nNets of 1.5 times the width err\nless, see "
                      "[the card](../../wrn_16_2.cifar10/README.md). More text.\n"),
            ("depth", "# What depth buys\n\nLittle.\n")):
        (tmp_path / "studies" / name).mkdir(parents=True)
        (tmp_path / "studies" / name / "README.md").write_text(text)
    text = index_text(tmp_path)
    assert ("## Studies\n\n- [What depth buys](studies/depth/README.md): Little.\n- [What width buys]"
            "(studies/width/README.md): Nets of 1.5 times the width err less, see the card.\n\n## CIFAR-10") in text
    (tmp_path / "studies" / "depth" / "README.md").write_text("# What depth buys\n")
    with pytest.raises(UserError, match=r"depth/README\.md needs a title"):
        index_text(tmp_path)


def test_the_table_from_python_says_what_the_files_say():
    rows = wrn_hub.table()
    assert json.loads(json.dumps(rows)) == rows
    (row,) = (row for row in rows if (row["model"], row["dataset"]) == ("wrn_16_2", "cifar10"))
    results = Results.read(ROOT / "wrn_16_2.cifar10" / "results.json")
    assert row["top1"] == results.top1 and row["parameters"] == results.parameters and row["weights"] == "here"
    assert row["corrupted"] == results.corruptions.mean and row["images_per_second"] > 0 and row["latency_ms"] > 0
    assert row["latency_with"].startswith("batch 1, fp32, ") and "thread" in row["latency_with"]
    assert re.match(r"batch \d+, fp32, .*thread", row["measured_with"])
    (other,) = (row for row in rows if (row["model"], row["dataset"]) == ("wrn_50_2", "imagenet"))
    assert other["top1"] is None and other["reported"] == 0.8228 and other["weights"] == "timm"
    assert {row["model"] for row in rows} >= set(timm.list_models("wrn_*"))


def test_the_frontier_shows_measured_and_reported_nets():
    points = frontier()["CIFAR-10"]
    assert {(p.label, p.measured) for p in points} >= {("16-2", True), ("16-2", False), ("28-10", False)}
    assert all(None not in p.costs for p in points)


def test_the_command_of_a_training_is_what_differs_from_the_defaults():
    settings = {"model": "wrn_16_2", "dataset": "cifar10", "epochs": 28, "progressive_sizes": [16, 32], "lr": 0.2,
                "decay_norm": True, "channels_last": False, "precision": "fp32", "flip": "alternating"}
    assert train_command(settings) == (
        "accelerate launch scripts/train.py --model wrn_16_2 --dataset cifar10 --data-dir data "
        "--progressive-sizes 16,32 --epochs 28 --decay-norm --precision fp32 --no-channels-last")


def test_the_command_says_what_the_model_and_the_dataset_would_decide_otherwise():
    settings = {"model": "runs/my nets/model", "dataset": "my pets", "data_dir": None, "image_size": 64, "flip": "none"}
    assert train_command(settings) == (
        "accelerate launch scripts/train.py --model 'runs/my nets/model' --dataset 'my pets' --image-size 64 "
        "--flip none")
    settings = {"model": "wrn_16_2", "dataset": "svhn", "image_size": 32, "flip": "none"}
    assert train_command(settings) == (
        "accelerate launch scripts/train.py --model wrn_16_2 --dataset svhn --data-dir data")


def test_the_command_of_a_training_from_files_leaves_out_what_the_pipeline_does_anyway():
    settings = {
        "model": "wrn_50_2.racm_in1k", "dataset": "pets", "pipeline": "files", "images": 3680, "image_size": 224,
        "flip": "random", "crop_padding": None, "scale": [0.08, 1.0], "ratio": [3 / 4, 4 / 3], "test_size": 288,
        "crop_pct": 0.875, "workers": None, "model_kwargs": ["kernels=(3, 3)"], "data_dir": None}
    assert train_command(settings) == (
        "accelerate launch scripts/train.py --model wrn_50_2.racm_in1k --dataset pets "
        "--model-kwargs 'kernels=(3, 3)' --test-size 288")
    assert " --pipeline memory" in train_command({**settings, "pipeline": "memory"})


def test_the_cpu_recipe_states_what_was_measured():
    """The staged wrn_28_2 was trained by it."""
    folder = ROOT / "wrn_28_2.cifar10"
    recipe = load_recipe("cpu", TrainOptions)
    settings = json.loads((folder / "args.json").read_text())
    for key, value in recipe.options.items():
        assert settings[key] == (list(value) if isinstance(value, tuple) else value), key
    assert f"{100 * json.loads((folder / 'results.json').read_text())['top1']:.2f} %" in recipe.accuracy


def test_something_is_staged():
    assert "wrn_16_2.cifar10" in MANIFEST and "wrn_16_2.cifar10" in STAGED
