"""results.json: what was measured, of which weights, on which images, how and where.

Version 2 of the schema is the dataclasses below. What has a default may be absent, which means that it wasn't measured;
a field that isn't known here, of a newer version of the package, is passed over. So a new measure makes no older file
invalid, nor a newer one unreadable.
"""
import json
import logging
import math
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from ..errors import UserError
from ..files import read_json, write_whole

__all__ = [
    "VERSION", "Corruptions", "Dataset", "PeakMemory", "Preprocessing", "RealLabels", "Results", "Robustness", "Speed",
    "read_record", "strictly"]

VERSION = 2

T = TypeVar("T")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Dataset:
    """The images.

    Attributes:
        name: As the package knows it; for a folder its name.
        split: "test" or "train"; "all" of what has no splits and was measured whole.
        images: How many.
        fingerprint: sha256 of shape, pixels and labels; of images in files see
            :attr:`wrn_hub.data.files.FileDataset.fingerprint`.
        revision: The commit of the Hub's dataset; None where the images didn't come through the Hub.
    """

    name: str
    split: str
    images: int
    fingerprint: str
    revision: str | None = None

    def __post_init__(self) -> None:
        if self.images < 1:
            raise UserError(f"images: is {self.images}, needed is 1 or more")


@dataclass(frozen=True)
class Preprocessing:
    """What is done to an image before the net sees it.

    Attributes:
        size: Side in pixels.
        mean: Subtracted per channel, in units of 1.
        std: Divided by then, in the same units.
        crop_pct: Side of the part that is seen, over the side that the image is brought to; None where that isn't on
            record, as the two below.
        crop_mode: Where that part lies, as timm calls it.
        interpolation: Of an image that has another size, as timm calls it.
        upright: Whether images are turned as their EXIF orientation says; see
            :func:`wrn_hub.models.preprocess.sees_upright`. None where that isn't on record.
    """

    size: int
    mean: list[float]
    std: list[float]
    crop_pct: float | None = None
    crop_mode: str | None = None
    interpolation: str | None = None
    upright: bool | None = None

    def agrees(self, other: "Preprocessing") -> bool:
        """Whether both are the same, as far as both are on record."""
        return all(
            None in (own, theirs) or own == theirs for own, theirs in zip(
                asdict(self).values(), asdict(other).values(), strict=True))


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

    def __post_init__(self) -> None:
        if not all(self.accuracy.values()) or not self.accuracy:
            raise UserError("accuracy lacks figures")

    @property
    def mean(self) -> float:
        """Top-1 over all kinds and severities."""
        values = [value for row in self.accuracy.values() for value in row]
        return sum(values) / len(values)


@dataclass(frozen=True)
class Robustness:
    """Top-1 on the first images when they are attacked, see :mod:`wrn_hub.evaluation.attacks`.

    Attributes:
        attack: "pgd" or "fgsm".
        eps: Largest change of a pixel, in units of 1 (pixel / 255).
        step: Change of a step, in the same units.
        steps: Steps of the attack.
        images: How many, from the first on.
        seed: Of the places that the attack starts from.
        clean: Top-1 on the same images as they are.
        accuracy: Share of them that are recognised as they are, and attacked too.
    """

    attack: str
    eps: float
    step: float
    steps: int
    images: int
    seed: int
    clean: float
    accuracy: float

    @property
    def title(self) -> str:
        """The attack in words."""
        name = f"PGD-{self.steps}" if self.attack == "pgd" else self.attack.upper()
        return f"under {name}, pixels changed by at most {255 * self.eps:.3g}/255 ({self.images:,} images)"


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
class RealLabels:
    """Accuracy by ReaL's labels of ImageNet, see :mod:`wrn_hub.evaluation.real_labels`.

    Attributes:
        images: How many have any.
        top1: Share of them whose likeliest class is one of their labels, 0 to 1.
    """

    images: int
    top1: float


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
        nll: Mean negative log-likelihood of the true class, in nats.
        ece: Expected calibration error with 15 bins, 0 to 1.
        per_class: Class -> share of its images that were recognised; None for a class without images.
        parameters: Number of trained numbers.
        gmacs: Billions of multiply-accumulates of one image.
        activations: Millions of numbers that come out of convolutions, one image.
        precision: "fp32" on a CPU is the canonical one.
        command: What was typed, without the folders of the machine.
        versions: Of Python and the packages.
        hardware: Name of the device, for a CPU with its threads.
        date: UTC, ISO 8601.
        top5: Share of the images whose class is among the five likeliest, 0 to 1; None below six classes.
        flip_agreement: Share of the images that get the same answer when mirrored; None where that wasn't measured.
        corruptions: None where they weren't measured.
        robustness: None where no attack was tried.
        speed: Of inference.
        peak_memory: Of the whole process until the end of the forward passes over the split.
        processes: How many shared the work.
        match_classes: How the net's logits were brought to the dataset's classes: "name", by the names of both;
            "order", as they stand. None where that isn't on record: their numbers were equal then.
        among: Of how many classes of the net the likeliest is the answer, where the dataset has only some of them.
        pipeline: How images got to the net: "memory", decoded once into one array; "files", each by timm's own
            transforms. None where that isn't on record: "memory" then.
        real: By ReaL's labels; None where they weren't given.
        schema_version: 2.
    """

    model: str
    weights_sha256: str | None
    dataset: Dataset
    preprocessing: Preprocessing
    top1: float
    nll: float
    ece: float
    per_class: dict[str, float | None]
    parameters: int
    gmacs: float
    activations: float
    precision: str
    command: str
    versions: dict[str, str]
    hardware: str
    date: str
    top5: float | None = None
    flip_agreement: float | None = None
    corruptions: Corruptions | None = None
    robustness: Robustness | None = None
    speed: Speed | None = None
    peak_memory: PeakMemory | None = None
    processes: int = 1
    match_classes: str | None = None
    among: int | None = None
    pipeline: str | None = None
    real: RealLabels | None = None
    schema_version: int = VERSION

    def __post_init__(self) -> None:
        for name in ("top1", "top5", "ece", "flip_agreement"):
            share = getattr(self, name)
            if share is not None and not 0 <= share <= 1:
                raise UserError(f"{name}: is {share}, needed is a share from 0 to 1")

    def summary(self) -> str:
        """What was measured, in a few lines."""
        processes = f"{self.processes} process{'es' if self.processes > 1 else ''}"
        lines = [
            f"{self.model} on {self.dataset.images} images of {self.dataset.name} ({self.dataset.split}), "
            f"{self.precision}, {processes}",
            f"top-1 {self.top1:.2%}" + (f", top-5 {self.top5:.2%}" if self.top5 is not None else "")
            + f", negative log-likelihood {self.nll:.4f}, calibration error {self.ece:.2%}"]
        if self.real:
            lines.append(f"top-1 {self.real.top1:.2%} by ReaL's labels of {self.real.images} images")
        if self.among:
            lines.append(
                f"the dataset has {len(self.per_class)} of the net's {self.among} classes; its answers are among all")
        if self.corruptions:
            lines.append(
                f"on corrupted copies of {self.corruptions.images} images {self.corruptions.mean:.2%} "
                f"({self.corruptions.clean:.2%} on these as they are)")
        if self.robustness:
            lines.append(
                f"{self.robustness.title} {self.robustness.accuracy:.2%} "
                f"({self.robustness.clean:.2%} on these as they are)")
        if self.flip_agreement is not None:
            lines.append(f"the same answer for {self.flip_agreement:.2%} of the mirrored images")
        size = f"{self.parameters:,} parameters, {self.gmacs:.4g} GMACs, {self.activations:.4g} M activations"
        if self.speed:
            size += f", {self.speed.images_per_second:.0f} images/s ({self.hardware})"
        if self.peak_memory:
            size += f", {self.peak_memory.bytes / 2**20:.0f} MiB {self.peak_memory.what}"
        lines.append(size)
        return "\n".join(lines)

    def write(self, path: str | Path) -> None:
        """Write the file, whole or not at all."""
        write_whole(path, json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, path: str | Path) -> "Results":
        """Read a results.json.

        Raises:
            UserError: it is not JSON, is of another version, lacks a field, or holds something else in one.
        """
        return read_record(cls, Path(path), "measure again with scripts/evaluate.py", VERSION)


def read_record(cls: type[T], path: Path, again: str, version: int | None = None) -> T:
    """A dataclass from a JSON file; see :func:`strictly`.

    Args:
        cls: The dataclass.
        path: The file.
        again: What to do where the file won't do.
        version: What its ``schema_version`` has to be, if it has one.

    Raises:
        UserError: it is no such file; says why in one line.
    """
    try:
        content = read_json(path)
    except UserError as error:
        raise UserError(f"{error}; {again}") from None
    if version is not None:
        found = content.get("schema_version")
        if isinstance(found, int) and found > version:
            raise UserError(
                f"{path}: version {found} of {path.name}, this package reads {version}: update it, or {again}")
        if found != version:
            raise UserError(f"{path}: version {found} of {path.name}, needed is {version}; {again}")
    return strictly(cls, content, str(path), again)


def strictly(cls: type[T], content: Any, where: str, again: str) -> T:
    """A dataclass, and those within it, from plain JSON, every value of the type that the class says.

    A field with a default may be absent. One that the class doesn't know is passed over, with a line in the log.

    Raises:
        UserError: a field is missing, of another type, or a number that isn't finite; names it and says ``again``, what
            to do.
    """
    if not isinstance(content, dict):
        raise UserError(f"{where}: is {_shown(content)}, needed are the fields of {cls.__name__}; {again}")
    hints = get_type_hints(cls)
    needed = {
        item.name for item in fields(cls)  # type: ignore[arg-type]
        if item.default is MISSING and item.default_factory is MISSING}
    if missing := sorted(needed - set(content)):
        raise UserError(f"{where}: missing {missing}; {again}")
    if unknown := sorted(set(content) - set(hints)):
        _log.info("%s: passed over %s, which this version of wrn_hub doesn't know", where, ", ".join(unknown))
    values = {
        name: _checked(hint, content[name], f"{where}, {name}", again)
        for name, hint in hints.items() if name in content}
    try:
        return cls(**values)
    except UserError as error:
        raise UserError(f"{where}: {error}; {again}") from None


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _checked(hint: Any, value: Any, where: str, again: str) -> Any:
    """The value as the type that a dataclass's annotation says."""
    if isinstance(hint, type) and is_dataclass(hint):
        return strictly(hint, value, where, again)
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if value is None and NoneType in kinds:
        return None
    (kind,) = (kind for kind in kinds if kind is not NoneType)
    if kind is not hint:
        return _checked(kind, value, where, again)
    origin = get_origin(kind) or kind
    if origin is dict and isinstance(value, dict):
        inner = (get_args(kind) or (str, Any))[1]
        return {key: _checked(inner, inside, f"{where}, {key}", again) for key, inside in value.items()}
    if origin is list and isinstance(value, list):
        inner = (get_args(kind) or (Any,))[0]
        return [_checked(inner, inside, f"{where}, {place}", again) for place, inside in enumerate(value)]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is float and number:
        try:
            if math.isfinite(value):
                return float(value)
        except OverflowError:  # a whole number beyond all floats
            pass
    elif kind is Any or (kind is int and number and isinstance(value, int)) or (
            kind in (str, bool) and isinstance(value, kind)):
        return value
    name = {"float": "a finite number", "int": "a whole number", "str": "a text", "bool": "true or false"}.get(
        getattr(kind, "__name__", ""), f"a {getattr(origin, '__name__', origin)}")
    raise UserError(f"{where}: is {_shown(value)}, needed is {name}; {again}")
