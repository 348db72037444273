"""Classes of one source found among those of another, by their names."""
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ..errors import UserError

__all__ = ["fitting_order", "in_order", "labels_by_name", "listed", "named", "plain"]


def listed(names: Iterable[str], show: Callable[[str], str] = repr) -> str:
    """The first five, and how many more there are."""
    names = list(names)
    return ", ".join(map(show, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def plain(name: str) -> str:
    """A name without what people write in different ways: capitals, spaces and underscores."""
    return " ".join(name.casefold().replace("_", " ").split())


def _numbers(names: Sequence[str]) -> list[int] | None:
    whole = all(name.isascii() and name.removeprefix("-").isdecimal() for name in names)
    return list(map(int, names)) if whole else None


def named(classes: Sequence[str]) -> bool:
    """Whether somebody named the classes: numbers from 0 on are what stands for names where nobody did."""
    return _numbers(classes) != list(range(len(classes)))


def in_order(names: Iterable[str]) -> list[str]:
    """Names without an order of their own: by number where all are numbers, so that 10 comes after 9, else as text."""
    names = sorted(names)
    return names if _numbers(names) is None else sorted(names, key=int)


def fitting_order(own: Sequence[str], wanted: Sequence[str]) -> list[int] | None:
    """Where each wanted class stands among one's own, by name; capitals, spaces and underscores don't matter.

    Args:
        own: May have more.
        wanted: The classes to be found.

    Returns:
        For each wanted class its place among ``own``, each place once; None where one isn't there, or a name doesn't
        stand there as often as it is wanted. Of a name that is wanted several times, the first place goes to the first.
    """
    places: dict[str, list[int]] = {}
    for place, name in enumerate(own):
        places.setdefault(plain(name), []).append(place)
    if any(len(places.get(name, ())) != count for name, count in Counter(map(plain, wanted)).items()):
        return None
    return [places[plain(name)].pop(0) for name in wanted]


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
    order = fitting_order(classes, names)
    if order is None:
        known = set(map(plain, classes))
        unknown = [name for name in names if plain(name) not in known] or names
        raise UserError(
            f"{where} has other classes than {elsewhere}: {listed(names, str)} there, {listed(classes, str)} here; "
            f"{listed(unknown, str)} can't be matched by name")
    return np.array([*order, -1], dtype=np.int64)[labels]  # -1 takes the last
