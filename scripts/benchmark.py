"""``wrn-hub benchmark`` from a clone: see wrn_hub/commands/benchmark.py, or --help."""
from wrn_hub.commands.benchmark import main
from wrn_hub.commands.cli import run

if __name__ == "__main__":
    run(main)
