"""Measure how fast the nets are and how much memory they take, side by side, for the cards and wrn_hub.table().

python scripts/maintain/measure_speed.py                       # every net for small images, in batches
python scripts/maintain/measure_speed.py --batch-size 1 --output model_cards/latency.json   # one image at a time
python scripts/maintain/measure_speed.py wrn_16_1 wrn_28_10 --output speed.json
"""
import sys
from pathlib import Path

from wrn_hub.commands.cli import Parser, run

SPEED = Path(__file__).resolve().parents[2] / "model_cards" / "speed.json"


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="timm models (all nets for small images)")
    parser.add_argument("--batch-size", type=int, default=32, help="images a forward pass (%(default)s)")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16", "fp16"), help="(%(default)s)")
    parser.add_argument("--seconds", type=float, default=1.0, help="measure each for at least so long (%(default)s)")
    parser.add_argument("--output", type=Path, default=SPEED, help="(model_cards/speed.json of the checkout)")
    args = parser.parse_args()

    import timm

    from wrn_hub.errors import UserError
    from wrn_hub.evaluation.evaluate import public_command
    from wrn_hub.evaluation.speed import measure_speeds

    if args.models and args.output == SPEED:
        raise UserError("some models alone are no table of all: name another file with --output")
    if args.batch_size < 1:
        raise UserError(f"batch size {args.batch_size}: allowed is 1 or more")
    names = args.models or timm.list_models(module="wide_resnet")
    table = measure_speeds(names, args.batch_size, args.precision, args.seconds, public_command(sys.argv))
    for name, net in table.nets.items():
        memory = "memory not known" if net.memory is None else f"{net.memory / 2**20:.0f} MiB"
        print(f"{name}: {net.images_per_second:.0f} images/s, {memory}")
    table.write(args.output)


if __name__ == "__main__":
    run(main)
