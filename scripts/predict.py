"""``wrn-hub predict`` from a clone: see wrn_hub/commands/predict.py, or --help."""
from wrn_hub.commands.cli import run
from wrn_hub.commands.predict import main

if __name__ == "__main__":
    run(main)
