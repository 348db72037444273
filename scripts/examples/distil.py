"""Distil a large net into a small one: wrn_16_1 learns what wrn_40_2 says of the images, beside their labels.

As a command, then as here, where the same net without a teacher is trained beside it:

accelerate launch -m wrn_hub train --model wrn_16_1 --teacher wrn_40_2.cifar10 --data-dir data --output runs/taught
python scripts/examples/distil.py --data-dir data
python scripts/examples/distil.py --data-dir data --teacher wrn_28_10.cifar10,wrn_40_2.cifar10   # from their mean

The teacher has to tell the dataset's classes apart (Hinton et al., arXiv:1503.02531).
"""
import argparse

import timm

from wrn_hub import TrainOptions, dataset_logits, load_dataset, metrics, train
from wrn_hub.models.build import ModelSource


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="wrn_40_2.cifar10", help="(%(default)s)")
    parser.add_argument("--model", default="wrn_16_1", help="(%(default)s)")
    parser.add_argument("--dataset", default="cifar10", help="(%(default)s)")
    parser.add_argument("--data-dir")
    parser.add_argument("--epochs", type=int, default=30, help="(%(default)s)")
    parser.add_argument("--output", default="runs/distil", help="(%(default)s)")
    args = parser.parse_args()

    teachers = tuple(args.teacher.split(","))
    first = ModelSource.parse(teachers[0])
    images, test = (load_dataset(args.dataset, split, args.data_dir, first.size) for split in ("train", "test"))
    said = dataset_logits(first.create(pretrained=True), test)

    for name, learned_from in (("alone", ()), ("taught", teachers)):
        options = TrainOptions(
            model=args.model, image_size=first.size, epochs=args.epochs, output=f"{args.output}/{name}",
            teacher=learned_from, distill_weight=0.9, distill_temperature=4.0)
        result = train(options, data=(images, test))
        agrees = metrics.agreement(dataset_logits(result.model, test), said)
        print(f"{name}: {result.accuracy:.2%}, says the same as {teachers[0]} of {agrees:.2%} of the test images")

    student = timm.create_model(f"local-dir:{args.output}/taught/model", pretrained=True)
    print(f"the student has {sum(p.numel() for p in student.parameters()):,} parameters")


if __name__ == "__main__":
    main()
