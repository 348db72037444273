"""What several test files share."""
import json
import os
import shutil
import signal
from collections import Counter
from pathlib import Path

# Nets as small as those of the tests aren't computed sooner by several threads, and many times later where another
# program takes a core: those that have done their part wait for the others awake. Read by torch at its import. What
# shall be shown of several threads, a test sets itself.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import timm
import torch
from hub_server import ACCOUNT, TOKEN, WritableHub, served
from huggingface_hub import close_session, constants
from PIL import Image

from wrn_hub.data import load_dataset
from wrn_hub.errors import by_command
from wrn_hub.models.export import save_model
from wrn_hub.training.options import TrainOptions

# of timm's own tests, which tests/test_timm_suite.py runs
MARKERS = ["base", "forward", "backward", "cfg", "cfg_nonstd", "torchscript", "features", "fxforward", "fxbackward"]

# What takes long, which make test-quick leaves out: files, or tests of theirs by the beginning of the name.
SLOW = [
    "test_timm_suite.py", "test_processes.py", "test_interrupted.py", "test_wheel.py", "test_benchmark.py",
    "test_damaged.py", "test_winograd_modes.py", "test_build.py", "test_checkpoints.py", "test_stage.py",
    "test_publish.py", "test_weights.py", "test_zoo.py::test_a_weight_is_trained", "test_options.py::test_a_compiled",
    "test_round_trip.py", "test_push.py", "test_export.py", "test_training.py", "test_results.py", "test_cards.py",
    "test_imagenet.py", "test_train_files.py", "test_detect.py", "test_file_loader.py", "test_stream.py",
    "test_models.py::test_compile", "test_models.py::test_onnx", "test_models.py::test_import_registers",
    "test_models.py::test_imagenet_bottlenecks", "test_options.py::test_wandb", "test_options.py::test_out_of_memory",
    "test_readme.py::test_every_snippet", "test_hub.py::test_every_snippet",
    "test_hub.py::test_transformers_loads", "test_hub.py::test_timm_loads", "test_hub.py::test_the_script_says",
    "test_scripts.py::test_finetune_starts", "test_scripts.py::test_a_recipe_is_overridden",
    "test_scripts.py::test_a_full_disk", "test_scripts.py::test_a_package_of_an_extra",
    "test_scripts.py::test_help_imports", "test_scripts.py::test_evaluate_prints",
    "test_scripts.py::test_help_of_a_command", "test_own_data.py", "test_report.py", "test_studies.py",
    "test_browser.py", "test_tryit.py",
]

ROOT = Path(__file__).resolve().parent.parent
NAME = "wrn_16_2.cifar10"


def pytest_configure(config: pytest.Config) -> None:
    # a shell starts what runs in the background with Ctrl-C ignored, and every process of the tests would inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in MARKERS:
        config.addinivalue_line("markers", f"{name}: one of timm's own tests")
    config.addinivalue_line("markers", "slow: takes seconds or more; make test-quick leaves it out")
    # how the Hub's client uploads
    config.addinivalue_line("filterwarnings", "ignore:Use 'content=<...>':DeprecationWarning")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a GPU")


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        name = f"{item.path.name}::{item.name}"
        if any(name.startswith(slow) for slow in SLOW):
            item.add_marker(pytest.mark.slow)


_left_out: Counter[str] = Counter()


def pytest_deselected(items: list[pytest.Item]) -> None:
    _left_out.update(item.path.name for item in items)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _left_out:
        terminalreporter.write_line("left out: " + ", ".join(f"{count} of {n}" for n, count in _left_out.items()))


@pytest.fixture
def hub(tmp_path_factory, monkeypatch):
    """A Hub that this process believes HF_ENDPOINT to name, with ada's token; no back-off is waited for."""
    hub = WritableHub(tmp_path_factory.mktemp("hub"), {TOKEN: ACCOUNT})
    with served(hub) as hub.endpoint:
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)  # read from HF_ENDPOINT at import
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path_factory.mktemp("cache")))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr("time.sleep", hub.slept.append)
        yield hub
        close_session()


@pytest.fixture(autouse=True)
def as_typed():
    """Messages name options, as where a command calls; tests/test_library.py has what Python reads."""
    with by_command():
        yield


THREADS = torch.get_num_threads()


@pytest.fixture(autouse=True)
def as_many_threads_as_before():
    """What a test lets torch use is for it alone: with other threads the next one's trainings give other bits."""
    yield
    torch.set_num_threads(THREADS)


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A source checkout with one staged model, which isn't published."""
    (tmp_path / "checkout" / "wrn_hub").mkdir(parents=True)
    manifest = json.loads((ROOT / "wrn_hub" / "weights.json").read_text())
    (tmp_path / "checkout" / "wrn_hub" / "weights.json").write_text(
        json.dumps({NAME: {**manifest[NAME], "published": None}}))
    shutil.copytree(ROOT / "model_cards" / NAME, tmp_path / "checkout" / "model_cards" / NAME)
    return tmp_path / "checkout"


COLOURS = {"blue": (20, 30, 200), "green": (30, 190, 40), "red": (210, 40, 30)}


@pytest.fixture(scope="session")
def colours(tmp_path_factory) -> Path:
    """An image folder that is easy to learn: 3 classes, 24 training and 7 test images each, of 8x8 pixels."""
    folder = tmp_path_factory.mktemp("colours")
    random = np.random.default_rng(0)
    for split, count in (("train", 24), ("test", 7)):
        for name, colour in COLOURS.items():
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.normal(colour, 30, (8, 8, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{number}.png")
    return folder


@pytest.fixture
def options(colours, tmp_path) -> TrainOptions:
    return TrainOptions(
        model="wrn_10_2", dataset=str(colours), image_size=8, epochs=4, batch_size=12, lr=0.05, crop_padding=1,
        precision="fp32", output=str(tmp_path / "run"), checkpoint_minutes=0)


@pytest.fixture(scope="session")
def gallery(tmp_path_factory) -> Path:
    """A folder to serve: two staged models on one dataset, and somebody's own with classes of its own."""
    folder = tmp_path_factory.mktemp("gallery")
    for name in (NAME, "wrn_16_1.cifar10"):
        shutil.copytree(ROOT / "model_cards" / name, folder / name)
    torch.manual_seed(0)
    net = timm.create_model("wrn_10_2", num_classes=2)
    save_model(net, folder / "pets" / "model", classes=["cat", "<b>dog</b>"])
    return folder


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> list[Path]:
    """What users try: a photo that a phone took upright, one with transparent parts, a small one in gray."""
    folder, images = tmp_path_factory.mktemp("pictures"), load_dataset("sample", "test").images
    photo, other, gray = (Image.fromarray(np.asarray(images[i])) for i in (0, 1, 2))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    photo.resize((1200, 900), Image.Resampling.BICUBIC).save(folder / "photo.jpg", quality=92, exif=exif)
    mask = Image.linear_gradient("L").resize((300, 500))
    image = other.resize((300, 500), Image.Resampling.BICUBIC)
    image.putalpha(mask)
    image.save(folder / "transparent.png")
    gray.convert("L").save(folder / "gray.png")
    return [folder / name for name in ("photo.jpg", "transparent.png", "gray.png")]


@pytest.fixture(scope="session")
def site(gallery, tmp_path_factory) -> Path:
    """That folder as static pages."""
    from wrn_hub.hub.export import export
    from wrn_hub.hub.store import FolderStore

    place = tmp_path_factory.mktemp("site") / "pages"
    assert export(FolderStore(gallery), place)[1] == []
    return place


BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture
def browser():
    """A headless Chromium that reaches nothing but this machine."""
    if not BROWSER:
        pytest.skip("no Chromium on this machine (on Debian: apt-get install chromium)")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=[
            "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"])
        yield browser
        browser.close()
