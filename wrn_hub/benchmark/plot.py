"""The picture of a benchmark."""
import statistics
from typing import Any

import matplotlib.pyplot as plt

from ..cards.plots import BLUE, GRAY, ORANGE
from .options import AXES

__all__ = ["draw"]


_OURS = ("trainer", "from files", "in memory")


def _bars(axes: plt.Axes, rows: list[dict[str, Any]], title: str) -> None:
    values = [row["images_per_second"] for row in rows]
    axes.barh(range(len(rows)), values, color=[BLUE if row["name"] in _OURS else GRAY for row in rows])
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows], fontsize=8)
    for place, row in enumerate(rows):
        axes.text(values[place], place, f" {row['ratio']:.2f}x", va="center", fontsize=8)
    axes.set_xlim(0, 1.15 * max(values))
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("images a second")
    axes.set_title(title, fontsize=10)


def _growth(axes: plt.Axes, axis: dict[str, Any]) -> None:
    points = axis["points"]
    values = [point["value"] for point in points]
    first = statistics.median(points[0]["seconds"])
    axes.plot(values, [1000 * statistics.median(point["seconds"]) for point in points], color=BLUE, marker="o",
              label="time")
    axes.plot(values, [1000 * first * point["flops_ratio"] for point in points], color=GRAY, linestyle="--",
              label="as the operations grow")
    axes.set_xlabel(AXES[axis["axis"]])
    axes.set_ylabel(f"ms a{'n' if axis['of'] == 'epoch' else ''} {axis['of']}")
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    if all(point["peak_memory"] is not None for point in points):
        right = axes.twinx()
        right.plot(values, [point["peak_memory"] / 2**20 for point in points], color=ORANGE, marker="s",
                   linestyle=":", label="memory")
        right.set_ylabel("memory, MiB (dotted)", color=ORANGE)
        right.set_ylim(bottom=0)
        right.grid(visible=False)
    axes.legend(loc="upper left", fontsize=7)


def draw(model: str, hardware: str, sections: dict[str, dict[str, Any]]) -> plt.Figure:
    """Bars for training, inference at each batch size and loaders, lines for the growth with memory in orange."""
    bars = []
    if train := sections.get("train"):
        bars.append((train["rows"], f"training, batch {train['batch_size']} (x: to the plain loop)"))
    for batch in sections.get("inference", {}).get("batches", ()):
        bars.append((batch["rows"], f"inference, batch {batch['batch_size']} (x: to fp32, NCHW)"))
    if data := sections.get("data"):
        bars.append((data["rows"], f"images made ready, {data['image_size']} pixels (x: to timm's loader)"))
    lines = sections.get("growth", {}).get("axes", [])
    total = -(-len(bars) // 2) + -(-len(lines) // 2)
    figure = plt.figure(figsize=(12, 3.2 * total), layout="constrained")
    grid = figure.add_gridspec(total, 2)
    for place, (rows, title) in enumerate(bars):
        _bars(figure.add_subplot(grid[place // 2, place % 2]), rows, title)
    below = -(-len(bars) // 2)
    for place, axis in enumerate(lines):
        _growth(figure.add_subplot(grid[below + place // 2, place % 2]), axis)
    figure.suptitle(f"{model} on {hardware}", fontsize=11)
    return figure
