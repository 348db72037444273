"""Stage a finished run in model_cards, as the Hub repository that it will be.

python scripts/maintain/stage.py runs/wrn_16_2.cifar10.1 wrn_16_2.cifar10

CONTRIBUTING.md says how it is then measured and gets its card.
"""
from pathlib import Path

from wrn_hub.commands.cli import Parser, run


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("run", help="output folder of a finished training")
    parser.add_argument("name", help="arch.tag, for example wrn_16_2.cifar10")
    args = parser.parse_args()

    from wrn_hub.hub.stage import stage

    entry = stage(args.run, args.name, Path(__file__).resolve().parents[2])
    print(f"{args.name}: {entry['bytes'] / 1e6:.1f} MB, sha256 {entry['sha256']}")


if __name__ == "__main__":
    run(main)
