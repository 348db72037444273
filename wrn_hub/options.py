"""A setting of a dataclass that a command makes an argument of: its default, what it means, what is allowed."""
from dataclasses import field
from typing import Any

__all__ = ["LARGEST_SIDE", "option"]

LARGEST_SIDE = 10_000  # pixels of an image; beyond it is a slip of the pen, and would fill the memory


def option(default: Any, help: str, choices: tuple | None = None) -> Any:
    """A dataclass's field; :func:`wrn_hub.commands.cli.add_options` makes ``--its-name`` of it.

    Args:
        default: Of the field; its type is the field's annotation.
        help: One line for ``--help``.
        choices: The values allowed, where they are few.
    """
    return field(default=default, metadata={"help": help, "choices": choices})
