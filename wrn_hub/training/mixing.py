"""Mixup (Zhang et al., arXiv:1710.09412) and CutMix (Yun et al., arXiv:1905.04899) on batches on the device.

timm's own mixes an image with that at the mirrored place of its process's share, drawing from numpy's global
generator. Here neighbours are mixed, and what is drawn depends on (seed, epoch, step) alone: two processes with half
the batch each see what one sees, and a resumed run sees what the unbroken one would have seen.
"""
import numpy as np
import torch

__all__ = ["mix"]


def mix(
    images: torch.Tensor, labels: torch.Tensor, classes: int, mixup: float, cutmix: float, key: tuple[int, ...]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mix each image with its neighbour, the whole batch in one ratio; where both ways are on, either is as likely.

    Args:
        images: float (B, C, H, W), B even; may be overwritten.
        labels: int64 (B,).
        classes: Number of classes.
        mixup: Both parameters of the Beta distribution that the ratio of mixup is drawn from; 0: no mixup.
        cutmix: The same for CutMix.
        key: The only source of chance.

    Returns:
        The images, and the probabilities of the classes, float32 (B, classes).
    """
    random = np.random.default_rng(hash(key) % 2**63)
    paste = cutmix > 0 and (mixup == 0 or random.random() < 0.5)
    alpha = cutmix if paste else mixup
    own = random.beta(alpha, alpha)
    neighbour = torch.arange(len(images), device=images.device) ^ 1
    if paste:
        height, width = images.shape[2:]
        side = (1 - own) ** 0.5
        (top, bottom), (left, right) = (
            (max(round(centre - side * length / 2), 0), min(round(centre + side * length / 2), length))
            for length, centre in ((length, random.uniform(0, length)) for length in (height, width)))
        images[:, :, top:bottom, left:right] = images[neighbour, :, top:bottom, left:right]
        own = 1 - (bottom - top) * (right - left) / (height * width)  # the square may have been cut off at the border
    else:
        images = images[neighbour].lerp_(images, own)
    targets = images.new_zeros(len(labels), classes).scatter_(1, labels[:, None], 1.0)  # one_hot looks at the labels
    return images, targets[neighbour].lerp_(targets, own)
