"""Staging: what may be staged, and that whatever ends it half-way leaves the old model or the new one."""
import json
import os
import shutil
import sys
import threading
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from wrn_hub.errors import UserError
from wrn_hub.hub.check import answers, check_model
from wrn_hub.hub.stage import settle, stage
from wrn_hub.models.export import save_model
from wrn_hub.weights import file_sha256, read_manifest, update_manifest

NAME = "wrn_10_2.cifar10"


def make_run(folder: Path, seed: int) -> Path:
    """What a training of wrn_10_2 on CIFAR-10 leaves."""
    torch.manual_seed(seed)
    save_model(timm.create_model("wrn_10_2"), folder / "model")
    (folder / "args.json").write_text(json.dumps(
        {"model": "wrn_10_2", "dataset": "cifar10", "held_out": 0, "seed": seed, "output": "/home/ada/runs"}))
    (folder / "metrics.csv").write_text("epoch,seconds,train_accuracy\n1,2.5,0.1\n")
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[Path]:
    return [make_run(tmp_path_factory.mktemp("runs") / str(seed), seed) for seed in (0, 1)]


def make_checkout(root: Path) -> Path:
    """A checkout without a model."""
    for folder in ("model_cards", "wrn_hub"):
        (root / "checkout" / folder).mkdir(parents=True)
    (root / "checkout" / "wrn_hub" / "weights.json").write_text("{}")
    return root / "checkout"


@pytest.fixture
def checkout(tmp_path) -> Path:
    return make_checkout(tmp_path)


@pytest.fixture(scope="module")
def staged_once(tmp_path_factory, runs) -> Path:
    """A checkout in which the first run was staged and measured."""
    checkout = make_checkout(tmp_path_factory.mktemp("staged"))
    stage(runs[0], NAME, checkout)
    (checkout / "model_cards" / NAME / "README.md").write_text("card")
    (checkout / "model_cards" / NAME / "results.json").write_text("{}")
    return checkout


@pytest.fixture
def staged(staged_once, tmp_path) -> Path:
    """A copy of it that a test may change."""
    return Path(shutil.copytree(staged_once, tmp_path / "staged"))


def manifest(checkout: Path) -> dict:
    return read_manifest(checkout / "wrn_hub" / "weights.json")


def contents(checkout: Path) -> dict[str, bytes]:
    """Every file in model_cards but the lock."""
    root = checkout / "model_cards"
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*")
            if path.is_file() and path.name != ".lock"}


def test_a_run_becomes_a_folder_and_an_entry(checkout, runs):
    entry = stage(runs[0], NAME, checkout)
    assert manifest(checkout) == {NAME: entry} and entry["published"] is None
    folder = checkout / "model_cards" / NAME
    assert {path.name for path in folder.iterdir()} == {
        "args.json", "config.json", "metrics.csv", "model.safetensors"}
    assert entry["sha256"] == file_sha256(folder / "model.safetensors")
    assert entry["bytes"] == (folder / "model.safetensors").stat().st_size
    assert json.loads((folder / "args.json").read_text()).keys() == {"model", "dataset", "held_out", "seed"}
    model = check_model(folder)
    assert answers(model).shape == (2, 10)
    assert model.pretrained_cfg["tag"] == "cifar10" and model.pretrained_cfg["label_names"][0] == "airplane"


def test_other_weights_take_the_old_card_with_them_and_the_same_stay_published(staged, runs):
    folder, published = staged / "model_cards" / NAME, f"lab/{NAME}@{'0' * 40}"
    update_manifest(staged / "wrn_hub" / "weights.json", NAME, published=published)
    assert stage(runs[0], NAME, staged)["published"] == published
    assert stage(runs[1], NAME, staged)["published"] is None
    assert not (folder / "README.md").exists() and not (folder / "results.json").exists()


def edit(file: str, **values):
    def change(run: Path) -> None:
        path = run / file
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    return change


def write(file: str, content: bytes):
    return lambda run: (run / file).write_bytes(content)


def tensors(change):
    def spoil(run: Path) -> None:
        path = run / "model" / "model.safetensors"
        state = load_file(path)
        change(state)
        save_file(state, path, metadata={"format": "pt"})
    return spoil


@pytest.mark.parametrize(("recorded", "known"), [("ours", True), (None, True), ("others", False)])
def test_a_training_on_from_what_is_staged_keeps_the_settings_before_it(recorded, known, staged, runs, tmp_path):
    first = manifest(staged)[NAME]["sha256"]
    sha256 = {"ours": first, "others": "0" * 64}.get(recorded)  # an older run has none on record
    run = Path(shutil.copytree(runs[1], tmp_path / "run"))
    edit("args.json", model=NAME, pretrained=True, start_weights_sha256=sha256)(run)
    stage(run, NAME, staged)
    settings = json.loads((staged / "model_cards" / NAME / "args.json").read_text())
    assert [before["seed"] for before in settings.get("before", [])] == ([0] if known else [])
    assert settings["start_weights_sha256"] == (first if known else sha256)

    stage(runs[0], NAME, staged)  # one that began anew
    assert "before" not in json.loads((staged / "model_cards" / NAME / "args.json").read_text())


UNFIT = {
    "not finished": (lambda run: shutil.rmtree(run / "model"), "holds no finished model; finish the training"),
    "no settings": (lambda run: (run / "args.json").unlink(), "args.json: No such file"),
    "settings cut off": (write("args.json", b'{"model": '), "args.json: not JSON"),
    "settings of a list": (write("args.json", b"[]"), "args.json: holds a list"),
    "settings without a model": (write("args.json", b"{}"), "args.json doesn't name the model and the dataset"),
    "settings of other types": (edit("args.json", model=3), "args.json doesn't name the model and the dataset"),
    "held out": (edit("args.json", held_out=100), "without 100 images held out"),
    "a try": (edit("args.json", train_images=4000), "train_images = 4000: train and measure on the whole dataset"),
    "another net": (edit("args.json", model="wrn_16_2"), "a training of wrn_16_2.cifar10, not of wrn_10_2.cifar10"),
    "another dataset": (edit("args.json", dataset="svhn"), "a training of wrn_10_2.svhn, not of"),
    "no curve": (lambda run: (run / "metrics.csv").unlink(), "metrics.csv: No such file"),
    "an empty curve": (write("metrics.csv", b""), "metrics.csv needs numbers in the columns epoch"),
    "a curve without numbers": (write("metrics.csv", b"epoch,seconds,train_accuracy\n1,x,1\n"), "needs numbers"),
    "a curve of bytes": (write("metrics.csv", b"\xff\xfe"), "metrics.csv: not a text file"),
    "weights cut off": (write("model/model.safetensors", b"\x10"), "damaged, or not a safetensors file"),
    "a weight that is NaN": (tensors(lambda state: state["stem.conv.weight"].fill_(float("nan"))),
                             "stem.conv.weight holds NaN"),
    "a stage missing": (tensors(lambda state: state.pop("stem.conv.weight")), "lacks stem.conv.weight"),
    "too large for float16": (tensors(lambda state: state["head.fc.weight"].fill_(1e6)),
                              "head.fc.weight holds infinite values"),
    "a config cut off": (write("model/config.json", b"{"), "config.json: not JSON"),
    "an empty config": (write("model/config.json", b"{}"), "config.json: architecture is None"),
    "an unknown net": (edit("model/config.json", architecture="wrn_9_9"),
                       "architecture is 'wrn_9_9', but timm has no model"),
    "a net as a list": (edit("model/config.json", architecture=[1]), r"architecture is \[1\]"),
    "classes as a text": (edit("model/config.json", num_classes="ten"), "num_classes is 'ten'"),
    "an odd size": (edit("model/config.json", pretrained_cfg={"input_size": "32"}),
                    "input_size is '32'"),
    "another net's config": (edit("model/config.json", architecture="wrn_16_1"), "lacks stages.0.1.norm1.weight"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_what_may_not_be_staged_leaves_everything_as_it_is(case, staged, runs, tmp_path):
    spoil, says = UNFIT[case]
    run = Path(shutil.copytree(runs[1], tmp_path / "run"))
    spoil(run)
    before, listed = contents(staged), manifest(staged)
    with pytest.raises(UserError, match=says) as error:
        stage(run, NAME, staged)
    assert "\n" not in str(error.value)
    assert contents(staged) == before and manifest(staged) == listed
    assert not list((staged / "model_cards").glob(".*.staging"))


# Whatever ends it half-way

CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree"}


def steps(checkout: Path, run: Path, kill_at: int | None) -> int:
    """Stage in a process that dies, as by SIGKILL, before it changes the disk for the ``kill_at``-th time; how many
    changes it makes where it lives."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            torch.set_num_threads(1)
            seen = 0

            def watch(event: str, arguments: tuple) -> None:
                nonlocal seen
                opened = event == "open" and isinstance(arguments[1], str) and arguments[1][:1] in ("w", "x")
                if (event in CHANGES or opened) and str(checkout) in os.fsdecode(arguments[0]):
                    if seen == kill_at:
                        os._exit(9)
                    seen += 1

            sys.addaudithook(watch)
            stage(run, NAME, checkout)
            os.write(writing, str(seen).encode())
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading) as said:
        text = said.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == (0 if kill_at is None else 9)
    return int(text or 0)


@pytest.mark.parametrize("first", [True, False], ids=["the first of its name", "in the place of another"])
def test_killed_before_any_change_it_leaves_the_old_model_or_the_new_one(first, staged, runs, tmp_path):
    """... to the next call, which need not be of the same run; until then a mixture doesn't load."""
    if first:
        shutil.rmtree(staged / "model_cards" / NAME)
        (staged / "wrn_hub" / "weights.json").write_text("{}")
    old = contents(staged), manifest(staged)
    clean = Path(shutil.copytree(staged, tmp_path / "clean"))
    count = steps(clean, runs[1], None)
    new = contents(clean), manifest(clean)
    assert old != new and count > 10
    seen = []
    for step in range(count):
        checkout = Path(shutil.copytree(staged, tmp_path / str(step)))
        steps(checkout, runs[1], step)
        weights = checkout / "model_cards" / NAME / "model.safetensors"
        whole = weights.exists() and manifest(checkout).get(NAME, {}).get("sha256") == file_sha256(weights)
        settle(checkout)
        after = contents(checkout), manifest(checkout)
        assert after in (old, new), step
        if whole:  # what loads is the one or the other already, card and all
            assert after[0][f"{NAME}/model.safetensors"] == weights.read_bytes()
        seen.append(after == new)
        shutil.rmtree(checkout)
    assert seen == sorted(seen) and not seen[0] and seen[-1]  # first undone, then finished


def test_ctrl_c_and_a_full_disk_leave_the_old_model(staged, runs, monkeypatch):
    before = contents(staged), manifest(staged)
    rename = Path.rename
    for problem in (KeyboardInterrupt(), OSError(28, "No space left on device")):
        for name in (NAME, "new"):  # the old folder's move, and the new one's
            def fail(self, target, name=name, problem=problem):
                if self.name == name and Path(target).name in ("old", NAME):
                    raise problem
                return rename(self, target)

            monkeypatch.setattr(Path, "rename", fail)
            with pytest.raises(type(problem)):
                stage(runs[1], NAME, staged)
            monkeypatch.undo()
            assert (contents(staged), manifest(staged)) == before
            assert not list((staged / "model_cards").glob(".*.staging"))


# The manifest


def test_nothing_that_several_writers_list_is_lost(checkout):
    file = checkout / "wrn_hub" / "weights.json"

    def write(writer: int) -> None:
        for number in range(15):
            update_manifest(file, f"net_{writer}.{number}", sha256="0" * 64, bytes=number, published=None)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(manifest(checkout)) == 90


def test_a_publication_of_earlier_weights_is_not_recorded(staged, runs):
    file = staged / "wrn_hub" / "weights.json"
    earlier = manifest(staged)[NAME]["sha256"]
    entry = stage(runs[1], NAME, staged)
    with pytest.raises(UserError, match=r"other weights of wrn_10_2.cifar10 were staged meanwhile"):
        update_manifest(file, NAME, of_sha256=earlier, published=f"lab/net@{'0' * 40}")
    assert manifest(staged)[NAME] == entry


@pytest.mark.parametrize("content, says", [
    (b"", "not JSON"), (b"{", "not JSON"), (b"[]", "holds a list"), (b"\xff", "not a text file"),
    (b'{"a": 1}', "the entry of a needs"), (b'{"a": {}}', "the entry of a needs"),
    (b'{"a": {"sha256": "00", "bytes": 1, "published": null}}', "the entry of a needs"),
    (b'{"a": {"sha256": "%b", "bytes": "1", "published": null}}' % (b"0" * 64), "the entry of a needs"),
    (b'{"a": {"sha256": "%b", "bytes": 1, "published": "lab/net"}}' % (b"0" * 64), "the entry of a needs"),
    (b'{"a": {"sha256": "%b", "bytes": 1}}' % (b"0" * 64), "the entry of a needs"),
])
def test_a_damaged_manifest_is_named_and_not_replaced(checkout, runs, content, says):
    file = checkout / "wrn_hub" / "weights.json"
    file.write_bytes(content)
    with pytest.raises(UserError, match=f"weights.json: .*{says}"):
        stage(runs[0], NAME, checkout)
    assert file.read_bytes() == content and contents(checkout) == {}
