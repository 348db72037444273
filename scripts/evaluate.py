"""Measure a model on a whole test split: top-1, top-5 and loss, in one pass.

accelerate launch scripts/evaluate.py --model wrn_16_2.cifar10 --dataset cifar10 --data-dir DATA
accelerate launch scripts/evaluate.py --all --data-dir DATA   # every staged weight, against its results.json
"""
import shlex
import sys
from pathlib import Path

from wrn_hub.cli import Parser, run

STAGED = Path(__file__).resolve().parent.parent / "model_cards"


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument(
        "--model", default="wrn_16_2.cifar10", help="timm model, Hub id, or folder of a model (%(default)s)")
    parser.add_argument("--dataset", default="cifar10", help="name, Hub id or folder (%(default)s)")
    parser.add_argument("--data-dir", help="folder that holds the dataset")
    parser.add_argument("--split", default="test", choices=("test", "train"), help="(%(default)s)")
    parser.add_argument("--image-size", type=int, help="side in pixels; the model's own by default")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16", "fp16"), help="(%(default)s)")
    parser.add_argument("--batch-size", type=int, default=500, help="images a step over all processes (%(default)s)")
    parser.add_argument("--output", type=Path, help="where to write results.json")
    parser.add_argument("--logits", type=Path, help="where to keep logits and labels (safetensors)")
    parser.add_argument("--all", action="store_true", help="measure every staged model again; fail where one differs")
    args = parser.parse_args()

    from wrn_hub.reporting.evaluate import evaluate_source, measure_again

    if args.all:
        for line in measure_again(STAGED, args.data_dir, args.batch_size):
            print(line)
        return

    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    results = evaluate_source(
        args.model, args.dataset, args.split, args.data_dir, args.image_size, args.precision, args.batch_size,
        args.output, args.logits, command)
    if results:
        top5 = f", top-5 {results.top5:.2%}" if results.top5 is not None else ""
        print(
            f"{results.model} on {results.dataset['images']} images of {results.dataset['name']} "
            f"({results.dataset['split']}): top-1 {results.top1:.2%}{top5}, loss {results.loss:.4f}, "
            f"{results.precision}, {results.processes} process{'es' if results.processes > 1 else ''}")


if __name__ == "__main__":
    run(main)
