"""The picture of what accuracy costs: error against one cost, a panel a dataset, every net with its name beside it."""
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from matplotlib.figure import Figure
from matplotlib.textpath import TextPath

from .plots import BLUE, GRAY, ORANGE, legend_above, plt
from .standing import unbeaten

__all__ = ["Point", "frontier_plot", "label_points"]

_FONT, _LINE, _NEAR = 8.5, 10.0, 6.0  # points: letters, a line of them, and how near to its mark one needs no leader
_DARK = {BLUE: "#005a8d", ORANGE: "#8a5a00"}  # of letters in these colours, which need more contrast than marks do


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


def frontier_plot(datasets: Mapping[str, Sequence[Point]], measure: str, column: int, more_is_better: bool) -> Figure:
    """Error against one cost: a panel a dataset; measured and reported nets are marked apart, each with its frontier.

    Args:
        datasets: Title of a dataset -> its nets.
        measure: What the cost is.
        column: Which of the points' costs that is.
        more_is_better: Whether a larger number costs less, as images/s do.
    """
    figure, grid = plt.subplots(
        len(datasets), 1, figsize=(5.6, 4.5 * len(datasets)), squeeze=False, gridspec_kw={"hspace": 0.32})
    for (axes,), (dataset, points) in zip(grid, datasets.items(), strict=True):
        known = [(cost, p.error, p) for p in points if (cost := p.costs[column]) is not None]
        axes.set_xscale("log")
        axes.set_xlabel(measure)
        axes.set_ylabel(f"top-1 error on {dataset}, %")
        axes.margins(x=0.16, y=0.1)
        lines = []
        for measured, marker, colour, label in (
                (True, "o", BLUE, "measured here"), (False, "^", ORANGE, "best that others report")):
            some = [(cost, error) for cost, error, p in known if p.measured == measured]
            line = [some[i] for i in unbeaten(some, more_is_better)]
            axes.plot([x for x, _ in line], [y for _, y in line], color=colour, linewidth=1, alpha=0.7,
                      linestyle="-" if measured else "--")
            axes.plot(
                [x for x, _ in some], [y for _, y in some], linestyle="none", marker=marker, color=colour,
                markerfacecolor=colour if measured else "white", label=label, markersize=6)
            lines.append(line)
        if known:
            label_points(
                axes, [(cost, error, p.label, BLUE if p.measured else ORANGE) for cost, error, p in known], lines)
        else:
            axes.text(0.5, 0.5, "Not measured", transform=axes.transAxes, ha="center", color=GRAY)
        legend_above(axes)
    return figure


Box = tuple[float, float, float, float]  # left, below, right, above; in points


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _nearest(box: Box, place: tuple[float, float]) -> tuple[float, float]:
    """The place on a box that is nearest to one outside."""
    return min(max(place[0], box[0]), box[2]), min(max(place[1], box[1]), box[3])


def _beads(line: Sequence[tuple[float, float]], apart: float = 4) -> Iterator[Box]:
    """A line of places in points as small boxes along it."""
    for (x, y), (to_x, to_y) in pairwise(line):
        count = max(1, round(((to_x - x) ** 2 + (to_y - y) ** 2) ** 0.5 / apart))
        for part in range(count + 1):
            across, up = x + (to_x - x) * part / count, y + (to_y - y) * part / count
            yield across - 1, up - 1, across + 1, up + 1


def label_points(
    axes: plt.Axes, places: Sequence[tuple[float, float, str, str]], lines: Sequence[Sequence[tuple[float, float]]]
) -> None:
    """Write a label beside each point, one after the other, the most crowded first, each at the first best place.

    That is one which covers no label, no mark, nothing of a line and no edge, as near to its mark as there is one. To
    one that isn't near a leader goes, which crosses no label and no other mark.
    """
    axes.autoscale_view()
    scale = 72 / axes.figure.dpi

    def on_paper(point: tuple[float, float]) -> tuple[float, float]:
        x, y = scale * axes.transData.transform(point)
        return float(x), float(y)

    dots = [on_paper((cost, error)) for cost, error, *_ in places]
    marks: list[Box] = [(x - 4.5, y - 4.5, x + 4.5, y + 4.5) for x, y in dots]
    beads = [bead for line in lines for bead in _beads([on_paper(point) for point in line])]
    frame = axes.get_window_extent().transformed(axes.figure.dpi_scale_trans.inverted())
    left, below, right, above = (72 * edge for edge in frame.extents)
    written: list[Box] = []
    crowd = [sum(abs(x - a) < 40 and abs(y - b) < 25 for a, b in dots) for x, y in dots]
    for place in sorted(range(len(places)), key=lambda place: (-crowd[place], place)):
        (x, y), (cost, error, text, colour) = dots[place], places[place]
        width = TextPath((0, 0), text, size=_FONT).get_extents().width + 2
        others = [mark for other, mark in enumerate(marks) if other != place]
        best: tuple[int, float, Box, list[Box]] | None = None
        for reach in (_NEAR, 13.0, 20.0, 28.0, 37.0):
            for to_right, up in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1), (1, -1), (-1, 1),
                                 (1, 0.5), (-1, -0.5), (1, -0.5), (-1, 0.5)):
                start = x + to_right * reach - (width if to_right < 0 else width / 2 if to_right == 0 else 0)
                foot = y + up * (reach + 2) - _LINE / 2
                box = (start, foot, start + width, foot + _LINE)
                inside = left <= box[0] and box[2] <= right and below <= box[1] and box[3] <= above
                leader = list(_beads([(x, y), _nearest(box, (x, y))])) if reach > _NEAR else []
                faults = (30 * sum(_meet(box, other) for other in (*written, *marks))
                          + 10 * sum(_meet(bead, other) for bead in leader for other in (*written, *others))
                          + sum(_meet(box, bead) for bead in beads) + 40 * (not inside))
                if best is None or (faults, reach) < best[:2]:
                    best = faults, reach, box, leader
        assert best is not None
        _, reach, box, leader = best
        written.append(box)
        beads += leader
        axes.annotate(
            text, (cost, error), textcoords="offset points", xytext=(box[0] + 1 - x, box[1] - y), fontsize=_FONT,
            va="bottom", color=_DARK.get(colour, colour), arrowprops=None if reach == _NEAR else {
                "arrowstyle": "-", "color": GRAY, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3})
