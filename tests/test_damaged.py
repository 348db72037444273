"""Every command with every file that it reads damaged in every way: one line that names it, exit code 2, nothing left.

All of it runs in this process, through what a user types.
"""
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import constants
from PIL import Image

import wrn_hub
from wrn_hub.__main__ import main as command_line
from wrn_hub.recipes import load_recipe
from wrn_hub.training.options import TrainOptions

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
    line = refused(*command.split())
    assert "HF_ENDPOINT" in line and ("ada/" in line or "uoft-cs/cifar10" in line)
    assert [record for record in caplog.records if record.levelname != "INFO"] == []


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
