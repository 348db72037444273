"""Errors that a user can mend: the scripts print their one line and exit with code 2.

Their messages are written for a command, with the option ``--batch-size 64`` where something is to be set. Whoever
calls from Python reads ``batch_size=64`` there.
"""
import re
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

__all__ = ["Stopped", "UserError", "by_command", "first_line", "nearest"]

# an option, and its value if that is a number, several, a path, or a word before another option
_OPTION = re.compile(
    r"(?<![\w-])--(no-)?([a-z]+(?:-[a-z]+)*)(?![\w-])"
    r"(?: ([\d.,]*\d(?!\w)|[^\s;,]*/[^\s;,]*[^\s;,.]|[\w.]+(?= --)))?")
_by_command = False


@contextmanager
def by_command() -> Iterator[None]:
    """Within it a command is at work: messages name its options."""
    global _by_command
    before, _by_command = _by_command, True
    try:
        yield
    finally:
        _by_command = before


def _argument(option: re.Match[str]) -> str:
    name, value = option[2].replace("-", "_"), option[3]
    if option[1]:
        return f"{name}=False"
    if value is None:
        return name
    if not value.replace(".", "").replace(",", "").isdigit():
        return f"{name}={value!r}"
    return f"{name}=({value.replace(',', ', ')})" if "," in value else f"{name}={value}"


class _Message(Exception):
    def __str__(self) -> str:
        text = super().__str__()
        return text if _by_command else _OPTION.sub(_argument, text)


class UserError(_Message, ValueError):
    """Bad input; the message names the value, what was allowed and what to do."""


class Stopped(_Message):
    """A run ended at somebody's wish, with its state saved; the message says how to go on.

    Attributes:
        signal: What told the wish; a script exits with 128 and its number, as one that it had ended.
    """

    def __init__(self, message: str, signal: signal.Signals = signal.SIGTERM) -> None:
        super().__init__(message)
        self.signal = signal


def first_line(error: BaseException) -> str:
    """What another library's error says first; its name where it says nothing."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _plain(name: str) -> str:
    """A name without capitals and signs; an option's dashes are signs too."""
    return "".join(letter for letter in name.lower() if letter.isalnum())


def nearest(name: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` for the nearest of the known names, or an empty string where none is near.

    Capitals and signs don't matter: CIFAR-10 is nearest to cifar10.
    """
    from difflib import get_close_matches

    known = list(known)
    match = [one for one in known if _plain(one) == _plain(name)] or get_close_matches(name.lower(), known, n=1)
    return f" Did you mean {match[0]!r}?" if match else ""
