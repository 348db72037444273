"""The pictures of a card, each a pure function of numbers, with a digest of those numbers inside the file.

Whether a picture is stale is seen by its digest: another version of matplotlib draws other bytes for equal numbers.
"""
import hashlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from PIL import Image

from .metrics import Reliability

__all__ = ["confusion_plot", "curve_plot", "digest", "digest_of", "per_class_plot", "reliability_plot", "save"]

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
            return image.info.get(_KEY)
    except OSError:
        return None


def save(path: Path, draw: Callable[..., plt.Figure], *inputs: object) -> None:
    """Draw a picture and write it, whole or not at all."""
    figure = draw(*inputs)
    beside = path.with_name(f".{path.name}")
    figure.savefig(beside, format="png", metadata={_KEY: digest(*inputs), "Software": None})
    plt.close(figure)
    beside.replace(path)


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
    side = 0.55 * len(classes) + 1.5 if few else 9
    figure, axes = plt.subplots(figsize=(side, side))
    axes.imshow(shares.sqrt(), cmap="Blues", vmin=0, vmax=10)  # the root lets small errors be seen
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
        axes.set_xticks(range(len(classes)), classes, rotation=90, fontsize=5)
        axes.set_yticks(range(len(classes)), classes, fontsize=5)
    return figure


def reliability_plot(counts: torch.Tensor, confidence: torch.Tensor, accuracy: torch.Tensor) -> plt.Figure:
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


def per_class_plot(accuracy: torch.Tensor, classes: Sequence[str]) -> plt.Figure:
    """Accuracy of every class, the best above."""
    order = accuracy.argsort(stable=True).tolist()
    few = len(classes) <= 20
    figure, axes = plt.subplots(figsize=(5.6, 0.3 * len(classes) + 0.8 if few else 12))
    values = [100 * float(accuracy[i]) for i in order]
    axes.barh(range(len(order)), values, color=BLUE)
    axes.set_yticks(range(len(order)), [classes[i] for i in order], fontsize=10 if few else 6)
    axes.set_ylim(-0.6, len(order) - 0.4)
    if few:
        for place, value in enumerate(values):
            axes.text(value - 0.3, place, f"{value:.1f}", ha="right", va="center", color="white", fontsize=8)
    axes.set_xlim(max(0, 10 * math.floor(min(values) / 10 - 1)), 100)
    axes.set_xlabel("accuracy, %")
    axes.grid(axis="y", visible=False)
    return figure


def reliability_inputs(measured: Reliability) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What :func:`reliability_plot` draws."""
    return measured.counts, measured.confidence, measured.accuracy
