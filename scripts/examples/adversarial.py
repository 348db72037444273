"""Adversarial training: a net that answers rightly though every pixel may be changed by 8/255 to mislead it.

python scripts/examples/adversarial.py --data-dir data                                            # TRADES
python scripts/examples/adversarial.py --data-dir data --method pgd --model wrn_34_10 --epochs 100
python scripts/examples/adversarial.py --data-dir data --method pgd --pretrained --train-images 3000 --epochs 3  # a try
wrn-hub evaluate --model runs/adversarial/model --data-dir data --attack pgd --eps 8/255

pgd: the net learns attacked images alone (Madry et al., arXiv:1706.06083). trades: it learns the images as they are,
and to say of attacked ones what it says of those (Zhang et al., arXiv:1901.08573). Each step attacks its images by ten
passes forward and back.
"""
import argparse

import torch
import torch.nn.functional as F
from torch import nn

from wrn_hub import TrainOptions, attacks, load_dataset, train
from wrn_hub.evaluation.evaluate import evaluate_source
from wrn_hub.evaluation.options import EvaluateOptions

EPS = 8 / 255


def divergence(logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """KL divergence of the answers from the wanted probabilities."""
    return F.kl_div(logits.log_softmax(1), wanted, reduction="batchmean")


def pgd(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    attacked = attacks.pgd(model, images, labels, EPS, EPS / 4, steps=10)
    logits = model(attacked)
    return F.cross_entropy(logits, labels), logits


def trades(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    logits = model(images)
    attacked = attacks.pgd(
        model, images, logits.detach().softmax(1), EPS, EPS / 4, steps=10, start=1e-3 * torch.randn_like(images),
        objective=divergence)
    return F.cross_entropy(logits, labels) + 6 * divergence(model(attacked), logits.softmax(1)), logits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="trades", choices=("pgd", "trades"), help="(%(default)s)")
    parser.add_argument("--model", default="wrn_16_2", help="(%(default)s)")
    parser.add_argument("--pretrained", action="store_true", help="begin with the weights that there are")
    parser.add_argument("--dataset", default="cifar10", help="(%(default)s)")
    parser.add_argument("--data-dir")
    parser.add_argument("--image-size", type=int, default=32, help="(%(default)s)")
    parser.add_argument("--train-images", type=int, help="some of them, for a try")
    parser.add_argument("--epochs", type=int, default=30, help="(%(default)s)")
    parser.add_argument("--lr", type=float, default=0.1, help="(%(default)s)")
    parser.add_argument("--attack-images", type=int, default=1000, help="to measure on (%(default)s)")
    parser.add_argument("--output", default="runs/adversarial", help="(%(default)s)")
    args = parser.parse_args()

    images, test = (load_dataset(args.dataset, split, args.data_dir, args.image_size) for split in ("train", "test"))
    if args.train_images:
        _, images = images.held_out(args.train_images)
    options = TrainOptions(  # with this mean and std the net takes pixels
        model=args.model, pretrained=args.pretrained, image_size=args.image_size, mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0), epochs=args.epochs, lr=args.lr, output=args.output)
    result = train(options, data=(images, test), loss=pgd if args.method == "pgd" else trades)
    print(f"{result.accuracy:.2%} as they are")

    found = evaluate_source(EvaluateOptions(
        model=f"{args.output}/model", dataset=args.dataset, data_dir=args.data_dir, image_size=args.image_size,
        corruption_images=0, attack="pgd", eps=EPS, attack_images=args.attack_images,
        output=f"{args.output}/measured"))
    if found:
        print(found.summary())


if __name__ == "__main__":
    main()
