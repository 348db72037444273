"""Train a Wide ResNet, or any timm model, from scratch.

accelerate launch scripts/train.py --model wrn_16_2 --dataset cifar10 --data-dir DATA --output runs/wrn_16_2
"""
from wrn_hub.cli import parse, run
from wrn_hub.training.options import TrainOptions


def main() -> None:
    options = parse(TrainOptions, __doc__)
    from wrn_hub.training.trainer import train

    result = train(options)
    print(
        f"test accuracy {result.metrics['test_accuracy']:.2%} after {options.epochs} epochs in {result.seconds:.0f} s\n"
        f'timm.create_model("local-dir:{result.folder / "model"}", pretrained=True) loads the model')


if __name__ == "__main__":
    run(main)
