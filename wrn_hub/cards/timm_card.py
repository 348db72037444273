"""The cards of the nets whose weights are timm's: everything on them is counted from the net or reported by others.

Such a folder of ``model_cards`` holds a README.md alone: a page, not a repository that could be loaded or published.
"""
from typing import Any

import timm
from huggingface_hub import ModelCardData
from timm.models import get_arch_pretrained_cfgs

from ..facts import REPOSITORY
from .card import reported_table
from .markdown import render
from .metadata import front_matter
from .reported import reported
from .variants import variants

__all__ = ["timm_card_text", "timm_cards"]

PHOTOGRAPH = "https://huggingface.co/datasets/huggingface/documentation-images/resolve/main/beignets-task-guide.png"


def timm_cards() -> list[str]:
    """The architectures whose weights are timm's."""
    return [variant.name for variant in variants() if variant.size > 32 and variant.weights]


def _licence(arch: str, licences: set[str]) -> dict[str, Any]:
    """What the page's head says of the licence; where the weights have several, which has which stands in its table."""
    if len(licences) == 1:
        return {"license": licences.pop()}
    return {"license": "other", "license_name": "-or-".join(sorted(licences)),
            "license_link": f"{REPOSITORY}/blob/main/model_cards/{arch}/README.md#weights"}


def timm_card_text(arch: str) -> str:
    """The README.md of an architecture whose weights are timm's."""
    (variant,) = (variant for variant in variants() if variant.name == arch)
    cfgs: dict[str, Any] = {cfg.tag: cfg for cfg in get_arch_pretrained_cfgs(arch).values()}
    default = timm.get_pretrained_cfg(arch)
    features = timm.create_model(arch, device="meta").num_features
    weights = []
    for tag, cfg in cfgs.items():
        size, crop = (cfg.test_input_size or cfg.input_size)[-1], cfg.test_crop_pct or cfg.crop_pct
        weights.append([
            f"`{arch}.{tag}`", f"[{cfg.hf_hub_id}](https://huggingface.co/{cfg.hf_hub_id})", cfg.license,
            f"{size} px, crop {crop:g}, {cfg.interpolation}"])
    return render(
        "timm_card",
        head=front_matter(ModelCardData(
            **_licence(arch, {cfg.license for cfg in cfgs.values()}), library_name="timm",
            pipeline_tag="image-classification", tags=["image-classification", "timm", "transformers", "wide-resnet"],
            datasets=["ILSVRC/imagenet-1k"],
            base_model=[cfg.hf_hub_id for cfg in cfgs.values()])),
        arch=arch, depth=arch.split("_")[1], tag=default.tag, hub_id=default.hf_hub_id, photograph=PHOTOGRAPH,
        size=variant.size, num_features=features, weights=weights,
        reported=reported_table(sorted(reported(arch, "imagenet"), key=lambda entry: entry.error)),
        counts=[
            ("parameters", f"{variant.parameters:,}"),
            (f"GMACs, one image of {variant.size}x{variant.size} pixels", f"{variant.gmacs:.4g}"),
            (f"activations, one image of {variant.size}x{variant.size} pixels", f"{variant.activations:.4g} M"),
            ("accuracy, calibration, corruptions, speed and memory", "Not measured"),
        ])
