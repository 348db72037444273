"""Few labels: FixMatch (Sohn et al., arXiv:2001.07685). Where the net is sure of an image slightly changed, its answer
is the label of the same image much changed.

python scripts/examples/few_labels.py --data-dir data --labels 250
python scripts/examples/few_labels.py --data-dir data --labels 250 --weight 0    # on the labels alone, to compare

Two loaders of one dataset give two views of each image, here to one process. A run goes on with resume=True among the
TrainOptions; the images without labels, which this loss alone knows of, then begin anew.
"""
import argparse
from collections.abc import Iterator

import numpy as np
import timm
import torch
import torch.nn.functional as F
from torch import nn

from wrn_hub import Augmentation, TrainLoader, TrainOptions, load_dataset, train
from wrn_hub.training.settings import flip_of


def views(weak: TrainLoader, strong: TrainLoader) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Both views of batch after batch, epoch after epoch; what their labels are isn't looked at."""
    while True:
        for (slightly, _), (much, _) in zip(weak, strong, strict=True):
            yield slightly, much


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=int, default=250, help="images with labels, as many a class (%(default)s)")
    parser.add_argument("--model", default="wrn_28_2", help="(%(default)s)")
    parser.add_argument("--dataset", default="cifar10", help="(%(default)s)")
    parser.add_argument("--data-dir")
    parser.add_argument("--image-size", type=int, default=32, help="(%(default)s)")
    parser.add_argument("--epochs", type=int, default=200, help="(%(default)s)")
    parser.add_argument("--steps", type=int, default=256, help="an epoch (%(default)s)")
    parser.add_argument("--batch-size", type=int, default=64, help="with labels; seven times as many without (64)")
    parser.add_argument("--sure", type=float, default=0.95, help="least probability of an answer (%(default)s)")
    parser.add_argument("--weight", type=float, default=1.0, help="of the images without labels (%(default)s)")
    parser.add_argument("--output", default="runs/few_labels", help="(%(default)s)")
    args = parser.parse_args()

    images, test = (load_dataset(args.dataset, split, args.data_dir, args.image_size) for split in ("train", "test"))
    _, labelled = images.held_out(args.labels)
    labelled = labelled.subset(np.resize(np.arange(args.labels), args.steps * args.batch_size))  # over and over again

    cfg = timm.get_pretrained_cfg(args.model)
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    flip = flip_of("auto", images.name, images.classes)  # as the trainer does: digits aren't mirrored
    unlabelled = [
        TrainLoader(images, 7 * args.batch_size, cfg.mean, cfg.std, device, augmentation)
        for augmentation in (
            Augmentation(flip=flip), Augmentation(flip=flip, augment="trivial", cutout=args.image_size // 2))]
    pairs = views(*unlabelled)

    def fixmatch(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        slightly, much = next(pairs)
        together = model(torch.cat([images, slightly, much]))  # so BatchNorm sees all of them
        logits, guessed, answered = together.split([len(images), len(slightly), len(much)])
        probability, guess = guessed.detach().softmax(1).max(1)
        taught = F.cross_entropy(answered, guess, reduction="none") * (probability >= args.sure)
        return F.cross_entropy(logits, labels) + args.weight * taught.mean(), logits

    options = TrainOptions(
        model=args.model, image_size=args.image_size, mean=cfg.mean, std=cfg.std, epochs=args.epochs,
        batch_size=args.batch_size, lr=0.03, schedule="cosine", ema_decay=0.999, output=args.output)
    result = train(options, data=(labelled, test), loss=fixmatch)
    print(f"{result.accuracy:.2%} with {args.labels} labels of {len(images):,} images")


if __name__ == "__main__":
    main()
