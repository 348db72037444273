"""Datasets of a Hub on loopback, asked by the real client: what of them is downloaded, and what comes of it."""
import io
import json
import os
import subprocess
import sys
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
for split in sys.argv[2:]:
    files = load_files(sys.argv[1], split)
    print(json.dumps([files.labels.tolist(), files.classes, files.revision, len(files.images[0][1])]))
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
    hub.store.create("datasets", "ada/plain")
    hub.store.commit("datasets", "ada/plain", "main", files)
    with served(hub) as hub.endpoint:
        yield hub


def load(hub, home: Path, *arguments: str, offline: bool = False) -> list[list]:
    """What a process of its own loads, that knows no Hub but this one."""
    done = subprocess.run([sys.executable, "-c", LOAD, *arguments], capture_output=True, text=True, cwd=home, env={
        **os.environ, "PYTHONPATH": str(ROOT), "HF_ENDPOINT": hub.endpoint, "HF_TOKEN": TOKEN,
        "HF_HOME": str(home / "cache"), "HF_HUB_OFFLINE": str(int(offline))})
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def downloaded(hub) -> set[str]:
    """The splits of which a file was asked for."""
    return {split for split in LABELS for request in hub.requests if f"/{split}-00000" in request}


def test_files_of_other_splits_are_not_asked_for(pets, tmp_path):
    ((labels, classes, revision, size),) = load(pets, tmp_path, "ada/pets", "train")
    assert downloaded(pets) == {"train"} and labels == LABELS["train"] and classes == ["cat", "dog"] and size > 50
    assert revision == pets.store.revision("datasets", "ada/pets").commit
    pets.requests.clear()
    ((labels, _, again, _),) = load(pets, tmp_path, "ada/pets", "train", offline=True)
    assert labels == LABELS["train"] and again == revision and not pets.requests


def test_a_dataset_whose_card_does_not_tell_its_classes_is_asked_for_its_training_split(pets, tmp_path):
    """And for the test split, since only its file tells that it has no labels."""
    ((labels, classes, *_),) = load(pets, tmp_path, "ada/plain", "test")
    assert labels == LABELS["validation"] and classes == ["cat", "dog"] and downloaded(pets) == set(LABELS)
