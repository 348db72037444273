"""What splits are called."""
import logging
from collections.abc import Iterable

from ..errors import UserError

__all__ = ["choose_split", "kind_of_split"]

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
