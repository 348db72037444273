"""Adversarial images: the least change of pixels, within a bound, that makes a net err.

The bound is on the largest change of a pixel (L-infinity), in units of 1 (pixel / 255). Goodfellow et al.,
arXiv:1412.6572 (FGSM); Madry et al., arXiv:1706.06083 (PGD).
"""
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import nn

from ..data.dataset import ImageDataset
from ..data.loader import EvalLoader
from .results import Robustness

__all__ = ["PixelNet", "fgsm", "measure_robustness", "pgd"]

STEPS = 20
Objective = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class PixelNet(nn.Module):
    """A net that takes pixels from 0 to 1, (B, 3, H, W), and normalises them itself.

    Args:
        model: A timm model, or any with a ``pretrained_cfg`` that gives mean and std.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        device = next(model.parameters()).device
        for name in ("mean", "std"):
            values = torch.tensor(model.pretrained_cfg[name], device=device)
            self.register_buffer(name, values.view(-1, 1, 1), persistent=False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Logits (B, classes)."""
        return self.model((pixels - self.mean) / self.std)


@contextmanager
def _as_it_stands(model: nn.Module) -> Iterator[None]:
    """Within it, the model is in evaluation mode and its weights take no gradients; afterwards it is as it was."""
    modes = [(module, module.training) for module in model.modules()]
    taking = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.eval()
    for parameter in taking:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter in taking:
            parameter.requires_grad_(True)


def pgd(
    model: nn.Module, pixels: torch.Tensor, targets: torch.Tensor, eps: float = 8 / 255, step: float | None = None,
    steps: int = STEPS, start: torch.Tensor | None = None, objective: Objective = F.cross_entropy,
) -> torch.Tensor:
    """Projected gradient descent: so many steps along the sign of the gradient, each back into the bound.

    The model answers in evaluation mode meanwhile, and is afterwards as it was.

    Args:
        model: Takes pixels from 0 to 1, as :class:`PixelNet` does, or one trained with ``mean=(0, 0, 0)`` and
            ``std=(1, 1, 1)``.
        pixels: float (B, 3, H, W), 0 to 1.
        targets: What the objective takes beside the logits: labels, int64 (B,), for the cross entropy.
        eps: The bound.
        step: Size of a step; a quarter of the bound where None.
        steps: How many.
        start: float (B, 3, H, W), where in the bound to begin, from -eps to eps; drawn by torch's generator where None.
        objective: What is made as large as may be, from logits (B, classes) and targets.

    Returns:
        Pixels of the same shape, from 0 to 1, at most ``eps`` from what they were.
    """
    pixels, step = pixels.detach(), eps / 4 if step is None else step
    low, high = (pixels - eps).clamp(min=0), (pixels + eps).clamp(max=1)
    start = torch.empty_like(pixels).uniform_(-eps, eps) if start is None else start
    found = (pixels + start).clamp(low, high)
    with _as_it_stands(model), torch.enable_grad():
        for _ in range(steps):
            found.requires_grad_(True)
            (gradient,) = torch.autograd.grad(objective(model(found), targets), found)
            found = (found.detach() + step * gradient.sign()).clamp(low, high)
    return found


def fgsm(
    model: nn.Module, pixels: torch.Tensor, targets: torch.Tensor, eps: float = 8 / 255,
    objective: Objective = F.cross_entropy,
) -> torch.Tensor:
    """The fast gradient sign method: one step as large as the bound, from the images as they are; see :func:`pgd`."""
    return pgd(model, pixels, targets, eps, eps, 1, torch.zeros_like(pixels), objective)


def _starts(pixels: torch.Tensor, place: int, eps: float, seed: int) -> torch.Tensor:
    """Changes of pixels to start from, as many as there are images, of which the first is number ``place``."""
    drawn = [
        torch.empty(image.shape).uniform_(-eps, eps, generator=torch.Generator().manual_seed(
            hash((seed, number)) % 2**63)) for number, image in enumerate(pixels, place)]
    return torch.stack(drawn).to(pixels.device)


def measure_robustness(
    model: nn.Module, dataset: ImageDataset, accelerator: Accelerator, attack: str = "pgd", eps: float = 8 / 255,
    images: int = 1000, seed: int = 0, batch_size: int = 250, index: torch.Tensor | None = None,
) -> Robustness:
    """How many of the first images a net still knows when they are attacked, by gradients of its own.

    Where the attack starts depends on the seed and the place of an image alone, so that the result depends on neither
    batches nor processes.

    Args:
        model: A timm model on the accelerator's device.
        dataset: The images, of the size that the model sees.
        accelerator: Device, precision and processes.
        attack: "pgd", of 20 steps, or "fgsm".
        eps: The bound on the change of a pixel, in units of 1.
        images: How many, at most.
        seed: Of the starts.
        batch_size: Images a forward pass.
        index: Which logits are the dataset's classes, see :func:`wrn_hub.data.classes.logits_for`.
    """
    first = dataset.subset(np.arange(min(images, len(dataset))))
    rank, world = accelerator.process_index, accelerator.num_processes
    pixels_of = EvalLoader(
        first, batch_size * world, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), accelerator.device, None, rank, world)
    net, counts, place = PixelNet(model.eval()), torch.zeros(2, device=accelerator.device), pixels_of.mine.start
    for pixels, labels in pixels_of:
        wanted = labels if index is None else index.to(labels.device)[labels]
        start = _starts(pixels, place, eps, seed)
        place += len(labels)
        with accelerator.autocast():
            attacked = (
                fgsm(net, pixels, wanted, eps) if attack == "fgsm" else pgd(net, pixels, wanted, eps, start=start))
            with torch.no_grad():
                known, knows = (net(seen).argmax(1) == wanted for seen in (pixels, attacked))
        counts += torch.stack([known.sum(), (known & knows).sum()])
    clean, robust = (accelerator.reduce(counts, "sum") / len(first)).tolist()
    steps, step = (1, eps) if attack == "fgsm" else (STEPS, eps / 4)
    return Robustness(attack, eps, step, steps, len(first), seed, clean, robust)
