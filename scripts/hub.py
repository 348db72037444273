"""``wrn-hub hub`` from a clone: see wrn_hub/commands/hub.py, or --help."""
from wrn_hub.commands.cli import run
from wrn_hub.commands.hub import main

if __name__ == "__main__":
    run(main)
