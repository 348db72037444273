"""TrivialAugment on whole batches: one operation of one strength for each image, both drawn anew (arXiv:2103.10158).

The wide space of the paper's Table 1, pixel for pixel what ``torchvision.transforms.TrivialAugmentWide`` makes of one
image; here the images of a batch that drew the same operation go through it together, each with its own strength. Who
goes with whom, and what follows from the strengths, is found on the CPU for a whole epoch and sent to the device once.
"""
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby

import torch
import torch.nn.functional as F

__all__ = ["OPERATIONS", "STRENGTHS", "Operation", "Plan", "apply", "draw", "plan"]

STRENGTHS = 31  # evenly spaced strengths of each operation


def _ratios(strength: torch.Tensor, _: int, __: int) -> list[torch.Tensor]:
    return [1.0 + strength, -strength]  # rounded once each, as torchvision's Python floats are


def _blend(images: torch.Tensor, other: torch.Tensor, ratios: torch.Tensor) -> torch.Tensor:
    own, others = ratios[:, :2, None, None, None].unbind(dim=1)
    return (own * images + others * other).clamp(0, 255).to(torch.uint8)


def _gray(images: torch.Tensor) -> torch.Tensor:
    red, green, blue = images.unbind(dim=1)
    return (0.2989 * red + 0.587 * green + 0.114 * blue).to(torch.uint8).unsqueeze(1)


def _brightness(images: torch.Tensor, ratios: torch.Tensor) -> torch.Tensor:
    return (ratios[:, :1, None, None] * images).clamp(0, 255).to(torch.uint8)  # the other is black


def _color(images: torch.Tensor, ratios: torch.Tensor) -> torch.Tensor:
    return _blend(images, _gray(images), ratios)


def _contrast(images: torch.Tensor, ratios: torch.Tensor) -> torch.Tensor:
    return _blend(images, _gray(images).float().mean(dim=(1, 2, 3), keepdim=True), ratios)


def _sharpness(images: torch.Tensor, ratios: torch.Tensor) -> torch.Tensor:
    pixels = images.float()
    # the 3x3 pixels around each, the middle one five times: whole numbers, so exact in any order and on any device
    rows = pixels[:, :, :-2] + pixels[:, :, 1:-1] + pixels[:, :, 2:]
    around = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * pixels[:, :, 1:-1, 1:-1]
    blurred = images.clone()  # the border stays as it is
    blurred[:, :, 1:-1, 1:-1] = (around / 13.0).round().to(torch.uint8)
    return _blend(images, blurred, ratios)


def _masks(bits: torch.Tensor, _: int, __: int) -> list[torch.Tensor]:
    return [256 - 2 ** (8 - bits)]


def _posterize(images: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    return images & masks[:, :1, None, None].to(torch.uint8)


def _thresholds(strength: torch.Tensor, _: int, __: int) -> list[torch.Tensor]:
    return [strength]


def _solarize(images: torch.Tensor, thresholds: torch.Tensor) -> torch.Tensor:
    return torch.where(images >= thresholds[:, :1, None, None], 255 - images, images)


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


def _affine(images: torch.Tensor, matrices: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Take each pixel from where its matrix, see :func:`_inverse`, sends its place; black outside."""
    height, width = images.shape[2:]
    grid = places.expand(len(images), -1, -1).bmm(matrices.view(-1, 3, 2)).view(-1, height, width, 2)
    sampled = F.grid_sample(images.float(), grid, mode="nearest", padding_mode="zeros", align_corners=False)
    return sampled.round().to(torch.uint8)


def _places(height: int, width: int) -> torch.Tensor:
    """float32 (1, H * W, 3): x and y of each pixel, counted from the centre, and 1."""
    x = torch.linspace(-width * 0.5 + 0.5, width * 0.5 - 0.5, width)
    y = torch.linspace(-height * 0.5 + 0.5, height * 0.5 - 0.5, height)
    places = torch.stack([x.expand(height, -1), y[:, None].expand(-1, width), torch.ones(height, width)], dim=-1)
    return places.view(1, -1, 3)


def _inverse(rows: list[list[torch.Tensor | float]], height: int, width: int) -> list[torch.Tensor]:
    """The columns of a (3, 2) matrix that maps a place to its source, in halves of the image; given are the rows of the
    affine map in pixels."""
    # computed in float64 and then rounded, as torchvision does with Python's floats: at half a pixel it matters
    like = next(value for row in rows for value in row if isinstance(value, torch.Tensor))
    rounded = [[torch.as_tensor(value).expand_as(like).float() for value in row] for row in rows]
    return [value / half for pair in zip(*rounded, strict=True)
            for value, half in zip(pair, (0.5 * width, 0.5 * height), strict=True)]


def _shear_x(tangent: torch.Tensor, height: int, width: int) -> list[torch.Tensor]:  # around the upper left corner
    return _inverse([[1.0, tangent, tangent * height * 0.5], [0.0, 1.0, 0.0]], height, width)


def _shear_y(tangent: torch.Tensor, height: int, width: int) -> list[torch.Tensor]:
    return _inverse([[1.0, 0.0, 0.0], [tangent, 1.0, tangent * width * 0.5]], height, width)


def _translate_x(pixels: torch.Tensor, height: int, width: int) -> list[torch.Tensor]:
    return _inverse([[1.0, 0.0, -pixels.trunc()], [0.0, 1.0, 0.0]], height, width)


def _translate_y(pixels: torch.Tensor, height: int, width: int) -> list[torch.Tensor]:
    return _inverse([[1.0, 0.0, 0.0], [0.0, 1.0, -pixels.trunc()]], height, width)


def _rotate(degrees: torch.Tensor, height: int, width: int) -> list[torch.Tensor]:
    angle = degrees * math.pi / 180
    cos, sin = angle.cos(), angle.sin()
    return _inverse([[cos, -sin, 0.0], [sin, cos, 0.0]], height, width)


def _identity(images: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    return images


def _nothing(strength: torch.Tensor, _: int, __: int) -> list[torch.Tensor]:
    return []


@dataclass(frozen=True)
class Operation:
    """One kind of augmentation.

    Attributes:
        function: Makes of uint8 (B, 3, H, W) and the parameters, float32 (B, 6), uint8 (B, 3, H, W); the geometric ones
            take the places of the pixels too.
        parameters: Makes of the strengths, float64 (B,), H and W at most six parameters (B,), on the CPU.
        strengths: float32 (STRENGTHS,).
        signed: Whether a strength has a random sign.
    """

    function: Callable[..., torch.Tensor]
    parameters: Callable[[torch.Tensor, int, int], list[torch.Tensor]]
    strengths: torch.Tensor
    signed: bool


_NONE = torch.zeros(STRENGTHS)
_FRACTION = torch.linspace(0.0, 0.99, STRENGTHS)
_PIXELS = torch.linspace(0.0, 32.0, STRENGTHS)
# those of one function side by side, so that their images go through it together
OPERATIONS = {
    "Identity": Operation(_identity, _nothing, _NONE, False),
    "ShearX": Operation(_affine, _shear_x, _FRACTION, True),
    "ShearY": Operation(_affine, _shear_y, _FRACTION, True),
    "TranslateX": Operation(_affine, _translate_x, _PIXELS, True),
    "TranslateY": Operation(_affine, _translate_y, _PIXELS, True),
    "Rotate": Operation(_affine, _rotate, torch.linspace(0.0, 135.0, STRENGTHS), True),
    "Brightness": Operation(_brightness, _ratios, _FRACTION, True),
    "Color": Operation(_color, _ratios, _FRACTION, True),
    "Contrast": Operation(_contrast, _ratios, _FRACTION, True),
    "Sharpness": Operation(_sharpness, _ratios, _FRACTION, True),
    "Posterize": Operation(
        _posterize, _masks, 8 - (torch.arange(STRENGTHS) / ((STRENGTHS - 1) / 6)).round(), False),
    "Solarize": Operation(_solarize, _thresholds, torch.linspace(255.0, 0.0, STRENGTHS), False),
    "AutoContrast": Operation(_autocontrast, _nothing, _NONE, False),
    "Equalize": Operation(_equalize, _nothing, _NONE, False),
}


def draw(count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw an operation and a strength for each of ``count`` images.

    Returns:
        Number of the operation in :data:`OPERATIONS`, int64 (count,), and its strength, signed where the operation
        is, float32 (count,); both on the CPU.
    """
    operation = torch.randint(len(OPERATIONS), (count,), generator=generator)
    place = torch.randint(STRENGTHS, (count,), generator=generator)
    strength = torch.stack([kind.strengths for kind in OPERATIONS.values()])[operation, place]
    signed = torch.tensor([kind.signed for kind in OPERATIONS.values()])[operation]
    minus = torch.randint(2, (count,), generator=generator).bool() & signed
    return operation, torch.where(minus, -strength, strength)


@dataclass(frozen=True)
class Plan:
    """What the images of one batch undergo, sorted by operation; the tensors lie on the images' device.

    Attributes:
        order: int64 (B,), which image of the batch comes where.
        back: int64 (B,), where each image of the batch has gone.
        parameters: float32 (B, 6), in the sorted order.
        places: float32 (1, H * W, 3), of the pixels.
        ends: Where the images of each operation end in the sorted order.
    """

    order: torch.Tensor
    back: torch.Tensor
    parameters: torch.Tensor
    places: torch.Tensor
    ends: list[int]


def plan(
    operation: torch.Tensor, strength: torch.Tensor, height: int, width: int, device: torch.device
) -> list[Plan]:
    """Prepare all batches of an epoch.

    Args:
        operation: int64 (S, B) on the CPU, S batches of B images, from :func:`draw`.
        strength: float32 (S, B) on the CPU.
        height: H of the images.
        width: W of the images.
        device: Where the images are.
    """
    order = operation.argsort(dim=1, stable=True)
    parameters = torch.zeros(*operation.shape, 6)
    for number, kind in enumerate(OPERATIONS.values()):
        of_kind = operation == number
        for place, values in enumerate(kind.parameters(strength[of_kind].double(), height, width)):
            parameters[..., place][of_kind] = values.float()
    parameters = parameters.gather(1, order[:, :, None].expand(-1, -1, 6))
    counts = torch.zeros(len(operation), len(OPERATIONS), dtype=torch.long)
    ends = counts.scatter_add_(1, operation, torch.ones_like(operation)).cumsum(dim=1).tolist()
    places = _places(height, width).to(device)
    sent = [t.to(device) for t in (order, order.argsort(dim=1), parameters)]
    return [
        Plan(there, back, values, places, end) for there, back, values, end in zip(*sent, ends, strict=True)]


def apply(images: torch.Tensor, planned: Plan) -> torch.Tensor:
    """Each image through its own operation.

    Args:
        images: uint8 (B, H, W, 3), on any device.
        planned: Of this batch, from :func:`plan`.

    Returns:
        uint8 (B, H, W, 3), contiguous.
    """
    sorted_images = images.index_select(0, planned.order).permute(0, 3, 1, 2)
    made, start = [], 0
    for function, kinds in groupby(zip(OPERATIONS.values(), planned.ends, strict=True), lambda kind: kind[0].function):
        end = max(end for _, end in kinds)
        if end > start:
            part = slice(start, end)
            extra = (planned.places,) if function is _affine else ()
            made.append(function(sorted_images[part], planned.parameters[part], *extra).permute(0, 2, 3, 1))
        start = end
    return torch.cat(made).index_select(0, planned.back)
