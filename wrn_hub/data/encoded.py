"""Images that are still encoded, read one by one, and how they become one array of RGB pixels."""
import hashlib
import io
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ..errors import UserError, first_line

__all__ = [
    "EncodedSplit", "ImageFiles", "Images", "Picked", "PixelImages", "decode", "decoded", "image_bytes", "printable",
    "resize_and_crop", "stack"]

# tried in this order; the formats left out (EPS among them) start other programs or hold no photographs
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "PPM", "TIFF", "GIF")
_LONGEST = 1000  # times as long as wide: resized by its shorter side, a longer image would fill the memory


class Images(ABC):
    """A sequence of image files, each read when it is asked for: (what to call it in an error, the file's bytes).

    Pickling one is cheap, so that the workers of a DataLoader can have it.

    Attributes:
        column: Which images of its files, where they hold several.
    """

    column: str = ""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, place: int) -> tuple[str, bytes]: ...

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        """All in order; at least as fast as one by one."""
        return (self[place] for place in range(len(self)))

    def name(self, place: int) -> str:
        """What to call one in an error."""
        return self[place][0]

    @property
    def files(self) -> Iterable[Path]:
        """The local files that the images come from; none where that is unknown."""
        return ()

    def in_any_order(self) -> "Images":
        """The same images from where each is read by itself, copied there if need be; itself where that is so."""
        return self

    @abstractmethod
    def identity(self) -> bytes:
        """A digest that tells these images from others, got without reading them; the same on every machine."""


class ImageFiles(Images):
    """Files below a folder. Its :meth:`~Images.identity` covers their paths within it, their order and their sizes.

    Args:
        root: The folder.
        paths: Within it.
    """

    def __init__(self, root: Path, paths: Iterable[Path]) -> None:
        self.root = root
        # one array of bytes: 30 MB for ImageNet, where objects are 20 times that, copied by each worker that counts
        # its references to them
        self.names = np.array([os.fsencode(path.relative_to(root).as_posix()) for path in paths], dtype=np.bytes_)

    def __len__(self) -> int:
        return len(self.names)

    def _path(self, name: bytes) -> Path:
        return self.root / os.fsdecode(name)

    def __getitem__(self, place: int) -> tuple[str, bytes]:
        path = self._path(self.names[place])
        return printable(path), image_bytes(path)

    def name(self, place: int) -> str:
        return printable(self._path(self.names[place]))

    @property
    def files(self) -> Iterable[Path]:
        return map(self._path, self.names)

    def identity(self) -> bytes:
        digest = hashlib.sha256()
        with ThreadPoolExecutor(32) as threads:  # on a file server each waits for an answer
            for name, size in zip(self.names, threads.map(_size, self.files, chunksize=1000), strict=True):
                digest.update(b"%d %d %s" % (size, len(name), name))
        return digest.digest()


class Picked(Images):
    """Some of other images, in an order of their own.

    Args:
        images: The others.
        index: int64 (M,), their places there.
    """

    def __init__(self, images: Images, index: np.ndarray) -> None:
        places = np.arange(len(images))[index]
        if isinstance(images, Picked):
            places, images = images.index[places], images.images
        self.images: Images = images
        self.index: np.ndarray = places
        self.column = images.column

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, place: int) -> tuple[str, bytes]:
        return self.images[int(self.index[place])]

    def name(self, place: int) -> str:
        return self.images.name(int(self.index[place]))

    def in_any_order(self) -> Images:
        return Picked(self.images.in_any_order(), self.index)

    def identity(self) -> bytes:
        return hashlib.sha256(self.images.identity() + self.index.astype("<i8").tobytes()).digest()


class PixelImages(Images):
    """Pixels that were never encoded, as the files that they would be in PPM.

    Args:
        pixels: uint8 (N, H, W, 3).
        where: What to call them in an error.
        files: That they come from.
    """

    def __init__(self, pixels: np.ndarray, where: str, files: Iterable[Path]) -> None:
        self.pixels, self.where, self._files = pixels, where, tuple(files)

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, place: int) -> tuple[str, bytes]:
        height, width = self.pixels.shape[1:3]
        return f"{self.where}: image {place}", b"P6 %d %d 255\n" % (width, height) + self.pixels[place].tobytes()

    @property
    def files(self) -> Iterable[Path]:
        return self._files

    def identity(self) -> bytes:
        return hashlib.sha256(repr(self.pixels.shape).encode() + self.pixels.tobytes()).digest()


@dataclass(frozen=True)
class EncodedSplit:
    """What a reader makes of a split: labels and class names are cheap to read, images are not.

    Attributes:
        images: The N images.
        labels: int64 (N,).
        classes: The names of the classes.
        revision: The commit of the Hub's dataset; None where they didn't come through the Hub.
    """

    images: Images
    labels: np.ndarray
    classes: tuple[str, ...]
    revision: str | None = None


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


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise UserError(f"{printable(path)}: {error.strerror or first_line(error)}") from None


def decode(data: bytes, where: str, upright: bool = True, most_pixels: int | None = None) -> np.ndarray:
    """The pixels of one image file, uint8 (H, W, 3); see :func:`decoded`."""
    return np.asarray(decoded(data, where, upright, most_pixels))


def decoded(data: bytes, where: str, upright: bool = True, most_pixels: int | None = None) -> Image.Image:
    """One image file as PIL has it, which to copy into an array takes a fifth of the time again.

    Gray, palette, 16-bit and CMYK images are converted; an alpha channel is dropped, as timm and torchvision do.

    Args:
        data: The content of a PNG, JPEG, WebP, BMP, PPM, TIFF or GIF file (of an animation the first frame).
        where: What to call the image in an error.
        upright: Turned as its EXIF orientation says, as people see it; else as its pixels lie.
        most_pixels: More are refused before memory is given to them; by default those that PIL takes for an attack.

    Returns:
        The image in RGB, with its pixels and nothing else of its file.

    Raises:
        UserError: it can't be decoded, has too many pixels (of PIL: 179 million), or is 1,000 times as long as wide.
    """
    try:
        with (
            warnings.catch_warnings(action="ignore"),  # of many pixels, and of odd metadata; they name no file
            Image.open(io.BytesIO(data), formats=_FORMATS) as image,
        ):
            if max(image.size) > _LONGEST * min(image.size):
                raise ValueError(f"{image.width}x{image.height} pixels are {_LONGEST} times as long as wide; crop it")
            if most_pixels is not None and image.width * image.height > most_pixels:
                raise ValueError(f"{image.width}x{image.height} pixels; {most_pixels:,} are taken at most")
            image.load()
            if upright:
                ImageOps.exif_transpose(image, in_place=True)
            rgb: Image.Image = image
            if image.mode.startswith("I;16") or (image.mode, image.format) == ("I", "PPM"):
                # 16 bits, those of a PGM file scaled to all of them; PIL's own conversion clips at 255
                rgb = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            elif image.mode in ("I", "F"):
                raise ValueError(f"pixels of mode {image.mode} have no known range; save it with 8 or 16 bits")
            elif image.mode == "P":  # straight to RGB warns where the palette has transparent colours
                rgb = image.convert("RGBA")
            rgb = rgb.convert("RGB")  # a copy where it is that already, which knows nothing of its file
            rgb.info.clear()
            return rgb
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
