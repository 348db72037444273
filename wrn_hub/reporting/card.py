"""Model cards: README.md and its pictures from what lies beside them, the registry, and what others report.

A card is a pure function of results.json, the kept logits, args.json, metrics.csv and the registry, so it can be made
again and compared byte for byte. What was measured and what others report never stand in one table.
"""
import csv
import json
import tomllib
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import timm
from huggingface_hub import EvalResult, ModelCardData
from safetensors.torch import load_file

from .. import models  # noqa: F401  registers the Wide ResNets
from ..facts import DATASETS
from ..weights import MANIFEST
from . import metrics, plots
from .command import train_command
from .results import Results
from .variants import variants

__all__ = ["card_text", "check_card", "index_text", "write_card"]

PICTURES = {
    "curve.png": "Accuracy by epoch on the training images, with their augmentation, and on the test split",
    "per_class.png": "Accuracy of every class",
    "confusion.png": "Which classes are taken for which, in % of the images of the true class",
    "reliability.png": "Accuracy by confidence, and the number of images with that confidence",
}


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


@cache
def _reported_table() -> dict[str, Any]:
    return tomllib.loads(resources.files("wrn_hub.reporting").joinpath("reported.toml").read_text())


def _reported(arch: str, tag: str) -> list[dict[str, Any]]:
    return _reported_table().get(arch, {}).get(tag, [])


def _metadata(name: str, results: Results) -> str:
    facts = DATASETS[name.partition(".")[2]]
    data = ModelCardData(
        license="apache-2.0",
        library_name="timm",
        pipeline_tag="image-classification",
        tags=["image-classification", "timm", "wide-resnet"],
        datasets=[facts.hub_id],
        model_name=name,
        eval_results=[EvalResult(
            task_type="image-classification", task_name="Image Classification", dataset_type=facts.hub_id,
            dataset_name=name.partition(".")[2], dataset_split=results.dataset["split"], metric_type="accuracy",
            metric_name="top-1 accuracy", metric_value=round(100 * results.top1, 2))])
    return f"---\n{data.to_yaml()}\n---\n"


def card_text(folder: Path) -> str:
    """The README.md of a staged model, from the files beside it.

    Args:
        folder: ``model_cards/<arch.tag>`` with args.json, metrics.csv, results.json and logits.safetensors.
    """
    name = folder.name
    arch, _, tag = name.partition(".")
    facts, entry = DATASETS[tag], MANIFEST[name]
    results = Results.read(folder / "results.json")
    settings = json.loads((folder / "args.json").read_text())
    kept = load_file(folder / "logits.safetensors")
    calibration = metrics.reliability(kept["logits"], kept["labels"])
    model = timm.create_model(name, device="meta")
    parameters = sum(p.numel() for p in model.parameters())
    rows = _rows(folder)
    hours = sum(float(row["seconds"]) for row in rows) / 3600
    n, k = arch.split("_")[1:]
    size, mean, std = (results.preprocessing[key] for key in ("size", "mean", "std"))

    measured = [
        ("top-1 accuracy", _percent(results.top1)),
        *([("top-5 accuracy", _percent(results.top5))] if results.top5 is not None else []),
        ("negative log-likelihood", f"{results.loss:.4f} nats"),
        ("expected calibration error (15 bins)", _percent(calibration.expected_calibration_error)),
        ("parameters", f"{parameters:,}"),
        ("weights", f"{entry['bytes'] / 1e6:.1f} MB, float16 with float32 BatchNorm"),
    ]
    others = [
        f"| {row['error']:.2f} % | {_percent(1 - row['error'] / 100)} | {row['source']} | {row['preprocessing']} |"
        for row in _reported(arch, tag)]
    shown = {key: value for key, value in settings.items() if key not in ("model", "dataset", "versions", "hardware")}
    libraries = ", ".join(f"{key} {value}" for key, value in settings["versions"].items())
    lines = [
        _metadata(name, results),
        f"# {name}",
        "",
        f"WRN-{n}-{k}, a [Wide Residual Network](https://arxiv.org/abs/1605.07146), trained from scratch on "
        f"{tag.replace('cifar', 'CIFAR-').replace('svhn', 'SVHN')}: {_percent(results.top1)} of the test images right.",
        "",
        "```python",
        "import timm",
        "import torch",
        "import wrn_hub  # registers the model; without it timm answers \"Unknown model\"",
        "from PIL import Image",
        "",
        f'model = timm.create_model("{name}", pretrained=True).eval()',
        "transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=model))",
        'image = transform(Image.open("image.png").convert("RGB")).unsqueeze(0)',
        "with torch.inference_mode():",
        "    probabilities = model(image).softmax(dim=1)[0]",
        'names = model.pretrained_cfg["label_names"]',
        "for p, i in zip(*probabilities.topk(3)):",
        '    print(f"{names[i]} {p:.1%}")',
        "```",
        "",
        "The package is installed from a clone of wrn_hub with `pip install .`",
        "",
        "## Measured",
        "",
        f"On all {results.dataset['images']:,} images of the {results.dataset['split']} split: the weights after the "
        f"last epoch, one pass, no test-time augmentation, {results.precision}, one training (seed "
        f"{settings['seed']}).",
        "",
        "| | |",
        "|---|---:|",
        *(f"| {key} | {value} |" for key, value in measured),
        "",
        f"Measured with `{results.command}` on {results.date[:10]} ({results.hardware}).",
        "",
        *(f"![{text}]({picture})\n" for picture, text in PICTURES.items() if picture != "curve.png"),
        "## What others report",
        "",
        "Of nets of this name on the same test split; not measured here.",
        "",
        *(["| error | accuracy | source | preprocessing |", "|---:|---:|---|---|"] if others else ["Nothing known."]),
        *others,
        "",
        "## More uses",
        "",
        "Embeddings, and feature maps of the stem and the three stages:",
        "",
        "```python",
        "import timm",
        "import torch",
        "import wrn_hub",
        "",
        "images = torch.randn(2, 3, 32, 32)",
        f'model = timm.create_model("{name}", pretrained=True, num_classes=0).eval()',
        f"embeddings = model(images)  # (2, {model.num_features})",
        f'backbone = timm.create_model("{name}", pretrained=True, features_only=True).eval()',
        "maps = backbone(images)  # at strides 1, 1, 2 and 4",
        "```",
        "",
        "Fine-tuning on a folder with a subfolder per class:",
        "",
        "```bash",
        f"accelerate launch scripts/finetune.py --model {name} --dataset FOLDER",
        "```",
        "",
        "## Preprocessing and classes",
        "",
        f"RGB, {size}x{size} pixels, divided by 255, less the mean {tuple(mean)}, over the standard deviation "
        f"{tuple(std)}, per channel.",
        "",
        ", ".join(f"{i} {c}" for i, c in enumerate(facts.classes)) + ".",
        "",
        "## Recipe",
        "",
        f"{hours:.1f} hours of wall-clock on {settings['hardware']} ({libraries}), measurements included.",
        "",
        "```bash",
        train_command(settings),
        "```",
        "",
        f"![{PICTURES['curve.png']}](curve.png)",
        "",
        *(["The earlier epochs saw smaller images, after which those of full size are not yet recognised well.", ""]
          if settings["progressive_sizes"] else []),
        "<details><summary>Every setting</summary>",
        "",
        "| | |",
        "|---|---|",
        *(f"| {key} | {_setting(value)} |" for key, value in shown.items()),
        "",
        "</details>",
        "",
        "## Limits",
        "",
        f"A net for centred objects in images of about {size}x{size} pixels, and for research: semi-supervised "
        "learning, distillation, robustness. It tells only the classes above and gives one of them to any image, also "
        "to one that shows none. Photographs have to be shrunk to its size, and most details are lost then. Its "
        "training data have known label errors and biases.",
        "",
        "## Licence and source",
        "",
        "The weights are under Apache-2.0. The training images come without a stated licence: "
        f"{facts.source}.",
        "",
        f"sha256 of model.safetensors: `{entry['sha256']}`",
        "",
        "```bibtex",
        "@inproceedings{zagoruyko2016wide,",
        "  title     = {Wide Residual Networks},",
        "  author    = {Sergey Zagoruyko and Nikos Komodakis},",
        "  booktitle = {British Machine Vision Conference (BMVC)},",
        "  year      = {2016}",
        "}",
        "```",
    ]
    return "\n".join(lines) + "\n"


def _setting(value: Any) -> str:
    if value is None or value == []:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _pictures(folder: Path) -> dict[str, tuple[Any, tuple[Any, ...]]]:
    """Picture -> (how it is drawn, from what)."""
    classes = list(DATASETS[folder.name.partition(".")[2]].classes)
    kept = load_file(folder / "logits.safetensors")
    logits, labels = kept["logits"], kept["labels"]
    rows = _rows(folder)
    return {
        "curve.png": (plots.curve_plot, (
            [int(row["epoch"]) for row in rows], [float(row["train_accuracy"]) for row in rows],
            [(int(row["epoch"]), float(row["test_accuracy"])) for row in rows if row["test_accuracy"]])),
        "per_class.png": (plots.per_class_plot, (metrics.per_class(logits, labels), classes)),
        "confusion.png": (plots.confusion_plot, (metrics.confusion(logits, labels), classes)),
        "reliability.png": (
            plots.reliability_plot, plots.reliability_inputs(metrics.reliability(logits, labels))),
    }


def write_card(folder: Path) -> None:
    """Make README.md and the pictures of a staged model; a picture that is up to date stays as it is."""
    for name, (draw, inputs) in _pictures(folder).items():
        if plots.digest_of(folder / name) != plots.digest(*inputs):
            plots.save(folder / name, draw, *inputs)
    (folder / "README.md").write_text(card_text(folder))


def check_card(folder: Path) -> list[str]:
    """What is stale or wrong in a staged folder, a line each; empty where all is well."""
    results, kept = Results.read(folder / "results.json"), load_file(folder / "logits.safetensors")
    wrong = []
    if results.weights_sha256 != MANIFEST[folder.name]["sha256"]:
        wrong.append(f"{folder.name}: results.json is of other weights than the manifest's; measure again")
    if abs(results.top1 - metrics.top_k(kept["logits"], kept["labels"])) > 1e-12:
        wrong.append(f"{folder.name}: results.json and logits.safetensors are of different measurements; measure again")
    readme = folder / "README.md"
    if not readme.is_file() or readme.read_text() != card_text(folder):
        wrong.append(f"{folder.name}/README.md is stale: run scripts/make_cards.py")
    for name, (_, inputs) in _pictures(folder).items():
        if plots.digest_of(folder / name) != plots.digest(*inputs):
            wrong.append(f"{folder.name}/{name} is stale: run scripts/make_cards.py")
    return wrong


def index_text() -> str:
    """The README.md of ``model_cards``: every registered variant, those without weights too, by size."""
    lines = [
        "# Wide Residual Networks",
        "",
        "Every variant of wrn_hub. A folder here is, byte for byte, the Hub repository of its weights. Measured is",
        "top-1 accuracy on the whole test split after the last epoch, in fp32, without test-time augmentation; best",
        "reported is the highest that others report of the same net, by whatever training. A net without weights is",
        "trained by, for example,",
        "",
        "```bash",
        "accelerate launch scripts/train.py --model wrn_28_2 --dataset cifar10 --data-dir data",
        "```",
        "",
        "| model | parameters | GMACs | input | dataset | measured | best reported |",
        "|---|---:|---:|---|---|---:|---|",
    ]
    for row in variants():
        for tag in [tag for tag in DATASETS if tag in row.weights or _reported(row.name, tag)] or ["none"]:
            best = min(_reported(row.name, tag), key=lambda entry: entry["error"], default=None)
            top1 = row.weights.get(tag)
            cells = [
                f"`{row.name}`", f"{row.parameters:,}", f"{row.gmacs:.4g}", f"{row.size}x{row.size}", tag,
                "no weights yet" if top1 is None else f"[{_percent(top1)}]({row.name}.{tag}/README.md)",
                f"{_percent(1 - best['error'] / 100)}: {best['source']}, {best['preprocessing']}" if best else "none"]
            if tag == "none" and row.weights:
                cells[4:6] = ["imagenet", "timm's weights, not measured here"]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
