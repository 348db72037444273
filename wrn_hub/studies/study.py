"""What a study is: a claim, the paper's figures, and for each scale the nets that are trained and how."""
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import UserError, nearest
from ..files import read_toml
from ..recipes import load_recipe
from ..training.options import PACE, PLACES, TrainOptions

__all__ = ["COLUMNS", "SCALES", "Claim", "Net", "Plot", "Scale", "Study", "load_study", "study_names"]

_FOLDER = Path(__file__).parent
SCALES = ("small", "paper")

# what a table can tell of a net, by its key in the file
COLUMNS = {
    "parameters": "parameters", "gmacs": "GMACs", "step": "ms a step", "package_step": "ms, as this package does it",
    "ratio": "times", "memory": "memory of a step", "train_error": "training error, %", "error": "test error, %",
    "paper": "published", "paper_ratio": "published: times"}


@dataclass(frozen=True)
class Net:
    """A net of a study, and what its training has of its own.

    Attributes:
        name: As the tables have it.
        model: A timm model, or one of :mod:`wrn_hub.studies.nets`.
        kwargs: Arguments of the model.
        options: Settings in which its training differs from the others'.
        group: Line of the plot that it is a point of.
        x: Its place on the plot, where that is no column of the table.
        paper: The paper's figure for the net, or for the one of its kind at the paper's scale.
    """

    name: str
    model: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    group: str = ""
    x: float | None = None
    paper: float | None = None

    @property
    def model_kwargs(self) -> tuple[str, ...]:
        """``kwargs`` as :class:`TrainOptions` has them."""
        return tuple(f"{key}={tuple(value) if isinstance(value, list) else value}"
                     for key, value in self.kwargs.items())


@dataclass(frozen=True)
class Claim:
    """A pair of nets, and what is claimed of them: ``lower`` has the lower value in ``column`` of the two."""

    says: str
    lower: str
    higher: str
    column: str = "error"


@dataclass(frozen=True)
class Plot:
    """Axes of the plot: columns of the table, or ``x`` of the nets, whose meaning is ``x_label`` then."""

    x: str
    y: str
    x_label: str = ""
    log: bool = False


@dataclass(frozen=True)
class Scale:
    """What is trained at one scale.

    Attributes:
        name: "small" or "paper".
        about: How it differs from the paper, or what it takes.
        seeds: Trainings of each net; 0 where steps are timed and nothing is trained.
        options: Settings of every training, a recipe's among them.
        nets: In the order of the table.
        claims: Checked one by one.
        steps: Images a step where its time and memory are measured too; 0: they aren't.
    """

    name: str
    about: str
    seeds: int
    options: dict[str, Any]
    nets: tuple[Net, ...]
    claims: tuple[Claim, ...]
    steps: int

    @property
    def image_size(self) -> int:
        """Side in pixels of the images that nets are measured on and counted for; CIFAR's own by default."""
        return self.options.get("image_size") or 32

    def net(self, name: str) -> Net:
        """The net of this name."""
        return next(net for net in self.nets if net.name == name)

    def settings(self, net: Net) -> dict[str, Any]:
        """What decides the result of a net's training but for the seed, plain as JSON has it."""
        merged = {"model": net.model, "model_kwargs": net.model_kwargs, **self.options, **net.options}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in merged.items()}

    def wanted(self) -> Iterator[tuple[Net, int]]:
        """Every training, as (net, seed): the first seed of all nets comes first."""
        return ((net, seed) for seed in range(self.seeds) for net in self.nets)


@dataclass(frozen=True)
class Study:
    """A study.

    Attributes:
        name: Of its file and its folder.
        title: Of its page.
        claim: What is claimed, and by whom.
        source: Section and table.
        learns: One sentence: what a reader learns.
        unit: Of the paper's figures.
        columns: Keys of :data:`COLUMNS`.
        plot: Its axes.
        scales: By their names.
        reference: Net whose step is 1 in the columns of ratios.
    """

    name: str
    title: str
    claim: str
    source: str
    learns: str
    unit: str
    columns: tuple[str, ...]
    plot: Plot
    scales: dict[str, Scale]
    reference: str = ""

    def scale(self, name: str) -> Scale:
        """The scale of this name.

        Raises:
            UserError: the study has none.
        """
        if name not in self.scales:
            raise UserError(f"scale {name!r}: {self.name} has {', '.join(self.scales)}")
        return self.scales[name]


@cache
def study_names() -> tuple[str, ...]:
    """The studies that come with the package, in the order in which a reader takes them."""
    names = {file.stem: read_toml(file).get("number", math.inf) for file in _FOLDER.glob("*.toml")}
    return tuple(sorted(names, key=lambda name: (names[name], name)))


def load_study(name: str) -> Study:
    """Read a study.

    Args:
        name: One of :func:`study_names`, or the path of a TOML file.

    Raises:
        UserError: there is no such study, or it has keys that mean nothing or lacks some; names the file and the key.
    """
    path = Path(name) if name.endswith(".toml") else _FOLDER / f"{name}.toml"
    if not path.is_file():
        raise UserError(
            f"study {name!r}: allowed are {', '.join(study_names())}, or the path of a .toml file."
            f"{nearest(name, study_names())}")
    content = read_toml(path)
    content.pop("number", None)
    scales = {key: content.pop(key) for key in SCALES if key in content}
    plot = _built(Plot, content.pop("plot", {}), f"{path}, plot")
    columns = tuple(content.pop("columns", ()))
    for key in (*columns, plot.y):
        _check(key, COLUMNS, f"{path}: no column")
    read = {key: _scale(key, value, path) for key, value in scales.items()}
    if not read:
        raise UserError(f"{path}: needed is a table [small] or [paper] with its nets")
    return _built(Study, {
        "name": path.stem, "unit": "error, %", **content, "columns": columns, "plot": plot, "scales": read}, str(path))


def _scale(name: str, content: dict[str, Any], path: Path) -> Scale:
    where = f"{path}, {name}"
    options = dict(content.pop("options", {}))
    if recipe := content.pop("recipe", None):
        options = {**load_recipe(recipe, TrainOptions).options, **options}
    nets = tuple(_built(Net, net, f"{where}, nets") for net in content.pop("nets", []))
    claims = tuple(_built(Claim, claim, f"{where}, claims") for claim in content.pop("claims", []))
    scale = _built(Scale, {
        "name": name, "seeds": 0, "steps": 0, **content, "options": options, "nets": nets, "claims": claims}, where)
    names = [net.name for net in nets]
    slugs = {re.sub(r"\W+", "", each) for each in names}
    if not nets or len(slugs) < len(nets):
        raise UserError(f"{where}: nets are {', '.join(names) or 'missing'}; needed is one or more, each name once")
    for claim in claims:
        for net in (claim.lower, claim.higher):
            _check(net, names, f"{where}, claims: no net")
        _check(claim.column, COLUMNS, f"{where}, claims: no column")
    known = [item.name for item in fields(TrainOptions) if item.name not in (*PLACES, *PACE, "seed")]
    for each in (options, *(net.options for net in nets)):
        for key in each:
            _check(key, known, f"{where}: no setting")
    for net in nets if scale.seeds else ():
        try:
            TrainOptions(**scale.settings(net))
        except UserError as error:
            raise UserError(f"{where}, {net.name}: {error}") from None
    return scale


def _check(key: str, known: Any, what: str) -> None:
    if key not in known:
        raise UserError(f"{what} {key!r}.{nearest(key, known)}")


def _built(kind: type, content: dict[str, Any], where: str) -> Any:
    """A dataclass from a table of the file."""
    known = [item.name for item in fields(kind)]
    for key in content:
        _check(key, known, f"{where}: no key")
    try:
        return kind(**content)
    except TypeError as error:  # Python says which are missing
        raise UserError(f"{where}: {str(error).partition(') ')[2] or error}") from None
