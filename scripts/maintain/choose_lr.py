"""Choose the learning rates of fine-tuning on held-out training images.

python scripts/maintain/choose_lr.py --held-out 400 --output wrn_hub/recipes/finetune.json
"""
import json
import tempfile
from pathlib import Path

from wrn_hub.commands.cli import Parser, run


def rates(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--held-out", type=int, default=400, help="training images to measure on (%(default)s)")
    parser.add_argument("--pretrained", type=rates, default=[0.02, 0.05, 0.1], help="rates for fine-tuning")
    parser.add_argument("--scratch", type=rates, default=[0.05, 0.1, 0.2], help="rates for training from scratch")
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write the choice to")
    args = parser.parse_args()

    from wrn_hub.files import write_whole
    from wrn_hub.recipes import finetune_recipe
    from wrn_hub.training.finetune import choose_lr
    from wrn_hub.training.options import TrainOptions

    recipe = finetune_recipe()
    last = recipe["options"]["epochs"]
    options = TrainOptions(**{**recipe["options"], "held_out": args.held_out, "eval_every": last})
    with tempfile.TemporaryDirectory() as runs:
        for start in ("scratch", "pretrained"):
            options.pretrained = start == "pretrained"
            recipe[start] = choose_lr(options, getattr(args, start), Path(runs) / start)
            print(start, recipe[start])
    pretrained, scratch = (",".join(map(str, tried)) for tried in (args.pretrained, args.scratch))
    recipe["chosen_by"] = f"choose_lr.py --held-out {args.held_out} --pretrained {pretrained} --scratch {scratch}"
    write_whole(args.output, json.dumps(recipe, indent=2) + "\n")


if __name__ == "__main__":
    run(main)
