"""TrivialAugment on whole batches: one operation of one strength for each image, both drawn anew (arXiv:2103.10158).

The wide space of the paper's Table 1, pixel for pixel what ``torchvision.transforms.TrivialAugmentWide`` makes of one
image; here the images of a batch that drew the same operation go through it together, each with its own strength.
"""
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F

__all__ = ["OPERATIONS", "STRENGTHS", "apply", "draw"]

STRENGTHS = 31  # evenly spaced strengths of each operation


def _blend(images: torch.Tensor, other: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    ratio = 1.0 + strength.double()[:, None, None, None]  # rounded once each, as torchvision's Python floats are
    return (ratio.float() * images + (1.0 - ratio).float() * other).clamp(0, 255).to(torch.uint8)


def _gray(images: torch.Tensor) -> torch.Tensor:
    red, green, blue = images.unbind(dim=1)
    return (0.2989 * red + 0.587 * green + 0.114 * blue).to(torch.uint8).unsqueeze(1)


def _brightness(images: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    return _blend(images, torch.zeros_like(images), strength)


def _color(images: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    return _blend(images, _gray(images), strength)


def _contrast(images: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    return _blend(images, _gray(images).float().mean(dim=(1, 2, 3), keepdim=True), strength)


def _sharpness(images: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    pixels = images.float()
    # the 3x3 pixels around each, the middle one five times: whole numbers, so exact in any order and on any device
    rows = pixels[:, :, :-2] + pixels[:, :, 1:-1] + pixels[:, :, 2:]
    around = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * pixels[:, :, 1:-1, 1:-1]
    blurred = images.clone()  # the border stays as it is
    blurred[:, :, 1:-1, 1:-1] = (around / 13.0).round().to(torch.uint8)
    return _blend(images, blurred, strength)


def _posterize(images: torch.Tensor, bits: torch.Tensor) -> torch.Tensor:
    mask = (256 - 2 ** (8 - bits.long())).to(torch.uint8)
    return images & mask[:, None, None, None]


def _solarize(images: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
    return torch.where(images >= threshold[:, None, None, None], 255 - images, images)


def _autocontrast(images: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    low = images.amin(dim=(2, 3), keepdim=True).float()
    high = images.amax(dim=(2, 3), keepdim=True).float()
    scale = 255.0 / (high - low)
    flat = ~torch.isfinite(scale)  # a channel of one value stays as it is
    scale = torch.where(flat, 1.0, scale)
    low = torch.where(flat, 0.0, low)
    return ((images - low) * scale).clamp(0, 255).to(torch.uint8)


def _equalize(images: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    """Give each channel a flat histogram."""
    batch, channels, height, width = images.shape
    pixels = images.reshape(batch * channels, height * width).long()
    counts = torch.zeros(batch * channels, 256, dtype=torch.long, device=images.device)
    counts.scatter_add_(1, pixels, torch.ones_like(pixels))
    # the step is what all pixels but those of the brightest value share among 255 levels
    brightest = counts.gather(1, pixels.amax(dim=1, keepdim=True))
    step = (height * width - brightest) // 255
    cumulated = counts.cumsum(dim=1) + step // 2
    table = torch.cat([torch.zeros_like(step), cumulated[:, :-1]], dim=1) // step.clamp(min=1)
    equalized = table.clamp(0, 255).gather(1, pixels)
    return torch.where(step == 0, pixels, equalized).to(torch.uint8).view(batch, channels, height, width)


def _affine(images: torch.Tensor, inverse: torch.Tensor) -> torch.Tensor:
    """Take each pixel from where its inverse matrix (B, 2, 3), in pixels from the centre, says; black outside."""
    height, width = images.shape[2:]
    x = torch.linspace(-width * 0.5 + 0.5, width * 0.5 - 0.5, width, device=images.device)
    y = torch.linspace(-height * 0.5 + 0.5, height * 0.5 - 0.5, height, device=images.device)
    places = torch.stack([x.expand(height, -1), y[:, None].expand(-1, width), x.new_ones(height, width)], dim=-1)
    halves = torch.cat([x.new_full((1,), 0.5 * width), x.new_full((1,), 0.5 * height)])  # made there, not sent there
    grid = places.view(1, -1, 3).expand(len(images), -1, -1).bmm(inverse.transpose(1, 2) / halves)
    grid = grid.view(len(images), height, width, 2)
    sampled = F.grid_sample(images.float(), grid, mode="nearest", padding_mode="zeros", align_corners=False)
    return sampled.round().to(torch.uint8)


def _matrix(strength: torch.Tensor, rows: list[list[torch.Tensor | float]]) -> torch.Tensor:
    # computed in float64 and then rounded, as torchvision does with Python's floats: at half a pixel it matters
    columns = [
        value if isinstance(value, torch.Tensor) else torch.full_like(strength, value, dtype=torch.float64)
        for row in rows for value in row]
    return torch.stack(columns, dim=1).view(-1, 2, 3).float()


def _shear_x(images: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    tangent = strength.double()  # around the upper left corner
    return _affine(images, _matrix(strength, [[1.0, tangent, tangent * images.shape[2] * 0.5], [0.0, 1.0, 0.0]]))


def _shear_y(images: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    tangent = strength.double()
    return _affine(images, _matrix(strength, [[1.0, 0.0, 0.0], [tangent, 1.0, tangent * images.shape[3] * 0.5]]))


def _translate_x(images: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    return _affine(images, _matrix(pixels, [[1.0, 0.0, -pixels.trunc().double()], [0.0, 1.0, 0.0]]))


def _translate_y(images: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    return _affine(images, _matrix(pixels, [[1.0, 0.0, 0.0], [0.0, 1.0, -pixels.trunc().double()]]))


def _rotate(images: torch.Tensor, degrees: torch.Tensor) -> torch.Tensor:
    angle = degrees.double() * math.pi / 180
    cos, sin = angle.cos(), angle.sin()
    return _affine(images, _matrix(degrees, [[cos, -sin, 0.0], [sin, cos, 0.0]]))


def _identity(images: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    return images


_NONE = torch.zeros(STRENGTHS)
_FRACTION = torch.linspace(0.0, 0.99, STRENGTHS)
_PIXELS = torch.linspace(0.0, 32.0, STRENGTHS)
# name -> (function, its strengths, whether the strength has a random sign)
OPERATIONS: dict[str, tuple[Callable[[torch.Tensor, torch.Tensor], torch.Tensor], torch.Tensor, bool]] = {
    "Identity": (_identity, _NONE, False),
    "ShearX": (_shear_x, _FRACTION, True),
    "ShearY": (_shear_y, _FRACTION, True),
    "TranslateX": (_translate_x, _PIXELS, True),
    "TranslateY": (_translate_y, _PIXELS, True),
    "Rotate": (_rotate, torch.linspace(0.0, 135.0, STRENGTHS), True),
    "Brightness": (_brightness, _FRACTION, True),
    "Color": (_color, _FRACTION, True),
    "Contrast": (_contrast, _FRACTION, True),
    "Sharpness": (_sharpness, _FRACTION, True),
    "Posterize": (_posterize, 8 - (torch.arange(STRENGTHS) / ((STRENGTHS - 1) / 6)).round(), False),
    "Solarize": (_solarize, torch.linspace(255.0, 0.0, STRENGTHS), False),
    "AutoContrast": (_autocontrast, _NONE, False),
    "Equalize": (_equalize, _NONE, False),
}


def draw(count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw an operation and a strength for each of ``count`` images.

    Returns:
        Number of the operation in :data:`OPERATIONS`, int64 (count,), and its strength, signed where the operation
        is, float32 (count,); both on the CPU.
    """
    operation = torch.randint(len(OPERATIONS), (count,), generator=generator)
    place = torch.randint(STRENGTHS, (count,), generator=generator)
    strength = torch.stack([strengths for _, strengths, _ in OPERATIONS.values()])[operation, place]
    signed = torch.tensor([signed for _, _, signed in OPERATIONS.values()])[operation]
    minus = torch.randint(2, (count,), generator=generator).bool() & signed
    return operation, torch.where(minus, -strength, strength)


def apply(images: torch.Tensor, operation: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    """Each image through its own operation.

    Args:
        images: uint8 (B, H, W, 3), on any device.
        operation: int64 (B,), on the CPU, so that no step waits for the device to sort them.
        strength: float32 (B,), on the CPU.

    Returns:
        uint8 (B, H, W, 3), contiguous.
    """
    augmented = images.clone()
    for number, (function, _, _) in enumerate(OPERATIONS.values()):
        index = (operation == number).nonzero().squeeze(1)
        if len(index) and function is not _identity:
            chosen = index.to(images.device, non_blocking=True)
            pixels = images[chosen].permute(0, 3, 1, 2)
            made = function(pixels, strength[index].to(images.device, non_blocking=True))
            augmented[chosen] = made.permute(0, 2, 3, 1)
    return augmented
