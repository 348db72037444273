"""Draw the embedded sample again from the official files of CIFAR-100.

python scripts/maintain/draw_sample.py --data-dir DATA
"""
import argparse
from pathlib import Path

from wrn_hub.commands.cli import run
from wrn_hub.data.official import FOLDERS
from wrn_hub.data.sample import SAMPLE, draw_sample


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True, help=f"folder that holds {FOLDERS['cifar100']}")
    parser.add_argument("--output", type=Path, default=SAMPLE, help="folder for the two parquet files (the package's)")
    parser.add_argument("--seed", type=int, default=0, help="which images are drawn (0)")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    for path in draw_sample(options.data_dir / FOLDERS["cifar100"], options.output, options.seed):
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    run(main)
