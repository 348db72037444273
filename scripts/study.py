"""``wrn-hub study`` from a clone: see wrn_hub/commands/study.py, or --help."""
from wrn_hub.commands.cli import run
from wrn_hub.commands.study import main

if __name__ == "__main__":
    run(main)
