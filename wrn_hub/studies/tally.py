"""What the seeds of a net come to, and whether a difference between two nets is more than their spread."""
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Difference", "difference", "mean_spread", "student_t"]


def student_t(freedom: float, share: float = 0.95) -> float:
    """The value that Student's t exceeds in size with probability 1 - ``share``.

    Args:
        freedom: Degrees of freedom, whole or not.
        share: Of the middle part.
    """
    factor = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(freedom * math.pi)

    def within(most: float, parts: int = 2000) -> float:  # Simpson's rule from -most to most
        width = most / parts
        heights = [factor * (1 + (i * width) ** 2 / freedom) ** (-(freedom + 1) / 2) for i in range(parts + 1)]
        return 2 * width / 3 * (heights[0] + 4 * sum(heights[1:-1:2]) + 2 * sum(heights[2:-1:2]) + heights[-1])

    low, high = 0.0, 1.0
    while within(high) < share:
        low, high = high, 2 * high
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if within(middle) < share else (low, middle)
    return (low + high) / 2


def mean_spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation, None of a single value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


@dataclass(frozen=True)
class Difference:
    """How much higher one mean is than another.

    Attributes:
        value: The difference of the means.
        half: Half of its 95 % interval by Welch's t-test; None where a net has a single value.
    """

    value: float
    half: float | None

    @property
    def beyond_spread(self) -> bool | None:
        """Whether 0 lies outside the interval; None without one."""
        return None if self.half is None else abs(self.value) > self.half


def difference(higher: Sequence[float], lower: Sequence[float]) -> Difference:
    """The mean of ``higher`` less that of ``lower``, with the interval of Welch's t-test."""
    value = statistics.fmean(higher) - statistics.fmean(lower)
    if min(len(higher), len(lower)) < 2:
        return Difference(value, None)
    parts = [(statistics.variance(values) / len(values), len(values) - 1) for values in (higher, lower)]
    total = sum(part for part, _ in parts)
    if not total:
        return Difference(value, 0.0)
    freedom = total**2 / sum(part**2 / degrees for part, degrees in parts)
    return Difference(value, student_t(freedom) * math.sqrt(total))
