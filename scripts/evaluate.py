"""``wrn-hub evaluate`` from a clone: see wrn_hub/commands/evaluate.py, or --help."""
from wrn_hub.commands.cli import run
from wrn_hub.commands.evaluate import main

if __name__ == "__main__":
    run(main)
