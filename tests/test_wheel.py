"""An installed wheel is enough: models, weights and sample come with it."""
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The wheel's files in a folder by themselves, away from the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)],
        check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(installed: Path, code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(installed)!r}); {code}"], cwd=installed,
        capture_output=True, text=True)
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
        "if row['top1'] and row['images_per_second'] and row['short_run'] is not None])"))
    assert "wrn_16_2" in out.split()


def test_the_templates_of_the_cards_come_with_the_wheel(installed):
    assert "# wrn_50_2" in run(installed, (
        "from wrn_hub.cards.timm_card import timm_card_text; print(timm_card_text('wrn_50_2'))")).splitlines()


def test_the_sample_comes_with_the_wheel(installed):
    out = run(installed, "from wrn_hub.data import load_dataset; print(len(load_dataset('sample', 'train')))")
    assert out.split() == ["2000"]


def test_the_hub_comes_with_its_pages(installed):
    run(installed, "from wrn_hub.hub.pages import TEMPLATES; TEMPLATES.get_template('repository.html')")
    assert {path.name for path in (installed / "wrn_hub" / "hub" / "static").iterdir()} == {
        "hub.css", "hub.js", "icon.svg"}


def test_nothing_but_the_package_is_in_the_wheel(installed):
    assert sorted(path.name.split("-")[0] for path in installed.iterdir()) == ["wrn_hub", "wrn_hub"]


def test_the_weights_in_the_wheel_and_in_the_sdist_are_small(tmp_path):
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]
    riding = build["wheel"]["force-include"]
    sizes = [(ROOT / weights).stat().st_size for weights in riding]
    assert max(sizes) <= 25e6 and sum(sizes) <= 60e6

    subprocess.run(
        [sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)],
        check=True, capture_output=True)
    (sdist,) = tmp_path.iterdir()
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    assert set(riding) <= packed  # a wheel can be built from it
    assert sdist.stat().st_size <= 100e6  # what package indexes take
