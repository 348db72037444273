"""Errors that a user can mend: the scripts print their one line and exit with code 2."""
import signal

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


def nearest(name: str, known) -> str:
    """`` Did you mean 'x'?`` for the nearest of the known names, or an empty string where none is near."""
    from difflib import get_close_matches

    match = get_close_matches(name, list(known), n=1)
    return f" Did you mean {match[0]!r}?" if match else ""
