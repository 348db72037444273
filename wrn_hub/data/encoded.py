"""A split whose images are still encoded, and how they become one array of RGB pixels."""
import io
import os
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ..errors import UserError, first_line

__all__ = ["EncodedSplit", "decode", "image_bytes", "printable", "resize_and_crop", "stack"]

# tried in this order; the formats left out (EPS among them) start other programs or hold no photographs
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "PPM", "TIFF", "GIF")
_LONGEST = 1000  # times as long as wide: resized by its shorter side, a longer image would fill the memory


@dataclass(frozen=True)
class EncodedSplit:
    """A split before decoding; labels and class names are cheap to read, pixels are not.

    Attributes:
        images: (what to call it in an error, the bytes of its file) for each of the N images; read when iterated.
        labels: int64 (N,).
        classes: The names of the classes.
        files: The local files that the images come from; none where that is unknown.
        column: Which images of those files, where they hold several.
        revision: The commit of the Hub's dataset; None where they didn't come through the Hub.
    """

    images: Iterable[tuple[str, bytes]]
    labels: np.ndarray
    classes: tuple[str, ...]
    files: tuple[Path, ...] = ()
    column: str = ""
    revision: str | None = None

    def decode(self, size: int | None) -> np.ndarray:
        """uint8 (N, H, W, 3); see :func:`stack`."""
        return stack((decode(data, where) for where, data in self.images), len(self.labels), size)


def printable(path: Path) -> str:
    """A path as text that any screen and file takes: bytes of a name that isn't UTF-8 become \\xNN."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def image_bytes(path: Path) -> bytes:
    """The content of an image file.

    Raises:
        UserError: it can't be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{printable(path)}: {error.strerror or first_line(error)}") from None


def decode(data: bytes, where: str) -> np.ndarray:
    """The pixels of one image file, upright as its EXIF orientation says.

    Gray, palette, 16-bit and CMYK images are converted; an alpha channel is dropped, as timm and torchvision do.

    Args:
        data: The content of a PNG, JPEG, WebP, BMP, PPM, TIFF or GIF file (of an animation the first frame).
        where: What to call the image in an error.

    Returns:
        uint8 (H, W, 3), RGB.

    Raises:
        UserError: it can't be decoded, has more pixels than PIL takes for an attack (179 million), or is 1,000 times
            as long as wide.
    """
    try:
        with (
            warnings.catch_warnings(action="ignore"),  # of many pixels, and of odd metadata; they name no file
            Image.open(io.BytesIO(data), formats=_FORMATS) as image,
        ):
            if max(image.size) > _LONGEST * min(image.size):
                raise ValueError(f"{image.width}x{image.height} pixels are {_LONGEST} times as long as wide; crop it")
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            if image.mode == "RGB":
                return np.asarray(image)
            if image.mode.startswith("I;16"):  # PIL's own conversion clips at 255
                return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
            if image.mode in ("I", "F"):
                raise ValueError(f"pixels of mode {image.mode} have no known range; save it with 8 or 16 bits")
            if image.mode == "P":  # straight to RGB warns where the palette has transparent colours
                image = image.convert("RGBA")
            return np.asarray(image.convert("RGB"))
    except Exception as error:  # PIL's decoders raise nearly everything on a damaged file
        reason = "unknown format" if isinstance(error, Image.UnidentifiedImageError) else first_line(error)
        raise UserError(f"{where} can't be decoded ({reason}); mend or remove it") from error


def resize_and_crop(image: np.ndarray, size: int) -> np.ndarray:
    """Bring the shorter side to ``size``, bicubic and antialiased, and cut (size, size) out of the centre.

    The same pixels as torchvision's ``Resize`` and ``CenterCrop``; an image of (size, size) stays as it is.

    Args:
        image: uint8 (H, W, 3).
        size: Side in pixels.

    Returns:
        uint8 (size, size, 3).
    """
    height, width = image.shape[:2]
    shorter = min(height, width)
    if shorter != size:
        height, width = size * height // shorter, size * width // shorter
        image = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))
    top, left = round((height - size) / 2), round((width - size) / 2)
    return image[top : top + size, left : left + size]


def stack(images: Iterable[np.ndarray], count: int, size: int | None) -> np.ndarray:
    """Gather images into one array.

    Args:
        images: ``count`` arrays uint8 (H, W, 3).
        count: How many there are.
        size: Side in pixels that they are brought to, see :func:`resize_and_crop`; None keeps a common size.

    Returns:
        uint8 (count, H, W, 3), H = W = size where that is given.

    Raises:
        UserError: no size is given and the images differ in theirs.
    """
    stacked = np.empty((0, 0, 0, 3), dtype=np.uint8)
    for place, image in enumerate(images):
        if size is not None:
            image = resize_and_crop(image, size)
        if place == 0:
            stacked = np.empty((count, *image.shape), dtype=np.uint8)
        elif image.shape != stacked.shape[1:]:
            (height, width), (other_height, other_width) = stacked.shape[1:3], image.shape[:2]
            raise UserError(
                f"images differ in size ({height}x{width} and {other_height}x{other_width} among them): "
                "give the side in pixels to bring them to (size, --image-size)")
        stacked[place] = image
    return stacked
