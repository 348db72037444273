"""Whether a net and a dataset mean the same by their classes, and in which order the net has them."""
from collections import Counter
from collections.abc import Sequence

import torch
from timm.data import ImageNetInfo, infer_imagenet_subset
from torch import nn

from ..errors import UserError
from ..models.build import class_names

__all__ = ["fitting_order", "logits_for", "named"]


def named(classes: Sequence[str]) -> bool:
    """Whether somebody named the classes: numbers from 0 on are what stands for names where nobody did."""
    return list(classes) != [str(i) for i in range(len(classes))]


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").split())


def _some(names: Counter[str]) -> str:
    listed = list(names.elements())
    return ", ".join(map(repr, listed[:5])) + (f" and {len(listed) - 5} more" if len(listed) > 5 else "")


def fitting_order(own: Sequence[str], wanted: Sequence[str]) -> list[int] | None:
    """Where each wanted class stands among one's own, by name; capitals, spaces and underscores don't matter.

    Returns:
        For each wanted class its place among ``own``, each place once; None where the names are not the same ones. Of
        a name that stands there several times, the first place goes to the first.
    """
    places: dict[str, list[int]] = {}
    for place, name in enumerate(own):
        places.setdefault(_plain(name), []).append(place)
    if len(own) != len(wanted) or Counter(map(_plain, own)) != Counter(map(_plain, wanted)):
        return None
    return [places[_plain(name)].pop(0) for name in wanted]


def _names(model: nn.Module) -> list[list[str]]:
    """The names of a net's classes, in each of the ways in which datasets write them."""
    names = [class_names(model)]
    if not getattr(model, "pretrained_cfg", {}).get("label_names") and (subset := infer_imagenet_subset(model)):
        names.append(ImageNetInfo(subset).label_names())  # such as n01440764, what ImageNet's folders are called
    return names


def logits_for(
    model: nn.Module, who: str, classes: Sequence[str], advice: str, by: str = "name", otherwise: str = ""
) -> torch.Tensor | None:
    """Which of a net's logits belong to the classes of a dataset.

    Args:
        model: A timm model.
        who: What to call it in a message.
        classes: Of the dataset, in the order of its labels.
        advice: What to do where they don't fit.
        by: "name": by the names of the classes, where both sides have them; "order": as they stand.
        otherwise: What else may be done where only the names don't fit.

    Returns:
        int64 (C,), so that ``logits[:, index]`` are in the dataset's order; None where they are already.

    Raises:
        UserError: their numbers differ, or both sides name their classes and the names don't fit.
    """
    if model.num_classes != len(classes):
        raise UserError(
            f"{who} tells {model.num_classes} classes apart, not the {len(classes)} of the dataset: {advice}")
    ways = _names(model)
    if by == "order" or not (named(classes) and named(ways[0])):
        return None
    for own in ways:
        order = fitting_order(own, classes)
        if order is not None:
            return None if order == list(range(len(order))) else torch.tensor(order)
    ours, theirs = Counter(map(_plain, ways[0])), Counter(map(_plain, classes))
    raise UserError(
        f"{who} has other classes than the dataset: {_some(ours - theirs)} are its alone, {_some(theirs - ours)} the "
        f"dataset's; {advice}{otherwise}")
