"""Model cards: README.md and its pictures from what lies beside them, the registry, and what others report.

A card is a pure function of results.json, the kept logits and images, args.json, metrics.csv and the registry, so it
can be made again and compared byte for byte. What was measured and what others report never stand in one table.
"""
import csv
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from .. import models  # noqa: F401  registers the Wide ResNets
from ..errors import UserError
from ..evaluation import metrics
from ..evaluation.corruptions import KINDS
from ..evaluation.results import Results
from ..facts import DATASETS
from ..weights import MANIFEST, file_sha256
from . import plots
from .command import train_command
from .metadata import check_metadata, check_text, front_matter
from .reported import Reported, reported

__all__ = [
    "BIBTEX", "Staged", "card_text", "check_card", "classify_snippet", "features_snippet", "percent", "reported_table",
    "table", "write_card"]

PICTURES = {
    "curve.png": "Accuracy by epoch on the training images, with their augmentation, and on the test split",
    "per_class.png": "Accuracy of every class",
    "confusion.png": "Which classes are taken for which, in % of the images of the true class",
    "reliability.png": "Accuracy by confidence, and the number of images with that confidence",
    "corruptions.png": "Accuracy on corrupted images by kind and severity",
    "worst.png": "The mistakes made with the least probability for the true class: what is true, and what was said",
}

BIBTEX = """```bibtex
@inproceedings{zagoruyko2016wide,
  title     = {Wide Residual Networks},
  author    = {Sergey Zagoruyko and Nikos Komodakis},
  booktitle = {British Machine Vision Conference (BMVC)},
  year      = {2016}
}
```"""

_REMAKE = "run scripts/maintain/make_cards.py"


def percent(share: float) -> str:
    """A share from 0 to 1 in %, with two digits."""
    return f"{100 * share:.2f} %"


def _maybe(value: float | None) -> str:
    return "Not measured" if value is None else percent(value)


@dataclass(frozen=True)
class Staged:
    """What lies in a staged folder, read once and found to belong together.

    Raises:
        UserError: a file is missing or damaged, or results.json is of other weights than the manifest's or of another
            measurement than the kept logits.
    """

    folder: Path

    def __post_init__(self) -> None:
        results, logits, labels = self.results, self.kept["logits"], self.kept["labels"]
        if results.weights_sha256 != self.entry["sha256"]:
            raise UserError(f"{self.name}: results.json is of other weights than the manifest's; measure again with "
                            "scripts/evaluate.py")
        again = [
            (results.top1, metrics.top_k(logits, labels)), (results.nll, metrics.nll(logits, labels)),
            (results.ece, metrics.reliability(logits, labels).expected_calibration_error),
            (results.dataset.images, len(labels))]
        if len(self.facts.classes) != logits.shape[1] or any(abs(a - b) > 1e-9 for a, b in again):
            raise UserError(f"{self.name}: results.json and logits.safetensors are of different measurements; measure "
                            "again with scripts/evaluate.py")

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def arch(self) -> str:
        return self.name.partition(".")[0]

    @property
    def tag(self) -> str:
        return self.name.partition(".")[2]

    @property
    def facts(self):
        return DATASETS[self.tag]

    @property
    def entry(self) -> dict[str, Any]:
        return MANIFEST[self.name]

    @cached_property
    def results(self) -> Results:
        return Results.read(self.folder / "results.json")

    @cached_property
    def top1_of_all_seeds(self) -> list[float]:
        """Of this training and of those whose results lie beside it as results.seed*.json."""
        found = [self.results.top1]
        for path in sorted(self.folder.glob("results.seed*.json")):
            other = Results.read(path)
            same = ("dataset", "preprocessing", "precision")
            if any(getattr(other, key) != getattr(self.results, key) for key in same):
                raise UserError(f"{self.name}/{path.name} was measured on other images or otherwise than results.json")
            found.append(other.top1)
        return found

    @cached_property
    def settings(self) -> dict[str, Any]:
        return json.loads((self.folder / "args.json").read_text())

    @cached_property
    def rows(self) -> list[dict[str, str]]:
        with open(self.folder / "metrics.csv", newline="") as file:
            return list(csv.DictReader(file))

    def _tensors(self, name: str) -> dict[str, torch.Tensor]:
        try:
            return load_file(self.folder / name)
        except (OSError, SafetensorError) as error:
            raise UserError(f"{self.name}/{name} can't be read ({error}); measure again with scripts/evaluate.py"
                            ) from None

    @cached_property
    def kept(self) -> dict[str, torch.Tensor]:
        return self._tensors("logits.safetensors")

    @cached_property
    def worst(self) -> dict[str, torch.Tensor]:
        return self._tensors("worst.safetensors")


def _metadata(staged: Staged) -> dict[str, Any]:
    results, facts = staged.results, staged.facts
    values = [("accuracy", "top-1 accuracy", results.top1)]
    if results.top5 is not None:
        values.append(("accuracy", "top-5 accuracy", results.top5))
    return {
        "license": "apache-2.0",
        "library_name": "timm",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "timm", "transformers", "wide-resnet"],
        "datasets": [facts.hub_id],
        "model-index": [{
            "name": staged.name,
            "results": [{
                "task": {"type": "image-classification", "name": "Image Classification"},
                "dataset": {
                    "name": staged.tag, "type": facts.hub_id, "config": facts.config, "split": results.dataset.split},
                "metrics": [
                    {"type": kind, "value": round(100 * value, 2), "name": name} for kind, name, value in values],
            }],
        }],
    }


def _measured(staged: Staged) -> list[tuple[str, str]]:
    results, several = staged.results, staged.top1_of_all_seeds
    corruptions = results.corruptions
    rows = [("top-1 accuracy", percent(results.top1))]
    if len(several) > 1:
        spread = f"{percent(statistics.mean(several))} ± {100 * statistics.stdev(several):.2f}"
        rows.append((f"top-1 accuracy, mean and standard deviation of {len(several)} trainings", spread))
    if results.top5 is not None:
        rows.append(("top-5 accuracy", percent(results.top5)))
    return [
        *rows,
        ("negative log-likelihood", f"{results.nll:.4f} nats"),
        ("expected calibration error (15 bins)", percent(results.ece)),
        ("the same answer for the mirrored image", _maybe(results.flip_agreement)),
        ("top-1 accuracy on corrupted images, mean of all below", _maybe(corruptions.mean if corruptions else None)),
        ("parameters", f"{results.parameters:,}"),
        ("GMACs, one image", f"{results.gmacs:.4g}"),
        ("activations, one image", f"{results.activations:.4g} M"),
        ("inference, fastest of several passes",
         f"{results.speed.images_per_second:,.0f} images/s, {results.precision}, batch {results.speed.batch_size}, "
         f"{results.hardware}"),
        ("peak memory", f"{results.peak_memory.bytes / 2**20:,.0f} MiB {results.peak_memory.what}"),
        ("weights", f"{staged.entry['bytes'] / 1e6:.1f} MB, float16 with float32 BatchNorm"),
    ]


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """The lines of a Markdown table; the columns numbered in ``right`` are flush right."""
    rule = ["---:" if column in right else "---" for column in range(len(header))]
    return [f"| {' | '.join(row)} |" for row in (header, rule, *rows)]


def reported_table(entries: Sequence[Reported]) -> list[str]:
    """What others report, as the lines of a Markdown table."""
    if not entries:
        return ["Nothing known."]
    top5 = any(entry.top5_error is not None for entry in entries)
    weights = any(entry.weights for entry in entries)
    header = ["top-1 error", "top-1 accuracy", *["top-5 error"] * top5, *["weights"] * weights, "source",
              "preprocessing"]
    rows = []
    for entry in entries:
        row = [f"{entry.error:.2f} %", percent(1 - entry.error / 100)]
        if top5:
            row.append(f"{entry.top5_error:.2f} %" if entry.top5_error is not None else "not reported")
        if weights:
            row.append(f"`{entry.weights}`" if entry.weights else "not to be had")
        rows.append([*row, entry.source, entry.preprocessing])
    return table(header, rows, right=range(2 + top5))


def _corruption_lines(staged: Staged) -> list[str]:
    corruptions = staged.results.corruptions
    if corruptions is None:
        return ["### Corrupted images", "", "Not measured.", ""]
    rows = [
        [kind, *(f"{100 * value:.1f}" for value in values), KINDS[kind][2],
         ", ".join(f"{amount:g}" for amount in KINDS[kind][1])]
        for kind, values in corruptions.accuracy.items()]
    return [
        "### Corrupted images",
        "",
        f"Top-1 accuracy on the first {corruptions.images:,} images of the split, corrupted by "
        f"`wrn_hub.evaluation.corruptions` (seed {corruptions.seed}); on these as they are it is "
        f"{percent(corruptions.clean)}. The kinds are in the manner of CIFAR-10-C, but are not its images: don't "
        "compare the numbers.",
        "",
        f"![{PICTURES['corruptions.png']}](corruptions.png)",
        "",
        "<details><summary>The same as a table, with the amount of each corruption</summary>",
        "",
        *table(["kind, accuracy in % at severity", "1", "2", "3", "4", "5", "what was varied", "amounts"], rows,
               right=range(1, 6)),
        "",
        "</details>",
        "",
    ]


def classify_snippet(name: str) -> list[str]:
    """Lines of Markdown: how a model tells what an image shows."""
    return [
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
        "names = wrn_hub.class_names(model)",
        "for p, i in zip(*probabilities.topk(3)):",
        '    print(f"{names[i]} {p:.1%}")',
        "```",
    ]


def features_snippet(name: str, size: int, features: int, stages: tuple[str, str]) -> list[str]:
    """Lines of Markdown: what a model knows of an image beside its class; the stages by number and strides."""
    return [
        f"Embeddings, and feature maps of the stem and the {stages[0]} stages:",
        "",
        "```python",
        "import timm",
        "import torch",
        "import wrn_hub",
        "",
        f"images = torch.randn(2, 3, {size}, {size})",
        f'model = timm.create_model("{name}", pretrained=True, num_classes=0).eval()',
        f"embeddings = model(images)  # (2, {features})",
        f'backbone = timm.create_model("{name}", pretrained=True, features_only=True).eval()',
        f"maps = backbone(images)  # at strides {stages[1]}",
        "```",
    ]


def card_text(folder: Path) -> str:
    """The README.md of a staged model, from the files beside it.

    Args:
        folder: ``model_cards/<arch.tag>`` with args.json, metrics.csv and what ``scripts/evaluate.py`` wrote.

    Raises:
        UserError: a file is missing or damaged, or they don't belong together.
    """
    return _card_text(Staged(folder))


def _epochs(rows: list[dict[str, str]]) -> str:
    """The length of a training in words, with the sizes of its images if they grew."""
    sizes = [(size, len(list(group))) for size, group in groupby(row["size"] for row in rows)]
    grew = f" ({', '.join(f'{n} at {size} px' for size, n in sizes)})" if len(sizes) > 1 else ""
    return f"{len(rows)} epoch{'s' * (len(rows) != 1)}{grew}"


def _card_text(staged: Staged) -> str:
    name, arch, facts = staged.name, staged.arch, staged.facts
    results, settings = staged.results, staged.settings
    features = timm.create_model(name, device="meta").num_features
    hours = sum(float(row["seconds"]) for row in staged.rows) / 3600
    n, k = arch.split("_")[1:] if arch.startswith("wrn") else ("", "")
    what = f"WRN-{n}-{k}, a" if n else f"{arch}, a relative of the"
    size, mean, std = results.preprocessing.size, results.preprocessing.mean, results.preprocessing.std
    trainings = len(staged.top1_of_all_seeds)
    seeds = f"one training (seed {settings['seed']})" if trainings == 1 else (
        f"the training with seed {settings['seed']}, one of {trainings}")
    shown = {key: value for key, value in settings.items() if key not in ("model", "dataset", "versions", "hardware")}
    libraries = ", ".join(f"{key} {value}" for key, value in settings["versions"].items())
    lines = [
        front_matter(_metadata(staged)),
        f"# {name}",
        "",
        f"{what} [Wide Residual Network](https://arxiv.org/abs/1605.07146), "
        f"{'fine-tuned' if settings.get('pretrained') else 'trained from scratch'} on {facts.title}: "
        f"{percent(results.top1)} of the test images right.",
        "",
        "Install the package from a clone of wrn_hub with `pip install .`, then classify an image:",
        "",
        *classify_snippet(name),
        "",
        "## Measured",
        "",
        f"On all {results.dataset.images:,} images of the {results.dataset.split} split: the weights after the "
        f"last epoch, one pass, no test-time augmentation, {results.precision}, {seeds}.",
        "",
        *table(["measure", "value"], _measured(staged), right=[1]),
        "",
        f"Measured on {results.date[:10]} by",
        "",
        "```bash",
        f"accelerate launch scripts/{results.command}",
        "```",
        "",
        *(f"![{PICTURES[picture]}]({picture})\n" for picture in ("per_class.png", "confusion.png", "reliability.png")),
        *_corruption_lines(staged),
        "### The worst mistakes",
        "",
        *(["Of all wrong answers those that gave the true class the least probability, the worst first. Each tile "
           "shows what is true above what was said.", "", f"![{PICTURES['worst.png']}](worst.png)"]
          if len(staged.worst["index"]) else ["No image was mistaken."]),
        "",
        "## What others report",
        "",
        "Of nets of this name on the same test split, by their own trainings; not measured here.",
        "",
        *reported_table(reported(arch, staged.tag)),
        "",
        "## More uses",
        "",
        "With the pipeline of transformers, which takes the folder of the weights, or the id of a Hub repository that "
        "holds them:",
        "",
        "```python",
        "from pathlib import Path",
        "",
        "import timm",
        "import wrn_hub",
        "from transformers import pipeline",
        "",
        f'folder = Path(timm.get_pretrained_cfg("{name}").file).parent',
        'classify = pipeline("image-classification", model=str(folder))',
        'print(classify("image.png", top_k=3))',
        "```",
        "",
        *features_snippet(name, size, features, ("three", "1, 1, 2 and 4")),
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
        f"{_epochs(staged.rows)}, {hours:.1f} hours of wall-clock on {settings['hardware']} ({libraries}), "
        "measurements included.",
        "",
        "```bash",
        train_command(settings),
        "```",
        "",
        f"![{PICTURES['curve.png']}](curve.png)",
        "",
        *(["The earlier epochs saw smaller images, after which those of full size are not yet recognised well.", ""]
          if any(row["test_accuracy"] and row["size"] != staged.rows[-1]["size"] for row in staged.rows) else []),
        "<details><summary>Every setting</summary>",
        "",
        *table(["setting", "value"], [(key, _setting(value)) for key, value in shown.items()]),
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
        BIBTEX,
        "",
        "## Checksums",
        "",
        *table(["file", "sha256"], [
            ("model.safetensors", f"`{staged.entry['sha256']}`"),
            *((file, f"`{file_sha256(staged.folder / file)}`")
              for file in ("results.json", "logits.safetensors", "worst.safetensors")),
            ("the images measured on (`fingerprint` in wrn_hub)", f"`{results.dataset.fingerprint}`")]),
    ]
    return "\n".join(lines) + "\n"


def _setting(value: Any) -> str:
    if value is None or value in ([], ""):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _pictures(staged: Staged) -> dict[str, tuple[Any, tuple[Any, ...]]]:
    """Picture -> (how it is drawn, from what)."""
    classes = list(staged.facts.classes)
    logits, labels, rows = staged.kept["logits"], staged.kept["labels"], staged.rows
    pictures: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "curve.png": (plots.curve_plot, (
            [int(row["epoch"]) for row in rows], [float(row["train_accuracy"]) for row in rows],
            [(int(row["epoch"]), float(row["test_accuracy"])) for row in rows if row["test_accuracy"]])),
        "per_class.png": (plots.per_class_plot, (metrics.per_class(logits, labels), classes)),
        "confusion.png": (plots.confusion_plot, (metrics.confusion(logits, labels), classes)),
        "reliability.png": (
            plots.reliability_plot, plots.reliability_inputs(metrics.reliability(logits, labels))),
    }
    if corruptions := staged.results.corruptions:
        pictures["corruptions.png"] = (plots.corruption_plot, (corruptions.accuracy, corruptions.clean))
    index = staged.worst["index"]
    if len(index):
        sure, said = logits[index].double().softmax(dim=1).max(dim=1)
        pictures["worst.png"] = (plots.worst_plot, (
            staged.worst["images"], [classes[i] for i in said], [round(float(p), 4) for p in sure],
            [classes[i] for i in labels[index]]))
    return pictures


def _card_and_pictures(folder: Path) -> tuple[str, dict[str, tuple[Any, tuple[Any, ...]]]]:
    staged = Staged(folder)
    try:
        return _card_text(staged), _pictures(staged)
    except UserError:
        raise
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{folder.name}: args.json or metrics.csv can't be read ({error}); stage the run again") from error


def write_card(folder: Path) -> None:
    """Make README.md and the pictures of a staged model; a picture that is up to date stays as it is.

    Raises:
        UserError: a file is missing or damaged, or they don't belong together; nothing was changed then.
    """
    text, pictures = _card_and_pictures(folder)
    for name, (draw, inputs) in pictures.items():
        if plots.digest_of(folder / name) != plots.digest(*inputs):
            plots.save(folder / name, draw, *inputs)
    for name in PICTURES.keys() - pictures.keys():  # of what was measured earlier, and no more
        (folder / name).unlink(missing_ok=True)
    (folder / "README.md").write_text(text)


def check_card(folder: Path) -> list[str]:
    """What is stale or wrong in a staged folder, a line each; empty where all is well."""
    try:
        text, pictures = _card_and_pictures(folder)
    except UserError as error:
        return [str(error)]
    wrong = [f"{folder.name}/README.md: {line}" for line in check_metadata(text) + check_text(text)]
    readme = folder / "README.md"
    if not readme.is_file() or readme.read_text() != text:
        wrong.append(f"{folder.name}/README.md is stale: {_REMAKE}")
    for name in PICTURES:
        current = plots.digest(*pictures[name][1]) if name in pictures else None
        if plots.digest_of(folder / name) != current:
            wrong.append(f"{folder.name}/{name} is stale: {_REMAKE}")
    return wrong
