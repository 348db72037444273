"""What the commands share: options from a dataclass, a log on the main process, one line for bad input."""
import argparse
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_args, get_type_hints

from ..errors import Stopped, UserError, by_command, first_line, nearest
from ..options import CROP_MODES, INTERPOLATIONS

__all__ = [
    "Parser", "add_options", "add_preprocessing", "checkout", "complain", "is_main_process", "options_from", "run",
    "say"]

T = TypeVar("T")

# The extra of pyproject.toml that brings a package which not everybody needs.
EXTRAS = {
    "matplotlib": "cards", "starlette": "hub", "uvicorn": "hub", "markdown_it": "hub", "nh3": "hub",
    "onnx": "export", "onnxscript": "export", "onnxruntime": "export"}


class Parser(argparse.ArgumentParser):
    """argparse with the command's docstring as it stands, and one line for a bad argument, nearest option included."""

    def __init__(self, description: str | None, **kwargs: Any) -> None:
        super().__init__(
            prog=program(), description=description, formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False, **kwargs)

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


def number(text: str) -> float:
    """A number, as one or as a fraction: 8/255."""
    above, fraction, below = text.partition("/")
    if fraction and float(below) == 0:
        raise ValueError("a fraction of nothing")
    return float(above) / float(below) if fraction else float(text)


def add_options(parser: argparse.ArgumentParser, cls: type, defaults: dict[str, Any] | None = None) -> None:
    """An argument per field of a dataclass of :func:`wrn_hub.options.option`, under the headings of its groups."""
    hints = get_type_hints(cls)
    group: Any = parser
    for item in fields(cls):
        if item.metadata["group"]:
            group = parser.add_argument_group(item.metadata["group"])
        kinds = [kind for kind in (get_args(hints[item.name]) or (hints[item.name],)) if kind is not type(None)]
        default = (defaults or {}).get(item.name, item.default)
        if default is MISSING:
            continue
        flag = "--" + item.name.replace("_", "-")
        shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
        text = item.metadata["help"].replace("%", "%%") + ("" if default is None or default == () else f" ({shown})")
        if bool in kinds:
            group.add_argument(flag, action=argparse.BooleanOptionalAction, default=default, help=text)
        elif item.metadata["words"]:
            group.add_argument(flag, nargs="+", default=default, help=text, metavar="NAME=VALUE")
        elif isinstance(item.default, tuple):
            group.add_argument(flag, type=_several(kinds[0]), default=default, help=text,
                               metavar="NAME,NAME" if kinds[0] is str else "N,N")
        else:
            kind = number if kinds[0] is float else kinds[0]
            group.add_argument(
                flag, type=kind, default=default, help=text, choices=item.metadata["choices"],
                metavar=None if item.metadata["choices"] else kinds[0].__name__.upper())


def add_preprocessing(parser: argparse.ArgumentParser) -> None:
    """What overrides how a model's images are prepared, as ``evaluate`` has it."""
    parser.add_argument("--image-size", type=int, help="side in pixels; the model's own (test) size by default")
    parser.add_argument(
        "--crop-pct", type=float, help="side of the part that is seen, over the side that the image is brought to")
    parser.add_argument("--crop-mode", choices=CROP_MODES, help="where that part lies, in timm's words")
    parser.add_argument("--interpolation", choices=INTERPOLATIONS, help="of resized images")


def options_from(cls: type[T], parsed: argparse.Namespace) -> T:
    """The dataclass from the arguments that :func:`add_options` added."""
    return cls(**{item.name: getattr(parsed, item.name) for item in fields(cls)})  # type: ignore[arg-type]


def checkout(folder: str | Path | None = None) -> Path:
    """The clone of the repository that a command works on: ``folder``, or the one that this package runs from.

    Raises:
        UserError: it is none; an installed package isn't.
    """
    root = Path(folder) if folder else Path(__file__).resolve().parents[2]
    if not ((root / "model_cards").is_dir() and (root / "wrn_hub" / "weights.json").is_file()):
        what = f"{folder} is not" if folder else "this needs"
        raise UserError(
            f"{what} a clone of wrn_hub, which holds model_cards and wrn_hub/weights.json: name one with --checkout")
    return root


def program() -> str:
    """What was typed to get here, as messages name it: "train.py" or "wrn-hub train"."""
    return os.path.basename(sys.argv[0])


def is_main_process() -> bool:
    """Whether this is the process that speaks, before Accelerate is set up."""
    return os.environ.get("RANK", "0") == "0"


def say(text: str) -> None:
    """Print a result, once for all processes."""
    if is_main_process():
        print(text)


def complain(text: object) -> None:
    """Say to stderr what is wrong.

    Another process than the main one says which it is, since it may be the only one in trouble.
    """
    who = "" if is_main_process() else f" (process {os.environ['RANK']})"
    print(f"{program()}{who}: {text}", file=sys.stderr)


def leave_processes() -> None:
    """At the end that all processes came to, if there are several."""
    if os.environ.get("WORLD_SIZE", "1") != "1":
        from ..processes import leave

        leave()


def run(main: Callable[[], None]) -> None:
    """Run a command: bad input ends in one line and exit code 2, Ctrl-C in 130, SIGTERM in 143, without a traceback."""
    logging.basicConfig(
        level=logging.INFO if is_main_process() else logging.ERROR, format="%(message)s", stream=sys.stderr)
    for noisy in ("timm", "httpx", "httpx2", "datasets", "huggingface_hub", "onnxscript", "onnx_ir"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        with by_command():
            main()
        leave_processes()
    except UserError as error:
        complain(error.args[0])
        sys.exit(2)
    except Stopped as stop:
        if is_main_process():
            print(f"{program()}: {stop.args[0]}", file=sys.stderr)
        leave_processes()
        sys.exit(128 + stop.signal)
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        complain(f"this needs {error.name}: pip install 'wrn-hub[{extra}]', in a clone '.[{extra}]'")
        sys.exit(2)
    except OSError as error:
        if error.errno is None:
            raise
        complain(f"{error.filename or 'writing'}: {error.strerror}")
        sys.exit(2)
    except (RuntimeError, MemoryError) as error:  # where nobody could say more about it
        from ..evaluation.memory import is_out_of_memory

        if not is_out_of_memory(error):
            raise
        complain(f"out of memory ({first_line(error)}): take a smaller model, or fewer or smaller images at a time")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
