"""What splits are called, and what is for testing where there are none."""
import hashlib
import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..errors import UserError

__all__ = ["choose_split", "fifth", "kind_of_split", "say_without_splits", "without_splits"]

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


def without_splits(names: Iterable[str]) -> bool:
    """Whether there is nothing to measure on but a part of what is there to train on."""
    return all(kind_of_split(name) == "train" for name in names)


def say_without_splits(source: Path, split: str) -> None:
    """Tell the log what a split is where there are none; of two that are read for a training once, with the first."""
    if split != "test":
        what = "it is taken whole" if split == "all" else "a fifth of every class is for testing"
        _log.info("%s has no train and test splits: %s", source, what)


def choose_split(split: str, available: Iterable[str], where: str) -> str:
    """The name under which ``split`` is available: one of its own, or, for "test", one of a validation split.

    Args:
        split: "train" or "test".
        available: The names of the splits that there are.
        where: What to call the dataset in an error.

    Raises:
        UserError: no split of these names is available; or it is "all", which they are not.
    """
    if split == "all":
        raise UserError(f"{where}: it has splits, so 'all' is none of them; choose train or test")
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


def fifth(paths: Sequence[Path]) -> list[int]:
    """Places of the images of a class that are for testing where nobody said which: a fifth, at least one of two.

    They are chosen by the hash of their names: an image stays in its split, or nearly always, when others are added.
    """
    count = max(len(paths) > 1, round(len(paths) / 5))
    order = sorted(range(len(paths)), key=lambda place: hashlib.sha256(os.fsencode(paths[place].name)).digest())
    return sorted(order[:count])
