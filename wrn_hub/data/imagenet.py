"""ImageNet's classes, of which timm has the lists: WordNet ids such as n01440764, and what people call them."""
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from timm.data import ImageNetInfo

from ..facts import KNOWN, DatasetFacts

__all__ = ["known", "readable", "wordnet_ids"]


@cache
def _info() -> ImageNetInfo:
    return ImageNetInfo("imagenet-1k")


def wordnet_ids() -> tuple[str, ...]:
    """The 1,000 classes of ImageNet-1k in the order of its labels."""
    return tuple(_info().label_names())


def known(name: str) -> DatasetFacts | None:
    """What is known of a dataset, its classes included; None of others."""
    facts = KNOWN.get(name)
    return facts if facts is None or facts.classes else replace(facts, classes=wordnet_ids())


def readable(classes: Sequence[str]) -> list[str]:
    """Names of classes for people: of a WordNet id the first thing that it is called by, of others what they are."""
    ids = set(wordnet_ids())
    return [_info().label_name_to_description(name).partition(",")[0] if name in ids else name for name in classes]
