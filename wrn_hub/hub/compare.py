"""Two or three weights side by side: what was measured of each, and what of the difference chance may have done."""
import json
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from ..errors import UserError
from ..evaluation.intervals import Z, mcnemar, paired_difference, unpaired_difference
from ..evaluation.results import Results
from .markdown import beginning, mapping
from .rows import MOST_BYTES, Row, rows
from .store import File, FolderStore

__all__ = ["MOST", "Answers", "Comparison", "Measure", "Pair", "compare", "ece_difference", "read_answers"]

MOST = 3  # side by side
MOST_LOGITS = 64 << 20  # bytes of a logits.safetensors; 50,000 images of 1,000 classes take 13 MB
BINS = 15
RESAMPLES = 500  # of the images, for the calibration error
MINUS = "\N{MINUS SIGN}"
Win = tuple[str, float, float, str]  # a class, the share that each of two recognises, and the difference in words


@dataclass(frozen=True, eq=False)
class Answers:
    """What a net said to each image of a split.

    Attributes:
        labels: The true classes, int64 (N,).
        top: The likeliest classes, the likeliest first, int64 (N, up to 5).
        confidence: Probability of the likeliest, float64 (N,).
        nll: Negative log-likelihood of the true class, nats, float64 (N,).
    """

    labels: np.ndarray
    top: np.ndarray
    confidence: np.ndarray
    nll: np.ndarray

    def right(self, k: int = 1) -> np.ndarray:
        """For which images the true class is among the k likeliest, bool (N,)."""
        return (self.top[:, :k] == self.labels[:, None]).any(axis=1)


def _answers(kept: dict[str, np.ndarray]) -> Answers:
    """From what :mod:`wrn_hub.evaluation.kept` keeps, whole logits or the greatest of many classes."""
    labels = kept["labels"].astype(np.int64)
    if "logits" in kept:
        logits = kept["logits"].astype(np.float64)
        top = np.argsort(-logits, axis=1, kind="stable")[:, :5]
        greatest = logits[np.arange(len(labels)), top[:, 0]]
        whole = greatest + np.log(np.exp(logits - greatest[:, None]).sum(axis=1))
        true = logits[np.arange(len(labels)), labels]
    else:
        top, greatest = kept["top_classes"][:, :5].astype(np.int64), kept["top_logits"][:, 0].astype(np.float64)
        whole, true = kept["logsumexp"].astype(np.float64), kept["true_logits"].astype(np.float64)
    found = Answers(labels, top, np.exp(greatest - whole), whole - true)
    if not (len(labels) and np.isfinite(found.confidence).all() and np.isfinite(found.nll).all()):
        raise ValueError("no finite logits")
    return found


@lru_cache(maxsize=16)
def read_answers(file: File) -> Answers | None:
    """The answers in a logits.safetensors; None where it is too large, damaged, or holds something else."""
    if file.size <= MOST_LOGITS:
        with suppress(OSError, SafetensorError, ValueError, KeyError, IndexError, TypeError):
            return _answers(load_file(file.content))
    return None


@lru_cache(maxsize=256)
def _read_results(file: File) -> Results | None:
    with suppress(UserError):
        return Results.read(file.content)
    return None


@dataclass(frozen=True)
class Side:
    """One of the weights: its ``row`` on the start page, and of its files what there is."""

    row: Row
    results: Results | None
    settings: dict[str, Any]
    answers: Answers | None


@dataclass(frozen=True)
class Measure:
    """A line of the comparison: ``values``, one a side, and ``differences``, each of the others to the first."""

    name: str
    values: tuple[str, ...]
    differences: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pair:
    """Two of the weights on the same images.

    Attributes:
        first: Name of one.
        second: Name of the other.
        only_first: Images that the first alone gets right.
        only_second: Images that the second alone gets right.
        neither: Images that neither does.
        probability: McNemar's, see :func:`wrn_hub.evaluation.intervals.mcnemar`.
        wins: For the first, then the second, the classes in which it is ahead most.
    """

    first: str
    second: str
    only_first: int
    only_second: int
    neither: int
    probability: float
    wins: tuple[list[Win], list[Win]]


@dataclass(frozen=True)
class Comparison:
    """What the page shows.

    Attributes:
        sides: The weights that are compared.
        unknown: Names that were asked for and aren't here.
        notes: What can't be compared and why, a line each.
        measures: Of accuracy and calibration.
        costs: Of size and speed.
        pairs: Every two that were measured on the same images.
        recipe: Settings in which the trainings differ: (setting, values).
        same: Settings in which they don't.
    """

    sides: list[Side]
    unknown: list[str]
    notes: list[str]
    measures: list[Measure]
    costs: list[Measure]
    pairs: list[Pair]
    recipe: list[Measure]
    same: list[Measure]


def _side(store: FolderStore, row: Row) -> Side:
    files = store.revision("models", row.href.lstrip("/")).files
    settings: dict[str, Any] = {}
    if "args.json" in files:
        with suppress(OSError):
            settings = mapping(json.loads, beginning(files["args.json"].content, MOST_BYTES))
    results = _read_results(files["results.json"]) if "results.json" in files else None
    answers = read_answers(files["logits.safetensors"]) if "logits.safetensors" in files else None
    if results and answers and len(answers.labels) != results.dataset.images:
        answers = None  # of another measurement
    return Side(row, results, settings, answers)


def _points(difference: float, ends: tuple[float, float] | None, scale: float = 100, digits: int = 2,
            unit: str = "points") -> str:
    """A difference and its interval for people."""
    def signed(value: float) -> str:
        text = f"{abs(value * scale):.{digits}f}"
        return ("" if float(text) == 0 else MINUS if value < 0 else "+") + text

    text = f"{signed(difference)} {unit}"
    return f"{text} ({signed(ends[0])} to {signed(ends[1])})" if ends else text


def _calibration(answers: Answers) -> tuple[np.ndarray, np.ndarray]:
    """The bin of each image, and by how much it was surer than right."""
    place = np.clip(np.ceil(answers.confidence * BINS).astype(np.int64), 1, BINS) - 1
    return place, answers.confidence - answers.right()


@lru_cache(maxsize=64)
def ece_difference(first: Answers, second: Answers) -> tuple[float, float]:
    """The 95 % interval of the difference of two expected calibration errors on the same images, the second less the
    first: the bootstrap's, of 500 times as many images drawn from them with replacement (seed 0)."""
    count, draw = len(first.labels), np.random.default_rng(0)
    sides = [_calibration(answers) for answers in (first, second)]
    found = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        times = np.bincount(draw.integers(0, count, count), minlength=count)
        one, other = (np.abs(np.bincount(place, times * gap, BINS)).sum() / count for place, gap in sides)
        found[i] = other - one
    low, high = np.quantile(found, (0.025, 0.975))
    return float(low), float(high)


def _paired(k: int) -> Callable[[Answers, Answers], tuple[float, float]]:
    def ends(first: Answers, second: Answers) -> tuple[float, float]:
        one, other = first.right(k), second.right(k)
        return paired_difference(int((one & ~other).sum()), int((other & ~one).sum()), len(one))

    return ends


def _nll_difference(first: Answers, second: Answers) -> tuple[float, float]:
    difference = second.nll - first.nll
    middle, reach = float(difference.mean()), Z * float(difference.std(ddof=1)) / math.sqrt(len(difference))
    return middle - reach, middle + reach


def _share(value: float | None) -> str:
    return "not measured" if value is None else f"{100 * value:.2f} %"


def _measure(name: str, sides: Sequence[Side], value: Callable[[Results], float | None],
             paired: Callable[[Answers, Answers], tuple[float, float]] | None = None,
             images: Callable[[Results], int] | None = None, nats: bool = False,
             alike: Callable[[Results], Any] = lambda _: None) -> Measure | None:
    """A measure of all sides, with what the others differ from the first, where both are of the same images.

    Args:
        name: What it is called.
        sides: The weights.
        value: Of a measurement.
        paired: The interval of the difference from the answers.
        images: How many images it is a share of, for the interval of two that can't be paired.
        nats: Whether it is no share.
        alike: What besides the images has to be the same of two measurements for their difference to say something.
    """
    values = [value(side.results) if side.results else None for side in sides]
    if all(one is None for one in values):
        return None
    differences = []
    for side, one in zip(sides[1:], values[1:], strict=True):
        if one is None or values[0] is None or not _same_images(sides[0], side) or (
                alike(sides[0].results) != alike(side.results)):  # type: ignore[arg-type]
            differences.append("")
            continue
        ends = None
        if paired and _paired_answers(sides[0], side):
            ends = paired(sides[0].answers, side.answers)  # type: ignore[arg-type]
        elif images and sides[0].results and side.results:
            ends = unpaired_difference(values[0], one, images(sides[0].results), images(side.results))
        differences.append(_points(one - values[0], ends, *((1, 4, "nats") if nats else ())))
    shown = (("not measured" if one is None else f"{one:.4f} nats") if nats else _share(one) for one in values)
    return Measure(name, tuple(shown), tuple(differences))


def _same_images(first: Side, second: Side) -> bool:
    if not (first.results and second.results):
        return False
    return ((first.results.dataset.fingerprint, first.results.dataset.split)
            == (second.results.dataset.fingerprint, second.results.dataset.split))


def _paired_answers(first: Side, second: Side) -> bool:
    """Whether both nets' answers to the same images are here, in the same order."""
    return bool(_same_images(first, second) and first.answers and second.answers
                and np.array_equal(first.answers.labels, second.answers.labels))


def _corrupted(results: Results) -> tuple[int, int] | None:
    """Which images were corrupted: how many of the first, and by which draws."""
    return (results.corruptions.images, results.corruptions.seed) if results.corruptions else None


def _measures(sides: Sequence[Side]) -> list[Measure]:
    def images(results: Results) -> int:
        return results.dataset.images

    found = [
        _measure("top-1 accuracy", sides, lambda one: one.top1, _paired(1), images),
        _measure("top-5 accuracy", sides, lambda one: one.top5, _paired(5), images),
        _measure("negative log-likelihood", sides, lambda one: one.nll, _nll_difference, nats=True),
        _measure("expected calibration error (15 bins)", sides, lambda one: one.ece, ece_difference),
        _measure("the same answer for the mirrored image", sides, lambda one: one.flip_agreement, images=images),
        _measure("top-1 accuracy on corrupted images", sides,
                 lambda one: one.corruptions.mean if one.corruptions else None,
                 images=lambda one: one.corruptions.images if one.corruptions else 1, alike=_corrupted)]
    return [measure for measure in found if measure]


def _costs(sides: Sequence[Side]) -> list[Measure]:
    """Size and speed, with how many times the first's the others' are."""
    found = []
    for name, values, shown in (
            ("parameters", [side.row.parameters for side in sides], "{:,}"),
            ("GMACs, one image", [side.row.gmacs for side in sides], "{:.4g}"),
            ("inference, images/s", [side.row.images_per_second for side in sides], "{:,.4g}"),
            ("weights, MB", [side.row.weights and side.row.weights / 1e6 for side in sides], "{:.1f}")):
        if any(values):
            times = ["" if not (one and values[0]) else f"{one / values[0]:.3g} times" for one in values[1:]]
            told = tuple(shown.format(one) if one else "not known" for one in values)
            found.append(Measure(name, told, tuple(times)))
    return found


def _wins(first: Side, second: Side) -> tuple[list[Win], list[Win]]:
    one, other, results = first.answers, second.answers, first.results
    if not (one and other and results):
        return [], []
    names, count = list(results.per_class), int(one.labels.max()) + 1
    a, b = one.right(), other.right()

    def by_class(which: np.ndarray) -> np.ndarray:
        return np.bincount(one.labels, which, max(count, len(names))).astype(int)

    only, only_other, all_ = by_class(a & ~b), by_class(b & ~a), by_class(np.ones(len(a)))
    rights, rights_other = by_class(a), by_class(b)
    gain = (only_other - only) / np.maximum(all_, 1)

    def lines(order: list[int]) -> list[Win]:
        return [(names[i] if i < len(names) else str(i), rights[i] / all_[i], rights_other[i] / all_[i],
                 _points(gain[i], paired_difference(only[i], only_other[i], all_[i]), digits=1)) for i in order]

    order = np.argsort(gain, kind="stable").tolist()
    return lines([i for i in order if gain[i] < 0][:5]), lines([i for i in order[::-1] if gain[i] > 0][:5])


def _pair(first: Side, second: Side) -> Pair:
    assert first.answers and second.answers
    one, other = first.answers.right(), second.answers.right()
    only, only_other = int((one & ~other).sum()), int((other & ~one).sum())
    return Pair(first.row.name, second.row.name, only, only_other, int((~one & ~other).sum()),
                mcnemar(only, only_other), _wins(first, second))


def _notes(sides: Sequence[Side]) -> list[str]:
    """Why something is missing, a line each."""
    notes = [f"{side.row.name} has no results.json that can be read: what it was measured to do isn't compared."
             for side in sides if not side.results]
    measured = [side for side in sides if side.results]
    seen = {(side.results.dataset.name, side.results.dataset.split): side.row.name for side in measured if side.results}
    if len({side.results.dataset.fingerprint for side in measured if side.results}) > 1:
        notes.append("They were measured on different images (" + "; ".join(
            f"{side.row.name}: {side.results.dataset.name}, {side.results.dataset.split}, "
            f"{side.results.dataset.images:,} images" for side in measured if side.results)
            + "): their accuracies say nothing about each other, and no difference is shown.")
    elif seen:
        notes += [f"The logits of {side.row.name} aren't kept here (logits.safetensors): it can't be compared image by "
                  "image, and the intervals are wider." for side in measured if not side.answers]
        corrupted = {side.row.name: found for side in measured if side.results and (found := _corrupted(side.results))}
        if len(set(corrupted.values())) > 1:
            notes.append("Corrupted were different images (" + "; ".join(
                f"{name}: the first {images:,}, seed {seed}" for name, (images, seed) in corrupted.items())
                + "): no difference is shown.")
    return notes


def _recipes(sides: Sequence[Side]) -> tuple[list[Measure], list[Measure]]:
    """The settings in which the trainings differ, and those in which they don't."""
    if not any(side.settings for side in sides):
        return [], []
    settings: dict[str, None] = {}
    for side in sides:
        settings.update(dict.fromkeys(key for key, value in side.settings.items() if not isinstance(value, dict)))
    differ: list[Measure] = []
    same: list[Measure] = []
    for key in settings:
        values = [side.settings.get(key) for side in sides]
        line = Measure(key, tuple(
            ("not on record" if key not in side.settings else _said(value))
            for side, value in zip(sides, values, strict=True)))
        (same if all(one == values[0] for one in values) else differ).append(line)
    return differ, same


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value))[:200] or "none"
    return "none" if value is None else str(value)[:200]


def compare(store: FolderStore, names: Sequence[str]) -> Comparison:
    """Set weights side by side.

    Args:
        store: Where they are.
        names: Of their repositories, without the organisation; the first three that are here count.
    """
    here = {row.name: row for row in rows(store) if row.weights is not None}
    known = [name for name in names if name in here]
    sides = [_side(store, here[name]) for name in known[:MOST]]
    notes = [f"Three at a time are set side by side; left out: {', '.join(known[MOST:])}."] if known[MOST:] else []
    differ, same = _recipes(sides)
    pairs = [_pair(first, second) for first, second in combinations(sides, 2) if _paired_answers(first, second)]
    several = len(sides) > 1
    return Comparison(
        sides, [name for name in names if name not in here], notes + (_notes(sides) if several else []),
        _measures(sides) if several else [], _costs(sides) if several else [], pairs, differ if several else [],
        same if several else [])
