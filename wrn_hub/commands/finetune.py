"""Fine-tune a pretrained Wide ResNet, or any timm model, on the embedded sample or on your own images.

accelerate launch -m wrn_hub finetune
accelerate launch -m wrn_hub finetune --dataset FOLDER_WITH_A_SUBFOLDER_PER_CLASS --epochs 20
"""
from ..recipes import finetune_defaults
from ..training.options import TrainOptions
from .cli import Parser, add_options, options_from, program, say
from .push import add_push_option, push_from


def main() -> None:
    parser = Parser(__doc__, usage=f"{program()} [OPTIONS]")
    add_options(parser, TrainOptions, finetune_defaults(TrainOptions))
    parser.add_argument(
        "--versus-scratch", action="store_true", help="train the same net from scratch too, and show both")
    add_push_option(parser)
    parsed = parser.parse_args()

    from ..training.finetune import versus_scratch
    from ..training.trainer import train

    options, push = options_from(TrainOptions, parsed), push_from(parsed)
    if not parsed.versus_scratch:
        tuned = train(options)
        say(tuned.summary())
        push(tuned.folder)
        return
    tuned, scratch = versus_scratch(options)
    say(
        f"\n{options.model} on {options.dataset}, {options.epochs} epochs each, "
        f"{tuned.measured.replace('_', '-')} accuracy\n"
        f"  fine-tuned    {tuned.accuracy:6.2%}  ({tuned.seconds:.0f} s)\n"
        f"  from scratch  {scratch.accuracy:6.2%}  ({scratch.seconds:.0f} s)\n\n{tuned.summary()}")
    push(tuned.folder)
