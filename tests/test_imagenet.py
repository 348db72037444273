"""Large images in files: measured as timm measures them, whatever they are and however their classes are called."""
import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from forks import ended_well, two
from PIL import Image
from safetensors.torch import load_file
from safetensors.torch import save as safetensors_of
from timm.data import create_dataset, create_loader, resolve_data_config

import wrn_hub  # noqa: F401
from wrn_hub.data.imagenet import wordnet_ids
from wrn_hub.errors import UserError
from wrn_hub.evaluation import metrics
from wrn_hub.evaluation.evaluate import evaluate_source
from wrn_hub.evaluation.exported import export_source
from wrn_hub.evaluation.kept import packed, unpacked
from wrn_hub.evaluation.options import EvaluateOptions
from wrn_hub.evaluation.predict import predict
from wrn_hub.evaluation.results import Results
from wrn_hub.models.export import save_model

ROOT = Path(__file__).resolve().parent.parent
SIZES = [(90, 120), (200, 80), (97, 101), (1, 1), (75, 75), (60, 400), (333, 250), (64, 64)]


def encoded(pixels: np.ndarray, kind: str) -> bytes:
    """An image file of one of the kinds that ImageNet has, or that people have."""
    image, content = Image.fromarray(pixels), io.BytesIO()
    if kind == "turned":
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned by a quarter
        image.save(content, "JPEG", exif=exif, quality=95)
    elif kind == "png":
        image.save(content, "PNG")
    else:
        image.convert({"cmyk": "CMYK", "gray": "L"}.get(kind, "RGB")).save(content, "JPEG", quality=95)
    return content.getvalue()


def write(folder: Path, classes: list[str], count: int = 4) -> Path:
    """A folder a class, with JPEGs of many sizes and kinds; all are called .JPEG, as ImageNet's one PNG is."""
    random = np.random.default_rng(0)
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for place in range(count):
            height, width = SIZES[(number * count + place) % len(SIZES)]
            coarse = random.integers(0, 256, (max(1, height // 8), max(1, width // 8), 3), dtype=np.uint8)
            pixels = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
            kind = ("jpeg", "cmyk", "gray", "turned", "png")[(number + place) % 5]
            (folder / name / f"{name}_{place}.JPEG").write_bytes(encoded(pixels, kind))
    return folder


def save(folder: Path, num_classes: int, names=None, **cfg: object) -> Path:
    """A small net with a test size of its own, whose BatchNorm knows images, so that it doesn't say the same of all."""
    torch.manual_seed(0)
    net = timm.create_model("wrn_10_2", num_classes=num_classes)
    with torch.no_grad():
        net.head.fc.weight.mul_(20)
        for _ in range(5):
            net(torch.randn(16, 3, 16, 16))
    net.pretrained_cfg = {**net.pretrained_cfg, "label_names": None, "mean": (0.485, 0.456, 0.406), **cfg}
    save_model(net.eval(), folder, classes=names)
    return folder


def options(model: Path, dataset: Path, **changes: object) -> EvaluateOptions:
    return EvaluateOptions(
        **{"model": str(model), "dataset": str(dataset), "workers": 0, "batch_size": 8, **changes})


def of_timm(folder: Path, model: Path, act_layer: str | None = None, **given: object) -> dict[str, torch.Tensor]:
    """The logits of each image as timm's validate.py gets them, by file name."""
    net = timm.create_model(f"local-dir:{model}", pretrained=True, act_layer=act_layer).eval()
    config = resolve_data_config(given, model=net, use_test_size=True)
    dataset = create_dataset("", root=str(folder), split="validation")
    loader = create_loader(
        dataset, batch_size=8, use_prefetcher=False, num_workers=0, input_size=config["input_size"],
        interpolation=config["interpolation"], mean=config["mean"], std=config["std"], crop_pct=config["crop_pct"],
        crop_mode=config["crop_mode"])
    with torch.inference_mode():
        logits = torch.cat([net(images) for images, _ in loader])
    return dict(zip(dataset.filenames(basename=True), logits, strict=True))


TAGS = {
    "like racm_in1k": {"input_size": (3, 64, 64), "test_input_size": (3, 88, 88), "crop_pct": 0.875,
                       "test_crop_pct": 0.95, "interpolation": "bicubic"},
    "like tv2_in1k": {"input_size": (3, 72, 72), "test_input_size": (3, 96, 96), "crop_pct": 0.875,
                      "test_crop_pct": 0.965, "interpolation": "bilinear"},
    "squashed": {"input_size": (3, 64, 64), "crop_pct": 1.0, "crop_mode": "squash"},
    "bordered": {"input_size": (3, 64, 64), "crop_pct": 0.9, "crop_mode": "border"},
    "small, but cropped": {"input_size": (3, 32, 32), "crop_pct": 0.8},
}


@pytest.mark.parametrize("tag", TAGS)
def test_every_logit_is_the_one_that_timms_validation_gets(tag, tmp_path):
    images, model = write(tmp_path / "images", ["a", "b", "c"]), save(tmp_path / "net", 3, ("a", "b", "c"), **TAGS[tag])
    results = evaluate_source(options(model, images, output=str(tmp_path / "out")))
    kept, theirs = load_file(tmp_path / "out" / "logits.safetensors"), of_timm(images, model)
    ours = dict(zip([path.name for path in sorted(images.glob("*/*"))], kept["logits"], strict=True))
    assert ours.keys() == theirs.keys() and len(ours) == 12
    assert max((ours[name] - theirs[name]).abs().max() for name in ours) < 1e-4
    cfg = {**timm.create_model(f"local-dir:{model}").pretrained_cfg, **TAGS[tag]}
    assert results.preprocessing.size == (cfg.get("test_input_size") or cfg["input_size"])[-1]
    assert (results.preprocessing.crop_pct, results.preprocessing.crop_mode, results.preprocessing.interpolation) == (
        cfg.get("test_crop_pct") or cfg["crop_pct"], cfg["crop_mode"], cfg["interpolation"])
    assert (results.pipeline, results.corruptions, results.dataset.split) == ("files", None, "all")
    assert results.preprocessing.upright is False
    assert Results.read(tmp_path / "out" / "results.json") == results


def test_what_the_tag_says_is_overridden_everywhere(tmp_path):
    images, model = write(tmp_path / "images", ["a", "b"]), save(tmp_path / "net", 2, **TAGS["like racm_in1k"])
    given = {"image_size": 80, "crop_pct": 0.9, "crop_mode": "squash", "interpolation": "bilinear"}
    results = evaluate_source(options(model, images, output=str(tmp_path / "out"), match_classes="order", **given))
    kept = load_file(tmp_path / "out" / "logits.safetensors")
    theirs = of_timm(images, model, input_size=(3, 80, 80), **{key: given[key] for key in list(given)[1:]})
    ours = dict(zip([path.name for path in sorted(images.glob("*/*"))], kept["logits"], strict=True))
    assert max((ours[name] - theirs[name]).abs().max() for name in ours) < 1e-4
    assert results.preprocessing.size == 80 and results.preprocessing.crop_mode == "squash"

    png = images / "a" / "a_4.JPEG"
    png.write_bytes(encoded(np.zeros((90, 60, 3), np.uint8), "png"))
    theirs = of_timm(images, model, input_size=(3, 80, 80), **{key: given[key] for key in list(given)[1:]})
    (said,) = predict([png], str(model), **given)
    probabilities = theirs["a_4.JPEG"].softmax(dim=0).sort(descending=True).values
    assert said.probabilities == pytest.approx(probabilities.tolist(), abs=1e-5)


def test_arguments_of_the_net_are_measured_with_it(tmp_path, monkeypatch):
    from wrn_hub.commands import evaluate

    images = write(tmp_path / "images", ["a", "b"])
    model = save(tmp_path / "net", 2, ("a", "b"), input_size=(3, 64, 64))
    typed = ["evaluate.py", "--model", str(model), "--dataset", str(images), "--workers", "0", "--output",
             str(tmp_path / "out"), "--model-kwargs", "act_layer=silu", "drop_rate=0.5"]
    monkeypatch.setattr(sys, "argv", typed)
    evaluate.main()
    ours = load_file(tmp_path / "out" / "logits.safetensors")["logits"]
    theirs = of_timm(images, model, "silu")
    files = [path.name for path in sorted(images.glob("*/*"))]
    torch.testing.assert_close(ours, torch.stack([theirs[name] for name in files]), rtol=1e-4, atol=1e-4)
    assert "act_layer=silu" in Results.read(tmp_path / "out" / "results.json").command
    with pytest.raises(UserError, match="takes no argument 'wings'"):
        evaluate_source(options(model, tmp_path / "nowhere", model_kwargs=("wings=2",)))


def test_an_exported_net_is_of_the_size_that_it_is_tested_at(tmp_path):
    model = save(tmp_path / "net", 3, ("a", "b", "c"), **TAGS["like racm_in1k"])
    export_source(str(model), tmp_path / "net.pt2", "pt2", crop_mode="squash")
    said = {"metadata.json": ""}
    torch.export.load(tmp_path / "net.pt2", extra_files=said)
    facts = json.loads(said["metadata.json"])
    assert (facts["size"], facts["crop_pct"], facts["crop_mode"], facts["interpolation"]) == (
        "88", "0.95", "squash", "bicubic")


def test_int8_is_calibrated_and_measured_on_images_in_files(tmp_path):
    model = save(tmp_path / "net", 3, ("c", "b", "a"), **TAGS["like tv2_in1k"])
    for split in ("train", "val"):
        write(tmp_path / "images" / split, ["a", "b", "c"])
    done = export_source(
        str(model), tmp_path / "net.onnx", int8=True, dataset=str(tmp_path / "images"), calibration_images=8)
    found = evaluate_source(options(model, tmp_path / "images"))
    assert done.quantization.top1[0] == found.top1 and found.dataset.split == "test"


def test_classes_are_known_by_wordnet_ids_and_a_dataset_may_have_some(tmp_path):
    ids = wordnet_ids()
    some = [ids[900], ids[3], ids[41]]
    model = save(tmp_path / "net", 1000, input_size=(3, 64, 64), crop_pct=0.875)
    found = evaluate_source(options(model, write(tmp_path / "images", some), output=str(tmp_path / "out")))
    kept = load_file(tmp_path / "out" / "logits.safetensors")
    theirs = of_timm(tmp_path / "images", model)
    answers = [theirs[path.name].argmax() for path in sorted((tmp_path / "images").glob("*/*"))]
    right = [answer == ids.index(path.parent.name) for answer, path in zip(
        answers, sorted((tmp_path / "images").glob("*/*")), strict=True)]
    assert found.top1 == np.mean(right) and found.among == 1000 and found.match_classes == "name"
    assert list(found.per_class) == sorted(some) and "3 of the net's 1000 classes" in found.summary()
    assert kept["top_logits"].shape == (12, 20) and kept["top_classes"].dtype == torch.int32
    true = [theirs[path.name][ids.index(path.parent.name)] for path in sorted((tmp_path / "images").glob("*/*"))]
    assert torch.allclose(kept["true_logits"], torch.stack(true), atol=1e-4)


def test_classes_are_known_by_words_too(tmp_path):
    model = save(tmp_path / "net", 1000, input_size=(3, 64, 64))
    found = evaluate_source(options(model, write(tmp_path / "images", ["Tench", "great_white_shark"], count=1)))
    assert found.among == 1000


def test_folders_called_by_numbers_are_the_nets_classes_in_their_order(tmp_path):
    numbers = [str(number) for number in range(12)]
    model = save(tmp_path / "net", 12, input_size=(3, 64, 64))
    images = write(tmp_path / "images", numbers, count=1)
    evaluate_source(options(model, images, output=str(tmp_path / "out")))
    kept, theirs = load_file(tmp_path / "out" / "logits.safetensors"), of_timm(images, model)
    assert kept["labels"].tolist() == list(range(12))
    for number, logits in zip(numbers, kept["logits"], strict=True):
        assert torch.allclose(logits, theirs[f"{number}_0.JPEG"], atol=1e-4)


@pytest.mark.parametrize("classes, said", [
    (["tench", "unicorn"], r"'goldfish', .* are its alone, 'unicorn' the dataset's"),
    (["n01440764", "n99999999"], "are its alone, 'n99999999' the dataset's"),
    ([str(number) for number in range(12)], "tells 1000 classes apart, not the 12"),
])
def test_classes_that_fit_nothing_are_refused_with_both_lists(classes, said, tmp_path):
    model = save(tmp_path / "net", 1000, input_size=(3, 64, 64))
    with pytest.raises(UserError, match=said):
        evaluate_source(options(model, write(tmp_path / "images", classes, count=1)))


def test_missing_weights_are_known_before_any_image_is_read(tmp_path):
    images = write(tmp_path / "images", ["a", "b"], count=1)
    (images / "a" / "a_0.JPEG").write_bytes(b"no image")
    model = save(tmp_path / "net", 2, ("a", "b"), input_size=(3, 64, 64))
    with pytest.raises(UserError, match=r"a_0\.JPEG can't be decoded"):
        evaluate_source(options(model, images, workers=1))
    (model / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"model\.safetensors"):
        evaluate_source(options(model, tmp_path / "nowhere"))


def test_mirrored_and_corrupted_copies_of_files_are_measured_where_asked_for(tmp_path):
    images, model = write(tmp_path / "images", ["a", "b", "c"]), save(tmp_path / "net", 3, input_size=(3, 64, 64))
    found = evaluate_source(options(model, images, corruption_images=1, match_classes="order"))
    assert 0 <= found.flip_agreement <= 1 and found.corruptions.images == 1


def test_real_labels_are_by_the_numbers_of_the_validation_images(tmp_path):
    ids = wordnet_ids()
    for number, name in enumerate(ids):
        path = tmp_path / "val" / name / f"ILSVRC2012_val_{1000 - number:08d}.JPEG"
        path.parent.mkdir(parents=True)
        path.write_bytes(encoded(np.full((8, 8, 3), number // 4, np.uint8), "jpeg"))
    model = save(tmp_path / "net", 1000, input_size=(3, 8, 8))
    theirs = of_timm(tmp_path / "val", model)
    guess = {name: int(logits.argmax()) for name, logits in theirs.items()}
    labels = [[guess[f"ILSVRC2012_val_{number + 1:08d}.JPEG"], 5] for number in range(900)] + [[]] * 50 + [[7]] * 50
    (tmp_path / "real.json").write_text(json.dumps(labels))
    found = evaluate_source(options(model, tmp_path / "val", batch_size=250, real_labels=str(tmp_path / "real.json")))
    sevens = sum(guess[f"ILSVRC2012_val_{number:08d}.JPEG"] == 7 for number in range(951, 1001))
    assert found.real.images == 950 and found.real.top1 == pytest.approx((900 + sevens) / 950, abs=0.01)
    assert "by ReaL's labels of 950 images" in found.summary()
    for content, said in {
            "[[1001]]": "needed is a list with a list an image, of numbers from 0 to 999", "[[": "not JSON",
            "{}": "holds a dict, needed is a list", "[[1], [2]]": "holds 2 entries, but there is an image 1000",
            '[["tench"]]': "needed is a list with"}.items():
        (tmp_path / "real.json").write_text(content)
        with pytest.raises(UserError, match=said):
            evaluate_source(options(model, tmp_path / "val", real_labels=str(tmp_path / "real.json")))
    (tmp_path / "val" / ids[5]).rename(tmp_path / "val" / "renamed")
    with pytest.raises(UserError, match="other classes than the dataset: 'n01496331' are its alone, 'renamed'"):
        evaluate_source(options(model, tmp_path / "val", real_labels=str(tmp_path / "real.json")))


@pytest.mark.parametrize("form", ["folder", "table"])
def test_a_net_is_measured_on_what_its_own_training_left_out(tmp_path, form, caplog):
    caplog.set_level("INFO")
    images = write(tmp_path / "images", ["a", "b"], count=5)
    if form == "table":
        rows = [f"{path.relative_to(images)},{path.parent.name}" for path in images.glob("*/*")]
        images = images / "labels.csv"
        images.write_text("\n".join(["path,label", *rows]))
    model = save(tmp_path / "run" / "model", 2, ("a", "b"), input_size=(3, 64, 64))
    whole = evaluate_source(options(model, images)).dataset
    assert (whole.name, whole.split, whole.images) == (images.name, "all", 10)
    (tmp_path / "run" / "args.json").write_text(json.dumps({"dataset": str(images)}))
    assert evaluate_source(options(model, images)).dataset.images == 2
    assert "measured is the fifth of every class that the net's training left out" in caplog.text
    assert evaluate_source(options(model, images, split="all")).dataset.images == 10


def test_a_net_of_more_classes_is_measured_on_a_table_of_one(tmp_path):
    images = write(tmp_path / "images", ["a"], count=2)
    (images / "labels.csv").write_text("path,label\na/a_0.JPEG,a\na/a_1.JPEG,a\n")
    model = save(tmp_path / "model", 2, ("b", "a"), input_size=(3, 64, 64))
    results = evaluate_source(options(model, images / "labels.csv"))
    assert (results.dataset.images, results.among, list(results.per_class)) == (2, 2, ["a"])


def test_a_thousand_classes_are_drawn_by_the_worst_of_them(tmp_path, monkeypatch):
    from wrn_hub.cards import card, plots

    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(2000) % 990  # ten classes have no images
    logits = 4 * torch.randn(2000, 1000, generator=generator)
    logits[torch.arange(2000), labels] += 8
    logits[labels == 3, 4] += 50  # the tiger shark is always taken for a hammerhead
    kept = packed(logits, labels)
    logits = unpacked(kept)
    folder = tmp_path / "wrn_50_2.imagenet-1k"
    folder.mkdir()
    (folder / "logits.safetensors").write_bytes(safetensors_of(kept))
    (folder / "worst.safetensors").write_bytes(safetensors_of(
        {"images": torch.zeros(0, 8, 8, 3, dtype=torch.uint8), "index": torch.zeros(0, dtype=torch.int64)}))
    (folder / "metrics.csv").write_text("epoch,train_accuracy,test_accuracy\n1,0.5,0.5\n")
    measured = evaluate_source(options(
        save(tmp_path / "net", 2, ("a", "b"), input_size=(3, 64, 64)), write(tmp_path / "images", ["a", "b"], 1)))
    replace(
        measured, weights_sha256="0" * 64, top1=metrics.top_k(logits, labels), nll=metrics.nll(logits, labels),
        ece=metrics.reliability(logits, labels).expected_calibration_error,
        dataset=replace(measured.dataset, images=2000)).write(folder / "results.json")
    monkeypatch.setitem(card.MANIFEST, folder.name, {"sha256": "0" * 64, "bytes": 1, "published": None})
    staged = card.Staged(folder)
    pictures = card._pictures(staged)
    true, said, shares = pictures["confusion.png"][1]
    assert (true[0], said[0], shares[0]) == ("tiger shark", "hammerhead", 1.0) and len(true) == 20
    for name in ("per_class.png", "confusion.png"):
        draw, inputs = pictures[name]
        plots.save(folder / name, draw, *inputs)
        with Image.open(folder / name) as picture:
            assert max(picture.size) < 2000
    assert "worst by name" in staged.pictures["per_class.png"]
    assert (folder / "logits.safetensors").stat().st_size < 2000 * 300


@pytest.mark.parametrize("spread", [0.1, 3.0, 30.0])
def test_every_metric_follows_from_what_is_kept_of_many_classes(spread):
    generator = torch.Generator().manual_seed(0)
    logits = spread * torch.randn(300, 1000, generator=generator)
    labels = torch.randint(1000, (300,), generator=generator)
    labels[:200] = logits[:200].argmax(dim=1)
    again = unpacked(packed(logits, labels))
    assert metrics.top_k(again, labels, 5) == metrics.top_k(logits, labels, 5)
    assert metrics.nll(again, labels) == pytest.approx(metrics.nll(logits, labels), rel=1e-5, abs=1e-5)
    assert metrics.reliability(again, labels).expected_calibration_error == pytest.approx(
        metrics.reliability(logits, labels).expected_calibration_error, abs=1e-5)
    assert torch.equal(metrics.confusion(again, labels), metrics.confusion(logits, labels))
    assert torch.equal(unpacked(packed(logits[:, :100], labels % 100)), logits[:, :100])


def test_two_processes_write_of_files_what_one_writes(tmp_path):
    """1,001 images: each once, whatever the batch and the shares leave over."""
    random, classes = np.random.default_rng(0), [f"c{number:03d}" for number in range(13)]
    for number in range(1001):
        path = tmp_path / "images" / classes[number % 13] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(random.integers(0, 256, (9 + number % 3, 10, 3), dtype=np.uint8), "jpeg"))
    save(tmp_path / "net", 13, classes, input_size=(3, 8, 8), crop_pct=0.875)
    found = evaluate_source(options(
        tmp_path / "net", tmp_path / "images", batch_size=64, output=str(tmp_path / "out1")))
    ended_well(*two(
        ROOT / "scripts" / "evaluate.py", "--model", "net", "--dataset", "images", "--batch-size", "64", "--workers",
        "1", "--output", "out2", folder=tmp_path))
    shared = Results.read(tmp_path / "out2" / "results.json")
    assert found.dataset == shared.dataset and found.dataset.images == 1001
    assert (found.top1, found.nll, found.processes, shared.processes) == (shared.top1, shared.nll, 1, 2)
    for file in ("logits.safetensors", "worst.safetensors"):
        assert (tmp_path / "out1" / file).read_bytes() == (tmp_path / "out2" / file).read_bytes()
