"""ReaL: every label that is right for an image of ImageNet's validation split (Beyer et al., arXiv:2006.07159)."""
import re
from pathlib import Path

import torch

from ..data.encoded import Images
from ..data.files import FileDataset
from ..data.imagenet import wordnet_ids
from ..data.names import named
from ..errors import UserError
from ..files import read_json
from .results import RealLabels

__all__ = ["read_real_labels", "real_accuracy"]

_NUMBER = re.compile(r"ILSVRC2012_val_(\d{8})")


def _numbers(images: Images, path: Path) -> list[int]:
    """Which image of the validation split each is, from 0, by the name of its file."""
    numbers = []
    for place in range(len(images)):
        found = _NUMBER.search(name := images.name(place))
        if not found:
            raise UserError(
                f"{path}: its labels are for ImageNet's validation images, which are called ILSVRC2012_val_00000001; "
                f"{name} is none of them")
        numbers.append(int(found[1]) - 1)
    return numbers


def read_real_labels(path: Path, dataset: FileDataset) -> list[list[int]]:
    """For each image the labels that are right for it, which may be none.

    Args:
        path: real.json: a list with an entry an image of the validation split, in the order of their numbers, each a
            list of numbers of classes.
        dataset: Images of that split, with all of its classes.

    Raises:
        UserError: the file holds something else, or the images or classes are others.
    """
    entries, classes = read_json(path, list), len(wordnet_ids())
    right = isinstance(entries, list) and all(
        isinstance(entry, list) and all(type(label) is int and 0 <= label < classes for label in entry)
        for entry in entries)
    if not right:
        raise UserError(f"{path}: needed is a list with a list an image, of numbers from 0 to {classes - 1}")
    if dataset.classes != wordnet_ids() and (named(dataset.classes) or len(dataset.classes) != classes):
        raise UserError(f"{path}: its labels are for ImageNet's {classes} classes, {dataset.name} has others")
    numbers = _numbers(dataset.images, path)
    if max(numbers) >= len(entries):
        raise UserError(f"{path}: holds {len(entries)} entries, but there is an image {max(numbers) + 1}")
    return [entries[number] for number in numbers]


def real_accuracy(logits: torch.Tensor, labels: list[list[int]]) -> RealLabels:
    """Of the images that have labels, the share whose likeliest class is one of them.

    Raises:
        UserError: no image has any.
    """
    pairs = [(guess, each) for guess, each in zip(logits.argmax(dim=1).tolist(), labels, strict=True) if each]
    if not pairs:
        raise UserError("the ReaL labels name no class for any of these images")
    return RealLabels(len(pairs), sum(guess in each for guess, each in pairs) / len(pairs))
