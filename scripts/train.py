"""``wrn-hub train`` from a clone: see wrn_hub/commands/train.py, or --help."""
from wrn_hub.commands.cli import run
from wrn_hub.commands.train import main

if __name__ == "__main__":
    run(main)
