"""Train a Wide ResNet, or any timm model, from scratch.

accelerate launch scripts/train.py --model wrn_16_2 --dataset cifar10 --data-dir DATA --output runs/wrn_16_2
"""
from wrn_hub.cli import Parser, add_options, options_from, run
from wrn_hub.training.options import TrainOptions


def main() -> None:
    from wrn_hub.training.trainer import train

    parser = Parser(__doc__)
    add_options(parser, TrainOptions)
    print(train(options_from(TrainOptions, parser.parse_args())).summary())


if __name__ == "__main__":
    run(main)
