"""What a model says of images in files."""
import csv
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from PIL import Image
from timm.data import create_transform

from ..data.encoded import decode, image_bytes, printable
from ..data.folder import SUFFIXES, image_files
from ..errors import UserError
from ..files import write_whole
from ..models.build import ModelSource, class_names
from ..models.preprocess import data_config
from .logits import check_finite
from .memory import enough_memory

__all__ = ["Prediction", "Predictor", "check_output", "find_images", "predict", "write_predictions"]


@dataclass(frozen=True)
class Prediction:
    """The likeliest classes of one image, likeliest first, with their probabilities (0 to 1)."""

    image: str
    classes: list[str]
    probabilities: list[float]


def find_images(places: Sequence[str | Path]) -> list[Path]:
    """Image files among the places, and in the folders among them, where hidden files are passed over.

    Raises:
        UserError: a place doesn't exist, or a folder holds no image.
    """
    found: list[Path] = []
    for place in map(Path, places):
        if place.is_dir():
            inside = image_files(place)
            if not inside:
                raise UserError(f"{place}: no image in this folder ({' '.join(SUFFIXES)})")
            found += inside
        elif place.is_file():
            found.append(place)
        else:
            raise UserError(f"{place}: no such file or folder")
    return found


class Predictor:
    """A model that answers about one batch of images after another, prepared as it is measured.

    Args:
        model: timm name, Hub id, or folder of a model.
        image_size: Side in pixels; what the model's configuration says where None, as the three below.
        crop_pct: See :func:`wrn_hub.models.preprocess.data_config`, as for the two below.
        crop_mode: The same.
        interpolation: The same.

    Attributes:
        net: The model, on the process's device.
        config: How images are brought to it, in timm's words.
        classes: Their names in the order of the probabilities.

    Raises:
        UserError: there is no such model, its weights don't fit it, or it isn't for RGB.
    """

    def __init__(
        self, model: str, image_size: int | None = None, crop_pct: float | None = None, crop_mode: str | None = None,
        interpolation: str | None = None,
    ) -> None:
        self._name, self._device = model, PartialState().device
        self.net = ModelSource.parse(model).create_for_rgb(pretrained=True).to(self._device).eval()
        self.config = data_config(self.net.pretrained_cfg, image_size, crop_pct, crop_mode, interpolation)
        self.classes = class_names(self.net)
        self._transform = create_transform(**self.config, is_training=False)

    def prepare(self, pixels: np.ndarray) -> torch.Tensor:
        """An image uint8 (H, W, 3) as the net takes it: float32 (3, size, size), normalised."""
        return self._transform(Image.fromarray(pixels))

    @torch.inference_mode()
    def probabilities(self, images: torch.Tensor) -> torch.Tensor:
        """Those (0 to 1) of each class, float32 (N, classes), for prepared images (N, 3, size, size).

        Raises:
            UserError: they aren't finite.
        """
        logits = self.net(images.to(self._device))
        check_finite(logits, self._name)
        return logits.softmax(dim=1)


def predict(
    places: Sequence[str | Path], model: str = "wrn_16_2.cifar10", topk: int = 5, batch_size: int = 64,
    image_size: int | None = None, crop_pct: float | None = None, crop_mode: str | None = None,
    interpolation: str | None = None,
) -> list[Prediction]:
    """Classify images, upright as their EXIF orientation says, else prepared as the model is measured.

    Args:
        places: Image files and folders.
        model: timm name, Hub id, or folder of a model.
        topk: Classes an image; all where the model has fewer.
        batch_size: Images a forward pass.
        image_size: See :class:`Predictor`, as for the three below.
        crop_pct: The same.
        crop_mode: The same.
        interpolation: The same.

    Raises:
        UserError: an image can't be read, there is no such model, its answers aren't finite, or memory doesn't suffice.
    """
    if topk < 1 or batch_size < 1:
        raise UserError(f"topk {topk}, batch size {batch_size}: allowed is 1 or more")
    paths = find_images(places)
    predictor = Predictor(model, image_size, crop_pct, crop_mode, interpolation)
    predictions = []
    for start in range(0, len(paths), batch_size):
        part = paths[start : start + batch_size]
        images = [predictor.prepare(decode(image_bytes(path), printable(path))) for path in part]
        with enough_memory(f"{len(part)} images at a time are too many; try a smaller --batch-size"):
            probabilities = predictor.probabilities(torch.stack(images))
        best = probabilities.topk(min(topk, len(predictor.classes)))
        for path, index, shares in zip(part, best.indices.tolist(), best.values.tolist(), strict=True):
            predictions.append(Prediction(printable(path), [predictor.classes[i] for i in index], shares))
    return predictions


def check_output(output: str | None) -> None:
    """Notice before the work is done that its result has nowhere to go.

    Raises:
        UserError: it is a folder, or lies in none.
    """
    path = Path(output or "screen")
    if path.is_dir():
        raise UserError(f"output {path} is a folder; name a file in it")
    if not path.parent.is_dir():
        raise UserError(f"output {path}: there is no folder {path.parent}; make it first")


def write_predictions(predictions: Sequence[Prediction], form: str = "table", output: str | None = None) -> None:
    """Print predictions, or write them to a file, whole or not at all.

    Args:
        predictions: From :func:`predict`.
        form: "table" for people; "csv" with a row an image and class; "json", a list with an entry an image.
        output: File to write to; the screen where None.
    """
    text = io.StringIO()
    if form == "json":
        json.dump([vars(prediction) for prediction in predictions], text, indent=2)
        text.write("\n")
    elif form == "csv":
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["image", "rank", "class", "probability"])
        for prediction in predictions:
            for rank, (name, probability) in enumerate(
                    zip(prediction.classes, prediction.probabilities, strict=True), start=1):
                table.writerow([prediction.image, rank, name, f"{probability:.6f}"])
    else:
        for prediction in predictions:
            said = ", ".join(f"{name} {p:.1%}" for name, p in
                             zip(prediction.classes, prediction.probabilities, strict=True))
            text.write(f"{prediction.image}: {said}\n")
    if output is None:
        sys.stdout.write(text.getvalue())
        return
    write_whole(output, text.getvalue())
