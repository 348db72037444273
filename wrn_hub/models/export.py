"""A model as a Hub repository: the folder that timm loads through ``local-dir:`` and, once published, ``hf-hub:``."""
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save
from timm.models._hub import save_config_for_hf
from torch import nn

__all__ = ["half_precision", "save_model"]


def half_precision(model: nn.Module) -> dict[str, torch.Tensor]:
    """The state dict with float16 weights, but float32 where half precision would hurt: in normalization layers."""
    keep = {
        f"{name}.{key}" for name, module in model.named_modules() if hasattr(module, "running_var")
        for key in module.state_dict()
    }
    return {
        key: value.half() if key not in keep and value.is_floating_point() else value
        for key, value in model.state_dict().items()
    }


def save_model(
    model: nn.Module,
    folder: str | Path,
    tag: str | None = None,
    classes: Sequence[str] | None = None,
    half: bool = False,
) -> Path:
    """Write ``config.json`` and ``model.safetensors``, whole or not at all.

    Args:
        model: A timm model.
        folder: Where to; an existing folder is replaced once the new one is complete.
        tag: What the weights are of, for example "cifar10"; goes into the config.
        classes: Names of the classes in the order of the logits.
        half: Store float16 weights with float32 normalization layers; they load into a float32 model.

    Returns:
        The folder.

    Raises:
        OSError: they can't be written, for want of space for example; what stood there before stands there still.
    """
    folder = Path(folder)
    beside = folder.with_name(f".{folder.name}.{os.getpid()}")
    before = beside.with_name(f"{beside.name}.before")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        state = half_precision(model) if half else model.state_dict()
        state = {key: value.detach().cpu().contiguous() for key, value in state.items()}
        # written by Python, so that whoever may read the folder may read the weights; save_file makes them private
        (beside / "model.safetensors").write_bytes(save(state, metadata={"format": "pt"}))
        overrides: dict = {"tag": tag} if tag else {}
        if classes:
            overrides["label_names"] = list(classes)
        save_config_for_hf(
            model, str(beside / "config.json"),
            model_config={"pretrained_cfg": overrides, **({"label_names": list(classes)} if classes else {})})
        config = json.loads((beside / "config.json").read_text())
        config.get("model_args", {}).pop("num_classes", None)  # transformers passes it a second time
        config["dtype"] = "float32"  # transformers would otherwise run the net in the file's own precision
        (beside / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        if folder.exists():
            folder.rename(before)
        beside.rename(folder)
    except OSError:
        if before.exists():
            before.rename(folder)
        raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        shutil.rmtree(before, ignore_errors=True)
    return folder
