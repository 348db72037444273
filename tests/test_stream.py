"""Training on images as they come, file after file: the same ones whoever makes them; resumed; split by node."""
import io
import json
import logging
import os
import subprocess
import sys
import tarfile
from dataclasses import replace
from itertools import islice
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from test_file_loader import CPU, MEAN, STD, assert_equal, batches
from test_interrupted import assert_same, train_steps

from wrn_hub.data import stream
from wrn_hub.data.file_loader import FileAugmentation
from wrn_hub.data.sources import load_stream
from wrn_hub.data.stream_loader import StreamTrainLoader
from wrn_hub.errors import UserError
from wrn_hub.training.options import TrainOptions
from wrn_hub.training.trainer import train

ROOT = Path(__file__).resolve().parent.parent
COLOURS = {"blue": (20, 30, 200), "green": (30, 190, 40), "red": (210, 40, 30)}
TRAIN, TEST, FILES = 48, 15, 4
KINDS = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(COLOURS))})


def rows(numbers) -> dict:
    """Images of 24x24 pixels, in the colour of their class, whose first pixel tells their number."""
    made = []
    for number in numbers:
        noise = np.random.default_rng(number).normal(list(COLOURS.values())[number % 3], 30, (24, 24, 3))
        pixels = noise.clip(0, 255).astype(np.uint8)
        pixels[0, 0] = number
        png = io.BytesIO()
        Image.fromarray(pixels).save(png, "PNG")
        made.append({"bytes": png.getvalue(), "path": f"{number}.png"})
    return {"image": made, "label": [number % 3 for number in numbers]}


def write(folder: Path, files: int = FILES) -> Path:
    """A copy of a repository of the Hub."""
    for number in range(files):
        table = datasets.Dataset.from_dict(rows(range(number, TRAIN, files)), KINDS)
        table.to_parquet(folder / "data" / f"train-{number:05d}-of-{files:05d}.parquet", batch_size=3)
    table = datasets.Dataset.from_dict(rows(range(100, 100 + TEST)), KINDS)
    table.to_parquet(folder / "data" / "validation-00000-of-00001.parquet")
    return folder


def write_tars(folder: Path) -> Path:
    """The same images as WebDataset has them, with numbers for classes."""
    folder.mkdir()
    for file in range(FILES):
        table = rows(range(file, TRAIN, FILES))
        with tarfile.open(folder / f"train-{file:04d}.tar", "w") as tar:
            for image, label in zip(table["image"], table["label"], strict=True):
                for name, content in ((image["path"], image["bytes"]), (f"{image['path'][:-4]}.cls", b"%d" % label)):
                    member = tarfile.TarInfo(f"{name:>08}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return folder


@pytest.fixture(scope="module")
def colours(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("hub") / "colours")


@pytest.fixture(autouse=True)
def quick(tmp_path, monkeypatch):
    """Caches of the test's own; and datasets waits five seconds after each pass for threads that are gone by then."""
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0)
    monkeypatch.setenv("WRN_HUB_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def options(colours, tmp_path) -> TrainOptions:
    return TrainOptions(
        model="wrn_10_2", dataset=str(colours), streaming=True, image_size=16, epochs=2, batch_size=12, lr=0.05,
        precision="fp32", output=str(tmp_path / "run"), checkpoint_minutes=60.0, workers=0, report_to="none")


def loader(folder, workers=0, rank=0, world_size=1, batch_size=8, **augmentation):
    how = FileAugmentation(**{"auto_augment": "rand-m9-mstd0.5-inc1", "reprob": 0.5, **augmentation})
    return StreamTrainLoader(
        load_stream(str(folder)), batch_size, MEAN, STD, CPU, 24, how, workers, rank, world_size)


def numbers(folder, epoch=0, **kwargs) -> list[int]:
    """Of the images that a process sees in an epoch, in their order."""
    as_they_are = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0), "flip": False, "auto_augment": None, "reprob": 0.0}
    found = []
    for images, labels in loader(folder, **as_they_are, **kwargs).epoch(epoch):
        first = (images[:, 0, 0, 0] * STD[0] + MEAN[0]) * 255
        found += first.round().int().tolist()
        assert labels.tolist() == [number % 3 for number in found[-len(labels):]]
    return found


@pytest.mark.parametrize("how", [{}, {"auto_augment": None, "augment": "trivial", "repeats": 3}])
def test_workers_and_interruptions_change_no_bit(colours, how):
    whole = loader(colours, **how)
    expected = batches(whole.epoch(3))
    assert len(expected) == len(whole) == 6 and not torch.equal(expected[0][0], batches(whole.epoch(4))[0][0])
    by_two = loader(colours, workers=2, **how)
    next(by_two.epoch(2, 16, 1))  # left in the middle
    assert_equal(expected, batches(by_two.epoch(3)))
    assert_equal(expected[4:], batches(by_two.epoch(3, first_step=4)))


def test_every_image_comes_once_an_epoch_in_an_order_of_its_own(colours):
    first, second, other_seed = numbers(colours), numbers(colours, epoch=1), numbers(colours, seed=1)
    assert sorted(first) == sorted(second) == sorted(other_seed) == list(range(TRAIN))
    assert len({tuple(order) for order in (first, second, other_seed, sorted(first))}) == 4


@pytest.mark.parametrize("files", [4, 3])
def test_two_processes_see_every_image_once_between_them(tmp_path, files):
    """Each with two files of its own; of three, both go through all and each keeps every other image."""
    folder = write(tmp_path / "colours", files)
    said = {4: "from 4 files, shared out among 2", 3: "from 3 files, all of which are read by each of 2"}[files]
    assert load_stream(str(folder)).sharing(2) == f"{said} processes"
    halves = [numbers(folder, rank=rank, world_size=2) for rank in range(2)]
    assert len(halves[0]) == len(halves[1]) and sorted(halves[0] + halves[1]) == list(range(TRAIN))


def test_a_process_whose_files_hold_less_begins_again_and_says_so(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(stream, "_EVEN", 1)  # three files for two processes: 32 images and 16
    folder = write(tmp_path / "colours", 3)
    more, less = (numbers(folder, rank=rank, world_size=2) for rank in range(2))
    assert len(more) == len(set(more)) == len(less) == 24 and len(set(less)) == 16 and not set(more) & set(less)
    assert "process 1 has gone through its 16 images before the end of the epoch, and begins again" in caplog.text
    assert "process 0" not in caplog.text


@pytest.mark.parametrize("minutes", [60.0, 0.0], ids=["at the end of an epoch", "within an epoch"])
def test_interrupted_and_resumed_is_as_if_it_never_had_been(options, minutes, caplog):
    """Killed in the second epoch, whose checkpoint is the first one's end or one within; then with other workers."""
    caplog.set_level(logging.INFO)
    whole = train(replace(options, output=f"{options.output}-whole", workers=1))
    assert "48 images of a stream: decoded as they are needed, by 1 worker a process; from 4 files" in caplog.messages
    options = replace(options, checkpoint_minutes=minutes)
    train_steps(options, 7)
    resumed = train(replace(options, resume=True))
    again = "reading the 36 images again that come before step 4" in caplog.messages
    assert again == (minutes == 0)
    assert_same(str(whole.folder), str(resumed.folder))
    settings = json.loads((resumed.folder / "args.json").read_text())
    assert settings["streaming"] and settings["pipeline"] == "files" and settings["images"] == TRAIN


def test_two_processes_train(options):
    """As users start them; an epoch of fewer images than there are."""
    arguments = [
        "--model", options.model, "--dataset", options.dataset, "--streaming", "--stream-images", "36",
        "--image-size", "16", "--epochs", "1", "--batch-size", "12", "--precision", "fp32", "--workers", "1",
        "--report-to", "none", "--output", options.output]
    run = subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", "--config_file",
         str(ROOT / "scripts" / "accelerate" / "two_cpu_processes.yaml"), "--main_process_port", "0",
         str(ROOT / "scripts" / "train.py"), *arguments], env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=240)
    assert run.returncode == 0 and "begins again" not in run.stderr, run.stderr
    settings = json.loads(Path(options.output, "args.json").read_text())
    assert (settings["processes"], settings["images"], settings["stream_images"]) == (2, 36, 36)


@pytest.mark.parametrize(("change", "said"), [
    ({"held_out": 6}, r"held_out = 6: for that all images have to be at hand.*leave it or --streaming out"),
    ({"train_images": 9}, "train_images = 9: for that"),
    ({"pipeline": "memory"}, "pipeline = memory: for that"),
    ({"broken": "skip"}, "broken = skip: for that"),
    ({"streaming": False, "stream_images": 9}, "stream_images = 9: for --streaming alone"),
    ({"cutout": 4}, "cutout = 4: images of a stream don't take it; leave it out$"),
    ({"flip": "alternating"}, "flip = 'alternating': images of a stream are mirrored at random; leave it out$"),
])
def test_what_a_stream_cannot_do_is_refused_in_one_line(options, change, said):
    with pytest.raises(UserError, match=said) as error:
        train(replace(options, **change))
    assert "\n" not in str(error.value)


def test_tars_are_streamed_too(tmp_path):
    folder = write_tars(tmp_path / "tars")
    assert sorted(numbers(folder)) == list(range(TRAIN))
    imagenet = load_stream("imagenet-1k", folder)  # whose classes the numbers in its tars stand for
    assert imagenet.classes[2] == "n01484850" and {label for _, label in islice(imagenet.passes(0, 0, 1), TRAIN)} == {
        0, 1, 2}


def test_images_that_lie_in_files_of_their_own_are_not_streamed(tmp_path):
    for name in COLOURS:
        (tmp_path / "train" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "train" / name / "0.png")
    with pytest.raises(UserError, match="what can be streamed are datasets of the Hub, parquet files and tars;"):
        load_stream(str(tmp_path))


def test_classes_are_those_of_the_images_to_measure_on(colours):
    other = load_stream(str(colours)).with_classes(("red", "blue", "green"))
    found = {image[1]: label for image, label in islice(other.passes(0, 0, 1), TRAIN)}
    table = rows(range(TRAIN))
    assert all(found[image["bytes"]] == [1, 2, 0][label] for image, label in zip(*table.values(), strict=True))
    with pytest.raises(UserError, match="train split has other classes than its test split"):
        load_stream(str(colours)).with_classes(("red", "blue"))


def test_a_number_of_images_that_is_too_large_is_told(colours, caplog):
    images = load_stream(str(colours), images=TRAIN + 8)
    assert len(batches(StreamTrainLoader(images, 8, MEAN, STD, CPU, 24).epoch(0))) == 7
    assert "process 0 has gone through its 48 images before the end of the epoch" in caplog.text


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_that_breaks_off_is_said_in_one_line(tmp_path, workers):
    folder = write(tmp_path / "colours", 1)
    path, made = folder / "data" / "train-00000-of-00001.parquet", loader(folder, workers)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UserError, match=r"its stream broke off \(.*--resume goes on from the newest") as error:
        list(made.epoch(0))
    assert "\n" not in str(error.value)


def test_an_image_or_a_label_that_is_none_is_named(tmp_path):
    folder, table = write(tmp_path / "colours", 1), rows(range(TRAIN))
    table["image"][7]["bytes"] = b"<html>"
    datasets.Dataset.from_dict(table, KINDS).to_parquet(folder / "data" / "train-00000-of-00001.parquet")
    with pytest.raises(UserError, match=r"of this epoch's stream \(7.png\) can't be decoded"):
        list(loader(folder).epoch(0))
    fewer = replace(load_stream(str(folder)), labels={"0": 0, "1": 1})
    with pytest.raises(UserError, match=r"of this epoch's stream has the label 2; allowed are 0, 1$"):
        list(islice(fewer.passes(0, 0, 1), TRAIN))
