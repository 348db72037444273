"""What is kept of a measurement's logits: all of them, or of many classes the greatest and what the rest adds up to.

Of 50,000 images and 1,000 classes all would be 200 MB. The 20 greatest, the true class's and the logarithm of the sum
of all exponentials are 13 MB, and every metric of this package follows from them.
"""
import torch

__all__ = ["MANY", "TOP", "packed", "unpacked"]

MANY = 200  # classes from which on the greatest logits are kept only
TOP = 20


def packed(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
    """The tensors to keep.

    Args:
        logits: float32 (N, C).
        labels: int64 (N,).

    Returns:
        ``logits`` and ``labels`` as they are; of more than 200 classes instead of ``logits`` the 20 greatest as
        ``top_logits`` (float32 (N, 20), the greatest first), their classes as ``top_classes`` (int32 (N, 20)),
        ``true_logits`` (float32 (N,)), ``logsumexp`` (float32 (N,)) and ``num_classes`` (int64 (1,)).
    """
    if logits.shape[1] <= MANY:
        return {"logits": logits, "labels": labels}
    top = logits.topk(TOP, dim=1)
    return {
        "top_logits": top.values.contiguous(), "top_classes": top.indices.int().contiguous(),
        "true_logits": logits.gather(1, labels[:, None])[:, 0].contiguous(),
        "logsumexp": logits.double().logsumexp(dim=1).float(), "labels": labels,
        "num_classes": torch.tensor([logits.shape[1]])}


def unpacked(kept: dict[str, torch.Tensor]) -> torch.Tensor:
    """The logits (N, C) that were kept: as they were, or of many classes as float64, where all classes that aren't
    among the greatest, nor the true one, have the same, so that the sum of all exponentials is what it was.

    Raises:
        KeyError: a tensor is missing.
    """
    if "logits" in kept:
        return kept["logits"]
    top, index, true = kept["top_logits"].double(), kept["top_classes"].long(), kept["true_logits"].double()
    whole, labels, classes = kept["logsumexp"].double(), kept["labels"], int(kept["num_classes"])
    outside = (index != labels[:, None]).all(dim=1)  # where the true class is none of the greatest
    held = (top - whole[:, None]).exp().sum(dim=1) + torch.where(outside, (true - whole).exp(), 0.0)
    others = classes - top.shape[1] - outside.long()
    # rounding may leave less than nothing
    rest = whole + ((1 - held).clamp(min=1e-12) / others).log()
    logits = torch.minimum(rest, top[:, -1])[:, None].repeat(1, classes)
    return logits.scatter(1, index, top).scatter(1, labels[:, None], true[:, None])
