"""What the results of a scale say: a number for each net and column of the table, and what becomes of each claim."""
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from .results import Results
from .run import counted
from .study import COLUMNS, Claim, Net, Scale, Study
from .tally import Difference, difference, mean_spread

__all__ = ["APPEARS", "CLOSE", "OPPOSITE", "UNKNOWN", "Seen", "Verdict", "written"]

# what becomes of a claim
APPEARS, CLOSE, OPPOSITE, UNKNOWN = "appears", "not told apart", "the opposite appears", "not known yet"
_DIGITS = {"error": 2, "train_error": 2, "ratio": 2, "paper_ratio": 2}


def written(value: float, column: str) -> str:
    """A number of a column, with as many digits as it deserves."""
    if column == "parameters":
        return f"{value / 1e6:.3f} M"
    if column == "gmacs":
        return f"{value:.4f}"
    if column == "memory":
        return f"{value / 2**20:,.0f} MiB"
    if column in _DIGITS:
        return f"{value:.{_DIGITS[column]}f}"
    return f"{value:,.0f}" if value >= 1000 else f"{value:#.3g}".rstrip(".")


@dataclass(frozen=True)
class Verdict:
    """What became of a claim.

    Attributes:
        claim: Which.
        kind: :data:`APPEARS`, :data:`CLOSE`, :data:`OPPOSITE` or :data:`UNKNOWN`.
        lower: Mean of the net that was said to have the lower value; None where it hasn't run.
        higher: That of the other.
        gap: How much higher the latter is.
    """

    claim: Claim
    kind: str
    lower: float | None = None
    higher: float | None = None
    gap: Difference | None = None

    def text(self) -> str:
        """A line for the page."""
        says, column = self.claim.says, self.claim.column
        if self.gap is None or self.lower is None or self.higher is None:
            return f"{says}: **{UNKNOWN}**, as it has to be run first."
        value, half = self.gap.value, self.gap.half
        by = f"{'lower' if value >= 0 else 'higher'} by {written(abs(value), column)}"
        by += ", of one seed each" if half is None else f" ± {written(half, column)} (95 % interval)"
        kind = "one seed each, which tells little" if half is None else self.kind
        return (f"{says}: **{kind}**. {self.claim.lower} has {written(self.lower, column)}, {self.claim.higher} "
                f"{written(self.higher, column)} ({COLUMNS[column]}): {by}.")


class Seen:
    """The results of a scale, read once.

    Args:
        study: Which.
        scale: One of its scales.
        results: Where its results lie.
    """

    def __init__(self, study: Study, scale: Scale, results: Results) -> None:
        self.study, self.scale = study, scale
        self.runs = results.runs(scale)
        self.steps: dict[str, Any] | None = results.steps(scale)

    @property
    def empty(self) -> bool:
        """Whether nothing was measured."""
        return not self.runs and self.steps is None

    def records(self, net: Net) -> list[dict[str, Any]]:
        """The records of a net, by seed."""
        return [record for (name, _), record in self.runs.items() if name == net.name]

    def values(self, net: Net, column: str) -> list[float]:
        """What was measured or counted of a net: a number a seed or a round, one of what is the same in all; none of
        what isn't known."""
        if column in ("parameters", "gmacs"):
            return [float(getattr(counted(self.scale, net), column))]
        if column == "paper":
            return [] if net.paper is None else [net.paper]
        if column == "paper_ratio":
            reference = self.scale.net(self.study.reference).paper
            return [net.paper / reference] if net.paper and reference else []
        if column == "error":
            return [100 * (1 - record["top1"]) for record in self.records(net)]
        if column == "train_error":
            return [100 * (1 - record["train_accuracy"]) for record in self.records(net)]
        rows = {row["net"]: row for row in self.steps["rows"]} if self.steps else {}
        row = rows.get(net.name)
        if row is None:
            return []
        if column == "memory":
            return [] if row["memory"] is None else [float(row["memory"])]
        if column == "ratio":
            one = rows[self.study.reference]["seconds"]
            return [theirs / ours for theirs, ours in zip(row["seconds"], one, strict=True)]
        return [1000 * seconds for seconds in row["seconds" if column == "step" else "package_seconds"]]

    def middle(self, net: Net, column: str) -> float | None:
        """One number for it: the mean over seeds or rounds."""
        values = self.values(net, column)
        return statistics.fmean(values) if values else None

    def cell(self, net: Net, column: str) -> str:
        """The same for the table, with the spread of the seeds."""
        values = self.values(net, column)
        if column == "paper":
            return f"{values[0]:g}" if values else ""
        if not values:
            return "not run yet"
        mean, spread = mean_spread(values)
        if spread is None or column not in ("error", "train_error"):
            return written(mean, column)
        return f"{written(mean, column)} ± {written(spread, column)}"

    def verdict(self, claim: Claim) -> Verdict:
        """What becomes of a claim."""
        lower, higher = (self.values(self.scale.net(name), claim.column) for name in (claim.lower, claim.higher))
        if not (lower and higher):
            return Verdict(claim, UNKNOWN)
        gap = difference(higher, lower)
        return Verdict(claim, _kind(gap), statistics.fmean(lower), statistics.fmean(higher), gap)

    def verdicts(self) -> list[Verdict]:
        """What becomes of each claim."""
        return [self.verdict(claim) for claim in self.scale.claims]

    def order(self) -> str | None:
        """Whether nets come in the order of the published figures; None where those of fewer than three are known."""
        column = "step" if "step" in self.study.columns and not self.scale.seeds else "error"
        known = [net for net in self.scale.nets if net.paper is not None and self.values(net, column)]
        if len(known) < 3:
            return None
        kinds = [
            _kind(difference(self.values(worse, column), self.values(better, column)))
            for better, worse in _ordered(known)]
        same, against = kinds.count(APPEARS), kinds.count(OPPOSITE)
        if not same and not against:
            said = "The published order can't be told from the spread"
        elif against:
            said = "The published order doesn't appear as a whole"
        else:
            said = "The published order appears" + ("" if same == len(kinds) else " as far as it can be told")
        return (f"{said}: of the {len(kinds)} pairs of nets that it orders, {same} come in its order and {against} in "
                f"the opposite by more than the 95 % interval of their difference, {len(kinds) - same - against} by "
                "less.")


def _ordered(nets: Sequence[Net]) -> list[tuple[Net, Net]]:
    """The pairs whose published figures differ, the lower first."""
    pairs = []
    for first, second in combinations(nets, 2):
        assert first.paper is not None and second.paper is not None
        if first.paper != second.paper:
            pairs.append((first, second) if first.paper < second.paper else (second, first))
    return pairs


def _kind(gap: Difference) -> str:
    if gap.half is None or not gap.beyond_spread:
        return CLOSE
    return APPEARS if gap.value > 0 else OPPOSITE
