"""Corrupted copies of images: ten kinds at five severities, after the families of Hendrycks & Dietterich
(arXiv:1903.12261, section 3) but not theirs: numbers from here can't be held against those of CIFAR-10-C.

What an image becomes depends on (seed, kind, severity, its number in the dataset) alone, never on the batch it comes
in or on the process that makes it. All sums run in a fixed order, one element at a time, for the same reason.
"""
import io
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from ..errors import UserError

__all__ = ["KINDS", "SEVERITIES", "corrupt"]

SEVERITIES = (1, 2, 3, 4, 5)

Chance = Iterator[np.random.Generator]  # one generator an image


def _to_bytes(images: np.ndarray) -> np.ndarray:
    return np.rint(images).clip(0, 255).astype(np.uint8)


def _gaussian_noise(images: np.ndarray, amount: float, chance: Chance) -> np.ndarray:
    noise = np.stack([g.standard_normal(images.shape[1:], dtype=np.float32) for g in chance])
    return images + np.float32(amount) * noise


def _shot_noise(images: np.ndarray, amount: float, chance: Chance) -> np.ndarray:
    return np.stack([g.poisson(image * (amount / 255)) for g, image in zip(chance, images, strict=True)]) * (
        255 / amount)


def _impulse_noise(images: np.ndarray, amount: float, chance: Chance) -> np.ndarray:
    draws = np.stack([g.random(images.shape[1:], dtype=np.float32) for g in chance])
    return np.where(draws < amount / 2, 0, np.where(draws > 1 - amount / 2, 255, images))


def _blur_along(images: np.ndarray, axis: int, weights: list[float]) -> np.ndarray:
    """Weighted mean of each pixel and its neighbours on one axis, the border reflected."""
    reach, length = len(weights) // 2, images.shape[axis]
    padded = np.pad(images, [(reach, reach) if a == axis else (0, 0) for a in range(images.ndim)], mode="reflect")
    total = np.zeros(images.shape, np.float32)
    for tap, weight in enumerate(weights):
        total += np.float32(weight) * padded.take(range(tap, tap + length), axis=axis)
    return total


def _gaussian_blur(images: np.ndarray, amount: float, chance: Chance) -> np.ndarray:
    sigma = amount * images.shape[1] / 32
    reach = int(np.ceil(3 * sigma))
    weights = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    shares = (weights / weights.sum()).tolist()
    return _blur_along(_blur_along(images.astype(np.float32), 1, shares), 2, shares)


def _motion_blur(images: np.ndarray, amount: float, chance: Chance) -> np.ndarray:
    length = max(2, round(amount * images.shape[1] / 32))
    reach = length // 2
    direction = np.array([g.integers(4) for g in chance])
    blurred = np.empty(images.shape, np.float32)
    for number, (down, right) in enumerate(((0, 1), (1, 0), (1, 1), (1, -1))):
        some = images[direction == number]
        height, width = some.shape[1:3]
        padded = np.pad(some, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="reflect").astype(np.float32)
        total = np.zeros(some.shape, np.float32)
        for step in range(-reach, reach + 1):
            # half a pixel at both ends of an even length, so that the image stays where it is
            weight = 0.5 if length % 2 == 0 and abs(step) == reach else 1.0
            top, left = reach + down * step, reach + right * step
            total += np.float32(weight) * padded[:, top : top + height, left : left + width]
        blurred[direction == number] = total / length
    return blurred


def _brightness(images: np.ndarray, amount: float, chance: Chance) -> np.ndarray:
    return images + np.float32(amount)


def _contrast(images: np.ndarray, amount: float, chance: Chance) -> np.ndarray:
    # whole numbers until the division, so that the order of the sum doesn't matter
    mean = (images.sum(axis=(1, 2), dtype=np.int64, keepdims=True) / (images.shape[1] * images.shape[2]))
    return mean + (images - mean) * amount


def _saturation(images: np.ndarray, amount: float, chance: Chance) -> np.ndarray:
    red, green, blue = (images[..., channel : channel + 1].astype(np.float32) for channel in range(3))
    gray = np.float32(0.299) * red + np.float32(0.587) * green + np.float32(0.114) * blue
    return gray + (images - gray) * np.float32(amount)


def _jpeg(images: np.ndarray, amount: float, chance: Chance) -> np.ndarray:
    coded = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image).save(file, format="JPEG", quality=int(amount))
        coded.append(np.asarray(Image.open(file)))
    return np.stack(coded)


def _pixelation(images: np.ndarray, amount: float, chance: Chance) -> np.ndarray:
    cells = [max(1, round(amount * length)) for length in images.shape[1:3]]
    small, place = images.astype(np.int64), []
    for axis, (count, length) in enumerate(zip(cells, images.shape[1:3], strict=True), start=1):
        small = np.add.reduceat(small, [-(-cell * length // count) for cell in range(count)], axis=axis)
        place.append(np.arange(length) * count // length)
    area = np.outer(*(np.bincount(p) for p in place))
    return (small / area[:, :, None])[:, place[0]][:, :, place[1]]


# Kind -> how it is made, the amount at each severity, and what the amount is. Lengths are for images of 32 pixels a
# side and grow with them. They were set by looking: 1 is hardly seen, 5 leaves most images just recognisable.
KINDS: dict[str, tuple[Callable[[np.ndarray, float, Chance], np.ndarray], tuple[float, ...], str]] = {
    "gaussian noise": (_gaussian_noise, (8, 14, 20, 26, 32), "standard deviation, of 255"),
    "shot noise": (_shot_noise, (250, 120, 60, 40, 25), "photons in a white pixel"),
    "impulse noise": (_impulse_noise, (0.01, 0.03, 0.06, 0.1, 0.15), "share of values set to 0 or 255"),
    "gaussian blur": (_gaussian_blur, (0.4, 0.6, 0.8, 1.0, 1.3), "standard deviation, pixels"),
    "motion blur": (_motion_blur, (2, 3, 4, 5, 7), "length, pixels, along one of four directions"),
    "brightness": (_brightness, (20, 40, 60, 80, 100), "added to every value, of 255"),
    "contrast": (_contrast, (0.75, 0.55, 0.4, 0.25, 0.15), "share of the distance from the mean that is left"),
    "saturation": (_saturation, (0.6, 0.4, 0.2, 0.1, 0.0), "share of the distance from gray that is left"),
    "JPEG": (_jpeg, (75, 55, 35, 20, 10), "quality"),
    "pixelation": (_pixelation, (0.9, 0.8, 0.7, 0.6, 0.5), "share of the rows and columns that is left"),
}


def corrupt(
    images: np.ndarray, kind: str, severity: int, seed: int = 0, numbers: np.ndarray | None = None
) -> np.ndarray:
    """Corrupted copies of images.

    Args:
        images: uint8 (N, H, W, 3), RGB.
        kind: One of :data:`KINDS`.
        severity: 1 to 5.
        seed: With kind, severity and the image's number, the only source of chance.
        numbers: int (N,), each image's number in its dataset; 0 to N - 1 where None.

    Returns:
        uint8 (N, H, W, 3).

    Raises:
        UserError: there is no such kind or severity.
    """
    if kind not in KINDS or severity not in SEVERITIES:
        raise UserError(
            f"corruption {kind!r}, severity {severity}: allowed are {', '.join(KINDS)}; severities 1 to 5")
    make, amounts, _ = KINDS[kind]
    numbers = np.arange(len(images)) if numbers is None else numbers
    row = list(KINDS).index(kind)
    chance = (np.random.default_rng((seed, row, severity, int(number))) for number in numbers)
    return _to_bytes(make(images, amounts[severity - 1], chance))
