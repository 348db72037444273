"""What the scripts share: options from a dataclass, a log on the main process, one line for bad input."""
import argparse
import logging
import os
import sys
from dataclasses import MISSING, fields
from typing import Any, Callable, Optional, Sequence, Type, TypeVar, get_args, get_type_hints

from .errors import UserError

__all__ = ["add_options", "options_from", "parse", "run"]

T = TypeVar("T")


def _integers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(",") if part)


def add_options(parser: argparse.ArgumentParser, cls: type, defaults: Optional[dict[str, Any]] = None) -> None:
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
            parser.add_argument(flag, type=_integers, default=default, metavar="N,N", help=text)
        else:
            parser.add_argument(
                flag, type=kinds[0], default=default, help=text, choices=item.metadata["choices"],
                metavar=None if item.metadata["choices"] else kinds[0].__name__.upper())


def options_from(cls: Type[T], parsed: argparse.Namespace, **overrides: Any) -> T:
    """The dataclass from the arguments that :func:`add_options` added."""
    values = {item.name: getattr(parsed, item.name) for item in fields(cls) if hasattr(parsed, item.name)}
    return cls(**{**values, **overrides})


def parse(cls: Type[T], description: Optional[str], defaults: Optional[dict[str, Any]] = None,
          argv: Optional[Sequence[str]] = None) -> T:
    """Options of a script that takes nothing but one dataclass; argparse ends bad ones with exit code 2."""
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False)
    add_options(parser, cls, defaults)
    return options_from(cls, parser.parse_args(argv))


def is_main_process() -> bool:
    """Whether this is the process that speaks, before Accelerate is set up."""
    return os.environ.get("RANK", "0") == "0"


def run(main: Callable[[], None]) -> None:
    """Run a script: bad input ends in one line and exit code 2, an interruption in 130, without a traceback."""
    logging.basicConfig(
        level=logging.INFO if is_main_process() else logging.ERROR, format="%(message)s", stream=sys.stderr)
    for noisy in ("timm", "httpx", "httpx2", "datasets", "huggingface_hub"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        main()
    except UserError as error:
        if is_main_process():
            print(f"{os.path.basename(sys.argv[0])}: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.errno is None:
            raise
        if is_main_process():
            print(f"{os.path.basename(sys.argv[0])}: {error.filename or 'writing'}: {error.strerror}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
