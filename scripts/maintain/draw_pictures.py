"""Draw the sample pictures that ship with every repository, for its card's lines to be tried with.

python scripts/maintain/draw_pictures.py

Each shows something that nets of one dataset have a class for: a ship, a sunflower, a digit. They are drawings of this
project's own, under its licence, and of no dataset.
"""
import math
from collections.abc import Sequence

from PIL import Image, ImageDraw

from wrn_hub.cards.sample import SAMPLES
from wrn_hub.commands.cli import Parser, run

SIDE, FINER = 256, 4  # pixels; drawn so many times finer, since lines are smoothed by shrinking alone


class Sheet:
    """Something to draw on, in pixels of the finished picture."""

    def __init__(self, colour: tuple[int, int, int]) -> None:
        self._image = Image.new("RGB", (FINER * SIDE, FINER * SIDE), colour)
        self._draw = ImageDraw.Draw(self._image)

    def put(self, shape: str, places: Sequence[float], colour: tuple[int, int, int]) -> None:
        """A ``rectangle``, an ``ellipse`` or a ``polygon``, as Pillow has them."""
        getattr(self._draw, shape)([FINER * place for place in places], fill=colour)

    def finished(self) -> Image.Image:
        return self._image.resize((SIDE, SIDE), Image.Resampling.BOX)


def ship() -> Image.Image:
    """A steamer with a red hull on the open sea."""
    sheet = Sheet((0, 0, 0))
    for y in range(150):
        sheet.put("rectangle", (0, y, 256, y + 1), (120 + y // 4, 170 + y // 5, 215 + y // 8))
    for y in range(150, 256):
        sheet.put("rectangle", (0, y, 256, y + 1), (30 + (256 - y) // 6, 85 + (256 - y) // 6, 125 + (256 - y) // 5))
    sheet.put("polygon", (20, 140, 238, 132, 214, 180, 48, 180), (150, 35, 35))
    sheet.put("polygon", (20, 140, 238, 132, 232, 144, 26, 150), (235, 235, 235))
    sheet.put("rectangle", (70, 108, 180, 139), (245, 245, 240))
    sheet.put("rectangle", (90, 84, 160, 108), (235, 235, 230))
    sheet.put("rectangle", (112, 50, 136, 84), (60, 60, 70))
    sheet.put("rectangle", (112, 56, 136, 66), (200, 60, 50))
    for x in range(78, 176, 14):
        sheet.put("rectangle", (x, 116, x + 7, 123), (70, 90, 110))
    sheet.put("rectangle", (189, 70, 191, 134), (90, 90, 90))
    return sheet.finished()


def sunflower() -> Image.Image:
    """One against the sky."""
    sheet = Sheet((120, 170, 225))
    sheet.put("rectangle", (120, 130, 136, 256), (60, 120, 40))
    for ring, (reach, colour) in enumerate(((110, (235, 170, 20)), (95, (250, 205, 40)))):
        for petal in range(20):
            angle = 2 * math.pi * (petal + ring / 2) / 20
            corners = [(reach, angle), (55, angle + 0.16), (0, 0), (55, angle - 0.16)]
            sheet.put("polygon", [place for far, turn in corners for place in (
                128 + far * math.cos(turn), 118 + far * math.sin(turn))], colour)
    sheet.put("ellipse", (78, 68, 178, 168), (90, 55, 25))
    sheet.put("ellipse", (98, 88, 158, 148), (60, 35, 15))
    return sheet.finished()


def seven() -> Image.Image:
    """The number of a house on a blue plate."""
    sheet = Sheet((40, 70, 140))
    sheet.put("polygon", (64, 36, 196, 36, 196, 70, 134, 222, 92, 222, 152, 74, 64, 74), (240, 240, 235))
    return sheet.finished()


DRAWN = {"cifar10": ship, "cifar100": sunflower, "svhn": seven}


def main() -> None:
    Parser(__doc__).parse_args()
    SAMPLES.mkdir(exist_ok=True)
    for dataset, draw in DRAWN.items():
        draw().save(SAMPLES / f"{dataset}.png", optimize=True)
        print(SAMPLES / f"{dataset}.png")


if __name__ == "__main__":
    run(main)
