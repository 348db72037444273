"""Train a Wide ResNet, or any timm model, from scratch.

accelerate launch scripts/train.py --model wrn_16_2 --dataset cifar10 --data-dir DATA --output runs/wrn_16_2
accelerate launch scripts/train.py --recipe paper --model wrn_28_10 --dataset cifar100 --data-dir DATA
"""
from wrn_hub.cli import Parser, add_options, add_push_option, options_from, push_from, run, say
from wrn_hub.recipes import load_recipe, recipe_names
from wrn_hub.training.options import TrainOptions


def main() -> None:
    from wrn_hub.training.trainer import train

    parser = Parser(__doc__)
    parser.add_argument(
        "--recipe", help=f"settings that the other options override: {', '.join(recipe_names())}, or a file")
    first = Parser(None, add_help=False)  # which recipe has to be known before its settings become defaults
    first.add_argument("--recipe")
    recipe = first.parse_known_args()[0].recipe
    add_options(parser, TrainOptions, load_recipe(recipe, TrainOptions).options if recipe else None)
    add_push_option(parser)
    parsed = parser.parse_args()
    options, push = options_from(TrainOptions, parsed), push_from(parsed)
    result = train(options, recipe)
    say(result.summary())
    push(result.folder)


if __name__ == "__main__":
    run(main)
