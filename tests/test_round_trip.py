"""From a staged folder to the Hub and back, in processes of their own, as users have them: HF_ENDPOINT and HF_TOKEN."""
import json
import os
import subprocess
import sys

import pytest
import timm
import torch
from hub_server import TOKEN

import wrn_hub

NAME = "wrn_16_2.cifar10"


@pytest.fixture
def python(hub, tmp_path):
    """Run Python with what a user has set, and a fresh home of the Hub's caches."""

    def python(*arguments: object, **environment: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, *map(str, arguments)], capture_output=True, text=True, timeout=240,
            env={**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0",
                 "HF_HOME": str(tmp_path / "home"), "WRN_HUB_CACHE": str(tmp_path / "decoded"), **environment})

    return python


LOAD = f"""
import sys, numpy, timm, torch, wrn_hub
from PIL import Image
from transformers import pipeline

image = Image.fromarray(numpy.random.default_rng(0).integers(0, 256, (32, 32, 3), numpy.uint8))
model = timm.create_model("hf-hub:wrn-hub/{NAME}", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_data_config({{}}, model=model))
classifier = pipeline("image-classification", model="wrn-hub/{NAME}", device="cpu")
with torch.inference_mode():
    batch = transform(image)[None]
    saved = dict(timm=model(batch), transformers=classifier.model(pixel_values=batch).logits, batch=batch)
torch.save(saved | dict(said=classifier(image, top_k=1)), sys.argv[1])
"""


def test_publish_then_load_with_timm_and_transformers(hub, checkout, python, tmp_path):
    done = python("-m", "wrn_hub", "publish", NAME, "--yes", "--checkout", checkout)
    assert done.returncode == 0, done.stderr
    published = json.loads((checkout / "wrn_hub" / "weights.json").read_text())[NAME]["published"]
    assert f"published and verified: {published}" in done.stdout
    assert TOKEN not in done.stdout + done.stderr

    loaded = python("-c", LOAD, tmp_path / "loaded.pt")
    assert loaded.returncode == 0, loaded.stderr
    found = torch.load(tmp_path / "loaded.pt")
    model = timm.create_model(NAME, pretrained=True).eval()
    with torch.inference_mode():
        expected = model(found["batch"])
    assert torch.equal(found["timm"], expected)
    assert torch.equal(found["transformers"], expected)
    names = wrn_hub.models.wide_resnet.DATASETS["cifar10"].classes
    assert found["said"][0]["label"] == names[expected.argmax()]


DATASET = """
import datasets, numpy
from wrn_hub.data import load_dataset

images = numpy.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), numpy.uint8)
features = datasets.Features(picture=datasets.Image(), kind=datasets.ClassLabel(names=["cat", "dog"]))
made = datasets.Dataset.from_dict({"picture": list(images), "kind": [0, 1] * 3}, features=features)
made.push_to_hub("ada/pets", split="train")
made.select(range(2)).push_to_hub("ada/pets", split="test")
again = datasets.load_dataset("ada/pets")
assert {split: len(again[split]) for split in again} == {"train": 6, "test": 2}, again
ours = load_dataset("ada/pets", "train")
assert ours.classes == ("cat", "dog") and ours.labels.tolist() == [0, 1] * 3
assert numpy.array_equal(ours.images, images)
assert len(load_dataset("ada/pets", "test")) == 2
"""


def test_a_dataset_goes_to_the_hub_and_comes_back_as_images(hub, python):
    done = python("-c", DATASET, HF_HUB_DISABLE_XET="1")
    assert done.returncode == 0, done.stderr
    assert hub.store.repositories("datasets") == ["ada/pets"]
