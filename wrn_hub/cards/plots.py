"""The pictures of a card, each a pure function of numbers, with a digest of those numbers inside the file.

Whether a picture is stale is seen by its digest: another version of matplotlib draws other bytes for equal numbers.
Pictures are as wide as a column of text, and their letters large enough that a phone's screen shows them readably.
"""
import hashlib
import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from matplotlib.ticker import MaxNLocator
from PIL import Image

from ..errors import UserError
from ..evaluation.metrics import Reliability, interval
from ..files import read_text, write_whole

__all__ = [
    "confusion_plot", "corruption_plot", "curve_plot", "digest", "digest_of", "legend_above", "many_classes_plot",
    "pairs_plot", "per_class_plot", "reliability_inputs", "reliability_plot", "save", "worst_plot"]

_KEY = "wrn_hub-inputs"
_STYLE = 2  # to be raised when the pictures are to be drawn anew from the same numbers
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
        if path.suffix == ".svg":
            text = read_text(path)
            found = re.search("<dc:identifier>([0-9a-f]{64})</dc:identifier>", text)
            return found[1] if found and text.endswith("</svg>\n") else None
        with Image.open(path) as image:
            image.load()  # a picture cut short has its digest, but not its pixels
            return image.info.get(_KEY)
    except (OSError, UserError):
        return None


def save(path: Path, draw: Callable[..., plt.Figure], *inputs: object) -> None:
    """Draw a picture and write it, whole or not at all, as its suffix says: .png or .svg."""
    kind, content, sha256 = path.suffix[1:], io.BytesIO(), digest(*inputs)
    told = {_KEY: sha256, "Software": None} if kind == "png" else {"Identifier": sha256, "Date": None, "Creator": None}
    figure = draw(*inputs)
    # without salt and with a date, each drawing would be other bytes; letters stay text, which is small and can be read
    with plt.rc_context({"svg.hashsalt": _KEY, "svg.fonttype": "none"}):
        figure.savefig(content, format=kind, metadata=told)
    plt.close(figure)
    write_whole(path, content.getvalue())


def legend_above(axes: plt.Axes) -> None:
    """A legend over the picture, where it covers nothing of it."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, borderaxespad=0.2, borderpad=0.2,
                columnspacing=1.2, handlelength=1.8)


def curve_plot(epochs: Sequence[int], train: Sequence[float], test: Sequence[tuple[int, float]]) -> plt.Figure:
    """Accuracy in % by epoch: training, with its augmentation, and test where it was measured."""
    figure, axes = plt.subplots(figsize=(5.4, 3.6))
    few = "." if len(epochs) <= 20 else None  # each epoch, where they can be told apart
    axes.plot(epochs, [100 * value for value in train], color=BLUE, linestyle="--", marker=few,
              label="training (augmented)")
    axes.plot([e for e, _ in test], [100 * v for _, v in test], color=ORANGE, marker="o", label="test")
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_ylabel("top-1 accuracy, %")
    axes.set_ylim(top=100)
    legend_above(axes)
    return figure


def confusion_plot(counts: torch.Tensor, classes: Sequence[str]) -> plt.Figure:
    """Which classes are taken for which, the shares in the cells, in %; of more classes than 20 see pairs_plot."""
    shares = 100 * counts.double() / counts.sum(dim=1, keepdim=True)
    side = 0.43 * len(classes) + 1.2
    figure, axes = plt.subplots(figsize=(side, side))
    axes.pcolormesh(shares.sqrt().numpy(), cmap="Blues", vmin=0, vmax=10)  # the root lets small errors be seen
    axes.invert_yaxis()
    axes.set_aspect("equal")
    axes.grid(visible=False)
    axes.set_xlabel("taken for")
    axes.set_ylabel("is")
    middles = [place + 0.5 for place in range(len(classes))]
    axes.set_xticks(middles, classes, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(middles, classes)
    axes.tick_params(length=0)
    for row in range(len(classes)):
        for column in range(len(classes)):
            share = float(shares[row, column])
            if share >= 0.05:
                axes.text(column + 0.5, row + 0.5, f"{share:.1f}", ha="center", va="center", fontsize=8.5,
                          color="white" if share > 30 else "black")
    return figure


def reliability_plot(counts: torch.Tensor, accuracy: torch.Tensor) -> plt.Figure:
    """Accuracy by confidence with its 95 % intervals, and how many images have that confidence."""
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(4.8, 5.2), sharex=True, gridspec_kw={"height_ratios": [3, 1], "hspace": 0.12})
    width = 1 / len(counts)
    middles = [(b + 0.5) * width for b in range(len(counts))]
    above.bar(middles, accuracy.nan_to_num().tolist(), width=0.92 * width, color=BLUE, label="accuracy")
    seen = [(middle, share, *interval(share, count)) for middle, share, count in zip(
        middles, accuracy.tolist(), counts.tolist(), strict=True) if count]
    above.errorbar(
        [middle for middle, *_ in seen], [share for _, share, *_ in seen],
        yerr=[[max(0, share - low) for _, share, low, _ in seen], [max(0, high - share) for _, share, _, high in seen]],
        fmt="none", ecolor="black", elinewidth=1, capsize=2.5, label="95 % interval")
    above.plot([0, 1], [0, 1], color=ORANGE, linestyle="--", label="as confident as right")
    above.set_ylabel("accuracy")
    above.set_ylim(0, 1)
    legend_above(above)
    below.bar(middles, counts.tolist(), width=0.92 * width, color=GRAY)
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
    columns = 4  # the names are readable on a phone
    rows = max(1, math.ceil(len(images) / columns))
    figure, grid = plt.subplots(
        rows, columns, figsize=(1.4 * columns, 1.92 * rows), squeeze=False,
        gridspec_kw={"hspace": 0.5, "wspace": 0.12})
    for axes in grid.flat:
        axes.axis("off")
    for axes, image, guess, p, label in zip(grid.flat, images, said, sure, true, strict=False):
        axes.imshow(image.numpy(), interpolation="nearest")
        axes.set_title(f"is {_short(label)}\nsaid {_short(guess)}\nwith {100 * p:.1f} %", fontsize=8.5, pad=3)
    return figure


def _short(name: str, most: int = 16) -> str:
    name = name.replace("_", " ")
    return name if len(name) <= most else f"{name[: most - 1]}."


def per_class_plot(accuracy: torch.Tensor, classes: Sequence[str]) -> plt.Figure:
    """Accuracy of every class, the best above; of more classes than 20 see many_classes_plot."""
    order = accuracy.argsort(stable=True).tolist()
    figure, axes = plt.subplots(figsize=(5.2, 0.3 * len(classes) + 0.8))
    values = [100 * float(accuracy[i]) for i in order]
    axes.plot(values, range(len(order)), "o", color=BLUE, markersize=6)  # no bars: 0 is far away
    axes.set_yticks(range(len(order)), [classes[i] for i in order])
    axes.set_ylim(-0.6, len(order) - 0.4)
    for place, value in enumerate(values):
        axes.text(value - 0.4, place, f"{value:.1f} ", ha="right", va="center", fontsize=8.5)
    axes.set_xlim(max(0, 10 * math.floor(min(values) / 10 - 1)), 100)
    axes.set_xlabel("accuracy, %")
    return figure


def many_classes_plot(accuracy: torch.Tensor, classes: Sequence[str], worst: int = 20) -> plt.Figure:
    """Accuracy of more classes than can be named: all from the worst to the best, and the worst by name."""
    known = [(100 * value, name) for value, name in zip(accuracy.tolist(), classes, strict=True) if value == value]
    known.sort(key=lambda pair: pair[0])  # of equal ones the first comes first
    figure, (every, some) = plt.subplots(
        2, 1, figsize=(4.6, 3 + 0.25 * worst), gridspec_kw={"height_ratios": [2.2, 0.25 * worst], "hspace": 0.28})
    every.plot([value for value, _ in known], range(1, len(known) + 1), color=BLUE)
    every.set_xlabel("accuracy, %")
    every.set_ylabel("classes with\nat most this")
    every.set_xlim(0, 100)
    every.set_ylim(0, len(known))
    named = known[:worst][::-1]  # the worst above
    some.plot([value for value, _ in named], range(len(named)), "o", color=BLUE, markersize=5)
    some.set_yticks(range(len(named)), [_short(name, 28) for _, name in named], fontsize=9)
    some.set_ylim(-0.6, len(named) - 0.4)
    some.set_xlim(-1, max([5.0, *(1.05 * value for value, _ in named)]))
    some.set_xlabel(f"accuracy of the {len(named)} worst, %")
    return figure


def pairs_plot(true: Sequence[str], said: Sequence[str], shares: Sequence[float]) -> plt.Figure:
    """The classes that are most often taken for one other: what they are, what they are taken for, and the share."""
    figure, axes = plt.subplots(figsize=(3.4, 0.27 * len(shares) + 1))
    values = [100 * share for share in shares][::-1]  # the most confused above
    axes.barh(range(len(values)), values, color=BLUE, height=0.7)
    for place, value in enumerate(values):
        axes.text(value, place, f" {value:.0f}", va="center", fontsize=9)
    names = [f"{_short(is_, 20)} for {_short(other, 20)}" for is_, other in zip(true, said, strict=True)]
    axes.set_yticks(range(len(names)), names[::-1], fontsize=9)
    axes.set_ylim(-0.6, max(len(names), 1) - 0.4)
    axes.set_ylabel("what is taken for what")
    axes.set_xlabel("% of the true class")
    return figure


def reliability_inputs(measured: Reliability) -> tuple[torch.Tensor, torch.Tensor]:
    """What :func:`reliability_plot` draws: counts and their ratios, the same on any processor to the last bit."""
    return measured.counts, measured.accuracy
