"""Fine-tune a pretrained Wide ResNet, or any timm model, on the embedded sample or on your own images.

accelerate launch scripts/finetune.py
accelerate launch scripts/finetune.py --dataset FOLDER_WITH_A_SUBFOLDER_PER_CLASS --epochs 20
"""
from wrn_hub.cli import Parser, add_options, add_push_option, options_from, push_from, run, say
from wrn_hub.training.options import TrainOptions


def main() -> None:
    from wrn_hub.training.finetune import finetune_defaults, versus_scratch
    from wrn_hub.training.trainer import train

    parser = Parser(__doc__)
    add_options(parser, TrainOptions, finetune_defaults())
    parser.add_argument(
        "--versus-scratch", action="store_true", help="train the same net from scratch too, and show both")
    add_push_option(parser)
    parsed = parser.parse_args()
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


if __name__ == "__main__":
    run(main)
