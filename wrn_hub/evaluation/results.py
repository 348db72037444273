"""results.json: what was measured, of which weights, on which images, how and where.

Version 2 of the schema is the dataclasses below. A file with a field too few or too many is refused.
"""
import json
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from ..errors import UserError
from ..files import write_whole

__all__ = ["VERSION", "Corruptions", "Dataset", "PeakMemory", "Preprocessing", "Results", "Speed", "strictly"]

VERSION = 2

T = TypeVar("T")


@dataclass(frozen=True)
class Dataset:
    """The images.

    Attributes:
        name: As the package knows it; for a folder its name.
        split: "test" or "train".
        images: How many.
        fingerprint: sha256 of shape, pixels and labels.
        revision: The commit of the Hub's dataset; None where the images didn't come through the Hub.
    """

    name: str
    split: str
    images: int
    fingerprint: str
    revision: str | None


@dataclass(frozen=True)
class Preprocessing:
    """Side in pixels; mean and std per channel in units of 1."""

    size: int
    mean: list[float]
    std: list[float]


@dataclass(frozen=True)
class Corruptions:
    """Top-1 on corrupted copies of the first images, see :mod:`wrn_hub.evaluation.corruptions`.

    Attributes:
        images: How many, from the first on.
        seed: Of the corruptions.
        clean: Top-1 on the same images as they are.
        accuracy: Kind -> top-1 at severities 1 to 5.
    """

    images: int
    seed: int
    clean: float
    accuracy: dict[str, list[float]]

    @property
    def mean(self) -> float:
        """Top-1 over all kinds and severities."""
        values = [value for row in self.accuracy.values() for value in row]
        return sum(values) / len(values)


@dataclass(frozen=True)
class Speed:
    """Of one process, from normalised images in memory to logits.

    Attributes:
        images_per_second: Of the fastest of several forward passes.
        batch_size: Images a forward pass.
    """

    images_per_second: float
    batch_size: int


@dataclass(frozen=True)
class PeakMemory:
    """``bytes`` of the process that used most, and ``what`` they are."""

    bytes: int
    what: str


@dataclass(frozen=True)
class Results:
    """One measurement of one model on one split.

    Attributes:
        model: timm name, with its tag where it has one; for a folder its name.
        weights_sha256: sha256 of model.safetensors; None for weights that lie in no file here.
        dataset: The images.
        preprocessing: What was done to them.
        top1: Share of the images whose class is the likeliest, 0 to 1.
        top5: Share of the images whose class is among the five likeliest, 0 to 1; None below six classes.
        nll: Mean negative log-likelihood of the true class, in nats.
        ece: Expected calibration error with 15 bins, 0 to 1.
        per_class: Class -> share of its images that were recognised; None for a class without images.
        flip_agreement: Share of the images that get the same answer when mirrored; None where that wasn't measured.
        corruptions: None where they weren't measured.
        parameters: Number of trained numbers.
        gmacs: Billions of multiply-accumulates of one image.
        activations: Millions of numbers that come out of convolutions, one image.
        speed: Of inference.
        peak_memory: Of the whole process until the end of the forward passes over the split.
        precision: "fp32" on a CPU is the canonical one.
        processes: How many shared the work.
        command: What was typed, without the folders of the machine.
        versions: Of Python and the packages.
        hardware: Name of the device, for a CPU with its threads.
        date: UTC, ISO 8601.
        schema_version: 2.
    """

    model: str
    weights_sha256: str | None
    dataset: Dataset
    preprocessing: Preprocessing
    top1: float
    top5: float | None
    nll: float
    ece: float
    per_class: dict[str, float | None]
    flip_agreement: float | None
    corruptions: Corruptions | None
    parameters: int
    gmacs: float
    activations: float
    speed: Speed
    peak_memory: PeakMemory
    precision: str
    processes: int
    command: str
    versions: dict[str, str]
    hardware: str
    date: str
    schema_version: int = VERSION

    def summary(self) -> str:
        """What was measured, in a few lines."""
        processes = f"{self.processes} process{'es' if self.processes > 1 else ''}"
        lines = [
            f"{self.model} on {self.dataset.images} images of {self.dataset.name} ({self.dataset.split}), "
            f"{self.precision}, {processes}",
            f"top-1 {self.top1:.2%}" + (f", top-5 {self.top5:.2%}" if self.top5 is not None else "")
            + f", negative log-likelihood {self.nll:.4f}, calibration error {self.ece:.2%}"]
        if self.corruptions:
            lines.append(
                f"on corrupted copies of {self.corruptions.images} images {self.corruptions.mean:.2%} "
                f"({self.corruptions.clean:.2%} on these as they are)")
        if self.flip_agreement is not None:
            lines.append(f"the same answer for {self.flip_agreement:.2%} of the mirrored images")
        lines.append(
            f"{self.parameters:,} parameters, {self.gmacs:.4g} GMACs, {self.activations:.4g} M activations, "
            f"{self.speed.images_per_second:.0f} images/s ({self.hardware}), "
            f"{self.peak_memory.bytes / 2**20:.0f} MiB {self.peak_memory.what}")
        return "\n".join(lines)

    def write(self, path: str | Path) -> None:
        """Write the file, whole or not at all."""
        write_whole(path, json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, path: str | Path) -> "Results":
        """Read a results.json.

        Raises:
            UserError: it is not JSON, is of another version, or lacks or adds a field.
        """
        again = "measure again with scripts/evaluate.py"
        try:
            content = json.loads(Path(path).read_text())
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: not a results file ({error}); {again}") from None
        version = content.get("schema_version") if isinstance(content, dict) else None
        if version != VERSION:
            raise UserError(f"{path}: version {version} of results.json, needed is {VERSION}; {again}")
        return strictly(cls, content, str(path), again)


def strictly(cls: type[T], content: Any, where: str, again: str) -> T:
    """A dataclass, and those within it, from plain JSON; its fields neither more nor fewer.

    Raises:
        UserError: a field is missing or unknown; names it and says ``again``, what to do.
    """
    known = {item.name for item in fields(cls)}  # type: ignore[arg-type]
    given = set(content) if isinstance(content, dict) else set()
    if given != known:
        raise UserError(f"{where}: missing {sorted(known - given)}, unknown {sorted(given - known)}; {again}")
    values = {}
    for name, hint in get_type_hints(cls).items():
        value, place = content[name], f"{where}, {name}"
        parts = [kind for kind in (hint, *get_args(hint)) if isinstance(kind, type) and is_dataclass(kind)]
        if get_origin(hint) is dict and parts:
            value = {key: strictly(parts[0], inside, f"{place}, {key}", again) for key, inside in value.items()}
        elif hint in parts or (parts and value is not None):
            value = strictly(parts[0], value, place, again)
        values[name] = value
    return cls(**values)
