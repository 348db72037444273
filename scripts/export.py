"""``wrn-hub export`` from a clone: see wrn_hub/commands/export.py, or --help."""
from wrn_hub.commands.cli import run
from wrn_hub.commands.export import main

if __name__ == "__main__":
    run(main)
