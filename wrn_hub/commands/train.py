"""Train a Wide ResNet, or any timm model, from scratch.

accelerate launch -m wrn_hub train --model wrn_16_2 --dataset cifar10 --data-dir DATA --output runs/wrn_16_2
accelerate launch -m wrn_hub train --recipe paper --model wrn_28_10 --dataset cifar100 --data-dir DATA
"""
from ..recipes import load_recipe, recipe_names
from ..training.options import TrainOptions
from .cli import Parser, add_options, options_from, say
from .push import add_push_option, push_from


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument(
        "--recipe", help=f"settings that the other options override: {', '.join(recipe_names())}, or a file")
    first = Parser(None, add_help=False)  # which recipe has to be known before its settings become defaults
    first.add_argument("--recipe")
    recipe = first.parse_known_args()[0].recipe
    add_options(parser, TrainOptions, load_recipe(recipe, TrainOptions).options if recipe else None)
    add_push_option(parser)
    parsed = parser.parse_args()

    from ..training.trainer import train

    options, push = options_from(TrainOptions, parsed), push_from(parsed)
    result = train(options, recipe)
    say(result.summary())
    push(result.folder)
