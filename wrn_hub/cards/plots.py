"""The pictures of a card, each a pure function of numbers, with a digest of those numbers inside the file.

Whether a picture is stale is seen by its digest: another version of matplotlib draws other bytes for equal numbers.
"""
import hashlib
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from PIL import Image

from ..evaluation.metrics import Reliability
from ..files import write_whole

__all__ = [
    "Point", "confusion_plot", "corruption_plot", "curve_plot", "digest", "digest_of", "frontier_plot", "label_points",
    "many_classes_plot", "pairs_plot", "per_class_plot", "reliability_plot", "save", "worst_plot"]

_KEY = "wrn_hub-inputs"
_STYLE = 1  # to be raised when the pictures are to be drawn anew from the same numbers
# Okabe and Ito's colours, which can be told apart without colour vision; lines differ in dashes too
BLUE, ORANGE, GRAY = "#0072B2", "#E69F00", "#666666"

plt.rcParams.update({
    "figure.dpi": 110, "savefig.bbox": "tight", "font.size": 10, "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "grid.alpha": 0.3, "axes.axisbelow": True})


def digest(*inputs: object) -> str:
    """sha256 over the numbers that a picture shows."""
    plain = [value.tolist() if isinstance(value, torch.Tensor) else value for value in inputs]
    return hashlib.sha256(repr((_STYLE, plain)).encode()).hexdigest()


def digest_of(path: Path) -> str | None:
    """The digest inside a picture; None where there is no picture, or none of ours."""
    try:
        with Image.open(path) as image:
            image.load()  # a picture cut short has its digest, but not its pixels
            return image.info.get(_KEY)
    except OSError:
        return None


def save(path: Path, draw: Callable[..., plt.Figure], *inputs: object) -> None:
    """Draw a picture and write it, whole or not at all."""
    figure = draw(*inputs)
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={_KEY: digest(*inputs), "Software": None})
    plt.close(figure)
    write_whole(path, content.getvalue())


def curve_plot(epochs: Sequence[int], train: Sequence[float], test: Sequence[tuple[int, float]]) -> plt.Figure:
    """Accuracy in % by epoch: training, with its augmentation, and test where it was measured."""
    figure, axes = plt.subplots(figsize=(6, 3.6))
    axes.plot(epochs, [100 * value for value in train], color=BLUE, linestyle="--", label="training (augmented images)")
    axes.plot([e for e, _ in test], [100 * v for _, v in test], color=ORANGE, marker="o", label="test")
    axes.set_xlabel("epoch")
    axes.set_ylabel("top-1 accuracy, %")
    axes.set_ylim(top=100)
    axes.legend(loc="lower right")
    return figure


def confusion_plot(counts: torch.Tensor, classes: Sequence[str]) -> plt.Figure:
    """Which classes are taken for which; with up to 20 classes the shares stand in the cells, in %."""
    shares = 100 * counts.double() / counts.sum(dim=1, keepdim=True)
    few = len(classes) <= 20
    side = 0.55 * len(classes) + 1.5 if few else 12
    figure, axes = plt.subplots(figsize=(side, side))
    axes.imshow(shares.sqrt().numpy(), cmap="Blues", vmin=0, vmax=10)  # the root lets small errors be seen
    axes.grid(visible=False)
    axes.set_xlabel("taken for")
    axes.set_ylabel("is")
    if few:
        axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
        axes.set_yticks(range(len(classes)), classes)
        for row in range(len(classes)):
            for column in range(len(classes)):
                share = float(shares[row, column])
                if share >= 0.05:
                    axes.text(column, row, f"{share:.1f}", ha="center", va="center", fontsize=8,
                              color="white" if share > 30 else "black")
    else:
        axes.set_xticks(range(len(classes)), classes, rotation=90, fontsize=6)
        axes.set_yticks(range(len(classes)), classes, fontsize=6)
    return figure


def reliability_plot(counts: torch.Tensor, accuracy: torch.Tensor) -> plt.Figure:
    """Accuracy by confidence, and how many images have that confidence."""
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(4.6, 5.2), sharex=True, gridspec_kw={"height_ratios": [3, 1], "hspace": 0.12})
    width = 1 / len(counts)
    middles = [(b + 0.5) * width for b in range(len(counts))]
    above.bar(middles, accuracy.nan_to_num().tolist(), width=0.92 * width, color=BLUE, label="accuracy")
    above.plot([0, 1], [0, 1], color=GRAY, linestyle="--", label="as confident as right")
    above.set_ylabel("accuracy")
    above.set_ylim(0, 1)
    above.legend(loc="upper left")
    below.bar(middles, counts.tolist(), width=0.92 * width, color=ORANGE)
    below.set_yscale("log")
    below.set_ylabel("images")
    below.set_xlabel("probability of the likeliest class")
    below.set_xlim(0, 1)
    return figure


def corruption_plot(accuracy: Mapping[str, Sequence[float]], clean: float) -> plt.Figure:
    """Accuracy in % under every corruption (row) at every severity (column)."""
    figure, axes = plt.subplots(figsize=(5.4, 0.36 * len(accuracy) + 1))
    shares = [[100 * value for value in row] for row in accuracy.values()]
    # darker is worse; the numbers say the same without any colour
    axes.imshow(shares, cmap="cividis", vmin=0, vmax=100, aspect="auto")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    for row, values in enumerate(shares):
        for column, share in enumerate(values):
            axes.text(column, row, f"{share:.1f}", ha="center", va="center", fontsize=9,
                      color="black" if share > 45 else "white")
    axes.set_xticks(range(len(shares[0])), [str(severity + 1) for severity in range(len(shares[0]))])
    axes.set_yticks(range(len(shares)), list(accuracy))
    axes.tick_params(length=0)
    axes.set_xlabel("severity")
    axes.set_title(f"top-1 accuracy in %; {100 * clean:.1f} without corruption", fontsize=10)
    return figure


def worst_plot(
    images: torch.Tensor, said: Sequence[str], sure: Sequence[float], true: Sequence[str]
) -> plt.Figure:
    """The worst mistakes: each image, what was said with what probability, and what is true.

    Args:
        images: uint8 (M, H, W, 3), the worst first.
        said: What each was taken for.
        sure: With what probability, 0 to 1.
        true: What each is.
    """
    columns = 6
    rows = max(1, math.ceil(len(images) / columns))
    figure, grid = plt.subplots(
        rows, columns, figsize=(1.5 * columns, 1.95 * rows), squeeze=False,
        gridspec_kw={"hspace": 0.42, "wspace": 0.15})
    for axes in grid.flat:
        axes.axis("off")
    for axes, image, guess, p, label in zip(grid.flat, images, said, sure, true, strict=False):
        axes.imshow(image.numpy(), interpolation="nearest")
        axes.set_title(f"is {_short(label)}\nsaid {_short(guess)}\nwith {100 * p:.1f} %", fontsize=7.5, pad=3)
    return figure


def _short(name: str, most: int = 16) -> str:
    name = name.replace("_", " ")
    return name if len(name) <= most else f"{name[: most - 1]}."


@dataclass(frozen=True)
class Point:
    """One net on one dataset.

    Attributes:
        label: Few letters that name the net.
        error: Top-1 error in %.
        measured: Whether the error was measured here, or is what others report.
        costs: What it costs by each measure; None where that isn't known.
    """

    label: str
    error: float
    measured: bool
    costs: tuple[float | None, ...]


def frontier_plot(datasets: Mapping[str, Sequence[Point]], measures: Sequence[str]) -> plt.Figure:
    """Error against cost: a row of panels a dataset, a column a measure; measured and reported nets marked apart."""
    figure, grid = plt.subplots(
        len(datasets), len(measures), figsize=(5 * len(measures), 4.2 * len(datasets)), squeeze=False, sharey="row",
        gridspec_kw={"wspace": 0.06, "hspace": 0.28})
    for row, (dataset, points) in zip(grid, datasets.items(), strict=True):
        for column, (axes, measure) in enumerate(zip(row, measures, strict=True)):
            known = [(p, cost) for p in points if (cost := p.costs[column]) is not None]
            for measured, marker, colour, label in (
                    (True, "o", BLUE, "measured here"), (False, "^", ORANGE, "best that others report")):
                some = [(cost, p.error) for p, cost in known if p.measured == measured]
                axes.plot(
                    [x for x, _ in some], [y for _, y in some], linestyle="none", marker=marker, color=colour,
                    markerfacecolor=colour if measured else "none", label=label, markersize=6)
            axes.set_xscale("log")
            axes.set_xlabel(measure)
            axes.margins(x=0.17, y=0.12)
            axes.set_title(dataset, fontsize=10)
            if not known:
                axes.text(0.5, 0.5, "Not measured", transform=axes.transAxes, ha="center", color=GRAY)
            label_points(axes, [(cost, p.error, p.label) for p, cost in known])
        row[0].set_ylabel("top-1 error, %")
    grid[0][0].legend(loc="best", fontsize=8)
    return figure


def label_points(axes: plt.Axes, places: Sequence[tuple[float, float, str]], size: float = 7.5) -> None:
    """Write a label beside each point, where it covers no other label and no point if there is such a place."""
    axes.autoscale_view()
    points = [(x, y) for x, y, _ in places]
    dots = [72 / axes.figure.dpi * axes.transData.transform(point) for point in points]
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in dots]
    for (x, y), point, (*_, text) in zip(dots, points, places, strict=True):
        width = 0.6 * size * len(text)
        candidates = []
        for reach in (6, 14, 22, 30):
            for right, up in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1), (1, -1), (-1, 1)):
                left = x + right * reach - (width if right < 0 else width / 2 if right == 0 else 0)
                below = y + up * reach - size / 2
                box = (left, below, left + width, below + size)
                covered = sum(box[0] < t[2] and t[0] < box[2] and box[1] < t[3] and t[1] < box[3] for t in taken)
                candidates.append((covered, reach, box))
        _, reach, box = min(candidates, key=lambda candidate: candidate[:2])  # the first of the best
        taken.append(box)
        axes.annotate(
            text, point, textcoords="offset points", xytext=(box[0] - x, box[1] - y), fontsize=size, color="black",
            arrowprops={"arrowstyle": "-", "color": GRAY, "linewidth": 0.5, "shrinkB": 3} if reach > 6 else None)


def per_class_plot(accuracy: torch.Tensor, classes: Sequence[str]) -> plt.Figure:
    """Accuracy of every class, the best above."""
    order = accuracy.argsort(stable=True).tolist()
    few = len(classes) <= 20
    figure, axes = plt.subplots(figsize=(5.6, 0.3 * len(classes) + 0.8 if few else 12))
    values = [100 * float(accuracy[i]) for i in order]
    axes.plot(values, range(len(order)), "o", color=BLUE, markersize=6 if few else 4)  # no bars: 0 is far away
    axes.set_yticks(range(len(order)), [classes[i] for i in order], fontsize=10 if few else 6)
    axes.set_ylim(-0.6, len(order) - 0.4)
    if few:
        for place, value in enumerate(values):
            axes.text(value - 0.4, place, f"{value:.1f} ", ha="right", va="center", fontsize=8)
    axes.set_xlim(max(0, 10 * math.floor(min(values) / 10 - 1)), 100)
    axes.set_xlabel("accuracy, %")
    return figure


def many_classes_plot(accuracy: torch.Tensor, classes: Sequence[str], worst: int = 30) -> plt.Figure:
    """Accuracy of more classes than can be named: all from the worst to the best, and the worst by name."""
    known = [(100 * value, name) for value, name in zip(accuracy.tolist(), classes, strict=True) if value == value]
    known.sort(key=lambda pair: pair[0])  # of equal ones the first comes first
    figure, (every, some) = plt.subplots(
        1, 2, figsize=(9, 0.24 * worst + 1), gridspec_kw={"width_ratios": [1, 1], "wspace": 0.75})
    every.plot([value for value, _ in known], range(1, len(known) + 1), color=BLUE)
    every.set_xlabel("accuracy, %")
    every.set_ylabel("classes with at most this accuracy")
    every.set_xlim(0, 100)
    every.set_ylim(0, len(known))
    named = known[:worst][::-1]  # the worst above
    some.plot([value for value, _ in named], range(len(named)), "o", color=BLUE, markersize=5)
    some.set_yticks(range(len(named)), [_short(name, 28) for _, name in named], fontsize=8)
    some.set_ylim(-0.6, len(named) - 0.4)
    some.set_xlim(-1, max([5.0, *(1.05 * value for value, _ in named)]))
    some.set_xlabel(f"accuracy of the {len(named)} worst, %")
    return figure


def pairs_plot(true: Sequence[str], said: Sequence[str], shares: Sequence[float]) -> plt.Figure:
    """The classes that are most often taken for one other: what they are, what they are taken for, and the share."""
    figure, axes = plt.subplots(figsize=(6.4, 0.26 * len(shares) + 1))
    values = [100 * share for share in shares][::-1]  # the most confused above
    axes.barh(range(len(values)), values, color=BLUE, height=0.7)
    for place, value in enumerate(values):
        axes.text(value, place, f" {value:.0f}", va="center", fontsize=8)
    names = [f"{_short(is_, 24)}, taken for {_short(other, 24)}" for is_, other in zip(true, said, strict=True)]
    axes.set_yticks(range(len(names)), names[::-1], fontsize=8)
    axes.set_ylim(-0.6, max(len(names), 1) - 0.4)
    axes.set_xlabel("% of the images of the true class")
    return figure


def reliability_inputs(measured: Reliability) -> tuple[torch.Tensor, torch.Tensor]:
    """What :func:`reliability_plot` draws: counts and their ratios, the same on any processor to the last bit."""
    return measured.counts, measured.accuracy
