"""What others report of these architectures, from reported.toml; never mixed with what is measured here."""
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..files import read_toml

__all__ = ["OUR_PREPROCESSING", "Reported", "best_reported", "reported"]

OUR_PREPROCESSING = "mean/std"


@dataclass(frozen=True)
class Reported:
    """One number that others report.

    Attributes:
        error: Top-1 error on the test split, in %.
        source: Where it stands.
        preprocessing: Of the images.
        top5_error: Top-5 error in %, where that is reported.
        weights: timm's tag of the weights that it is of; empty where it is of none that can be had here.
    """

    error: float
    source: str
    preprocessing: str
    top5_error: float | None = None
    weights: str = ""


@cache
def _table() -> dict[str, dict[str, list[Reported]]]:
    return {
        arch: {dataset: [Reported(**entry) for entry in entries] for dataset, entries in datasets.items()}
        for arch, datasets in read_toml(Path(__file__).with_name("reported.toml")).items()}


def reported(arch: str, dataset: str) -> list[Reported]:
    """Everything on record of an architecture on "cifar10", "cifar100", "svhn" or "imagenet"."""
    return _table().get(arch, {}).get(dataset, [])


def best_reported(arch: str, dataset: str) -> Reported | None:
    """The lowest error on record, by whatever training."""
    return min(reported(arch, dataset), key=lambda entry: entry.error, default=None)
