"""Whether a folder holds a model that answers: what a commit will be held to is asked before it is made."""
from pathlib import Path

import timm
import torch
from torch import nn

from ..errors import UserError, first_line
from ..files import read_json, read_tensors
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
    read_json(folder / CONFIG)
    tensors = read_tensors(folder / WEIGHTS)
    for name, values in tensors.items():
        if values.is_floating_point() and not values.isfinite().all():
            raise UserError(f"{folder / WEIGHTS}: {name} holds values that are not finite")
    try:
        model = timm.create_model(f"local-dir:{folder}", pretrained=True)
        needed = {name: values.shape for name, values in model.state_dict().items()}  # timm lets some be missing
        wrong = sorted(name for name in needed.keys() | tensors.keys()
                       if name not in tensors or needed.get(name) != tensors[name].shape)
        if wrong:
            raise UserError(f"{folder}: {WEIGHTS} is not of the model in {CONFIG}: {len(wrong)} tensors differ, "
                            f"{wrong[0]} for one")
        logits = answers(model)
    except UserError:
        raise
    except Exception as error:  # timm raises nearly anything of a config with wrong types
        raise UserError(f"{folder / CONFIG} and {WEIGHTS} give no model ({first_line(error)})") from None
    if logits.shape != (2, model.num_classes) or not logits.isfinite().all():
        raise UserError(f"{folder}: the model's answers are not finite numbers, one for each of its classes")
    return model
