"""Settings as data: a recipe is one small TOML file that states its source, cost, accuracy and command."""
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..errors import UserError, nearest
from ..files import read_json, read_toml

__all__ = ["Recipe", "finetune_defaults", "finetune_recipe", "load_recipe", "recipe_names"]

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Recipe:
    """A recipe; one with ``base = "another"`` in its file takes from that one the options that it doesn't set itself.

    Attributes:
        source: Where the settings come from.
        cost: Time on which hardware.
        accuracy: What to expect, or what was measured, with the hardware and seed.
        command: Exactly what to type.
        options: Settings of ``scripts/train.py`` that differ from its defaults.
    """

    source: str
    cost: str
    accuracy: str
    command: str
    options: dict[str, Any]


def recipe_names() -> list[str]:
    """The recipes that come with the package."""
    return sorted(file.stem for file in _FOLDER.glob("*.toml"))


def finetune_recipe() -> dict[str, Any]:
    """What fine-tuning begins from: ``options`` of both runs of the comparison, and for "pretrained" and "scratch"
    each the learning rate ``lr`` with what else was ``tried``; made by scripts/maintain/choose_lr.py."""
    return read_json(_FOLDER / "finetune.json")


def finetune_defaults() -> dict[str, Any]:
    """Settings in which fine-tuning differs from the trainer's defaults, the learning rate that was chosen included."""
    recipe = finetune_recipe()
    return {**recipe["options"], "pretrained": True, "lr": recipe["pretrained"]["lr"]}


def load_recipe(name: str, options: type) -> Recipe:
    """Read a recipe.

    Args:
        name: One of :func:`recipe_names`, or the path of a TOML file.
        options: Dataclass whose fields are the known settings.

    Raises:
        UserError: there is no such recipe, it isn't TOML, or it has keys that mean nothing; names the nearest.
    """
    path = Path(name) if name.endswith(".toml") else _FOLDER / f"{name}.toml"
    if not path.is_file():
        raise UserError(
            f"recipe {name!r}: allowed are {', '.join(recipe_names())}, or the path of a .toml file."
            f"{nearest(name, recipe_names())}")
    content = read_toml(path)
    for given, known in (
            (content, ["base", *(item.name for item in fields(Recipe))]),
            (content.get("options", {}), [item.name for item in fields(options)])):
        for key in given:
            if key not in known:
                raise UserError(f"recipe {name}: no setting {key!r}.{nearest(key, known)}")
    if missing := [item.name for item in fields(Recipe) if item.name not in content]:
        raise UserError(f"recipe {name}: lacks {', '.join(missing)}")
    base = load_recipe(content.pop("base"), options).options if "base" in content else {}
    settings = {key: tuple(value) if isinstance(value, list) else value for key, value in content["options"].items()}
    return Recipe(**{**content, "options": {**base, **settings}})
