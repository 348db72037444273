"""Measure a model on a whole test split: accuracy, calibration, corrupted and mirrored images, cost and speed.

accelerate launch scripts/evaluate.py --model wrn_16_2.cifar10 --dataset cifar10 --data-dir DATA
accelerate launch scripts/evaluate.py --model wrn_16_2.cifar10 --corruption-images 0 --data-dir DATA   # accuracy alone
accelerate launch scripts/evaluate.py --all --data-dir DATA   # every staged weight, against its results.json

A new weight becomes a repository with its card by three commands:

python scripts/stage.py runs/wrn_16_4.cifar10 wrn_16_4.cifar10
accelerate launch scripts/evaluate.py --model wrn_16_4.cifar10 --data-dir DATA --output model_cards/wrn_16_4.cifar10
python scripts/make_cards.py
"""
import sys
from pathlib import Path

from wrn_hub.cli import Parser, add_options, options_from, run

STAGED = Path(__file__).resolve().parent.parent / "model_cards"


def main() -> None:
    from wrn_hub.evaluation.options import EvaluateOptions

    parser = Parser(__doc__)
    add_options(parser, EvaluateOptions)
    parser.add_argument("--all", action="store_true", help="measure every staged model again; fail where one differs")
    args = parser.parse_args()

    from wrn_hub.evaluation.evaluate import evaluate_source, measure_again, public_command

    if args.all:
        for line in measure_again(STAGED, args.data_dir, args.batch_size):
            print(line)
        return

    results = evaluate_source(options_from(EvaluateOptions, args), public_command(sys.argv))
    if results:
        print(results.summary())


if __name__ == "__main__":
    run(main)
