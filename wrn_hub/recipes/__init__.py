"""Settings as data: a recipe is one small TOML file that states its source, cost, accuracy and command."""
import tomllib
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any

from ..errors import UserError, nearest

__all__ = ["Recipe", "load_recipe", "recipe_names"]


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
    files = (Path(entry.name) for entry in resources.files(__name__).iterdir())
    return sorted(file.stem for file in files if file.suffix == ".toml")


def load_recipe(name: str, options: type) -> Recipe:
    """Read a recipe.

    Args:
        name: One of :func:`recipe_names`, or the path of a TOML file.
        options: Dataclass whose fields are the known settings.

    Raises:
        UserError: there is no such recipe, it isn't TOML, or it has keys that mean nothing; names the nearest.
    """
    path = Path(name)
    try:
        file = path if path.suffix == ".toml" else resources.files(__name__).joinpath(name + ".toml")
        content = tomllib.loads(file.read_text())
    except (OSError, IsADirectoryError):
        raise UserError(
            f"recipe {name!r}: allowed are {', '.join(recipe_names())}, or the path of a .toml file."
            f"{nearest(name, recipe_names())}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"recipe {name}: not TOML ({error})") from None
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
