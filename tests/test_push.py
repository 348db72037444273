"""--push-to-hub: a training of one's own on the test Hub, with a card."""
import json
import re
import runpy
import shutil
import sys
from pathlib import Path

import pytest
import timm
import torch
import yaml
from hub_server import TOKEN, Fault
from safetensors.torch import load_file, save_file

from wrn_hub.cards.user_card import user_card
from wrn_hub.errors import UserError
from wrn_hub.hub.push import check_push, push
from wrn_hub.models.build import ModelSource, class_names
from wrn_hub.training.options import TrainOptions
from wrn_hub.training.trainer import train

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
QUICK = ["--image-size", "8", "--crop-padding", "1", "--epochs", "1", "--batch-size", "1000", "--precision", "fp32"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """The folder of a training of wrn_10_2 on the sample, measured on images held out."""
    folder = tmp_path_factory.mktemp("runs") / "mine"
    train(TrainOptions(
        model="wrn_10_2", dataset="sample", image_size=8, crop_padding=1, epochs=1, batch_size=1000, held_out=100,
        output=str(folder), precision="fp32"))
    return folder


@pytest.fixture
def run(trained, tmp_path) -> Path:
    """A copy of it that a test may change."""
    return Path(shutil.copytree(trained, tmp_path / "runs" / "mine"))


def change(run: Path, **settings) -> None:
    file = run / "args.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))


def metadata(card: str) -> dict:
    return yaml.safe_load(card.split("---\n")[1])


def script(monkeypatch, name: str, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
    try:
        runpy.run_path(str(SCRIPTS / f"{name}.py"), run_name="__main__")
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_a_training_is_published_and_loads_from_there(hub, run):
    published = push(run, "ada/mine")
    files = hub.store.revision("models", "ada/mine").files
    assert published == f"ada/mine@{hub.store.revision('models', 'ada/mine').commit}"
    assert files.keys() == {
        ".gitattributes", "README.md", "args.json", "config.json", "metrics.csv", "model.safetensors",
        "sample.png"}
    theirs = timm.create_model("hf-hub:ada/mine", pretrained=True).eval()
    mine = timm.create_model(f"local-dir:{run / 'model'}", pretrained=True).eval()
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(theirs(images), mine(images))
    assert class_names(theirs)[:2] == ["aquatic_mammals", "fish"]
    assert ModelSource.parse("hf-hub:ada/mine").size == 8  # what scripts bring images to, unless told otherwise
    with pytest.raises(UserError, match="model hf-hub:ada/nothing: "):
        ModelSource.parse("hf-hub:ada/nothing")
    sent = len(hub.writes)
    assert push(run, "ada/mine") == published and len(hub.writes) == sent  # a second time sends nothing


def test_the_lines_of_the_card_work_as_they_stand(hub, run, capsys):
    push(run, "ada/mine")
    (snippet,) = re.findall(r"```python\n(.*?)```", user_card(run, "ada/mine"), re.DOTALL)
    exec(snippet, {})
    lines = capsys.readouterr().out.splitlines()[-3:]
    assert {line.split(" ")[0] for line in lines} <= set(class_names(timm.create_model(f"local-dir:{run / 'model'}")))


def test_what_else_the_repository_holds_stays(hub, run):
    hub.store.create("models", "ada/mine")
    hub.store.commit("models", "ada/mine", "main", {"notes.txt": hub.store.keep(b"my notes")})
    push(run, "ada/mine")
    assert "notes.txt" in hub.store.revision("models", "ada/mine").files


def test_the_card_says_what_was_measured_and_how(run):
    card = user_card(run, "ada/mine")
    rows = (run / "metrics.csv").read_text().splitlines()
    accuracy = float(dict(zip(rows[0].split(","), rows[-1].split(","), strict=True))["held_out_accuracy"])
    assert f"{100 * accuracy:.2f} % top-1 accuracy on 100 images held out of the training split" in card
    assert "`wrn_10_2` trained from scratch on the dataset `sample`" in card
    assert "import wrn_hub" in card and 'timm.create_model("hf-hub:ada/mine", pretrained=True)' in card
    assert "0 aquatic_mammals, 1 fish" in card
    (command,) = re.findall(r"```bash\n(.*)\n```", card)
    assert command.startswith("accelerate launch scripts/train.py --model wrn_10_2 --dataset sample")
    assert "--held-out 100" in command and "--epochs 1" in command and "--output" not in command
    assert not re.search(r"None|nan|TODO|More Information Needed", card)
    found = metadata(card)
    assert (found["library_name"], found["pipeline_tag"]) == ("timm", "image-classification")
    assert {"timm", "image-classification", "wide-resnet"} <= set(found["tags"])
    assert "base_model" not in found and "datasets" not in found and "license" not in found
    (result,) = found["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == round(100 * accuracy, 2) and result["dataset"]["split"] == "train"


@pytest.mark.parametrize("settings, base, start", [
    (dict(model="hf-hub:someone/net@0123", pretrained=False), "someone/net", "fine-tuned from [someone/net]"),
    (dict(model="resnet18.a1_in1k", pretrained=True), "timm/resnet18.a1_in1k", "from [timm/resnet18.a1_in1k]"),
    (dict(model="wrn_50_2.tv_in1k", pretrained=True), "timm/wide_resnet50_2.tv_in1k", "fine-tuned from"),
    (dict(model="wrn_16_2", pretrained=True), None, "fine-tuned from `wrn_16_2`"),  # isn't published
    (dict(model="local-dir:/home/ada/nets/first", pretrained=False), None, "fine-tuned from `first`"),
    (dict(model="resnet18", pretrained=False), None, "trained from scratch"),
])
def test_the_card_names_what_it_was_fine_tuned_from(run, settings, base, start):
    change(run, **settings)
    card = user_card(run, "ada/mine")
    found = metadata(card)
    assert found.get("base_model") == base and start in card
    assert found.get("base_model_relation") == ("finetune" if base else None)


def test_the_card_names_the_teachers_without_their_place_on_the_machine(run):
    assert "taught" not in user_card(run, "ada/mine")
    change(run, teacher=["/home/ada/big", "wrn_28_2.cifar10"], distill_weight=0.9, distill_temperature=4.0)
    card = user_card(run, "ada/mine")
    assert "on the dataset `sample`, taught by `big` and `wrn_28_2.cifar10` as well (90 % of the loss" in card
    assert "--teacher big,wrn_28_2.cifar10" in card and "/home" not in card


@pytest.mark.parametrize("file, content, says", [
    ("metrics.csv", "epoch,lr\n1,0.1\n", "holds no finished training"),  # killed before the last row was written
    ("metrics.csv", "test_accuracy\nnan\n", "holds no finished training .its last accuracy is nan"),
    ("args.json", "[1]", "holds no finished training"),
    ("args.json", "{}", "args.json or config.json is not as training writes it"),
])
def test_a_run_whose_files_are_damaged_has_no_card(run, file, content, says):
    (run / file).write_text(content)
    with pytest.raises(UserError, match=says):
        user_card(run, "ada/mine")


@pytest.mark.parametrize("settings, datasets", [
    (dict(dataset="cifar10", data_dir="/home/ada/data"), ["uoft-cs/cifar10"]),
    (dict(dataset="uoft-cs/cifar100"), ["uoft-cs/cifar100"]),
    (dict(dataset="someone/pets"), ["someone/pets"]),
    (dict(dataset="/home/ada/pets"), None),
    (dict(dataset="../ada/pets"), None),
    (dict(dataset="ada/pets", data_dir="/home"), None),
])
def test_the_card_names_a_dataset_of_the_hub_and_no_place_on_the_machine(hub, run, settings, datasets):
    change(run, **settings)
    card = user_card(run, "ada/mine")
    assert metadata(card).get("datasets") == datasets
    push(run, "ada/mine")
    for file in hub.store.revision("models", "ada/mine").files.values():
        content = file.content.read_bytes()
        assert b"/home" not in content and str(run.parent).encode() not in content


def test_an_architecture_that_timm_knows_needs_no_import(run):
    config = json.loads((run / "model" / "config.json").read_text())
    (run / "model" / "config.json").write_text(json.dumps({**config, "architecture": "resnet18"}))
    card = user_card(run, "ada/mine")
    assert "import wrn_hub" not in card and "wide-resnet" not in metadata(card)["tags"]


def test_a_training_that_is_not_finished_is_not_published(hub, run):
    shutil.rmtree(run / "model")
    with pytest.raises(UserError, match=r"holds no finished training.*--resume"):
        push(run, "ada/mine")
    assert not hub.writes


def test_nothing_else_of_the_folder_is_published(hub, run):
    (run / "model" / "token.txt").write_text(TOKEN)
    (run / "token.txt").write_text(TOKEN)
    (run / "model" / "hosts").symlink_to("/etc/hosts")
    push(run, "ada/mine")
    assert hub.store.revision("models", "ada/mine").files.keys() == {
        ".gitattributes", "README.md", "args.json", "config.json", "metrics.csv", "model.safetensors", "sample.png"}


@pytest.mark.parametrize("name", ["args.json", "metrics.csv", "model", "model/config.json", "model/model.safetensors"])
def test_a_link_out_of_the_folder_is_not_followed(hub, run, tmp_path, name):
    (run / name).rename(tmp_path / "elsewhere")
    (run / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=f"{name}.* is a link out of the folder"):
        push(run, "ada/mine")
    assert not hub.writes


def nan_weights(file: Path) -> None:
    state = load_file(file)
    state["stem.conv.weight"].fill_(float("nan"))
    save_file(state, file, metadata={"format": "pt"})


@pytest.mark.parametrize("file, content", [
    *((file, content) for file in ("args.json", "model/config.json")
      for content in (b"", b"{", b"[]", b"{}", b"\xff", b'{"model": 1, "dataset": [], "architecture": {}}')),
    *(("metrics.csv", content) for content in (b"", b"epoch\n", b"epoch,test_accuracy\n1,x\n", b"\xff\n\xff")),
    ("model/model.safetensors", b""), ("model/model.safetensors", b"\xff" * 100),
    ("model/model.safetensors", nan_weights),
])
def test_a_damaged_file_of_the_run_is_found_before_anything_is_sent(hub, run, file, content):
    content(run / file) if callable(content) else (run / file).write_bytes(content)
    with pytest.raises(UserError, match=re.escape(str(run.name)) + "|config.json|model.safetensors") as error:
        push(run, "ada/mine")
    assert "\n" not in str(error.value) and not hub.writes


@pytest.mark.parametrize("repo_id, says", [
    ("mine", "'mine': name the organisation or user too, for example ada/mine"),
    ("a/b/c", "'a/b/c' is no name of a repository"),
    ("ada/my net", "is no name of a repository"),
    ("grace/mine", "your token may not write to grace; it may to ada, wrn-hub"),
])
def test_a_destination_that_will_not_do_is_found_at_once(hub, repo_id, says):
    with pytest.raises(UserError, match=re.escape(says)):
        check_push(repo_id)
    assert not hub.writes


def test_what_was_trained_is_kept_when_publishing_fails(hub, run):
    hub.faults.append(Fault("POST .*/commit/", 503))
    with pytest.raises(UserError, match=r"in trouble \(503.*The model is whole in .*--output .*mine --resume"):
        push(run, "ada/mine")
    assert push(run, "ada/mine")


def test_the_script_looks_at_the_token_before_it_trains(hub, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert script(monkeypatch, "train", "--dataset", "sample", "--output", "run", "--push-to-hub", "ada/mine") == 2
    output = capsys.readouterr()
    assert "the token is not valid (401" in output.err and "hf_wrong" not in output.err
    assert not (tmp_path / "run").exists()


def test_the_scripts_train_and_publish_and_publish_what_is_trained(hub, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["--model", "wrn_10_2", "--dataset", "sample", *QUICK, "--output", "run", "--push-to-hub", "ada/mine"]
    hub.faults.append(Fault("POST .*/commit/", 500))
    assert script(monkeypatch, "train", *command) == 2
    assert script(monkeypatch, "train", *command, "--resume") == 0
    first = hub.store.revision("models", "ada/mine").commit
    assert script(monkeypatch, "finetune", "--model", "hf-hub:ada/mine", *QUICK, "--output", "tuned",
                  "--push-to-hub", "ada/tuned") == 0
    output = capsys.readouterr()
    assert f"published: ada/mine@{first}" in output.out and "published: ada/tuned@" in output.out
    card = hub.store.revision("models", "ada/tuned").files["README.md"].content.read_text()
    assert metadata(card)["base_model"] == "ada/mine" and "on the test split" in card
    assert TOKEN not in output.out + output.err
    assert not any(TOKEN.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
