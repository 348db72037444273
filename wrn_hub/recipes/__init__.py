"""Settings as data: a recipe is one small TOML file that states its source, cost, accuracy and command."""
import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from ..errors import UserError, nearest
from ..files import read_json, read_toml

__all__ = ["Recipe", "finetune_defaults", "finetune_recipe", "load_recipe", "recipe_names"]

_FOLDER = Path(__file__).parent
_TEXTS = ("source", "cost", "accuracy", "command")
_OF_STEPS = ("decay_at", "decay_factor")  # settings of the step schedule alone


@dataclass(frozen=True)
class Recipe:
    """A recipe; one with ``base = "another"`` in its file takes from that one the options that it doesn't set itself.

    Attributes:
        name: As it was asked for.
        source: Where the settings come from.
        cost: Time on which hardware.
        accuracy: What to expect, or what was measured, with the hardware and seed.
        command: Exactly what to type.
        options: Settings of ``scripts/train.py`` that differ from its defaults.
    """

    name: str
    source: str
    cost: str
    accuracy: str
    command: str
    options: dict[str, Any]

    def with_schedule(self, schedule: str | None) -> "Recipe":
        """The recipe with another schedule of the learning rate, without what belongs to its own; None keeps that."""
        if schedule in (None, self.options.get("schedule")):
            return self
        return replace(self, options={key: value for key, value in self.options.items() if key not in _OF_STEPS})

    def text(self, options: type) -> str:
        """What it is, what is expected of it, and what it sets, each beside what would hold without it.

        Args:
            options: Dataclass whose fields are the known settings, with their defaults.
        """
        said = [f"  {name:<9} {getattr(self, name)}" for name in _TEXTS]
        defaults = {item.name: item.default for item in fields(options)}
        rows = [("sets", "", "default")] + [
            ("--" + key.replace("_", "-"), _typed(value), _typed(defaults[key])) for key, value in self.options.items()]
        first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
        return "\n".join([self.name, *said, *(
            f"  {name:<{first}}  {value:<{second}}  {default}" for name, value, default in rows)])


def recipe_names() -> list[str]:
    """The recipes that come with the package."""
    return sorted(file.stem for file in _FOLDER.glob("*.toml"))


def finetune_recipe() -> dict[str, Any]:
    """What fine-tuning begins from: ``options`` of both runs of the comparison, and for "pretrained" and "scratch"
    each the learning rate ``lr`` with what else was ``tried``; made by scripts/maintain/choose_lr.py.

    Raises:
        UserError: the file is damaged; says where.
    """
    path = _FOLDER / "finetune.json"
    recipe = read_json(path)
    for name in ("options", "pretrained", "scratch"):
        entry = recipe.get(name)
        if not isinstance(entry, dict):
            raise UserError(f"{path}: {name} is {_shown(entry)}, needed is an object; restore the file")
        if name != "options" and not (type(entry.get("lr")) in (int, float) and 0 <= entry["lr"] < math.inf):
            raise UserError(f"{path}: lr of {name} is {_shown(entry.get('lr'))}, needed is a number; restore the file")
    return recipe


def finetune_defaults(options: type) -> dict[str, Any]:
    """Settings in which fine-tuning differs from the trainer's defaults, the learning rate that was chosen included.

    Args:
        options: Dataclass whose fields are the known settings.

    Raises:
        UserError: the file is damaged, or has settings that aren't known or allowed; says which.
    """
    recipe = finetune_recipe()
    return _checked(
        {**recipe["options"], "pretrained": True, "lr": recipe["pretrained"]["lr"]}, options, _FOLDER / "finetune.json")


def load_recipe(name: str, options: type) -> Recipe:
    """Read a recipe.

    Args:
        name: One of :func:`recipe_names`, or the path of a TOML file. A file that it is based on lies beside it.
        options: Dataclass whose fields are the known settings, and which refuses what isn't allowed.

    Raises:
        UserError: there is no such recipe, it isn't TOML, has keys that mean nothing, values of another type or beyond
            what is allowed, or is based on itself; names the file and the value, and the nearest key.
    """
    path = _path(name, Path())
    recipe = _read(path, options, ())
    return replace(recipe, options=_checked(recipe.options, options, path))


def _path(name: str, folder: Path) -> Path:
    path = folder / name if name.endswith(".toml") else _FOLDER / f"{name}.toml"
    if not path.is_file():
        raise UserError(
            f"recipe {name!r}: allowed are {', '.join(recipe_names())}, or the path of a .toml file."
            f"{nearest(name, recipe_names())}")
    return path


def _read(path: Path, options: type, above: tuple[Path, ...]) -> Recipe:
    """A recipe with the options of its base; ``above`` are the files that are based on it."""
    chain = (*above, path)
    if path.resolve() in [file.resolve() for file in above]:
        raise UserError(f"recipe {above[0]} is based on itself: {' on '.join(file.name for file in chain)}")
    content = read_toml(path)
    _check_keys(content, ["base", *_TEXTS, "options"], path)
    if missing := [key for key in (*_TEXTS, "options") if key not in content]:
        raise UserError(f"{path}: lacks {', '.join(missing)}")
    for key, kind, needed in (*((key, str, "a text") for key in ("base", *_TEXTS)), ("options", dict, "a table")):
        if not isinstance(content.get(key, kind()), kind):
            raise UserError(f"{path}: {key} is {_shown(content[key])}, needed is {needed}")
    _check_keys(content["options"], [item.name for item in fields(options)], path)
    settings = {key: tuple(value) if isinstance(value, list) else value for key, value in content["options"].items()}
    if "base" in content:
        try:
            base = _path(content.pop("base"), path.parent)
        except UserError as error:
            raise UserError(f"{path}: base: {error}") from None
        settings = {**_read(base, options, chain).options, **settings}
    return Recipe(path.stem, **{**content, "options": settings})


def _check_keys(given: Iterable[str], known: list[str], path: Path) -> None:
    for key in given:
        if key not in known:
            raise UserError(f"{path}: no setting {key!r}.{nearest(key, known)}")


def _checked(settings: dict[str, Any], options: type, path: Path) -> dict[str, Any]:
    """The settings, which the dataclass was asked about."""
    _check_keys(settings, [item.name for item in fields(options)], path)
    try:
        options(**settings)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return settings


def _typed(value: object) -> str:
    """A setting as it is typed."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
