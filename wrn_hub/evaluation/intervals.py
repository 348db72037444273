"""What chance may have done to a share, and to the difference of two: 95 % intervals and McNemar's test, without torch.
"""
import math
from statistics import NormalDist

__all__ = ["EXACT_UP_TO", "Z", "interval", "mcnemar", "paired_difference", "unpaired_difference"]

Z = 1.959964  # the normal distribution's 97.5 % quantile
EXACT_UP_TO = 2_000  # images that one net alone gets right; above it the normal approximation differs in no digit shown


def interval(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share (0 to 1) that was found among ``count`` images (Wilson, JASA 22, 1927)."""
    middle = (share + Z**2 / (2 * count)) / (1 + Z**2 / count)
    reach = Z / (1 + Z**2 / count) * math.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2))
    return max(0.0, middle - reach), min(1.0, middle + reach)


def mcnemar(first: int, second: int) -> float:
    """McNemar's test of two nets on the same images (Psychometrika 12, 1947), two-sided.

    Args:
        first: Images that the first one alone gets right.
        second: Images that the second one alone gets right.

    Returns:
        The probability of a difference as great or greater, were both equally good: exact, by the binomial
        distribution, up to 2,000 images together, above that by its normal approximation with continuity correction.
    """
    count, less = first + second, min(first, second)
    if count <= EXACT_UP_TO:
        return min(1.0, 2 * sum(math.comb(count, k) for k in range(less + 1)) / 2**count)
    return min(1.0, 2 * NormalDist().cdf(-max(0.0, abs(first - second) - 1) / math.sqrt(count)))


def paired_difference(first: int, second: int, count: int) -> tuple[float, float]:
    """The 95 % interval of the difference of two shares that were found on the same images (Agresti and Min,
    Statistics in Medicine 24, 2005: half an image is added to each of the four cases).

    Args:
        first: Images for which it holds of the first net alone.
        second: Images for which it holds of the second one alone.
        count: All images.

    Returns:
        Its ends, the second share less the first, -1 to 1.
    """
    a, b, n = first + 0.5, second + 0.5, count + 2
    reach = Z * math.sqrt(a + b - (b - a) ** 2 / n) / n
    return max(-1.0, (b - a) / n - reach), min(1.0, (b - a) / n + reach)


def unpaired_difference(first: float, second: float, count: int, other_count: int) -> tuple[float, float]:
    """The 95 % interval of the second share less the first, as if of images of their own (Newcombe, Statistics in
    Medicine 17, 1998, method 10); wider than that of the same images, of which nets agree more often than not.

    Args:
        first: A share, 0 to 1.
        second: Another.
        count: Images that the first was found among.
        other_count: Images that the second was found among.
    """
    (low, high), (other_low, other_high) = interval(first, count), interval(second, other_count)
    difference = second - first
    return (difference - math.hypot(second - other_low, high - first),
            difference + math.hypot(other_high - second, first - low))
