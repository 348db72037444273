"""Datasets of a Hub on loopback, asked by the real client: what of them is downloaded, and what comes of it."""
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hub_server import ACCOUNT, TOKEN, WritableHub, served
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
LABELS = {"train": [0, 1, 0, 1, 0], "validation": [1, 0, 1], "test": [-1, -1]}
CARD = """---
dataset_info:
  features:
  - name: image
    dtype: image
  - name: label
    dtype:
      class_label:
        names:
          '0': cat
          '1': dog
  splits:
  - name: train
    num_examples: 5
  - name: validation
    num_examples: 3
  - name: test
    num_examples: 2
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*
  - split: validation
    path: data/validation-*
  - split: test
    path: data/test-*
---
"""
LOAD = """
import sys, json
from wrn_hub.data import load_files
for name in sys.argv[2:]:
    files = load_files(name, sys.argv[1])
    print(json.dumps([files.labels.tolist(), files.classes, files.revision, len(files.images[0][1])]))
"""


def tar(labels: list[int]) -> bytes:
    """Samples in WebDataset's layout."""
    made, image = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (8, 8)).save(image, "JPEG")
    with tarfile.open(fileobj=made, mode="w") as archive:
        for number, label in enumerate(labels):
            for kind, content in (("cls", b"%d" % label), ("jpg", image.getvalue()), ("json", b'{"width": 8}')):
                member = tarfile.TarInfo(f"{number:05d}.{kind}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return made.getvalue()
STREAM = """
import sys, json
from itertools import islice
from wrn_hub.data import load_files
from wrn_hub.data.sources import load_stream
from wrn_hub.errors import UserError
for name in sys.argv[2:]:
    try:
        stream = load_stream(name)
        said = ""
    except UserError as error:
        said = str(error)
        stream = load_stream(name, images=5)
    test = load_files(name, "test")
    found = list(islice(stream.with_classes(test.classes).passes(0, 0, 1), len(stream)))
    print(json.dumps([sorted(label for _, label in found), test.classes, stream.revision, said]))
"""
CLASSES = """
import sys
from wrn_hub.data.sources import load_stream
load_stream(sys.argv[2], images=5)
"""


@pytest.fixture
def pets(tmp_path):
    """A Hub with a dataset of three splits, the test split without labels."""
    import datasets

    (tmp_path / "hub").mkdir()
    hub, files = WritableHub(tmp_path / "hub", {TOKEN: ACCOUNT}), {}
    for split, labels in LABELS.items():
        rows = {"image": [Image.fromarray(np.full((8, 8, 3), number, np.uint8)) for number in range(len(labels))],
                "label": labels}
        kinds = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
        content = io.BytesIO()
        datasets.Dataset.from_dict(rows, kinds).to_parquet(content)
        files[f"data/{split}-00000-of-00001.parquet"] = hub.store.keep(content.getvalue())
    hub.store.create("datasets", "ada/pets")
    hub.store.commit("datasets", "ada/pets", "main", {**files, "README.md": hub.store.keep(CARD.encode())})
    tars = {f"imagenet1k-{split}-0000.tar": hub.store.keep(tar(labels)) for split, labels in LABELS.items()}
    for name in ("ada/tars", "timm/imagenet-1k-wds"):
        hub.store.create("datasets", name)
        hub.store.commit("datasets", name, "main", tars)
    hub.store.create("datasets", "ada/plain")
    hub.store.commit("datasets", "ada/plain", "main", files)
    with served(hub) as hub.endpoint:
        yield hub


def load(hub, home: Path, split: str, *names: str, offline: bool = False, script: str = LOAD) -> list[list]:
    """What a process of its own loads, that knows no Hub but this one."""
    done = subprocess.run([sys.executable, "-c", script, split, *names], capture_output=True, text=True, cwd=home, env={
        **os.environ, "PYTHONPATH": str(ROOT), "HF_ENDPOINT": hub.endpoint, "HF_TOKEN": TOKEN,
        "HF_HOME": str(home / "cache"), "HF_HUB_OFFLINE": str(int(offline))})
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def downloaded(hub) -> set[str]:
    """The splits of which a file was asked for."""
    return {split for split in LABELS for request in hub.requests if f"{split}-0000" in request}


def test_files_of_other_splits_are_not_asked_for(pets, tmp_path):
    photos, tars = load(pets, tmp_path, "train", "ada/pets", "timm/imagenet-1k-wds")
    assert downloaded(pets) == {"train"}
    labels, classes, revision, size = photos
    assert labels == LABELS["train"] and classes == ["cat", "dog"] and size > 50
    assert revision == pets.store.revision("datasets", "ada/pets").commit
    labels, classes, _, size = tars
    assert labels == LABELS["train"] and size > 300
    assert classes[:2] == ["n01440764", "n01443537"] and len(classes) == 1000

    pets.requests.clear()
    ((labels, _, again, _),) = load(pets, tmp_path, "train", "ada/pets", offline=True)
    assert labels == LABELS["train"] and again == revision and not pets.requests


def test_where_a_card_does_not_tell_the_classes_the_training_split_is_asked_for_them(pets, tmp_path):
    """And the test split for its labels, since only its file tells that it has none."""
    photos, tars = load(pets, tmp_path, "test", "ada/plain", "ada/tars")
    assert (photos[:2], tars[:2]) == ([LABELS["validation"], ["cat", "dog"]], [LABELS["validation"], ["0", "1"]])
    assert downloaded(pets) == set(LABELS)


def test_what_is_streamed_is_not_kept(pets, tmp_path):
    """Nor downloaded for the names of its classes, where no card tells them."""
    photos, plain, tars = load(pets, tmp_path, "", "ada/pets", "ada/plain", "timm/imagenet-1k-wds", script=STREAM)
    for found, name in ((photos, "ada/pets"), (plain, "ada/plain")):
        assert found[:3] == [[0, 0, 0, 1, 1], ["cat", "dog"], pets.store.revision("datasets", name).commit]
    assert tars[0] == [0, 0, 0, 1, 1] and tars[1][0] == "n01440764"
    assert photos[3] == ""  # its card says how many there are
    for said, name in ((plain[3], "ada/plain"), (tars[3], "timm/imagenet-1k-wds")):
        assert f"{name} doesn't say how many training images it has" in said and "(stream_images)" in said
    kept = {split for path in (tmp_path / "cache").rglob("*") for split in LABELS if split in path.name}
    assert "validation" in kept and "train" not in kept


def test_a_stream_has_to_say_its_classes_at_once(pets, tmp_path):
    with pytest.raises(AssertionError, match=r"ada/tars doesn't say which classes the labels in cls stand for"):
        load(pets, tmp_path, "", "ada/tars", script=CLASSES)
