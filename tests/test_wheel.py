"""An installed wheel is enough: commands, models, weights and sample come with it."""
import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path

import pytest

from hatch_build import EACH, TOGETHER, files, riding

ROOT = Path(__file__).resolve().parent.parent


def build(kind: str, folder: Path) -> Path:
    """What packaging makes of this checkout."""
    subprocess.run(
        [sys.executable, "-m", "build", f"--{kind}", "--no-isolation", "--outdir", str(folder), str(ROOT)],
        check=True, capture_output=True)
    (made,) = folder.iterdir()
    return made


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> Path:
    """An environment that pip has put the wheel into, and that finds the other packages where they are already."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--quiet", "--no-index",
         "--no-deps", "--disable-pip-version-check", str(build("wheel", tmp_path_factory.mktemp("wheel")))],
        check=True, capture_output=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "packages.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


@pytest.fixture(scope="module")
def installed(environment) -> Path:
    """Where the wheel's files lie."""
    (site,) = environment.glob("lib/python*/site-packages")
    return site


def run(installed: Path, *command: str, folder: Path | None = None) -> str:
    """Run something of the environment away from the checkout; a text is Python's."""
    binaries = installed.parents[2] / "bin"
    program, *arguments = command if len(command) > 1 else ("python", "-c", *command)
    result = subprocess.run(
        [str(binaries / program), *arguments], cwd=folder or installed, capture_output=True, text=True, timeout=240,
        env={**{key: value for key, value in os.environ.items() if key != "PYTHONPATH"}, "OMP_NUM_THREADS": "1"})
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_pretrained_weights_load_from_the_wheel_without_a_network(installed):
    out = run(installed, (
        "import os; os.environ['HF_HUB_OFFLINE'] = '1'; import timm, wrn_hub; print(wrn_hub.__file__); "
        "model = timm.create_model('wrn_16_2', pretrained=True); print(model.pretrained_cfg['file'])"))
    module, weights = out.split()
    assert module.startswith(str(installed))
    assert weights == str(installed / "wrn_hub" / "pretrained" / "wrn_16_2.cifar10" / "model.safetensors")


def test_the_table_of_what_was_measured_comes_with_the_wheel(installed):
    out = run(installed, (
        "import wrn_hub; "
        "print(*[row['model'] for row in wrn_hub.table() "
        "if row['top1'] and row['images_per_second'] and row['latency_ms'] and row['weights'] == 'here' "
        "and row['short_run'] is not None])\n"
        "import timm; print({row['weights'] for row in wrn_hub.table() if row['model'] == 'wrn_28_10'})\n"
        "try: timm.create_model('wrn_28_10', pretrained=True)\nexcept wrn_hub.UserError as error: print(error)"))
    measured, _, out = out.partition("\n")
    assert "wrn_16_2" in measured.split()
    assert "'clone'" in out and "'here'" not in out and "of a clone of https://github.com" in out


def test_the_templates_of_the_cards_come_with_the_wheel(installed):
    assert "# wrn_50_2" in run(installed, (
        "from wrn_hub.cards.timm_card import timm_card_text; print(timm_card_text('wrn_50_2'))")).splitlines()


def test_the_sample_comes_with_the_wheel(installed):
    out = run(installed, "from wrn_hub.data import load_dataset; print(len(load_dataset('sample', 'train')))")
    assert out.split() == ["2000"]


def test_the_hub_comes_with_its_pages(installed):
    run(installed, "from wrn_hub.hub.pages import TEMPLATES; TEMPLATES.get_template('repository.html')")
    static = ROOT / "wrn_hub" / "hub" / "static"
    assert {path.name for path in (installed / "wrn_hub" / "hub" / "static").iterdir() if path.is_file()} == {
        path.name for path in static.iterdir() if path.is_file()} >= {"hub.css", "hub.js", "tryit.js"}


def test_nothing_but_the_package_is_in_the_wheel(installed):
    assert sorted(path.name.split("-")[0] for path in installed.iterdir()) == ["packages.pth", "wrn_hub", "wrn_hub"]
    assert (installed / "wrn_hub" / "py.typed").is_file()


def test_predict_is_a_command_of_the_environment(installed, tmp_path):
    picture = next((ROOT / "model_cards").rglob("*.png"))
    said = json.loads(run(installed, "wrn-hub", "predict", str(picture), "--format", "json", folder=tmp_path))
    assert len(said[0]["classes"]) == 5 and "airplane" not in said[0]["image"]


def test_accelerate_launches_finetune(installed, tmp_path):
    said = run(
        installed, "python", "-m", "accelerate.commands.launch", "--cpu", "-m", "wrn_hub", "finetune", "--image-size",
        "8", "--crop-padding", "1", "--epochs", "1", "--batch-size", "500", "--output", "tuned", folder=tmp_path)
    assert "test accuracy" in said
    assert (tmp_path / "tuned" / "model" / "model.safetensors").is_file()


def test_what_needs_a_clone_says_so_in_one_line(installed, tmp_path):
    for command in (["publish", "--all"], ["evaluate", "--all"]):
        ended = subprocess.run(
            [str(installed.parents[2] / "bin" / "wrn-hub"), *command], cwd=tmp_path, capture_output=True, text=True,
            env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"})
        assert (ended.returncode, ended.stdout) == (2, "")
        assert ended.stderr == (f"wrn-hub {command[0]}: this needs a clone of wrn_hub, which holds model_cards and "
                                "wrn_hub/weights.json: name one with --checkout\n")


def test_the_weights_in_the_wheel_are_the_small_ones(installed):
    manifest = json.loads((ROOT / "wrn_hub" / "weights.json").read_text())
    names = riding(ROOT)
    sizes = [manifest[name]["bytes"] for name in names]
    assert max(sizes) <= EACH and sum(sizes) <= TOGETHER
    assert all(facts["bytes"] >= max(sizes) for name, facts in manifest.items() if name not in names)
    carried = {str(path.relative_to(installed / "wrn_hub" / "pretrained"))
               for path in (installed / "wrn_hub" / "pretrained").rglob("*") if path.is_file()}
    assert carried == set(files(ROOT))


def test_weights_ride_until_the_wheel_is_full(tmp_path):
    (tmp_path / "wrn_hub").mkdir()
    sizes = {"a": 24e6, "b": 20e6, "c": 10e6, "d": 26e6, "e": 7e6}
    manifest = {name: {"bytes": size} for name, size in sizes.items()}
    (tmp_path / "wrn_hub" / "weights.json").write_text(json.dumps(manifest))
    assert riding(tmp_path) == ["e", "c", "b"]  # with a it would be 61 MB; d alone is too large


def test_the_sdist_holds_all_that_a_wheel_is_built_from(tmp_path):
    sdist = build("sdist", tmp_path)
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    assert {"hatch_build.py", *(f"model_cards/{file}" for file in files(ROOT))} <= packed
    assert sum(name.endswith("model.safetensors") for name in packed) == len(riding(ROOT))
    assert sdist.stat().st_size <= 100e6  # what package indexes take
