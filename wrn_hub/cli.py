"""What the scripts share: options from a dataclass, a log on the main process, one line for bad input."""
import argparse
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_args, get_type_hints

from .errors import Stopped, UserError, nearest

__all__ = ["Parser", "add_options", "add_push_option", "options_from", "push_from", "run", "say"]

T = TypeVar("T")

# The extra of pyproject.toml that brings a package which not everybody needs.
EXTRAS = {
    "matplotlib": "cards", "starlette": "hub", "uvicorn": "hub", "markdown_it": "hub", "nh3": "hub"}


class Parser(argparse.ArgumentParser):
    """argparse with the script's docstring as it stands, and one line for a bad argument, nearest option included."""

    def __init__(self, description: str | None, **kwargs: Any) -> None:
        super().__init__(
            description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **kwargs)

    def parse_args(self, args=None, namespace=None):
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            known = [text for action in self._actions for text in action.option_strings]
            self.error(f"no option {unknown[0]}.{nearest(unknown[0].partition('=')[0], known)}")
        return parsed

    def error(self, message: str) -> NoReturn:
        if is_main_process():
            print(f"{self.prog}: {message} (--help lists the options)", file=sys.stderr)
        sys.exit(2)


def _several(kind: type) -> Callable[[str], tuple]:
    def several(text: str) -> tuple:
        return tuple(kind(part) for part in text.split(",") if part)

    return several


def add_options(parser: argparse.ArgumentParser, cls: type, defaults: dict[str, Any] | None = None) -> None:
    """An argument per field of a dataclass whose fields carry ``help`` and ``choices`` in their metadata."""
    hints = get_type_hints(cls)
    for item in fields(cls):
        kinds = [kind for kind in (get_args(hints[item.name]) or (hints[item.name],)) if kind is not type(None)]
        default = (defaults or {}).get(item.name, item.default)
        if default is MISSING:
            continue
        flag = "--" + item.name.replace("_", "-")
        shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
        text = item.metadata["help"].replace("%", "%%") + ("" if default is None or default == () else f" ({shown})")
        if bool in kinds:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=default, help=text)
        elif isinstance(item.default, tuple):
            parser.add_argument(flag, type=_several(kinds[0]), default=default, help=text,
                                metavar="NAME,NAME" if kinds[0] is str else "N,N")
        else:
            parser.add_argument(
                flag, type=kinds[0], default=default, help=text, choices=item.metadata["choices"],
                metavar=None if item.metadata["choices"] else kinds[0].__name__.upper())


def options_from(cls: type[T], parsed: argparse.Namespace) -> T:
    """The dataclass from the arguments that :func:`add_options` added."""
    return cls(**{item.name: getattr(parsed, item.name) for item in fields(cls)})  # type: ignore[arg-type]


def add_push_option(parser: argparse.ArgumentParser) -> None:
    """``--push-to-hub``, for what isn't a setting of the training itself."""
    parser.add_argument(
        "--push-to-hub", metavar="ORG/NAME",
        help="publish the model with a card there afterwards; the token is HF_TOKEN's or that of hf auth login")


def push_from(parsed: argparse.Namespace) -> Callable[[Path], None]:
    """What to do with the folder of a finished training. Whether it will be possible is found now, not after it.

    Raises:
        UserError: there is no token that may write there.
    """
    if not parsed.push_to_hub:
        return lambda folder: None
    from .hub.push import check_push, push

    check_push(parsed.push_to_hub)

    def publish(folder: Path) -> None:
        if is_main_process():
            print(f"published: {push(folder, parsed.push_to_hub)}")

    return publish


def is_main_process() -> bool:
    """Whether this is the process that speaks, before Accelerate is set up."""
    return os.environ.get("RANK", "0") == "0"


def say(text: str) -> None:
    """Print a result, once for all processes."""
    if is_main_process():
        print(text)


def _complain(text: object) -> None:
    """To stderr; another process than the main one says which it is, since it may be the only one in trouble."""
    who = "" if is_main_process() else f" (process {os.environ['RANK']})"
    print(f"{os.path.basename(sys.argv[0])}{who}: {text}", file=sys.stderr)


def leave_processes() -> None:
    """At the end that all processes came to, if there are several."""
    if os.environ.get("WORLD_SIZE", "1") != "1":
        from .processes import leave

        leave()


def run(main: Callable[[], None]) -> None:
    """Run a script: bad input ends in one line and exit code 2, Ctrl-C in 130, SIGTERM in 143, without a traceback."""
    logging.basicConfig(
        level=logging.INFO if is_main_process() else logging.ERROR, format="%(message)s", stream=sys.stderr)
    for noisy in ("timm", "httpx", "httpx2", "datasets", "huggingface_hub"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        main()
        leave_processes()
    except UserError as error:
        _complain(error)
        sys.exit(2)
    except Stopped as stop:
        if is_main_process():
            print(f"{os.path.basename(sys.argv[0])}: {stop}", file=sys.stderr)
        leave_processes()
        sys.exit(128 + stop.signal)
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        _complain(f"this needs {error.name}: pip install '.[{extra}]' in a clone")
        sys.exit(2)
    except OSError as error:
        if error.errno is None:
            raise
        _complain(f"{error.filename or 'writing'}: {error.strerror}")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
