"""A setting of a dataclass that a command makes an argument of: its default, what it means, what is allowed."""
from dataclasses import field, fields
from typing import Any, TypeVar

__all__ = ["documented", "option"]

C = TypeVar("C", bound=type)


def option(default: Any, help: str, choices: tuple | None = None, group: str | None = None) -> Any:
    """A dataclass's field; :func:`wrn_hub.commands.cli.add_options` makes ``--its-name`` of it.

    Args:
        default: Of the field; its type is the field's annotation.
        help: One line for ``--help``.
        choices: The values allowed, where they are few.
        group: Heading under which it stands, with the fields after it, up to the next one that has a heading.
    """
    return field(default=default, metadata={"help": help, "choices": choices, "group": group})


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
