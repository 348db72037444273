"""The commands: wrn-hub COMMAND, python -m wrn_hub COMMAND, accelerate launch -m wrn_hub COMMAND."""
import sys
from importlib import import_module
from types import ModuleType

from .commands import COMMANDS
from .commands.cli import complain, run
from .errors import nearest
from .version import __version__


def _module(command: str) -> ModuleType:
    return import_module(f".commands.{command}", __package__)


def _listing() -> str:
    lines = [f"  {command:<10} {(_module(command).__doc__ or '').splitlines()[0]}" for command in COMMANDS]
    return "\n".join([
        "wrn-hub COMMAND [OPTIONS]: Wide Residual Networks for timm", "", *lines, "",
        "wrn-hub COMMAND --help lists the options of one; for several processes or GPUs:",
        "accelerate launch -m wrn_hub COMMAND [OPTIONS]"])


def main() -> None:
    """Run the command that sys.argv names; list all where it names none."""
    command, *arguments = sys.argv[1:] or ["--help"]
    sys.argv[0] = "wrn-hub"
    if command in ("--help", "-h"):
        print(_listing())
    elif command == "--version":
        print(f"wrn-hub {__version__}")
    elif command in COMMANDS:
        sys.argv = [f"wrn-hub {command}", *arguments]
        run(_module(command).main)
    else:
        complain(f"no command {command!r}.{nearest(command, COMMANDS)} (--help lists the commands)")
        sys.exit(2)


if __name__ == "__main__":
    main()
