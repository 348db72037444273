"""What models reach and what they cost, as a plot and a table: which of them nothing cheaper betters.

The plot is an SVG made here of plain numbers; ``static/frontier.js`` draws the same anew from the page's table when
something else is chosen.
"""
import json
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from itertools import pairwise

from ..cards.standing import unbeaten
from .markdown import beginning, mapping
from .rows import Row, title
from .store import File, FolderStore, NotFound

__all__ = ["AXES", "MEASURES", "Choice", "Point", "Quantity", "chosen", "drawn", "measured", "number"]

MOST_BYTES = 1 << 20  # of a results.json


@dataclass(frozen=True)
class Quantity:
    """What an axis shows.

    Attributes:
        title: For people.
        more: Whether more of it is better.
        unit: After a number.
    """

    title: str
    more: bool
    unit: str = ""


AXES = {
    "parameters": Quantity("Parameters", False), "gmacs": Quantity("GMACs an image", False),
    "speed": Quantity("Images per second", True), "megabytes": Quantity("Weights, MB", False, " MB")}
MEASURES = {
    "accuracy": Quantity("Accuracy", True, " %"), "ece": Quantity("Calibration error (ECE)", False, " %"),
    "corrupted": Quantity("Accuracy on corrupted images", True, " %")}


@dataclass(frozen=True)
class Point:
    """A model.

    Attributes:
        name: As it is served.
        label: In the plot, where the dataset needs no saying.
        href: Its page.
        dataset: For people.
        values: By the names of ``AXES`` and ``MEASURES``, what of them is known; shares in %.
    """

    name: str
    label: str
    href: str
    dataset: str
    values: Mapping[str, float]


@dataclass(frozen=True)
class Choice:
    """What is drawn: a dataset, and names in ``AXES`` and ``MEASURES``."""

    dataset: str
    axis: str
    measure: str


@lru_cache(maxsize=1024)
def _shares(results: File) -> dict[str, float]:
    """The measures in a results.json, in %; none where it isn't one."""
    said, found = mapping(json.loads, beginning(results.content, MOST_BYTES)), {}
    for key, name in (("top1", "accuracy"), ("ece", "ece")):
        if isinstance(said.get(key), int | float):
            found[name] = 100 * said[key]
    with suppress(TypeError, KeyError, ValueError, statistics.StatisticsError):
        found["corrupted"] = 100 * statistics.fmean(
            share for shares in said["corruptions"]["accuracy"].values() for share in shares)
    return found


def measured(store: FolderStore, rows: Iterable[Row]) -> list[Point]:
    """The models of a store that have a results.json and an accuracy on a test split, by size."""
    points = []
    for row in rows:
        if row.weights is None or row.top1 is None or row.dataset is None:
            continue
        with suppress(NotFound, OSError):
            found = store.revision("models", row.href[1:])
            values = {"parameters": row.parameters, "gmacs": row.gmacs, "speed": row.images_per_second,
                      "megabytes": row.weights / 1e6, **_shares(found.file("results.json"))}
            label = row.name.removeprefix("wrn_").partition(".")[0].replace("_", "-")
            points.append(Point(row.name, label, row.href, title(row.dataset),
                                {key: float(value) for key, value in values.items() if value is not None}))
    return points


def chosen(points: Iterable[Point], asked: Mapping[str, str]) -> Choice:
    """What is asked for, as far as it is there; else the dataset of the most models, parameters and accuracy."""
    counts = Counter(point.dataset for point in points)
    most = counts.most_common(1)[0][0] if counts else ""
    dataset, axis, measure = (asked.get(key, "") for key in ("dataset", "axis", "measure"))
    return Choice(dataset if dataset in counts else most, axis if axis in AXES else "parameters",
                  measure if measure in MEASURES else "accuracy")


def number(value: float) -> str:
    """A number for people: three digits, thousands and millions by their letters."""
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 960, 460, 64, 24, 24, 56  # pixels
_LETTER = 7.2  # pixels of a letter of a label, about


def _log_ticks(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
    return [tick for tick in ticks if low <= tick <= high]


def _ticks(low: float, high: float) -> list[float]:
    power = 10 ** math.floor(math.log10((high - low) / 4))
    step = next(digit * power for digit in (1, 2, 5, 10) if digit * power >= (high - low) / 6)
    return [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _labels(
    centers: list[tuple[float, float]], corners: list[tuple[float, float]], names: list[str], order: list[int],
    width: float,
) -> dict[int, str]:
    """Names beside the centers, in the way of no other and of no line between corners; the first in ``order`` first."""
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in centers]
    taken += [(min(x, x2) - 1, min(y, y2) - 1, max(x, x2) + 1, max(y, y2) + 1)
              for (x, y), (x2, y2) in pairwise(corners)]
    found = {}
    for i in order:
        (x, y), long = centers[i], _LETTER * len(names[i])
        for anchor, left, base in (("end", x - 7 - long, y - 6), ("start", x + 7, y - 6), ("start", x + 7, y + 16),
                                   ("end", x - 7 - long, y + 16)):
            box = left, base - 11, left + long, base + 3
            free = not any(box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]
                           for j, other in enumerate(taken) if j != i)
            if free and left >= LEFT and box[2] <= width and box[1] >= 0 and box[3] <= HEIGHT - BOTTOM:
                taken.append(box)
                at = left if anchor == "start" else left + long
                found[i] = f'<text x="{at:.1f}" y="{base:.1f}" text-anchor="{anchor}">{escape(names[i])}</text>'
                break
    return found


def drawn(points: Iterable[Point], choice: Choice, width: int = WIDTH) -> str:
    """The plot of the models of a dataset, as SVG; empty where none of them has both numbers."""
    of_x, of_y = AXES[choice.axis], MEASURES[choice.measure]
    known = [point for point in points if point.dataset == choice.dataset
             and point.values.get(choice.axis, 0) > 0 and choice.measure in point.values]
    if not known:
        return ""
    places = [(point.values[choice.axis], point.values[choice.measure]) for point in known]
    xs, ys = zip(*places, strict=True)
    low, high, pad = min(xs) / 1.4, max(xs) * 1.4, (max(ys) - min(ys)) * .1 or 1
    bottom, top = min(ys) - pad, max(ys) + pad

    def at(x: float, y: float) -> tuple[float, float]:
        return (LEFT + (width - LEFT - RIGHT) * math.log(x / low) / math.log(high / low),
                TOP + (HEIGHT - TOP - BOTTOM) * (top - y) / (top - bottom))

    centers, best = [at(*place) for place in places], unbeaten(places, of_x.more, of_y.more)
    parts, free = [], float(LEFT)
    for tick in _log_ticks(low, high):
        x = at(tick, top)[0]
        parts.append(f'<path class="grid" d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
        if x - 18 >= free:  # of many ticks those that have room
            parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{number(tick)}</text>')
            free = x + 18
    for tick in _ticks(bottom, top):
        y = at(low, tick)[1]
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{width - RIGHT}"/>'
                     f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:.4g}</text>')
    parts.append(f'<text x="{(LEFT + width - RIGHT) / 2:.1f}" y="{HEIGHT - 10}" text-anchor="middle">'
                 f'{of_x.title}</text>'
                 f'<text x="{LEFT - 8}" y="{TOP - 8}" text-anchor="start">{of_y.title}, %</text>')
    corners = [centers[best[0]]]
    for i in best[1:]:
        corners += [(centers[i][0], corners[-1][1]), centers[i]]
    parts.append('<path class="best" d="M' + "L".join(f"{x:.1f} {y:.1f}" for x, y in corners) + '"/>')
    labels = _labels(centers, corners, [point.label for point in known],
                     best + [i for i in range(len(known)) if i not in best], width)
    for i, (point, (x, y), (cost, reached)) in enumerate(zip(known, centers, places, strict=True)):
        said = escape(f"{point.name}: {reached:.2f}{of_y.unit} {of_y.title}, {number(cost)} {of_x.title}")
        kind = ' class="on"' if i in best else ""
        parts.append(f'<a href="{escape(point.href)}" aria-label="{said}"{kind}>'
                     f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5"/>{labels.get(i, "")}</a>')
    said = escape(f"{of_y.title} over {of_x.title}, {choice.dataset}")
    return (f'<svg viewBox="0 0 {width} {HEIGHT}" width="{width}" height="{HEIGHT}" role="group" '
            f'aria-label="{said}">{"".join(parts)}</svg>')
