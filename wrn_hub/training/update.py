"""One batch: mixed, forward, compared with its targets and its teachers, backward, once more with SAM, and the step."""
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import nn

from ..errors import UserError
from .distill import Teacher, distillation
from .mixing import mix
from .options import TrainOptions
from .sam import uphill

__all__ = ["Loss", "Update"]

# Takes the model, images float32 (B, 3, H, W) and labels int64 (B,), with mixup or CutMix float32 (B, classes); returns
# the loss, a scalar, and the logits (B, classes) that are counted as the answers to the images.
Loss = Callable[[nn.Module, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


class Update:
    """What the options ask to be done with a batch.

    Args:
        options: Which losses, which passes.
        accelerator: Its precision and its processes.
        bare: The model as it was before it was compiled or spread over processes.
        optimizer: Prepared by the accelerator.
        classes: Number of classes.
        teachers: The nets to learn from too, by the mean of their logits.
        loss: In place of the cross entropy and the teachers.
    """

    def __init__(
        self, options: TrainOptions, accelerator: Accelerator, bare: nn.Module, optimizer: Any, classes: int,
        teachers: list[Teacher], loss: Loss | None = None,
    ) -> None:
        self.options, self.accelerator, self.bare, self.optimizer = options, accelerator, bare, optimizer
        self.classes, self.teachers, self.loss = classes, teachers, loss
        self.rho = options.sam_rho or options.asam_rho

    def __call__(
        self, net: nn.Module, images: torch.Tensor, labels: torch.Tensor, key: tuple[int, ...], last: bool,
        batches: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns (loss, number of images whose likeliest class is right), both on the device.

        Args:
            net: The model, or what it was made into.
            images: float (B, 3, H, W); may be overwritten.
            labels: int64 (B,).
            key: The only source of chance: seed, epoch and step.
            last: Whether the step is made, or the gradients are only added up.
            batches: How many batches' gradients are added up for this step.
        """
        options, targets = self.options, labels
        seed = hash((*key, self.accelerator.process_index))
        torch.manual_seed(seed)  # what is dropped out depends on nothing that came before: a resumed run draws the same
        if options.mixup or options.cutmix:
            images, targets = mix(images, labels, self.classes, options.mixup, options.cutmix, key)
            labels = targets.argmax(1)
        with self.accelerator.autocast():
            guide = torch.stack([teacher(images) for teacher in self.teachers]).mean(0) if self.teachers else None
        # each process goes uphill on its own images, as in SAM's own experiments (m-sharpness, its section 4.1)
        loss, logits = self._forward_backward(net, images, targets, guide, batches, share=last and not self.rho)
        correct = (logits.argmax(1) == labels).sum()
        if last:
            if self.rho:
                with uphill(self.bare, self.rho, adaptive=bool(options.asam_rho)):
                    torch.manual_seed(seed)  # the same net twice: what was dropped out is so again
                    self._forward_backward(net, images, targets, guide, batches, share=True)
            if options.clip_grad is not None:
                self.accelerator.clip_grad_norm_(net.parameters(), options.clip_grad)
            self.optimizer.step()
            self.optimizer.zero_grad()
        return loss, correct

    def _usual_loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Of classes int64 (B,) or of their probabilities (B, classes)."""
        smoothing = self.options.label_smoothing
        if not self.options.bce:
            return F.cross_entropy(logits, targets, label_smoothing=smoothing)
        if targets.ndim == 1:
            targets = torch.zeros_like(logits).scatter_(1, targets[:, None], 1.0)
        return F.binary_cross_entropy_with_logits(logits, targets * (1 - smoothing) + smoothing / self.classes)

    def _forward_backward(
        self, net: nn.Module, images: torch.Tensor, targets: torch.Tensor, guide: torch.Tensor | None, batches: int,
        share: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add up gradients, here or with those of the other processes; returns (loss, logits)."""
        options = self.options
        with nullcontext() if share else self.accelerator.no_sync(net):
            with self.accelerator.autocast():
                if self.loss:
                    loss, logits = _checked(self.loss(net, images, targets), len(images), self.classes)
                else:
                    logits = net(images)
                    loss = self._usual_loss(logits, targets)
                if guide is not None:
                    taught = distillation(logits, guide, options.distill_temperature)
                    loss = torch.lerp(loss, taught, options.distill_weight)
            self.accelerator.backward(loss / batches)
        return loss.detach(), logits.detach()


def _checked(returned: Any, images: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What somebody's own loss returned, if it is what the trainer needs.

    Raises:
        UserError: it isn't; says what it is.
    """
    parts = returned if isinstance(returned, tuple | list) else (returned,)
    shapes = [tuple(part.shape) if isinstance(part, torch.Tensor) else type(part).__name__ for part in parts]
    if shapes != [(), (images, classes)]:
        raise UserError(
            f"loss returned {', '.join(map(str, shapes))}: needed are the loss, a tensor of shape (), and the logits "
            f"of the images, of shape {(images, classes)}")
    return parts[0], parts[1]
