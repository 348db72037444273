"""Every metric as a short function of logits (float (N, C)) and labels (int64 (N,))."""
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .intervals import interval

__all__ = [
    "Reliability", "agreement", "auroc", "confusion", "energy", "interval", "most_confused", "nll", "per_class",
    "reliability", "top_k",
    "worst"]


def top_k(logits: torch.Tensor, labels: torch.Tensor, k: int = 1) -> float:
    """Share of the images whose class is among the k likeliest, 0 to 1."""
    return float((logits.topk(k, dim=1).indices == labels[:, None]).any(dim=1).double().mean())


def nll(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Mean negative log-likelihood of the true class, in nats."""
    return float(F.cross_entropy(logits.double(), labels))


def confusion(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """How many images of each true class (row) were taken for each class (column), int64 (C, C)."""
    classes = logits.shape[1]
    return torch.bincount(labels * classes + logits.argmax(dim=1), minlength=classes**2).view(classes, classes)


def most_confused(counts: torch.Tensor, count: int = 30) -> list[tuple[int, int, float]]:
    """Pairs of classes that are taken for each other the most: (the true class, the other, share of its images).

    Args:
        counts: int64 (C, C), see :func:`confusion`.
        count: How many pairs at most, the most confused first.
    """
    shares = (counts.double() / counts.sum(dim=1, keepdim=True)).nan_to_num().fill_diagonal_(0)
    order = shares.flatten().argsort(descending=True, stable=True)[:count].tolist()
    pairs = [(place // len(counts), place % len(counts)) for place in order]
    return [(true, said, float(shares[true, said])) for true, said in pairs if shares[true, said] > 0]


def per_class(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Share of each true class's images that were recognised, double (C,); nan for a class without images."""
    counts = confusion(logits, labels).double()
    return counts.diag() / counts.sum(dim=1)


def agreement(logits: torch.Tensor, others: torch.Tensor) -> float:
    """Share of the images that get the same answer from both, 0 to 1."""
    return float((logits.argmax(dim=1) == others.argmax(dim=1)).double().mean())


def energy(logits: torch.Tensor) -> torch.Tensor:
    """How much a net says at all, double (N,): the logarithm of the sum of the exponentials of its logits, which is
    larger for images like those that it was trained on (Liu et al., arXiv:2010.03759, the negative of equation 4)."""
    return logits.double().logsumexp(dim=1)


def auroc(inside: torch.Tensor, outside: torch.Tensor) -> float:
    """Area under the ROC curve: how often a score (N,) of what belongs is above one (M,) of what doesn't, 0 to 1.

    Equal scores count as one half.
    """
    scores = outside.double().sort().values
    below = torch.searchsorted(scores, inside.double(), right=False)
    not_above = torch.searchsorted(scores, inside.double(), right=True)
    return float((below + not_above).double().mean() / (2 * len(outside)))


def worst(logits: torch.Tensor, labels: torch.Tensor, count: int = 24) -> torch.Tensor:
    """Numbers of the images that were mistaken with the least probability for their class, worst first, int64."""
    losses = F.cross_entropy(logits.double(), labels, reduction="none")
    wrong = (logits.argmax(dim=1) != labels).nonzero().view(-1)
    return wrong[losses[wrong].argsort(descending=True, stable=True)[:count]]


@dataclass(frozen=True)
class Reliability:
    """Images sorted by the probability of their likeliest class into bins of equal width.

    Attributes:
        counts: Images in each bin, int64 (B,).
        confidence: Mean probability of the likeliest class in each bin, double (B,); nan where it is empty.
        accuracy: Share of each bin's images that were recognised, double (B,); nan where it is empty.
    """

    counts: torch.Tensor
    confidence: torch.Tensor
    accuracy: torch.Tensor

    @property
    def expected_calibration_error(self) -> float:
        """Mean distance of confidence and accuracy over the images (Guo et al., arXiv:1706.04599, equation 5)."""
        gaps = (self.confidence - self.accuracy).abs().nan_to_num()
        return float((self.counts * gaps).sum() / self.counts.sum())


def reliability(logits: torch.Tensor, labels: torch.Tensor, bins: int = 15) -> Reliability:
    """How far the probabilities can be believed; 15 bins as is usual."""
    confidence, guess = logits.double().softmax(dim=1).max(dim=1)
    # (b / bins, (b + 1) / bins], so that a probability of 1 is in the last
    place = (confidence * bins).ceil().long().clamp(1, bins) - 1
    counts = torch.bincount(place, minlength=bins)
    right = (guess == labels).double()
    return Reliability(
        counts,
        torch.bincount(place, weights=confidence, minlength=bins) / counts,
        torch.bincount(place, weights=right, minlength=bins) / counts)
