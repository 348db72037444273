"""Metrics against values worked out by hand, and the staged cards: up to date, complete, and true."""
import dataclasses
import json
import math
import re
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import yaml
from huggingface_hub import EvalResult, ModelCardData
from jinja2 import UndefinedError
from PIL import Image

import wrn_hub
from wrn_hub.cards import plots
from wrn_hub.cards.card import PICTURES, card_text, check_card, write_card
from wrn_hub.cards.command import train_command
from wrn_hub.cards.index import check_cards, frontier
from wrn_hub.cards.markdown import listed, render, table
from wrn_hub.cards.metadata import check_metadata, check_text, front_matter
from wrn_hub.cards.origin import changes, origin
from wrn_hub.cards.plots import digest_of
from wrn_hub.cards.reported import Reported, reported
from wrn_hub.cards.standing import SHORT_EPOCHS, standing
from wrn_hub.cards.timm_card import timm_card_text, timm_cards
from wrn_hub.commands.cli import Parser, add_options, options_from
from wrn_hub.errors import UserError
from wrn_hub.evaluation import metrics
from wrn_hub.evaluation.corruptions import KINDS
from wrn_hub.evaluation.results import Results
from wrn_hub.facts import DATASETS
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
    assert all(digest_of(ROOT / name / picture) for picture in PICTURES)


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


GOOD = {
    "license": "apache-2.0", "library_name": "timm", "pipeline_tag": "image-classification", "tags": ["timm"],
    "datasets": ["uoft-cs/cifar10"], "model-index": [{"name": "net", "results": [{
        "task": {"type": "image-classification"}, "dataset": {"type": "uoft-cs/cifar10", "name": "CIFAR-10"},
        "metrics": [{"type": "accuracy", "value": 92.64}]}]}]}


@pytest.mark.parametrize("change, says", [
    ({"license": "Apache 2.0"}, "not an identifier that the Hub knows"),
    ({"license": "other"}, "needs license_name"),
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
    """Where a reader of a card works: nothing but an image lies there."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.full((50, 40, 3), 100, np.uint8)).save("image.png")
    return tmp_path


def snippets(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("name", STAGED)
def test_every_python_snippet_of_a_card_runs(name, desk, capsys):
    written = snippets(card_text(ROOT / name), "python")
    said = []
    for snippet in written:
        exec(snippet, {})
        said.append(capsys.readouterr().out)
    assert len(written) == 3
    three = [line.split(" ")[0] for line in said[0].splitlines()]
    assert len(three) == 3 and set(three) <= set(DATASETS[name.partition(".")[2]].classes)
    assert re.findall(r"'label': '(\w+)'", said[1]) == three  # transformers says what timm says


@pytest.mark.parametrize("name", STAGED)
def test_every_command_of_a_card_is_understood(name, desk, monkeypatch, capsys):
    """Fine-tuning runs; training and measuring, which take hours, are parsed by what parses them."""
    def run(script: str, *arguments: str) -> object:
        monkeypatch.setattr(sys, "argv", [script, *arguments])
        try:
            runpy.run_path(str(CHECKOUT / script), run_name="__main__")
        except SystemExit as stop:
            return stop.code
        return 0

    measure, finetune, *trainings = (command.split()[2:] for command in snippets(card_text(ROOT / name), "bash"))
    assert run(*measure) == 2 and "data folder data: no such folder" in capsys.readouterr().err

    parser = Parser(None)
    add_options(parser, TrainOptions)
    last = json.loads((ROOT / name / "args.json").read_text())
    left = {"image_size", "mean", "std", "flip", "crop_padding", "pipeline"}  # to the model and the dataset
    for train, settings in zip(trainings, [*last.get("before", []), last], strict=True):
        assert train[0] == "scripts/train.py"
        parsed = vars(options_from(TrainOptions, parser.parse_args(train[1:])))
        for key in set(settings) & set(parsed) - left:
            recorded = tuple(settings[key]) if isinstance(settings[key], list) else settings[key]
            assert parsed[key] == recorded or (parsed[key], recorded) == ((), None), key

    monkeypatch.setenv("WRN_HUB_CACHE", str(desk / "cache"))
    for label in ("cat", "dog"):
        (desk / "FOLDER" / label).mkdir(parents=True)
        for number in range(5):
            Image.fromarray(np.full((32, 32, 3), 20 * number, np.uint8)).save(f"FOLDER/{label}/{number}.png")
    assert run(*finetune, "--epochs", "1", "--batch-size", "8", "--precision", "fp32") == 0


@pytest.mark.parametrize("name", timm_cards())
def test_the_snippets_of_a_card_of_timms_weights(name, desk, capsys):
    """Run with random weights in place of the download; the pipeline, which is nothing but a download, is compiled."""
    classify, pipeline, features = snippets(timm_card_text(name), "python")
    exec(classify.replace("pretrained=True", "pretrained=False"), {})
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
        f"{copy.name}/README.md", f"{copy.name}/corruptions.png"]


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
    assert check_card(copy) == [
        f"{copy.name}/{name} is stale: run scripts/maintain/make_cards.py" for name in ("curve.png", "worst.png")]
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
    text = retrained(copy, model=f"{arch}.cifar100", teacher="wrn_28_2.cifar10", changes=[], start_weights_sha256=None)
    assert f"fine-tuned from `{arch}.cifar100` on CIFAR-10, taught by `wrn_28_2.cifar10` as well" in text
    assert "whose sha256 isn't on record" in text and "the distance from its logits" in text


def test_a_training_that_went_on_from_others_counts_their_epochs_and_tells_their_commands(copy):
    before = json.loads((copy / "args.json").read_text())
    command = train_command(before)
    text = retrained(copy, pretrained=True, before=[{**before, "epochs": 20}, {**before, "epochs": 7}])
    assert "), on from the weights of 27 earlier epochs." in first_line(text)
    lines = text.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("These trainings led to those"))
    assert [line.startswith(command.partition(" --epochs")[0]) for line in lines[first + 3 : first + 5]] == [True, True]
    assert "--epochs 20" in lines[first + 3] and "--epochs 7" in lines[first + 4]
    assert "--pretrained" in text and "| before |" not in text and check_text(text) == []
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
            ("a.png", plots.per_class_plot, (metrics.per_class(logits, labels), classes)),
            ("b.png", plots.confusion_plot, (metrics.confusion(logits, labels), classes)),
            ("c.png", plots.worst_plot, (
                pixels, [classes[i] for i in logits[worst].argmax(1)], [0.5] * len(worst),
                [classes[i] for i in labels[worst]])),
            ("d.png", plots.corruption_plot, ({kind: [0.9, 0.7, 0.5, 0.3, 0.1] for kind in KINDS}, 0.95))):
        plots.save(tmp_path / name, draw, *inputs)
        assert digest_of(tmp_path / name) == plots.digest(*inputs)
        with Image.open(tmp_path / name) as image:
            assert min(image.size) > 300


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
    """The staged wrn_16_2 was trained by it."""
    folder = ROOT / "wrn_16_2.cifar10"
    recipe = load_recipe("cpu", TrainOptions)
    settings = json.loads((folder / "args.json").read_text())
    for key, value in recipe.options.items():
        assert settings[key] == (list(value) if isinstance(value, tuple) else value), key
    assert f"{100 * json.loads((folder / 'results.json').read_text())['top1']:.2f} %" in recipe.accuracy


def test_something_is_staged():
    assert "wrn_16_2.cifar10" in MANIFEST and "wrn_16_2.cifar10" in STAGED
