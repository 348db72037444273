"""``wrn-hub publish`` from a clone: see wrn_hub/commands/publish.py, or --help."""
from wrn_hub.commands.cli import run
from wrn_hub.commands.publish import main

if __name__ == "__main__":
    run(main)
