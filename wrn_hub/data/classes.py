"""Whether a net and a dataset mean the same by their classes, and in which order the net has them."""
from collections import Counter
from collections.abc import Sequence

import torch
from timm.data import ImageNetInfo, infer_imagenet_subset
from torch import nn

from ..errors import UserError
from ..models.build import class_names
from .names import fitting_order, listed, named, plain

__all__ = ["logits_for"]


def _names(model: nn.Module) -> list[list[str]]:
    """The names of a net's classes, in each of the ways in which datasets write them."""
    names = [class_names(model)]
    if not getattr(model, "pretrained_cfg", {}).get("label_names") and (subset := infer_imagenet_subset(model)):
        names.append(ImageNetInfo(subset).label_names())  # such as n01440764, what ImageNet's folders are called
        names.append([name.partition(",")[0] for name in names[0]])  # "tench" of "tench, Tinca tinca"
    return names


def logits_for(
    model: nn.Module, who: str, classes: Sequence[str], advice: str, by: str = "name", otherwise: str = "",
    some: bool = False,
) -> torch.Tensor | None:
    """Which of a net's logits belong to the classes of a dataset.

    Args:
        model: A timm model.
        who: What to call it in a message.
        classes: Of the dataset, in the order of its labels.
        advice: What to do where they don't fit.
        by: "name": by the names of the classes, where both sides have them; "order": as they stand.
        otherwise: What else may be done where only the names don't fit.
        some: Whether the dataset may have some of the net's classes only, as far as both are named.

    Returns:
        int64 (num_classes,), so that ``logits[:, index]`` are in the dataset's order, and after them come those of
        classes that it lacks; None where they are already.

    Raises:
        UserError: their numbers differ, or both sides name their classes and the names don't fit.
    """
    ways, as_many = _names(model), model.num_classes == len(classes)
    if by == "name" and (as_many or (some and named(classes))):
        for own in ways:
            if (order := fitting_order(own, classes)) is not None:
                order += sorted({*range(model.num_classes)} - {*order})
                return None if order == list(range(len(order))) else torch.tensor(order)
    both_named = named(classes) and named(ways[0])
    if not as_many and (by == "order" or not (some and both_named)):
        raise UserError(
            f"{who} tells {model.num_classes} classes apart, not the {len(classes)} of the dataset: {advice}")
    if as_many and (by == "order" or not both_named):
        return None
    theirs = Counter(map(plain, classes))
    ours = min((Counter(map(plain, own)) for own in ways), key=lambda names: (theirs - names).total())
    raise UserError(
        f"{who} has other classes than the dataset: {listed((ours - theirs).elements())} are its alone, "
        f"{listed((theirs - ours).elements())} the dataset's; {advice}{otherwise if as_many else ''}")
