"""Model cards: README.md and its pictures from what lies beside them, the registry, and what others report.

A card is a pure function of results.json, the kept logits and images, args.json, metrics.csv and the registry, so it
can be made again and compared byte for byte. What was measured and what others report never stand in one table.
"""
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub import EvalResult, ModelCardData

from ..data.imagenet import known, readable
from ..errors import UserError
from ..evaluation import metrics
from ..evaluation.corruptions import KINDS
from ..evaluation.kept import unpacked
from ..evaluation.options import CORRUPTED_IMAGES
from ..evaluation.results import Results
from ..facts import KNOWN, ORGANISATION, DatasetFacts
from ..files import read_csv, read_json, read_tensors, write_whole
from ..weights import MANIFEST, file_sha256
from . import plots
from .command import train_commands
from .markdown import megabytes, percent, render, table
from .metadata import check_metadata, check_text, finetuned, front_matter
from .origin import base_model, changes, earlier_epochs, origin, public_names
from .reported import OUR_PREPROCESSING, Reported, reported
from .sample import SAMPLE, sample_of
from .standing import SHORT_EPOCHS, SHORT_POINTS, behind, standing
from .variants import speeds

__all__ = ["Staged", "card_text", "check_card", "reported_table", "write_card"]

PICTURES = {
    "curve.png": "Accuracy by epoch on the training images, with their augmentation, and on the test split",
    "per_class.png": "Accuracy of every class",
    "confusion.png": "Which classes are taken for which, in % of the images of the true class",
    "reliability.png": "Accuracy by confidence with its 95 % intervals, and the number of images with that confidence",
    "corruptions.png": "Accuracy on corrupted images by kind and severity",
    "worst.png": "The mistakes made with the least probability for the true class: what is true, and what was said",
}

# where there are more classes than a picture can name
_MOST_NAMED = 20
_PICTURES_OF_MANY = {
    **PICTURES,
    "per_class.png": "Accuracy of the classes: of all, and of the worst by name",
    "confusion.png": "The classes that are most often taken for one other, in % of the images of the true class",
}
_MOST_PAIRS = 20

# The rule of formats: a page shows the PNG, which every viewer shows; beside it lies the same drawing as SVG, sharp at
# any size, to which the picture links. Photographs are kept as PNG alone.
_PHOTOGRAPHS = ("worst.png",)


def _drawing(picture: str) -> str | None:
    """The SVG beside a picture; None where it shows photographs."""
    return None if picture in _PHOTOGRAPHS else picture.removesuffix(".png") + ".svg"


_FILES = [name for picture in PICTURES for name in (picture, _drawing(picture)) if name]

_REMAKE = "run scripts/maintain/make_cards.py"

@dataclass(frozen=True)
class Staged:
    """What lies in a staged folder, read once and found to belong together.

    Raises:
        UserError: a file is missing or damaged, or results.json is of other weights than the manifest's or of another
            measurement than the kept logits.
    """

    folder: Path

    def __post_init__(self) -> None:
        results, logits, labels = self.results, self.logits, self.kept["labels"]
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
    def repo_id(self) -> str:
        """Of the Hub repository that the folder is, or is to be."""
        return f"{ORGANISATION}/{self.name}"

    @property
    def arch(self) -> str:
        return self.name.partition(".")[0]

    @property
    def tag(self) -> str:
        return self.name.partition(".")[2]

    @cached_property
    def facts(self) -> DatasetFacts:
        facts = known(self.tag)
        if facts is None:
            raise UserError(f"{self.name}: no dataset is called {self.tag}; allowed are {', '.join(KNOWN)}")
        return facts

    @property
    def pictures(self) -> dict[str, str]:
        """Picture -> what it shows."""
        return PICTURES if len(self.facts.classes) <= _MOST_NAMED else _PICTURES_OF_MANY

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
            alike = other.dataset == self.results.dataset and other.precision == self.results.precision
            if not (alike and other.preprocessing.agrees(self.results.preprocessing)):
                raise UserError(f"{self.name}/{path.name} was measured on other images or otherwise than results.json")
            found.append(other.top1)
        return found

    @cached_property
    def settings(self) -> dict[str, Any]:
        try:
            settings = read_json(self.folder / "args.json")
        except UserError as error:
            raise UserError(f"{error}; stage the run again") from None
        if settings.get("teacher"):
            settings["teacher"] = public_names(settings["teacher"])
        return settings

    @cached_property
    def rows(self) -> list[dict[str, str]]:
        return read_csv(self.folder / "metrics.csv")

    def _tensors(self, name: str, *needed: str) -> dict[str, torch.Tensor]:
        try:
            tensors = read_tensors(self.folder / name)
        except UserError as error:
            raise UserError(f"{error}; measure again with scripts/evaluate.py") from None
        if missing := sorted({*needed} - tensors.keys()):
            raise UserError(f"{self.folder / name}: lacks {', '.join(missing)}; measure again with scripts/evaluate.py")
        return tensors

    @cached_property
    def kept(self) -> dict[str, torch.Tensor]:
        return self._tensors("logits.safetensors", "labels")

    @cached_property
    def logits(self) -> torch.Tensor:
        try:
            return unpacked(self.kept)
        except KeyError as error:
            raise UserError(f"{self.folder / 'logits.safetensors'}: lacks {error.args[0]}; measure again with "
                            "scripts/evaluate.py") from None

    @cached_property
    def worst(self) -> dict[str, torch.Tensor]:
        return self._tensors("worst.safetensors", "images", "index")


def _metrics(results: Results) -> list[tuple[str, str, float | None]]:
    """(type, name, value) of what the Hub is told was measured, None where it wasn't; each type is of one measure."""
    corruptions = results.corruptions
    few = f"; the first {corruptions.images:,} images, all kinds and severities" if corruptions else ""
    return [
        ("accuracy", "top-1 accuracy", 100 * results.top1),
        ("top_5_accuracy", "top-5 accuracy", 100 * results.top5 if results.top5 is not None else None),
        ("nll", "negative log-likelihood, nats", results.nll),
        ("ece", "expected calibration error, 15 bins, %", 100 * results.ece),
        ("corruption_accuracy", f"top-1 accuracy on corrupted images, %{few}",
         100 * corruptions.mean if corruptions else None)]


def _head(staged: Staged, short_run: bool) -> str:
    results, facts = staged.results, staged.facts
    base = base_model(staged.settings, ORGANISATION)
    return front_matter(ModelCardData(
        license="apache-2.0",
        library_name="timm",
        pipeline_tag="image-classification",
        tags=["image-classification", "timm", "transformers", "wide-resnet", *(["short-run"] if short_run else [])],
        datasets=[facts.hub_id],
        **(finetuned(base) if base != staged.repo_id else {}),  # else a training went on from its own weights
        model_name=staged.name,
        eval_results=[
            EvalResult(
                task_type="image-classification", task_name="Image Classification", dataset_name=staged.tag,
                dataset_type=facts.hub_id, dataset_config=facts.config, dataset_split=results.dataset.split,
                metric_type=kind, metric_value=round(value, 4 if kind == "nll" else 2), metric_name=name)
            for kind, name, value in _metrics(results) if value is not None]))


def _speed_rows(staged: Staged) -> tuple[list[tuple[str, str]], str | None]:
    """Rows of the table of measures, and when they were measured; both are the architecture's, from speed.json."""
    measured = speeds()
    net = measured.nets.get(staged.arch) if measured else None
    if measured is None or net is None:
        return [("inference", "Not measured"), ("memory", "Not measured")], None
    images = net.images_per_second
    return [
        ("inference, fastest of several passes",
         f"{images:,.{0 if images >= 10 else 1}f} images/s, {measured.precision}, batch {measured.batch_size}, "
         f"{measured.hardware}"),
        ("memory of the net and its forward passes", megabytes(net.memory)),
    ], measured.date[:10]


def _measured(staged: Staged) -> list[tuple[str, str]]:
    results, several = staged.results, staged.top1_of_all_seeds
    corruptions, robustness = results.corruptions, results.robustness
    rows = [("top-1 accuracy", percent(results.top1))]
    if len(several) > 1:
        spread = f"{percent(statistics.mean(several))} ± {100 * statistics.stdev(several):.2f}"
        rows.append((f"top-1 accuracy, mean and standard deviation of {len(several)} trainings", spread))
    if len(staged.facts.classes) > 5:
        rows.append(("top-5 accuracy", percent(results.top5)))
    few = f" ({corruptions.images:,} images)" if corruptions and corruptions.images != CORRUPTED_IMAGES else ""
    return [
        *rows,
        ("negative log-likelihood", f"{results.nll:.4f} nats"),
        ("expected calibration error (15 bins)", percent(results.ece)),
        ("the same answer for the mirrored image", percent(results.flip_agreement)),
        (f"top-1 accuracy on corrupted images, mean of all below{few}",
         percent(corruptions.mean if corruptions else None)),
        *([(f"top-1 accuracy {robustness.title}", percent(robustness.accuracy))] if robustness else []),
        ("parameters", f"{results.parameters:,}"),
        ("GMACs, one image", f"{results.gmacs:.4g}"),
        ("activations, one image", f"{results.activations:.4g} M"),
        *_speed_rows(staged)[0],
        ("weights", f"{staged.entry['bytes'] / 1e6:.1f} MB, float16 with float32 BatchNorm"),
    ]


def reported_table(entries: Sequence[Reported]) -> str:
    """What others report, as a Markdown table."""
    if not entries:
        return "Nothing known."
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


def _corruptions(results: Results) -> dict[str, Any] | None:
    corruptions = results.corruptions
    if corruptions is None:
        return None
    rows = [
        [kind, *(f"{100 * value:.1f}" for value in values), what, ", ".join(f"{amount:g}" for amount in amounts)]
        for kind, values in corruptions.accuracy.items()
        for _, amounts, what in [KINDS[kind]]]
    return {"images": corruptions.images, "seed": corruptions.seed, "clean": corruptions.clean, "rows": rows}


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
    grew = f"{', '.join(f'{n} at {size} px' for size, n in sizes)}" if len(sizes) > 1 else f"at {sizes[0][0]} px"
    return f"{len(rows)} epoch{'s' * (len(rows) != 1)} ({grew})"


def _against(top1: float, other: Reported | None, same: bool = False) -> dict[str, Any] | None:
    """What the first line says of a number that others report."""
    if other is None:
        return None
    return {
        "behind": behind(top1, other), "accuracy": percent(1 - other.error / 100), "source": other.source, "same": same,
        "unlike": "" if other.preprocessing == OUR_PREPROCESSING else f" (preprocessing: {other.preprocessing})"}


def _standing(staged: Staged) -> dict[str, Any]:
    """The values of the card's first line."""
    results = staged.results
    found = standing(staged.arch, staged.tag, results, staged.settings)
    return {
        "top1": results.top1, "low": found.low, "high": found.high,
        "paper": _against(results.top1, found.paper, found.paper == found.best),
        "best": _against(results.top1, found.best), "comparable": found.comparable is not None,
        "short_run": bool(found.short_run), "short_epochs": SHORT_EPOCHS, "short_points": SHORT_POINTS,
        "epochs": _epochs(staged.rows), "earlier": earlier_epochs(staged.settings), "parameters": results.parameters}


def _card_text(staged: Staged) -> str:
    results, settings = staged.results, staged.settings
    stands = _standing(staged)
    n, k = staged.arch.split("_")[1:] if staged.arch.startswith("wrn") else ("", "")
    trainings = len(staged.top1_of_all_seeds)
    seeds = f"one training (seed {settings['seed']})" if trainings == 1 else (
        f"the training with seed {settings['seed']}, one of {trainings}")
    untold = ("model", "dataset", "versions", "hardware", "changes", "before", "class_names")
    sums = {name: file_sha256(staged.folder / name)
            for name in ("results.json", "logits.safetensors", "worst.safetensors")}
    return render(
        "card", **stands,
        head=_head(staged, stands["short_run"]),
        name=staged.name, repo_id=staged.repo_id, sample=SAMPLE,
        title=staged.facts.title,
        what=f"WRN-{n}-{k}, a" if n else f"{staged.arch}, a relative of the",
        origin=origin(staged.arch, staged.tag, settings),
        images=results.dataset.images, split=results.dataset.split, precision=results.precision, seeds=seeds,
        measured=_measured(staged), speed_measured=_speed_rows(staged)[1],
        date=results.date[:10], command=results.command,
        pictures=staged.pictures, drawing=_drawing, corruptions=_corruptions(results),
        mistakes=len(staged.worst["index"]),
        reported=reported_table(reported(staged.arch, staged.tag)),
        size=results.preprocessing.size, mean=tuple(results.preprocessing.mean), std=tuple(results.preprocessing.std),
        num_features=timm.create_model(staged.name, device="meta").num_features,
        classes=[f"{i} {name}" for i, name in enumerate(readable(staged.facts.classes))],
        hours=f"{sum(float(row['seconds']) for row in staged.rows) / 3600:.1f}",
        hardware=settings["hardware"],
        libraries=", ".join(f"{key} {value}" for key, value in settings["versions"].items()),
        changes=changes(settings), train_commands=train_commands(settings, staged.name),
        grew=any(row["test_accuracy"] and row["size"] != staged.rows[-1]["size"] for row in staged.rows),
        settings=[(key, _setting(value)) for key, value in settings.items() if key not in untold],
        source=staged.facts.source,
        checksums=[
            ("model.safetensors", f"`{staged.entry['sha256']}`"),
            *((name, f"`{sha256}`") for name, sha256 in sums.items()),
            ("the images measured on (`fingerprint` in wrn_hub)", f"`{results.dataset.fingerprint}`")])


def _setting(value: Any) -> str:
    if value is None or value in ([], ""):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _pictures(staged: Staged) -> dict[str, tuple[Any, tuple[Any, ...]]]:
    """Picture -> (how it is drawn, from what)."""
    classes = readable(staged.facts.classes)
    logits, labels, rows = staged.logits, staged.kept["labels"], staged.rows
    pictures: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "curve.png": (plots.curve_plot, (
            [int(row["epoch"]) for row in rows], [float(row["train_accuracy"]) for row in rows],
            [(int(row["epoch"]), float(row["test_accuracy"])) for row in rows if row["test_accuracy"]])),
        "per_class.png": (plots.per_class_plot, (metrics.per_class(logits, labels), classes)),
        "confusion.png": (plots.confusion_plot, (metrics.confusion(logits, labels), classes)),
        "reliability.png": (
            plots.reliability_plot, plots.reliability_inputs(metrics.reliability(logits, labels))),
    }
    if len(classes) > _MOST_NAMED:
        pairs = metrics.most_confused(metrics.confusion(logits, labels), _MOST_PAIRS)
        pictures["per_class.png"] = (plots.many_classes_plot, (metrics.per_class(logits, labels), classes))
        pictures["confusion.png"] = (plots.pairs_plot, (
            [classes[true] for true, _, _ in pairs], [classes[said] for _, said, _ in pairs],
            [share for *_, share in pairs]))
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
    """The card, and every file of its pictures with how it is drawn."""
    staged = Staged(folder)
    try:
        pictures = _pictures(staged)
        return _card_text(staged), {
            name: how for picture, how in pictures.items() for name in (picture, _drawing(picture)) if name}
    except UserError:
        raise
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise UserError(
            f"{folder.name}: args.json or metrics.csv can't be read ({error}); stage the run again") from error


def write_card(folder: Path) -> None:
    """Make README.md and the pictures of a staged model, and put its sample there; what is up to date stays as it is.

    Raises:
        UserError: a file is missing or damaged, or they don't belong together; nothing was changed then.
    """
    text, pictures = _card_and_pictures(folder)
    for name, (draw, inputs) in pictures.items():
        if plots.digest_of(folder / name) != plots.digest(*inputs):
            plots.save(folder / name, draw, *inputs)
    for name in set(_FILES) - pictures.keys():  # of what was measured earlier, and no more
        (folder / name).unlink(missing_ok=True)
    write_whole(folder / SAMPLE, _sample(folder))
    write_whole(folder / "README.md", text)


def _sample(folder: Path) -> bytes:
    return sample_of(folder.name.partition(".")[2]).read_bytes()


def check_card(folder: Path) -> list[str]:
    """What is stale or wrong in a staged folder, a line each; empty where all is well."""
    try:
        text, pictures = _card_and_pictures(folder)
    except UserError as error:
        return [str(error)]
    wrong = [f"{folder.name}/README.md: {line}" for line in check_metadata(text) + check_text(text)]
    readme = folder / "README.md"
    if not readme.is_file() or readme.read_bytes() != text.encode():
        wrong.append(f"{folder.name}/README.md is stale: {_REMAKE}")
    for name in _FILES:
        current = plots.digest(*pictures[name][1]) if name in pictures else None
        if plots.digest_of(folder / name) != current:
            wrong.append(f"{folder.name}/{name} is stale: {_REMAKE}")
    sample = folder / SAMPLE
    if not sample.is_file() or sample.read_bytes() != _sample(folder):
        wrong.append(f"{folder.name}/{SAMPLE} is stale: {_REMAKE}")
    return wrong
