"""Every command with every file that it reads damaged in every way: one line that names it, exit code 2, nothing left.

All of it runs in this process, through what a user types.
"""
import hashlib
import io
import json
import os
import pickle
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from conftest import COLOURS, NAME
from huggingface_hub import constants
from PIL import Image

import wrn_hub
from wrn_hub.__main__ import main as command_line
from wrn_hub.models.export import save_model
from wrn_hub.recipes import load_recipe
from wrn_hub.training import checkpoint
from wrn_hub.training.options import TrainOptions
from wrn_hub.training.trainer import train

ROOT = Path(__file__).resolve().parent.parent
SMALL = ["--image-size", "8", "--crop-padding", "1", "--epochs", "1", "--batch-size", "72", "--precision", "fp32",
         "--report-to", "none"]


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Whatever lies in a folder, but locks, which stay."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
            for path in sorted(folder.rglob("*")) if not path.name.endswith(".lock")}


@pytest.fixture
def refused(monkeypatch, tmp_path, capsys) -> Callable[..., str]:
    """Type a command that is to be refused; returns the one line that says why."""
    monkeypatch.chdir(tmp_path)

    def refused(command: str, *arguments: object) -> str:
        before = snapshot(tmp_path)
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            if command.endswith(".py"):  # of a clone
                monkeypatch.setattr(sys, "argv", [command, *map(str, arguments)])
                runpy.run_path(command, run_name="__main__")
            else:
                monkeypatch.setattr(sys, "argv", ["wrn-hub", command, *map(str, arguments)])
                command_line()
        out, err = capsys.readouterr()
        assert stop.value.code == 2 and "Traceback" not in err, err
        (line,) = err.strip().splitlines()
        assert out == "" and len(line) < 1000
        after = snapshot(tmp_path)
        assert after.keys() == before.keys(), "something was left behind, or is gone"
        assert after == before, "something was changed"
        return line

    return refused


RECIPE = 'source = "me"\ncost = "none"\naccuracy = "none"\ncommand = "train"\n'
WRONG_RECIPES = {
    "empty": (b"", "mine.toml: lacks source, cost, accuracy, command, options"),
    "cut": (RECIPE[:30].encode(), "mine.toml: not TOML"),
    "not UTF-8": (b'source = "\xff"', "mine.toml: not a text file in UTF-8"),
    "a list of options": (f"options = []\n{RECIPE}", "options is [], needed is a table"),
    "a text of options": (f'options = "epochs"\n{RECIPE}', "options is 'epochs', needed is a table"),
    "a source that is a number": (RECIPE.replace('"me"', '3') + "[options]", "source is 3, needed is a text"),
    "a command that is a list": (RECIPE.replace('"train"', '["train"]') + "[options]", "command is ['train'], needed"),
    "a base that is a number": (f"base = 4\n{RECIPE}[options]", "base is 4, needed is a text"),
    "an unknown base": (f'base = "papr"\n{RECIPE}[options]', "base: recipe 'papr': allowed are"),
    "a base that is missing": (f'base = "no.toml"\n{RECIPE}[options]', "base: recipe 'no.toml': allowed are"),
    "based on itself": (f'base = "mine.toml"\n{RECIPE}[options]', "mine.toml is based on itself: mine.toml on mine"),
    "a circle": (f'base = "other.toml"\n{RECIPE}[options]', "is based on itself: mine.toml on other.toml on mine.toml"),
    "an unknown key": (f"epochs = 3\n{RECIPE}[options]", "no setting 'epochs'"),
    "an unknown setting": (f"{RECIPE}[options]\nepoch = 3", "no setting 'epoch'. Did you mean 'epochs'?"),
    "epochs that are a text": (f'{RECIPE}[options]\nepochs = "ten"', "epochs = 'ten': needed is a whole number"),
    "epochs that are a list": (f"{RECIPE}[options]\nepochs = [10]", "epochs = (10,): needed is a whole number"),
    "epochs that are a table": (f"{RECIPE}[options]\nepochs = {{a = 1}}", "epochs = {'a': 1}: needed is a whole"),
    "epochs beyond all": (f"{RECIPE}[options]\nepochs = 1{'0' * 30}", "epochs = 1000000"),
    "a rate that is true": (f"{RECIPE}[options]\nlr = true", "lr = True: needed is a number"),
    "a rate that is no number": (f"{RECIPE}[options]\nlr = nan", "lr = nan: allowed is 0 or more"),
    "a rate that is a date": (f"{RECIPE}[options]\nlr = 2020-01-01", "lr = datetime.date(2020, 1, 1): needed"),
    "sizes that are texts": (f'{RECIPE}[options]\nprogressive_sizes = ["a"]', "progressive_sizes = ('a',): needed"),
    "a choice that isn't one": (f'{RECIPE}[options]\nschedule = "up"', "schedule = 'up': allowed are linear"),
    "settings that don't agree": (f'{RECIPE}[options]\nschedule = "step"', "decay_at and the step schedule need each"),
}


@pytest.mark.parametrize("case", WRONG_RECIPES)
def test_a_wrong_recipe(case, refused, tmp_path):
    content, says = WRONG_RECIPES[case]
    (tmp_path / "mine.toml").write_bytes(content if isinstance(content, bytes) else content.encode())
    (tmp_path / "other.toml").write_text(f'base = "mine.toml"\n{RECIPE}[options]')
    line = refused("train", "--recipe", "mine.toml", "--dataset", "sample", "--model", "wrn_10_2", *SMALL)
    assert says in line and "mine.toml" in line


def test_a_recipe_is_based_on_one_beside_it(tmp_path):
    (tmp_path / "mine.toml").write_text(f'base = "other.toml"\n{RECIPE}[options]\nepochs = 3')
    (tmp_path / "other.toml").write_text(f'base = "paper"\n{RECIPE}[options]\nepochs = 4\nlr = 0.5')
    options = load_recipe(str(tmp_path / "mine.toml"), TrainOptions).options
    assert (options["epochs"], options["lr"]) == (3, 0.5)
    assert options["decay_at"] == load_recipe("paper", TrainOptions).options["decay_at"]


@pytest.mark.parametrize("content, says", [
    ("", "not JSON"), ('{"options": ', "not JSON"), ("[]", "holds a list"),
    ("{}", "options is None, needed is an object"),
    ('{"options": {}, "pretrained": {"lr": "0.1"}}', "lr of pretrained is '0.1', needed is a number"),
    ('{"options": {}, "pretrained": {"lr": true}}', "lr of pretrained is True"),
    ('{"options": {}, "pretrained": {"lr": 0.1}, "scratch": 3}', "scratch is 3, needed is an object"),
    ('{"options": {"epoch": 3}, "pretrained": {"lr": 0.1}, "scratch": {"lr": 1}}', "no setting 'epoch'. Did you mean"),
    ('{"options": {"epochs": "3"}, "pretrained": {"lr": 0.1}, "scratch": {"lr": 1}}', "epochs = '3': needed"),
])
def test_a_damaged_recipe_for_fine_tuning(content, says, refused, tmp_path, monkeypatch):
    (tmp_path / "finetune.json").write_text(content)
    monkeypatch.setattr("wrn_hub.recipes._FOLDER", tmp_path)
    line = refused("finetune", *SMALL)
    assert says in line and "finetune.json" in line


@pytest.mark.parametrize("endpoint", ["not a url", "", "http://a b", "http://127.0.0.1:9"])
@pytest.mark.parametrize("command", [
    "evaluate --model hf-hub:ada/net --dataset sample", "predict . --model hf-hub:ada/net",
    "export --model hf-hub:ada/net", "train --model hf-hub:ada/net --dataset sample", "train --dataset ada/cats",
    "finetune --teacher hf-hub:ada/net", "evaluate --dataset cifar10"])
def test_an_endpoint_where_no_hub_is(command, endpoint, refused, monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_ENDPOINT", endpoint)
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between one try and the next
    Image.new("RGB", (8, 8)).save(tmp_path / "picture.png")
    caplog.set_level("INFO")
    line = refused(*command.split())
    asked = re.search(r"hf-hub:ada/net|ada/cats|uoft-cs/cifar10", command.replace("cifar10", "uoft-cs/cifar10"))[0]
    assert "HF_ENDPOINT" in line and asked in line
    assert [record for record in caplog.records if record.levelname != "INFO"] == []
    # before the client tries for half a minute it is said what is asked for, and where
    said = [message for message in caplog.messages if message.startswith(f"asking the Hub at {endpoint} for ")]
    assert len(said) == endpoint.startswith("http://1") and all(message.endswith(f" {asked}") for message in said)


def test_an_endpoint_that_can_not_be_taken_apart_disturbs_nothing_but_what_asks_there(tmp_path):
    code = (
        "import sys; from wrn_hub.__main__ import main\n"
        "for command in ('--version', 'train --help', 'export --model hf-hub:ada/net'):\n"
        "    sys.argv = ['wrn-hub', *command.split()]\n"
        "    try: main()\n"
        "    except SystemExit as stop: print(stop.code)")
    ended = subprocess.run([sys.executable, "-c", code], env={**os.environ, "HF_ENDPOINT": "http://[bad"},
                           capture_output=True, text=True, cwd=tmp_path)
    assert ended.stdout.startswith(f"wrn-hub {wrn_hub.__version__}\n") and ended.stdout.endswith("\n0\n2\n")
    assert ended.stderr == (
        "wrn-hub export: model hf-hub:ada/net: HF_ENDPOINT is 'http://[bad', which is no address such as "
        "https://huggingface.co\n")


# the folder of a model

@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    """The folder of a model of the three colours."""
    torch.manual_seed(0)
    net = timm.create_model("wrn_10_2", num_classes=3)
    return save_model(net, tmp_path_factory.mktemp("good") / "model", classes=("blue", "green", "red"))


def flipped(content: bytes, place: int, bit: int = 1) -> bytes:
    return content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :]


# (what a damaged file holds; None: it is missing, ...: a folder has its name)
WEIGHTS = {
    "empty": lambda whole: b"",
    "cut": lambda whole: whole[: len(whole) // 2],
    "cut in the header": lambda whole: whole[:100],
    "garbage": lambda whole: b"<html>Not found</html>" * 9,
    "of another length of the header": lambda whole: flipped(whole, 1),
    "of an endless header": lambda whole: flipped(whole, 7, 64),
    "of a header that is no JSON": lambda whole: flipped(whole, 8, 255),
    "of another type": lambda whole: whole.replace(b'"F32"', b'"F3!"', 1),
    "of other shapes": lambda whole: re.sub(rb'"shape":\[\d', b'"shape":[9', whole, count=1),
    "missing": lambda whole: None,
    "a folder": lambda whole: ...,
}
CONFIG = {
    "empty": lambda whole: b"",
    "cut": lambda whole: whole[: len(whole) // 2],
    "no JSON": lambda whole: b"num_classes: 3",
    "not UTF-8": lambda whole: b"\xff\xfe" + whole,
    "deep": lambda whole: b"[" * 100_000,
    "a list": lambda whole: b"[]",
    "an empty object": lambda whole: b"{}",
    "classes that are a text": lambda whole: re.sub(rb'"num_classes": \d+', b'"num_classes": "three"', whole),
    "an architecture that is a number": lambda whole: whole.replace(b'"wrn_10_2"', b"3"),
    "of an unknown architecture": lambda whole: whole.replace(b'"wrn_10_2"', b'"wrn_9_9"'),
    "a cfg that is a list": lambda whole: b'{"architecture": "wrn_10_2", "pretrained_cfg": []}',
    "missing": lambda whole: None,
    "a folder": lambda whole: ...,
}
MODEL_COMMANDS = {
    "evaluate": "evaluate --model model --dataset {colours} --image-size 8 --output out",
    "predict": "predict {colours}/test/red/0.png --model model --format csv --output said.csv",
    "export": "export --model model --output net.onnx",
    "train": "train --model model --dataset {colours} --output run",
    "finetune": "finetune --model local-dir:model --dataset {colours} --output run",
    "a teacher": "finetune --model {good} --teacher model --dataset {colours} --output run",
    "convert": "convert model/model.safetensors out --model wrn_10_2",
}


def put(path: Path, content: object) -> None:
    """A damaged file in the place of a whole one."""
    path.unlink()
    if content is ...:
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)


def typed(command: str, **paths: object) -> list[str]:
    words = command.format(**paths).split()
    return [*words, *(SMALL if words[0] in ("train", "finetune") else [])]


@pytest.mark.parametrize("file, damage, command", [
    *(("model.safetensors", damage, command) for damage in WEIGHTS for command in MODEL_COMMANDS),
    *(("config.json", damage, command) for damage in CONFIG for command in MODEL_COMMANDS
      if command != "convert"),  # which doesn't read it
])
def test_a_damaged_model(file, damage, command, refused, good, colours, tmp_path):
    path = Path(shutil.copytree(good, tmp_path / "model")) / file
    damaged = (WEIGHTS if file == "model.safetensors" else CONFIG)[damage](path.read_bytes())
    assert damaged != path.read_bytes()
    put(path, damaged)
    line = refused(*typed(MODEL_COMMANDS[command], colours=colours, good=good))
    assert "model" in line and (file in line or damage == "missing"), line


# images

@pytest.fixture(scope="module")
def datasets_(tmp_path_factory, colours) -> dict[str, Path]:
    """The same images in each form that a dataset may have, as three classes; official ones of CIFAR-10."""
    import datasets

    root = tmp_path_factory.mktemp("datasets")
    features = datasets.Features(
        {"image": datasets.Image(decode=False), "label": datasets.ClassLabel(names=["blue", "green", "red"])})
    (root / "parquet").mkdir()
    (root / "official").mkdir()
    for split in ("train", "test"):
        files = sorted((colours / split).glob("*/*.png"))
        cells = [{"bytes": file.read_bytes(), "path": None} for file in files]
        labels = [sorted(COLOURS).index(file.parent.name) for file in files]
        datasets.Dataset.from_dict({"image": cells, "label": labels}, features).to_parquet(
            root / "parquet" / f"{split}-00000-of-00001.parquet")
    pixels = np.zeros((10, 3072), np.uint8)
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        (root / "official" / name).write_bytes(pickle.dumps({"data": pixels, "labels": [*range(10)]}, protocol=2))
    return {"folder": colours, "parquet": root / "parquet", "official": root / "official"}


FILES = {  # those that are damaged, of a dataset in each form
    "folder": ["train/green/3.png", "test/green/3.png"],
    "parquet": ["train-00000-of-00001.parquet", "test-00000-of-00001.parquet"],
    "official": ["data_batch_2", "test_batch"],
}
DAMAGES = {
    "empty": lambda whole: b"",
    "cut": lambda whole: whole[: len(whole) // 2],
    "garbage": lambda whole: b"<html>Not found</html>" * 9,
    "a folder": lambda whole: ...,
}
DATA_COMMANDS = {
    "train": "train --model wrn_10_2 {dataset} --output run",
    "finetune": "finetune --model {good} {dataset} --output run",
    "evaluate": "evaluate --model {good} {dataset} --output out",
    "export": "export --model {good} --int8 {dataset} --output net.onnx",
}


@pytest.mark.parametrize("damage, form, command", [
    (damage, form, command) for damage in DAMAGES for form in FILES for command in DATA_COMMANDS
    if (damage, form) != ("a folder", "folder")  # which holds images as any other does
    and (command != "export" or damage == "cut")  # it reads as the others do, but computes first
])
def test_damaged_images(damage, form, command, refused, good, datasets_, tmp_path, monkeypatch):
    monkeypatch.setenv("WRN_HUB_CACHE", str(tmp_path.parent / f"{tmp_path.name}.cache"))
    folder = Path(shutil.copytree(datasets_[form], tmp_path / "images"))
    for file in FILES[form]:
        put(folder / file, DAMAGES[damage]((folder / file).read_bytes()))
    dataset = f"--dataset cifar10 --data-dir {folder}" if form == "official" else f"--dataset {folder} --image-size 8"
    words = typed(DATA_COMMANDS[command].format(good=good, dataset=dataset))
    if form == "official":
        words = [word for word in words if word not in ("--image-size", "8")]
    line = refused(*words)
    assert any(str(Path("images") / file) in line for file in FILES[form]), line


# checkpoints of others

def archive(state: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


FOREIGN = {
    "empty": lambda whole: b"",
    "cut": lambda whole: whole[: len(whole) // 2],
    "garbage": lambda whole: b"<html>Not found</html>" * 9,
    "flipped in a weight": lambda whole: flipped(whole, len(whole) // 2),
    "a pickle cut": lambda whole: pickle.dumps({"state_dict": [1.0] * 99}, protocol=2)[:50],
    "an archive of nothing": lambda whole: archive({}),
    "an archive of a number": lambda whole: archive(3),
    "an archive of texts": lambda whole: archive({"state_dict": {"conv1.weight": "a"}}),
    "missing": lambda whole: None,
    "a folder": lambda whole: ...,
}


@pytest.mark.parametrize("damage", FOREIGN)
def test_a_damaged_checkpoint_of_another_program(damage, refused, tmp_path):
    path = tmp_path / "net.pth"
    path.write_bytes(archive({"state_dict": timm.create_model("wrn_10_2").state_dict()}))
    put(path, FOREIGN[damage](path.read_bytes()))
    assert "net.pth" in refused("convert", "net.pth", "out", "--model", "wrn_10_2")


# a run that is to go on

@pytest.fixture(scope="module")
def interrupted(tmp_path_factory, colours) -> Path:
    """The folder of a run that ended in its second epoch, as if it had been killed."""
    class Killed(Exception):
        pass

    steps = iter(range(9))

    def after_step() -> None:
        if next(steps) == 3:
            raise Killed

    folder = tmp_path_factory.mktemp("interrupted") / "run"
    with pytest.raises(Killed):
        train(TrainOptions(
            model="wrn_10_2", dataset=str(colours), image_size=8, crop_padding=1, epochs=3, batch_size=36,
            precision="fp32", report_to="none", checkpoint_minutes=0, output=str(folder)), after_step=after_step)
    return folder


RESUME = ("train --model wrn_10_2 --dataset {colours} --image-size 8 --crop-padding 1 --epochs 3 --batch-size 36 "
          "--precision fp32 --report-to none --output run --resume")
TEXTS = {
    "empty": b"", "cut": b'{"model": "wrn', "no JSON": b"epochs: 3", "not UTF-8": b"\xff\xfe{}", "a list": b"[]",
    "an empty object": b"{}", "a model that is a number": b'{"model": 3, "epochs": "x"}',
}


def go_on(colours: Path, monkeypatch, capsys) -> tuple[int, list[str]]:
    monkeypatch.setattr(sys, "argv", ["wrn-hub", *RESUME.format(colours=colours).split()])
    code = 0
    capsys.readouterr()
    try:
        command_line()
    except SystemExit as stop:
        code = int(stop.code or 0)
    return code, capsys.readouterr().err.strip().splitlines()


@pytest.mark.parametrize("checkpoints", ["whole", "damaged", "missing"])
@pytest.mark.parametrize("content", [*TEXTS, "missing"])
def test_a_damaged_args_json_keeps_no_run_from_going_on(
        content, checkpoints, interrupted, colours, tmp_path, monkeypatch, capsys):
    """... from its checkpoint, or from the beginning where there is none."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(interrupted, "run")
    put(Path("run/args.json"), TEXTS.get(content))
    for path in Path("run/checkpoints").iterdir():
        put(path, None if checkpoints == "missing" else path.read_bytes()[: None if checkpoints == "whole" else -1])
    assert go_on(colours, monkeypatch, capsys) == (0, [])
    assert json.loads(Path("run/args.json").read_text())["epochs"] == 3
    assert Path("run/model/config.json").is_file() and len(Path("run/metrics.csv").read_text().splitlines()) == 4


def named_after_its_content(content: bytes) -> str:
    return f"epoch-00009.000000-{hashlib.sha256(content).hexdigest()[:16]}.pt"


def rewritten(**changes: object) -> Callable[[bytes], bytes]:
    return lambda whole: archive({**torch.load(io.BytesIO(whole), weights_only=True), **changes})


CHECKPOINTS = {
    "garbage": lambda whole: b"<html>Not found</html>" * 9,
    "empty": lambda whole: b"",
    "of nothing": lambda whole: archive({}),
    "a list": lambda whole: archive([1, 2]),
    "without a net": rewritten(model=None),
    "a net that is a list": rewritten(model=[1]),
    "a history that is a text": rewritten(history="abc"),
    "a history of texts": rewritten(history=["a"]),
    "a step that is a text": rewritten(step="one"),
    "a step beyond the epoch": rewritten(step=10**9),
    "settings that are a list": rewritten(settings=[1]),
    "an optimizer that is a text": rewritten(optimizer="sgd"),
}


@pytest.mark.parametrize("damage", CHECKPOINTS)
def test_a_checkpoint_that_is_none_though_its_sum_is_right(damage, refused, interrupted, colours, tmp_path):
    run = Path(shutil.copytree(interrupted, tmp_path / "run"))
    newest = checkpoint.newest(run / "checkpoints")
    content = CHECKPOINTS[damage](newest.read_bytes())
    (run / "checkpoints" / named_after_its_content(content)).write_bytes(content)
    assert "checkpoint" in refused(*RESUME.format(colours=colours).split())


# a clone

STAGED = "wrn_10_2.cifar10"


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """What a training of wrn_10_2 on CIFAR-10 leaves."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    torch.manual_seed(0)
    save_model(timm.create_model("wrn_10_2"), folder / "model")
    (folder / "args.json").write_text('{"model": "wrn_10_2", "dataset": "cifar10", "held_out": 0}')
    (folder / "metrics.csv").write_text("epoch,seconds,train_accuracy\n1,2.5,0.1\n")
    return folder


OF_A_RUN = [
    *(("model/model.safetensors", case, damage) for case, damage in WEIGHTS.items()),
    *(("model/config.json", case, damage) for case, damage in CONFIG.items()),
    *(("args.json", case, lambda whole, text=text: text) for case, text in TEXTS.items()),
    *(("metrics.csv", case, damage) for case, damage in DAMAGES.items()),
    ("metrics.csv", "of other columns", lambda whole: b"a,b\n1,2\n"),
    ("metrics.csv", "not UTF-8", lambda whole: whole + b"\xff"),
]


@pytest.mark.parametrize("file, case, damage", OF_A_RUN, ids=[f"{file}-{case}" for file, case, _ in OF_A_RUN])
def test_a_damaged_run_is_not_staged(file, case, damage, refused, finished, checkout, tmp_path):
    script = checkout / "scripts" / "maintain" / "stage.py"
    script.parent.mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "maintain" / "stage.py", script)
    path = Path(shutil.copytree(finished, tmp_path / "run")) / file
    content = damage(path.read_bytes())
    assert content != path.read_bytes()
    put(path, content)
    line = refused(str(script), "run", STAGED)
    assert Path(file).name in line or "run holds no finished model" in line, line


MANIFESTS = {**TEXTS, "an entry that is a list": b'{"wrn_16_2.cifar10": []}',
             "a sum that is none": b'{"wrn_16_2.cifar10": {"sha256": "abc", "bytes": 3, "published": null}}'}


@pytest.mark.parametrize("content", [case for case in MANIFESTS if case != "an empty object"])
@pytest.mark.parametrize("command", ["stage", "publish {NAME}", "publish --all"])
def test_a_damaged_manifest(command, content, refused, finished, checkout, hub):
    script = checkout / "scripts" / "maintain" / "stage.py"
    script.parent.mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "maintain" / "stage.py", script)
    (checkout / "wrn_hub" / "weights.json").write_bytes(MANIFESTS[content])
    words = [str(script), finished, STAGED] if command == "stage" else [
        *command.format(NAME=NAME).split(), "--checkout", checkout]
    assert "weights.json" in refused(*words)
    assert not hub.writes


RESULTS = {
    **TEXTS,
    "of another version": b'{"schema_version": 1}',
    "a share that is a text": lambda whole: re.sub(rb'"top1": [0-9.]+', b'"top1": "0.9"', whole),
    "a share above 1": lambda whole: re.sub(rb'"top1": [0-9.]+', b'"top1": 93', whole),
    "a dataset that is a text": lambda whole: re.sub(rb'"dataset": \{[^}]*\}', b'"dataset": "cifar10"', whole),
    "not finite": lambda whole: re.sub(rb'"nll": [0-9.]+', b'"nll": NaN', whole),
    "missing": None,
}
OF_A_CARD = [
    *(("results.json", case, damage) for case, damage in RESULTS.items()),
    *(("config.json", case, damage) for case, damage in CONFIG.items() if "arch" not in case),
    *(("model.safetensors", case, damage) for case, damage in WEIGHTS.items()),
    *(("logits.safetensors", case, damage) for case, damage in WEIGHTS.items()),
    *(("README.md", case, damage) for case, damage in DAMAGES.items()),
    *((file, case, damage) for file in ("args.json", "metrics.csv") for case, damage in DAMAGES.items()),
]


@pytest.mark.parametrize("file, case, damage", OF_A_CARD, ids=[f"{file}-{case}" for file, case, _ in OF_A_CARD])
def test_a_damaged_card_is_not_published(file, case, damage, refused, checkout, hub):
    path = checkout / "model_cards" / NAME / file
    content = damage(path.read_bytes()) if callable(damage) else damage
    assert content != path.read_bytes()
    put(path, content)
    line = refused("publish", NAME, "--yes", "--checkout", checkout)
    assert NAME in line and file in line and not hub.writes, line


@pytest.mark.parametrize("case", RESULTS)
def test_what_can_not_be_compared_is_not_measured_again(case, refused, checkout):
    path = checkout / "model_cards" / NAME / "results.json"
    damage = RESULTS[case]
    put(path, damage(path.read_bytes()) if callable(damage) else damage)
    assert "results.json" in refused("evaluate", "--all", "--checkout", checkout)


@pytest.mark.parametrize("arguments", [["nowhere"], ["file"], ["--port", "70000"], ["--org", "a/b"]])
def test_a_hub_of_nothing(arguments, refused, tmp_path):
    (tmp_path / "file").write_text("no folder")
    assert arguments[-1] in refused("hub", *arguments)
