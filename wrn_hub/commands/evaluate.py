"""Measure a model on a whole test split: accuracy, calibration, corrupted and mirrored images, cost and speed.

accelerate launch -m wrn_hub evaluate --model wrn_16_2.cifar10 --dataset cifar10 --data-dir DATA
accelerate launch -m wrn_hub evaluate --model wrn_16_2.cifar10 --corruption-images 0 --data-dir DATA   # accuracy alone
accelerate launch -m wrn_hub evaluate --model wrn_50_2.racm_in1k --dataset imagenet-1k --data-dir imagenet
accelerate launch -m wrn_hub evaluate --all --data-dir DATA   # in a clone: its weights against their results.json
"""
import sys

from .cli import Parser, add_options, checkout, options_from


def main() -> None:
    from ..evaluation.options import EvaluateOptions

    parser = Parser(__doc__)
    add_options(parser, EvaluateOptions)
    parser.add_argument("--all", action="store_true", help="measure every staged model again; fail where one differs")
    parser.add_argument("--checkout", metavar="FOLDER", help="clone that --all is about (the one that this runs from)")
    args = parser.parse_args()

    from ..evaluation.evaluate import evaluate_source, measure_again, public_command

    if args.all:
        for line in measure_again(checkout(args.checkout) / "model_cards", args.data_dir, args.batch_size):
            print(line)
        return

    command = public_command(["evaluate.py", *sys.argv[1:]])  # however it was started
    results = evaluate_source(options_from(EvaluateOptions, args), command)
    if results:
        print(results.summary())
