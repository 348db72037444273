"""Distillation (Hinton et al., arXiv:1503.02531): the net learns the softened answers of a teacher too."""
import torch
import torch.nn.functional as F
from torch import nn

from ..data.classes import logits_for
from ..models.build import ModelSource

__all__ = ["Teacher", "distillation"]


class Teacher:
    """A trained net that gives its logits for the images of another, brought to its own normalisation and size.

    Classes that it has in another order than the student are put in the student's, by their names.

    Args:
        name: timm model, Hub id or folder of a model; or a net of timm's itself.
        student: Says how its images are normalised, and which classes there are.
        classes: Their names in the order of the logits.
        device: Where to.
        resize: Bring images to the size that it was made for; else it sees them as they come.

    Raises:
        UserError: there is no such model, it has no weights, or it tells other classes apart.
    """

    def __init__(
        self, name: str | nn.Module, student: nn.Module, classes: tuple[str, ...], device: torch.device | str = "cpu",
        resize: bool = True,
    ) -> None:
        model = ModelSource.parse(name).create_for_rgb(pretrained=True) if isinstance(name, str) else name
        who = name if isinstance(name, str) else type(name).__name__
        index = logits_for(model, f"teacher {who}", classes, "take one that was trained on it")
        self.index = None if index is None else index.to(device)
        self.model = model.requires_grad_(False).eval().to(device, memory_format=torch.channels_last)
        self.size = model.pretrained_cfg["input_size"][1:]
        self.resize = resize or bool(model.pretrained_cfg.get("fixed_input_size"))
        mean, std, own_mean, own_std = (
            torch.tensor(cfg[key], device=device).view(3, 1, 1)
            for cfg in (student.pretrained_cfg, model.pretrained_cfg) for key in ("mean", "std"))
        self.scale, self.offset = std / own_std, (mean - own_mean) / own_std

    @torch.no_grad()
    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (B, classes) for the student's images, float (B, 3, H, W)."""
        images = torch.addcmul(self.offset, images, self.scale)
        if self.resize and images.shape[2:] != self.size:
            images = F.interpolate(images, size=self.size, mode="bilinear", antialias=True)
        logits = self.model(images)
        return logits if self.index is None else logits[:, self.index]


def distillation(logits: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """KL divergence of the student from the teacher at a temperature T, times T^2, as the mean over the batch.

    The factor keeps the size of the gradients whatever T is (section 2 of the paper).
    """
    softened = F.log_softmax(logits.float() / temperature, dim=1)
    target = F.log_softmax(teacher.float() / temperature, dim=1)
    return F.kl_div(softened, target, log_target=True, reduction="batchmean") * temperature**2
