"""Errors that a user can mend: the scripts print their one line and exit with code 2."""
import signal
from collections.abc import Iterable

__all__ = ["Stopped", "UserError", "first_line", "nearest"]


class UserError(ValueError):
    """Bad input; the message names the value, what was allowed and what to do."""


class Stopped(Exception):
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
