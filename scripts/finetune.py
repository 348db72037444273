"""``wrn-hub finetune`` from a clone: see wrn_hub/commands/finetune.py, or --help."""
from wrn_hub.commands.cli import run
from wrn_hub.commands.finetune import main

if __name__ == "__main__":
    run(main)
