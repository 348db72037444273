"""What splits are called, and labels by the names that another split or file gave the classes."""
import logging
from collections.abc import Iterable, Sequence

import numpy as np

from ..errors import UserError

__all__ = ["choose_split", "kind_of_split", "labels_by_name"]

# in the order in which they are preferred, in small letters
_NAMES = {
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "validation": ("validation", "valid", "val", "dev", "development", "eval", "evaluation"),
}

_log = logging.getLogger(__name__)


def kind_of_split(name: str) -> str | None:
    """"train", "test" or "validation" for one of a split's usual names, whatever its capitals; else None."""
    return next((kind for kind, names in _NAMES.items() if name.lower() in names), None)


def choose_split(split: str, available: Iterable[str], where: str) -> str:
    """The name under which ``split`` is available: one of its own, or, for "test", one of a validation split.

    Args:
        split: "train" or "test".
        available: The names of the splits that there are.
        where: What to call the dataset in an error.

    Raises:
        UserError: no split of these names is available.
    """
    available = sorted(available)
    for kind in (split, "validation") if split == "test" else (split,):
        found = sorted((_NAMES[kind].index(name.lower()), name) for name in available if kind_of_split(name) == kind)
        if found:
            if len(found) > 1:
                others = ", ".join(name for _, name in found[1:])
                _log.info("%s: %s is taken for %s, not %s", where, found[0][1], split, others)
            return found[0][1]
    hint = ""
    if any(kind_of_split(name) == "train" for name in available):
        hint = "; hold out a part of the training split instead (--held-out)"
    raise UserError(f"{where} has no {split} split, only {', '.join(available) or 'none at all'}{hint}")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def labels_by_name(
    labels: np.ndarray, names: Sequence[str], classes: Sequence[str], where: str, elsewhere: str
) -> np.ndarray:
    """Labels among ``names`` as labels among ``classes``; -1, which is none, stays.

    Args:
        labels: int64 (N,).
        names: What the labels stand for, in their order.
        classes: What they are to stand for; may have more.
        where: Where the labels come from.
        elsewhere: Where the classes come from.

    Raises:
        UserError: a label stands for no name, or a name is none of the classes.
    """
    if len(labels) and (labels.min() < -1 or labels.max() >= len(names)):
        raise UserError(
            f"{where}: labels run from {labels.min()} to {labels.max()}, but {len(names)} classes allow 0 to "
            f"{len(names) - 1}")
    if tuple(names) == tuple(classes):
        return labels
    places = {name: place for place, name in enumerate(classes)}
    unknown = [name for name in names if name not in places]
    if unknown:
        raise UserError(
            f"{where} has other classes than {elsewhere}: {_listed(names)} there, {_listed(classes)} here; "
            f"{_listed(unknown)} can't be matched by name")
    table = np.array([*(places[name] for name in names), -1], dtype=np.int64)  # -1 takes the last
    return table[labels]
