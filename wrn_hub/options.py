"""A setting of a dataclass that a command makes an argument of: its default, what it means, what is allowed."""
import ast
from collections.abc import Iterable
from dataclasses import field, fields
from typing import Any, TypeVar

from .errors import UserError

__all__ = ["CROP_MODES", "INTERPOLATIONS", "LARGEST_SIDE", "arguments", "documented", "option"]

# how an image is brought to a net, in timm's words
CROP_MODES = ("center", "squash", "border")
INTERPOLATIONS = ("bilinear", "bicubic", "nearest", "lanczos", "box", "hamming")
LARGEST_SIDE = 10_000  # pixels of an image; beyond it is a slip of the pen, and would fill the memory

C = TypeVar("C", bound=type)


def option(
    default: Any, help: str, choices: tuple | None = None, words: bool = False, group: str | None = None
) -> Any:
    """A dataclass's field; :func:`wrn_hub.commands.cli.add_options` makes ``--its-name`` of it.

    Args:
        default: Of the field; its type is the field's annotation.
        help: One line for ``--help``.
        choices: The values allowed, where they are few.
        words: Several values are parted by spaces, as they may hold commas themselves.
        group: Heading under which it stands, with the fields after it, up to the next one that has a heading.
    """
    return field(default=default, metadata={"help": help, "choices": choices, "words": words, "group": group})


def arguments(texts: Iterable[str]) -> dict[str, Any]:
    """``name=value`` as keyword arguments; a value is Python's, such as 0.3, (3, 3) or True, or else the text itself.

    Raises:
        UserError: a text is of another form, names what another names, or what other options and the images decide.
    """
    known: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if name in ("num_classes", "pretrained", "self"):
            raise UserError(
                f"{text!r} among the arguments of the model: its classes are those of the dataset or the weights, and "
                "whether it has weights isn't said there; leave it out")
        if not (equals and name.isidentifier()) or name in known:
            raise UserError(f"{text!r} among the arguments of the model: needed is NAME=VALUE, each name once")
        try:
            known[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            known[name] = value
    return known


def documented(cls: C) -> C:
    """A dataclass whose docstring tells of its options, for ``help()`` and editors; a decorator."""
    lines = ["", "    Attributes:"]
    for item in fields(cls):
        if item.metadata["group"]:
            lines += ["", f"        {item.metadata['group'].capitalize()}", ""]
        allowed = f"; one of {', '.join(item.metadata['choices'])}" if item.metadata["choices"] else ""
        lines.append(f"        {item.name}: {item.metadata['help']}{allowed} (default {item.default!r})")
    if cls.__doc__:  # python -OO takes it away
        cls.__doc__ = cls.__doc__.rstrip() + "\n" + "\n".join(lines) + "\n    "
    return cls
