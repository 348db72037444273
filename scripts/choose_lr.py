"""Choose the learning rates of scripts/finetune.py on held-out training images, and record them in the package.

python scripts/choose_lr.py --held-out 400
"""
import json
import shlex
import sys
import tempfile
from pathlib import Path

from wrn_hub.cli import Parser, run

RECIPE = Path(__file__).resolve().parent.parent / "wrn_hub" / "recipes" / "finetune.json"


def rates(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--held-out", type=int, default=400, help="training images to measure on (%(default)s)")
    parser.add_argument("--pretrained", type=rates, default=[0.02, 0.05, 0.1], help="rates for fine-tuning")
    parser.add_argument("--scratch", type=rates, default=[0.05, 0.1, 0.2], help="rates for training from scratch")
    args = parser.parse_args()

    from wrn_hub.training.finetune import choose_lr
    from wrn_hub.training.options import TrainOptions

    recipe = json.loads(RECIPE.read_text())
    last = recipe["options"]["epochs"]
    options = TrainOptions(**{**recipe["options"], "held_out": args.held_out, "eval_every": last})
    with tempfile.TemporaryDirectory() as runs:
        for start in ("scratch", "pretrained"):
            options.pretrained = start == "pretrained"
            recipe[start] = choose_lr(options, getattr(args, start), Path(runs) / start)
            print(start, recipe[start])
    recipe["chosen_by"] = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    RECIPE.write_text(json.dumps(recipe, indent=2) + "\n")


if __name__ == "__main__":
    run(main)
