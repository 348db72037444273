"""Training from files, as users start it: what it makes, killed and resumed, on two processes, with broken images."""
import json
import os
import signal
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import timm
import torch
from forks import ended_well, two
from PIL import Image
from safetensors.torch import load_file
from test_interrupted import assert_same, start, wait_for_checkpoint

import wrn_hub  # noqa: F401
from wrn_hub.data import files, load_files
from wrn_hub.errors import UserError
from wrn_hub.evaluation.evaluate import evaluate_source
from wrn_hub.evaluation.options import EvaluateOptions
from wrn_hub.evaluation.predict import predict
from wrn_hub.training.options import TrainOptions
from wrn_hub.training.trainer import train

ROOT = Path(__file__).resolve().parent.parent
COLOURS = {"blue": (20, 30, 200), "green": (30, 190, 40), "red": (210, 40, 30)}


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """3 classes, 16 training and 5 test images each, JPEGs of all sizes, one of each class CMYK and one gray."""
    folder, draw = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for split, count in (("train", 16), ("val", 5)):
        for name, colour in COLOURS.items():
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                height, width = draw.integers(24, 48, 2)
                image = Image.fromarray(draw.normal(colour, 30, (height, width, 3)).clip(0, 255).astype(np.uint8))
                image.convert({0: "CMYK", 1: "L"}.get(number, "RGB")).save(folder / split / name / f"{number}.jpg")
    return folder


@pytest.fixture
def options(photos, tmp_path, monkeypatch) -> TrainOptions:
    monkeypatch.setenv("WRN_HUB_CACHE", str(tmp_path / "cache"))
    return TrainOptions(
        model="wrn_10_2", dataset=str(photos), pipeline="files", image_size=16, epochs=2, batch_size=12, lr=0.05,
        precision="fp32", output=str(tmp_path / "run"), checkpoint_minutes=0, workers=0, report_to="none")


def test_every_option_at_once(options, photos, caplog):
    """The model says how it is to be measured, and timm does so from it."""
    caplog.set_level("INFO")
    result = train(replace(
        options, workers=1, test_size=24, crop_pct=0.9, interpolation="bilinear", scale=(0.3, 1.0), ratio=(0.9, 1.1),
        auto_augment="rand-m9-mstd0.5-inc1", color_jitter=0.2, reprob=0.3, repeated_aug=2, bce=True, mixup=0.1,
        cutmix=1.0, augment="trivial", progressive_sizes=(12, 16), model_kwargs=("kernels=(3,)", "act_layer=silu")))
    assert "48 images in files: decoded as they are needed, by 1 worker a process" in caplog.messages
    settings = json.loads((result.folder / "args.json").read_text())
    assert settings["pipeline"] == "files" and settings["flip"] == "random" and settings["crop_padding"] is None
    assert (settings["scale"], settings["test_size"], settings["crop_pct"]) == ([0.3, 1.0], 24, 0.9)
    assert not (result.folder / "broken.txt").exists()

    model = timm.create_model(f"local-dir:{result.folder / 'model'}", pretrained=True).eval()
    assert len([name for name, _ in model.named_parameters() if "conv" in name]) == len(
        [name for name, _ in timm.create_model("wrn_10_2", kernels=(3,)).named_parameters() if "conv" in name])
    config = timm.data.resolve_data_config(pretrained_cfg=model.pretrained_cfg, use_test_size=True)
    assert (config["input_size"], config["crop_pct"], config["interpolation"]) == ((3, 24, 24), 0.9, "bilinear")
    transform, right = timm.data.create_transform(**config), 0
    for path in (photos / "val").glob("*/*.jpg"):
        logits = model(transform(Image.open(path).convert("RGB"))[None])
        right += model.pretrained_cfg["label_names"][logits.argmax()] == path.parent.name
    assert result.accuracy == right / 15


def test_photos_are_turned_alike_in_training_in_measuring_and_in_predicting(options, photos, tmp_path):
    """As a phone stores them; the note in the model's config tells ``evaluate`` that it was trained here."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for path in photos.glob("*/*/*.jpg"):
        copy = tmp_path / "phone" / path.relative_to(photos)
        copy.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            image.convert("RGB").rotate(90, expand=True).save(copy, exif=exif, quality=95)
    result = train(replace(options, dataset=str(tmp_path / "phone"), epochs=1))
    model = str(result.folder / "model")
    found = evaluate_source(EvaluateOptions(
        model, str(tmp_path / "phone"), crop_pct=0.875, workers=0, output=str(tmp_path / "out")))
    assert found.pipeline == "files" and found.preprocessing.upright and found.top1 == result.accuracy
    said = predict([tmp_path / "phone" / "val"], model, topk=1, crop_pct=0.875)
    logits = load_file(tmp_path / "out" / "logits.safetensors")["logits"]
    probabilities = logits.softmax(dim=1).max(dim=1).values.tolist()
    assert [one.probabilities[0] for one in said] == pytest.approx(probabilities, abs=1e-5)


def test_auto_goes_by_the_images_and_is_kept(options, monkeypatch, caplog):
    caplog.set_level("INFO")
    assert files.usual_pipeline(32, 1_281_167) == "memory"  # 3.7 GiB
    assert files.usual_pipeline(63, 50_000) == "memory"
    assert files.usual_pipeline(64, 10) == files.usual_pipeline(48, 1_281_167) == "files"

    auto = replace(options, pipeline="auto", workers=None, epochs=1)
    run = train(auto)
    settings = json.loads((run.folder / "args.json").read_text())
    assert (settings["pipeline"], settings["crop_padding"]) == ("memory", 4)
    assert "48 images in memory: 1 MiB" in caplog.messages
    monkeypatch.setattr(files, "LARGE", 16)
    train(replace(auto, resume=True))  # as it began
    with pytest.raises(UserError, match=r"pipeline = files \(was memory\)"):
        train(replace(auto, pipeline="files", resume=True))
    fresh = train(replace(auto, output=f"{options.output}-2"))
    assert json.loads((fresh.folder / "args.json").read_text())["pipeline"] == "files"


@pytest.mark.parametrize(("change", "said"), [
    ({"crop_padding": 4}, "crop_padding = 4: images in files don't take it; leave it out, or add --pipeline memory"),
    ({"cutout": 8}, "cutout = 8: images in files don't take it"),
    ({"flip": "alternating"}, "flip = 'alternating': images in files are mirrored at random"),
    ({"pipeline": "memory", "workers": 2}, "workers = 2: images in memory don't take it.*--pipeline files"),
    ({"pipeline": "memory", "auto_augment": "3a"}, "auto_augment = 3a: images in memory"),
    ({"pipeline": "memory", "scale": (0.1, 1.0)}, "scale = .*: images in memory"),
    ({"pipeline": "memory", "repeated_aug": 3}, "repeated_aug = 3: images in memory"),
    ({"pipeline": "memory", "broken": "skip"}, "broken = skip: images in memory"),
    ({"scale": (0.5, 0.2)}, "scale = .*: allowed are two numbers above 0, up to 1, the smaller first"),
    ({"auto_augment": "none"}, "auto_augment = 'none' .*allowed are timm's policies"),
    ({"sync_bn": True}, "sync_bn: torch has it for GPUs, not for cpu; leave it out"),
    ({"model_kwargs": ("width_factor=2",)}, "model wrn_10_2 takes no argument 'width_factor'"),
    ({"model_kwargs": ("num_classes=2",)}, "'num_classes=2' among the arguments of the model"),
    ({"model_kwargs": ("drop",)}, "'drop' among the arguments of the model: needed is NAME=VALUE"),
    ({"model": "vit_tiny_patch16_224", "image_size": 32, "test_size": 48}, "takes images of 32 pixels alone"),
])
def test_what_an_option_is_not_for_is_said_in_one_line(options, change, said):
    with pytest.raises(UserError, match=said) as error:
        train(replace(options, **({"workers": None} if "pipeline" in change else {}) | change))
    assert "\n" not in str(error.value)


def test_killed_with_two_workers_and_resumed_with_none(options):
    options = replace(options, auto_augment="rand-m9-mstd0.5-inc1", reprob=0.5)
    whole = train(replace(options, output=f"{options.output}-whole"))
    process = start(replace(options, workers=2))
    wait_for_checkpoint(process, options)
    workers = psutil.Process(process.pid).children()
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert len(workers) == 2 and not psutil.wait_procs(workers, timeout=30)[1]  # gone with it, and with its lock
    resumed = train(replace(options, resume=True))
    assert_same(str(whole.folder), str(resumed.folder))


def test_sigterm_to_every_process_of_the_job_saves(options):
    """As Slurm sends it: the workers leave it to the process that saves."""
    options = replace(options, epochs=50, workers=2)
    process = start(options, "import os; os.setpgrp()")
    wait_for_checkpoint(process, options)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM
    assert "stopped by SIGTERM" in process.err() and "Traceback" not in process.err()


def test_two_processes_train_what_one_trains(options):
    """Without BatchNorm, whose statistics are each process's own; 15 test images are an odd number for two."""
    plain = replace(
        options, model_kwargs=("norm_layer=groupnorm1",), auto_augment="rand-m5-mstd0.5", label_smoothing=0.0)
    one = train(replace(plain, output=f"{options.output}-one"))
    ended_well(*two(
        ROOT / "scripts" / "train.py", "--model", plain.model, "--model-kwargs", "norm_layer=groupnorm1", "--dataset",
        plain.dataset, "--pipeline", "files", "--image-size", "16", "--epochs", "2", "--batch-size", "12", "--lr",
        "0.05", "--precision", "fp32", "--workers", "1", "--auto-augment", "rand-m5-mstd0.5", "--label-smoothing", "0",
        "--output", plain.output))
    assert json.loads(Path(plain.output, "args.json").read_text())["processes"] == 2
    mine, theirs = (load_file(Path(folder, "model", "model.safetensors")) for folder in (one.folder, plain.output))
    for name, values in mine.items():
        torch.testing.assert_close(theirs[name], values, rtol=1e-3, atol=1e-4, msg=name)


@pytest.fixture
def damaged(photos, tmp_path) -> Path:
    """The same images, three of the training split broken: cut off, no image at all, empty."""
    folder = tmp_path / "damaged"
    for path in photos.glob("*/*/*.jpg"):
        copy = folder / path.relative_to(photos)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    cut = folder / "train" / "blue" / "2.jpg"
    cut.write_bytes(cut.read_bytes()[:400])
    (folder / "train" / "green" / "3.jpg").write_text("<html>404</html>")
    (folder / "train" / "red" / "4.jpg").write_bytes(b"")
    return folder


def test_all_broken_images_are_named_at_once(options, damaged):
    options = replace(options, dataset=str(damaged), workers=1)
    for _ in range(2):  # the second time from what was kept of the first
        with pytest.raises(UserError, match=r"3 of 63 images are broken: .*broken.txt; .*--broken skip") as told:
            train(options)
    listed = Path(options.output, "broken.txt").read_text().splitlines()
    assert len(listed) == 3
    for path, line in zip(("blue/2.jpg", "green/3.jpg", "red/4.jpg"), listed, strict=True):
        assert path in line and line in str(told.value)
    (damaged / "train" / "red" / "4.jpg").write_bytes((damaged / "train" / "red" / "5.jpg").read_bytes())
    with pytest.raises(UserError, match="2 of 63 images are broken"):
        train(options)


def test_skip_goes_on_without_them_and_lists_them(options, damaged):
    options = replace(options, dataset=str(damaged), broken="skip", epochs=1)
    result = train(options)
    assert json.loads((result.folder / "args.json").read_text())["images"] == 45
    assert len((result.folder / "broken.txt").read_text().splitlines()) == 3
    (damaged / "val" / "red" / "0.jpg").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"4 of 63 images are broken.*measured on are never left out"):
        train(replace(options, output=f"{options.output}-2"))


def test_parquet_and_tars_train_what_a_folder_trains(options, photos, tmp_path, caplog):
    """The same images in the same order; workers read them in any other."""
    import datasets

    caplog.set_level("INFO")
    (tmp_path / "tars").mkdir()
    for split in ("train", "val"):
        places = sorted((photos / split).glob("*/*.jpg"))  # as read_folder has them
        rows = {"image": list(map(str, places)), "label": [sorted(COLOURS).index(path.parent.name) for path in places]}
        kinds = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=sorted(COLOURS))})
        table = datasets.Dataset.from_dict(rows, kinds)
        table.to_parquet(tmp_path / "parquet" / f"{split}.parquet", batch_size=16)
        with tarfile.open(tmp_path / "tars" / f"{split}-0.tar", "w") as tar:
            for number, path in enumerate(places):
                tar.add(path, f"{number:03d}.jpg")
                (tmp_path / "label.cls").write_text(path.parent.name)
                tar.add(tmp_path / "label.cls", f"{number:03d}.cls")
    made = []
    for kind, folder in (("folder", photos), ("parquet", tmp_path / "parquet"), ("tars", tmp_path / "tars")):
        run = train(replace(
            options, dataset=str(folder), epochs=1, workers=1, output=str(tmp_path / kind), winograd="off"))
        made.append(load_file(run.folder / "model" / "model.safetensors"))
    assert "parquet are copied to" in caplog.text
    for name, values in made[0].items():
        assert torch.equal(made[1][name], values) and torch.equal(made[2][name], values)


GROWTH = """
import sys, resource
from wrn_hub.training.options import TrainOptions
from wrn_hub.training.trainer import train
train(TrainOptions(model="wrn_10_2", dataset=sys.argv[1], pipeline="files", image_size=8, epochs=1, batch_size=8,
    precision="fp32", output=sys.argv[2], workers=0, report_to="none", winograd="off", checkpoint_minutes=60.0))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="kibibytes are Linux's")
def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    """Decoded, 300 of these images take 59 MB."""
    image, most = Image.new("RGB", (256, 256), (200, 30, 30)), []
    for count in (8, 150):
        for split, images in (("train", count), ("val", 1)):
            for name in "ab":
                (tmp_path / f"{count}" / split / name).mkdir(parents=True)
                for number in range(images):
                    image.save(tmp_path / f"{count}" / split / name / f"{number}.jpg")
        ended = subprocess.run(
            [sys.executable, "-c", GROWTH, str(tmp_path / f"{count}"), str(tmp_path / f"run{count}")], check=True,
            capture_output=True, text=True, env={**os.environ, "WRN_HUB_CACHE": str(tmp_path)})
        most.append(int(ended.stdout))
    assert most[1] - most[0] < 15_000


def test_held_out_images_come_from_files_too(options):
    result = train(replace(options, held_out=6, epochs=1))
    assert result.measured == "held_out"
    assert json.loads((result.folder / "args.json").read_text())["images"] == 42


def test_files_that_were_loaded_by_the_caller(options, photos):
    data = load_files(str(photos), "train"), load_files(str(photos), "test")
    result = train(replace(options, pipeline="auto", epochs=1), data=data)
    assert json.loads((result.folder / "args.json").read_text())["pipeline"] == "files"
