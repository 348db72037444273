"""Train a Wide ResNet, or any timm model, from scratch.

accelerate launch -m wrn_hub train --model wrn_16_2 --dataset cifar10 --data-dir DATA --output runs/wrn_16_2
accelerate launch -m wrn_hub train --recipe paper --model wrn_28_10 --dataset cifar100 --data-dir DATA
wrn-hub train --recipe paper --show   # what it sets, what it costs, what to expect of it
"""
from ..recipes import load_recipe, recipe_names
from ..training.options import TrainOptions
from .cli import Parser, add_options, options_from, program, say
from .push import add_push_option, push_from


def main() -> None:
    parser = Parser(__doc__, usage=f"{program()} [OPTIONS]")
    parser.add_argument(
        "--recipe", help=f"settings that the other options override: {', '.join(recipe_names())}, or a file")
    parser.add_argument("--show", action="store_true", help="print the recipe, or all of them, and train nothing")
    first = Parser(None, add_help=False)  # which recipe has to be known before its settings become defaults
    first.add_argument("--recipe")
    first.add_argument("--schedule")
    first.add_argument("--decay-at")
    known = first.parse_known_args()[0]
    recipe = load_recipe(known.recipe, TrainOptions) if known.recipe else None
    if recipe and known.decay_at is None:
        recipe = recipe.with_schedule(known.schedule)
    add_options(parser, TrainOptions, recipe.options if recipe else None)
    add_push_option(parser)
    parsed = parser.parse_args()
    if parsed.show:
        recipes = [recipe] if recipe else [load_recipe(name, TrainOptions) for name in recipe_names()]
        say("\n\n".join(one.text(TrainOptions) for one in recipes))
        return

    from ..training.trainer import train

    options, push = options_from(TrainOptions, parsed), push_from(parsed)
    result = train(options, known.recipe)
    say(result.summary())
    push(result.folder)
