"""``wrn-hub convert`` from a clone: see wrn_hub/commands/convert.py, or --help."""
from wrn_hub.commands.cli import run
from wrn_hub.commands.convert import main

if __name__ == "__main__":
    run(main)
