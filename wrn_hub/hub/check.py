"""Whether a folder holds a model that answers: what a commit will be held to is asked before it is made."""
from pathlib import Path

import torch
from torch import nn

from ..errors import UserError
from ..models.build import ModelSource
from .store import CONFIG, WEIGHTS

__all__ = ["answers", "check_model"]


def answers(model: nn.Module) -> torch.Tensor:
    """The logits of a timm model for two images of noise, the same at every call: (2, classes)."""
    images = torch.randn(2, *model.pretrained_cfg["input_size"], generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return model.eval()(images)


def check_model(folder: Path) -> nn.Module:
    """Build a folder's model, load its weights, and let it answer.

    Returns:
        The model.

    Raises:
        UserError: config.json or the weights are missing or damaged, don't belong together, or hold what isn't finite.
    """
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise UserError(f"{folder / name} is missing")
    model = ModelSource.parse(f"local-dir:{folder}").create(pretrained=True)
    logits = answers(model)
    if logits.shape != (2, model.num_classes) or not logits.isfinite().all():
        raise UserError(f"{folder}: the model's answers are not finite numbers, one for each of its classes")
    return model
