"""How far a net can be believed: calibration, ensembles, MC-dropout, attacks, and images of something else.

python scripts/examples/uncertainty.py --data-dir data
python scripts/examples/uncertainty.py --data-dir data --dataset cifar100 --models wrn_16_4.cifar100,wrn_40_2.cifar100

Expected calibration error: Guo et al., arXiv:1706.04599. Ensembles: Lakshminarayanan et al., arXiv:1612.01474.
MC-dropout: Gal & Ghahramani, arXiv:1506.02142; best with a net that was trained with dropout. Energy: Liu et al.,
arXiv:2010.03759. `wrn-hub evaluate --attack pgd` keeps the accuracy under attack in results.json.
"""
import argparse

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import nn

from wrn_hub import attacks, dataset_logits, load_dataset, metrics
from wrn_hub.models.build import ModelSource


class Dropping(nn.Dropout):
    """Dropout that goes on in evaluation."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return F.dropout(features, self.p, training=True)


def mean_of(several: list[torch.Tensor]) -> torch.Tensor:
    """Logarithm of the mean of the probabilities: logits as good as any."""
    return torch.stack([logits.softmax(1) for logits in several]).mean(0).log()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="wrn_16_4.cifar10,wrn_28_2.cifar10,wrn_40_2.cifar10", help="(%(default)s)")
    parser.add_argument("--dataset", default="cifar10", help="that they were trained on (%(default)s)")
    parser.add_argument("--other", default="sample", help="dataset of something else (%(default)s)")
    parser.add_argument("--data-dir")
    parser.add_argument("--attacked", type=int, default=200, help="images to attack (%(default)s)")
    args = parser.parse_args()

    accelerator = Accelerator()
    sources = [ModelSource.parse(name) for name in args.models.split(",")]
    nets = [source.create(pretrained=True).to(accelerator.device) for source in sources]
    test = load_dataset(args.dataset, "test", args.data_dir, sources[0].size)
    labels = torch.tensor(test.labels)

    answers = [dataset_logits(net, test) for net in nets]
    dropping = sources[0].create(pretrained=True, drop_rate=0.2).to(accelerator.device)
    for module in dropping.modules():
        if isinstance(module, nn.Dropout):
            module.__class__ = Dropping
    named = dict(zip(args.models.split(","), answers, strict=True))
    named["ensemble"] = mean_of(answers)
    named["MC-dropout of the first"] = mean_of([dataset_logits(dropping, test) for _ in range(10)])
    for name, logits in named.items():
        error = metrics.reliability(logits, labels).expected_calibration_error
        print(f"{name}: top-1 {metrics.top_k(logits, labels):.2%}, negative log-likelihood "
              f"{metrics.nll(logits, labels):.4f}, calibration error {error:.2%}")

    for attack in ("fgsm", "pgd"):
        found = attacks.measure_robustness(nets[0], test, accelerator, attack, 2 / 255, args.attacked)
        print(f"the first {found.title}: {found.accuracy:.2%}, {found.clean:.2%} as they are")

    # What a net was trained on has more energy in its logits than something else: how well does that tell them apart?
    other = load_dataset(args.other, "test", None if args.other == "sample" else args.data_dir, sources[0].size)
    for name, score in (("energy", metrics.energy), ("likeliest class", lambda logits: logits.softmax(1).amax(1))):
        area = metrics.auroc(score(answers[0]), score(dataset_logits(nets[0], other)))
        print(f"{args.dataset} from {args.other} by {name}: area under the ROC curve {area:.4f}")


if __name__ == "__main__":
    main()
