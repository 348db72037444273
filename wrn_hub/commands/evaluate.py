"""Measure a model on a whole test split: accuracy, calibration, corrupted and mirrored images, cost and speed.

accelerate launch -m wrn_hub evaluate --model wrn_16_2.cifar10 --dataset cifar10 --data-dir DATA
accelerate launch -m wrn_hub evaluate --model wrn_16_2.cifar10 --corruption-images 0 --data-dir DATA   # accuracy alone
accelerate launch -m wrn_hub evaluate --all --data-dir DATA   # in a clone: its weights against their results.json
"""
import sys
from pathlib import Path

from .cli import Parser, checkout


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument(
        "--model", default="wrn_16_2.cifar10", help="timm model, Hub id, or folder of a model (%(default)s)")
    parser.add_argument("--dataset", default="cifar10", help="name, Hub id or folder (%(default)s)")
    parser.add_argument("--data-dir", help="folder that holds the dataset")
    parser.add_argument("--split", default="test", choices=("test", "train"), help="(%(default)s)")
    parser.add_argument("--image-size", type=int, help="side in pixels; the model's own by default")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16", "fp16"), help="(%(default)s)")
    parser.add_argument("--batch-size", type=int, default=250, help="images a forward pass (%(default)s)")
    parser.add_argument(
        "--corruption-images", type=int, default=2000,
        help="measure on 50 corrupted copies of each of so many images; 0 for no copies at all (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the corruptions (%(default)s)")
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER",
        help="where to write results.json, logits.safetensors and worst.safetensors")
    parser.add_argument("--all", action="store_true", help="measure every staged model again; fail where one differs")
    parser.add_argument("--checkout", metavar="FOLDER", help="clone that --all is about (the one that this runs from)")
    args = parser.parse_args()

    from ..evaluation.evaluate import evaluate_source, measure_again, public_command

    if args.all:
        for line in measure_again(checkout(args.checkout) / "model_cards", args.data_dir, args.batch_size):
            print(line)
        return

    results = evaluate_source(
        args.model, args.dataset, args.split, args.data_dir, args.image_size, args.precision, args.batch_size,
        args.corruption_images, args.seed, args.output,
        public_command(["evaluate.py", *sys.argv[1:]]))  # however it was started
    if results:
        print(results.summary())
