"""Where a weight stands: how sure its accuracy is, how far from what others report, and whether its run was short."""
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..evaluation.intervals import interval
from ..evaluation.results import Results
from .origin import earlier_epochs
from .reported import OUR_PREPROCESSING, Reported, reported

__all__ = ["SHORT_EPOCHS", "SHORT_POINTS", "Standing", "behind", "standing", "unbeaten"]

# The one rule of the mark "short run": fewer epochs than these, and an accuracy further than so many percentage points
# below the best that others report with our preprocessing. Where they report nothing, the epochs alone decide.
SHORT_EPOCHS = 30
SHORT_POINTS = 0.5


@dataclass(frozen=True)
class Standing:
    """Of one weight.

    Attributes:
        low: Lower end of the 95 % interval of its top-1 accuracy, 0 to 1.
        high: Upper end.
        paper: The best of the paper, with our preprocessing if it has that; None where it has no number.
        best: The best of all that others report, likewise.
        epochs: Of its training, and of those that came before it; None where that isn't on record.
        short_run: See the rule above; None where the epochs aren't on record.
    """

    low: float
    high: float
    paper: Reported | None
    best: Reported | None
    epochs: int | None
    short_run: bool | None

    @property
    def comparable(self) -> Reported | None:
        """The best that others report with our preprocessing."""
        return self.best if self.best and self.best.preprocessing == OUR_PREPROCESSING else None


def _best(entries: list[Reported]) -> Reported | None:
    return min(entries, key=lambda one: (one.preprocessing != OUR_PREPROCESSING, one.error), default=None)


def behind(top1: float, other: Reported) -> float:
    """Percentage points from an accuracy (0 to 1) up to what others report; below 0 where it is ahead."""
    return round(100 - other.error - round(100 * top1, 2), 2)


def standing(arch: str, dataset: str, results: Results, settings: dict[str, Any] | None) -> Standing:
    """Where the weights of ``arch`` stand that were measured as ``results`` and trained as ``settings`` (args.json)."""
    entries = reported(arch, dataset)
    paper = _best([entry for entry in entries if entry.source.startswith("the paper")])
    low, high = interval(results.top1, results.dataset.images)
    epochs = settings["epochs"] + earlier_epochs(settings) if settings and "epochs" in settings else None
    found = Standing(low, high, paper, _best(entries), epochs, None)
    if found.epochs is None:
        return found
    far = found.comparable is None or behind(results.top1, found.comparable) > SHORT_POINTS
    return replace(found, short_run=found.epochs < SHORT_EPOCHS and far)


def unbeaten(places: Sequence[tuple[float, float]], x_more: bool = False, y_more: bool = False) -> list[int]:
    """The frontier: which of (cost, error) no other is at least as good as in both and better in one; cheapest first.

    Args:
        places: Two numbers of each.
        x_more: Whether more of the first is better, as of images/s; else less, as of parameters.
        y_more: Whether more of the second is better, as of accuracy; else less, as of an error.
    """
    costs = [(-x if x_more else x, -y if y_more else y) for x, y in places]
    found: list[int] = []
    for i in sorted(range(len(costs)), key=costs.__getitem__):
        if not found or costs[i][1] < costs[found[-1]][1]:
            found.append(i)
    return found
