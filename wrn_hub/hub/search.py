"""Names as people type them: what finds a model, and which names are near one that finds none.

A name is taken apart at everything that is no letter or digit: ``28_10``, ``28-10`` and ``WRN-28-10`` are the same. The
pages' script does the same to what is typed (static/hub.js), and looks in the same terms.
"""
import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import TypeVar

from ..cards.costs import variant_costs
from ..facts import KNOWN

__all__ = ["dataset_key", "matching", "near", "plain", "terms"]

T = TypeVar("T")

IMAGENET = "imagenet"  # as reported.toml and timm's tags call it
_ALSO = {IMAGENET: ("imagenet-1k", "in1k", "ilsvrc"), "imagenet-1k": (IMAGENET, "in1k", "ilsvrc")}


def plain(text: str) -> str:
    """Letters and digits, in lower case, with one dash for whatever lies between: "wrn-28-10"."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def dataset_key(name: str) -> str:
    """A dataset's name as the package has it, where it knows it ("cifar10" for "CIFAR-10"); else as it is."""
    if plain(name) in (IMAGENET, *_ALSO[IMAGENET]):
        return IMAGENET
    same = (key for key, facts in KNOWN.items() if plain(name) in (plain(key), plain(facts.title)))
    return next(same, name)


def _aliases(arch: str) -> list[str]:
    """Other names of an architecture of this package."""
    numbers = re.fullmatch(r"wrn_(\d+)_(\w+)", arch)
    found = [f"{family}{numbers[1]}-{numbers[2]}" for family in ("wrn", "wide-resnet", "wideresnet", "wideresnet-")
             ] if numbers else []
    theirs = variant_costs()[arch].timm if arch in variant_costs() else {}
    for tag, weights in theirs.items():
        found += ["timm", tag, weights.repository.partition("/")[2].partition(".")[0]]
    return list(dict.fromkeys(found))


def terms(name: str, arch: str = "", dataset: str | None = None, tags: Sequence[str] = ()) -> str:
    """Everything that finds a model, plain, with blanks between.

    Args:
        name: Its own name.
        arch: Its architecture; empty where that isn't known.
        dataset: What it was trained on; None where that isn't known.
        tags: Of its card.
    """
    known = [dataset, KNOWN[dataset].title if dataset in KNOWN else "", *_ALSO.get(dataset, ())] if dataset else []
    whole = f"{arch}.{dataset}" if arch and dataset else ""
    words = [plain(word) for word in (name, arch, whole, *_aliases(arch), *known, *tags) if word]
    return " ".join(dict.fromkeys(word for word in words if word))


def _found(word: str, all_terms: Sequence[str]) -> list[bool]:
    """Which terms a plain word finds: whole parts of names where there are any, else beginnings of them, else any."""
    for pattern in (rf"(?<![a-z0-9]){word}(?![a-z0-9])", rf"(?<![a-z0-9]){word}", word):
        found = [bool(re.search(pattern, text)) for text in all_terms]
        if any(found):
            return found
    return [False] * len(all_terms)


def matching(query: str, all_terms: Sequence[str]) -> list[bool]:
    """Which of the :func:`terms` a query finds: those that each of its words finds."""
    found = [True] * len(all_terms)
    for word in filter(None, map(plain, query.split())):
        found = [one and other for one, other in zip(found, _found(word, all_terms), strict=True)]
    return found


def near(name: str, known: Iterable[str], count: int = 5) -> list[str]:
    """The known names that are nearest to one that isn't known, the nearest first."""
    by_plain: dict[str, list[str]] = {}
    for one in known:
        for text in {plain(one), plain(one).removeprefix("wrn-")}:
            by_plain.setdefault(text, []).append(one)
    close = get_close_matches(plain(name).removeprefix("wrn-"), by_plain, count, 0.55)
    close += get_close_matches(plain(name), by_plain, count, 0.6)
    return list(dict.fromkeys(one for text in close for one in by_plain[text]))[:count]
