"""The picture of a study: what was measured, and beside it what was published."""
from collections import defaultdict
from pathlib import Path

import matplotlib.pyplot as plt

from ..cards.frontier_plot import label_points
from ..cards.plots import BLUE, GRAY, ORANGE, digest, digest_of, save
from .seen import Seen
from .study import COLUMNS
from .tally import mean_spread

__all__ = ["check_plots", "picture_names", "write_plots"]

_COLOURS = (BLUE, ORANGE, "#009E73", GRAY)  # Okabe and Ito's; markers differ too
_MARKERS = ("o", "s", "^", "D")
_UNITS = {"parameters": (1e6, ", millions"), "memory": (2**20, ", MiB")}
_PANEL = tuple[str, list[tuple[str, str, float, float, float]]]  # title; group, name, x, y, spread of y


def _rounded(value: float) -> float:
    """To what can be seen, so that another machine's last bits don't make another picture."""
    return float(f"{value:.6g}")


def _panels(seen: Seen) -> list[_PANEL]:
    """What is drawn: panels with a point a net."""
    plot = seen.study.plot
    measured, published = [], []
    for net in seen.scale.nets:
        x, values = net.x if plot.x == "x" else seen.middle(net, plot.x), seen.values(net, plot.y)
        if x is None:
            continue
        x, name = x / _UNITS.get(plot.x, (1, ""))[0], net.name.removeprefix(f"{net.group}, ")
        if values:
            mean, spread = mean_spread(values)
            measured.append((net.group, name, _rounded(x), _rounded(mean), _rounded(spread or 0.0)))
        if net.paper is not None and plot.y in ("error", "step"):
            published.append((net.group, name, _rounded(x), net.paper, 0.0))
    panels = [(f"measured, {seen.scale.name} scale", measured)]
    return panels + ([(f"published, {seen.study.unit}", published)] if len(published) > 2 else [])


def _draw(panels: list[_PANEL], x_label: str, y_label: str, log: bool, joined: bool) -> plt.Figure:
    figure, row = plt.subplots(1, len(panels), figsize=(5.4 * len(panels), 4), squeeze=False, layout="constrained")
    groups = list(dict.fromkeys(group for _, points in panels for group, *_ in points))
    for axes, (title, points) in zip(row[0], panels, strict=True):
        by_group = defaultdict(list)
        for group, _, *place in points:
            by_group[group].append(place)
        for group, places in by_group.items():
            number = groups.index(group) % len(_COLOURS)
            xs, ys, spreads = zip(*sorted(places), strict=True)
            axes.errorbar(
                xs, ys, yerr=spreads if any(spreads) else None, color=_COLOURS[number], marker=_MARKERS[number],
                linestyle="-" if joined else "none", linewidth=1, capsize=3, label=group or None)
        if log:
            axes.set_xscale("log", base=2)
            axes.minorticks_off()
        if joined:  # between the nets' own places there is none
            axes.set_xticks([x for _, _, x, _, _ in points], [f"{x:g}" for _, _, x, _, _ in points])
        axes.margins(x=0.15, y=0.15)
        if not joined:
            label_points(axes, [(x, y, name, GRAY) for _, name, x, y, _ in points], [])
        axes.set_title(title, fontsize=10)
        axes.set_xlabel(x_label)
    row[0][0].set_ylabel(y_label)
    if any(groups):
        row[0][0].legend(fontsize=8)
    return figure


def _inputs(seen: Seen) -> tuple[list[_PANEL], str, str, bool, bool]:
    """What :func:`_draw` is told."""
    plot = seen.study.plot
    x_label = plot.x_label or COLUMNS[plot.x] + _UNITS.get(plot.x, (1, ""))[1]
    return _panels(seen), x_label, COLUMNS[plot.y], plot.log, plot.x == "x"


def picture_names(seen: Seen) -> list[str]:
    """The files of the pictures; none where nothing can be drawn yet."""
    return [f"{seen.scale.name}.png", f"{seen.scale.name}.svg"] if _panels(seen)[0][1] else []


def write_plots(seen: Seen, folder: Path) -> None:
    """Draw the picture in both formats; those that show the same numbers already stay."""
    inputs = _inputs(seen)
    for name in picture_names(seen):
        path = folder / name
        if digest_of(path) != digest(*inputs):
            save(path, _draw, *inputs)


def check_plots(seen: Seen, folder: Path) -> list[str]:
    """The pictures that are missing, or show other numbers than the results."""
    wanted = digest(*_inputs(seen))
    return [name for name in picture_names(seen) if digest_of(folder / name) != wanted]
