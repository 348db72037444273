"""The cards of the nets whose weights are timm's: everything on them is counted from the net or reported by others.

Such a folder of ``model_cards`` holds a README.md alone: a page, not a repository that could be loaded or published.
"""
from typing import Any

import timm
from timm.models import get_arch_pretrained_cfgs

from .card import BIBTEX, classify_snippet, features_snippet, reported_table, table
from .metadata import front_matter
from .reported import reported
from .variants import variants

__all__ = ["timm_card_text", "timm_cards"]


def timm_cards() -> list[str]:
    """The architectures whose weights are timm's."""
    return [variant.name for variant in variants() if variant.size > 32 and variant.weights]


def timm_card_text(arch: str) -> str:
    """The README.md of an architecture whose weights are timm's."""
    (variant,) = (variant for variant in variants() if variant.name == arch)
    cfgs: dict[str, Any] = {cfg.tag: cfg for cfg in get_arch_pretrained_cfgs(arch).values()}
    default = timm.get_pretrained_cfg(arch)
    depth = arch.split("_")[1]
    metadata = {
        "license": default.license,
        "library_name": "timm",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "timm", "transformers", "wide-resnet"],
        "datasets": ["ILSVRC/imagenet-1k"],
        "base_model": [cfg.hf_hub_id for cfg in cfgs.values()],
    }
    features = timm.create_model(arch, device="meta").num_features
    weights = []
    for tag, cfg in cfgs.items():
        size, crop = (cfg.test_input_size or cfg.input_size)[-1], cfg.test_crop_pct or cfg.crop_pct
        weights.append([
            f"`{arch}.{tag}`", f"[{cfg.hf_hub_id}](https://huggingface.co/{cfg.hf_hub_id})", cfg.license,
            f"{size} px, crop {crop:g}, {cfg.interpolation}"])
    lines = [
        front_matter(metadata),
        f"# {arch}",
        "",
        f"WRN-{depth}-2-bottleneck, a [Wide Residual Network](https://arxiv.org/abs/1605.07146) for ImageNet: "
        f"ResNet-{depth} with twice the channels in its 3x3 convolutions. It is timm's `wide_resnet{depth}_2` under "
        "the paper's name, with timm's weights. Nothing on this page was measured here.",
        "",
        "Install the package from a clone of wrn_hub with `pip install .`, then classify an image; timm loads the "
        "weights from the Hub:",
        "",
        *classify_snippet(f"{arch}.{default.tag}"),
        "",
        "## Weights",
        "",
        *table(["name", "whose they are", "licence", "preprocessing for tests"], weights),
        "",
        "## What others report",
        "",
        "On the validation split of ImageNet-1k; not measured here.",
        "",
        *reported_table(sorted(reported(arch, "imagenet"), key=lambda entry: entry.error)),
        "",
        "## Size",
        "",
        "Counted from the net.",
        "",
        *table(["count", "value"], [
            ("parameters", f"{variant.parameters:,}"),
            (f"GMACs, one image of {variant.size}x{variant.size} pixels", f"{variant.gmacs:.4g}"),
            (f"activations, one image of {variant.size}x{variant.size} pixels", f"{variant.activations:.4g} M"),
            ("accuracy, calibration, corruptions, speed and memory", "Not measured"),
        ], right=[1]),
        "",
        "## More uses",
        "",
        "With the pipeline of transformers, which takes timm's own repository:",
        "",
        "```python",
        "from transformers import pipeline",
        "",
        f'classify = pipeline("image-classification", model="{default.hf_hub_id}")',
        'print(classify("image.png", top_k=3))',
        "```",
        "",
        *features_snippet(arch, variant.size, features, ("four", "2, 4, 8, 16 and 32")),
        "",
        "Fine-tuning on a folder with a subfolder per class:",
        "",
        "```bash",
        f"accelerate launch scripts/finetune.py --model {arch} --dataset FOLDER --image-size 224",
        "```",
        "",
        "## Limits",
        "",
        "It tells the 1,000 classes of ImageNet-1k and gives one of them to any image, also to one that shows none. "
        "ImageNet has known label errors and biases, and its images may be used for research alone.",
        "",
        "## Licence and source",
        "",
        "The licence of each of the weights stands in the table above.",
        "",
        BIBTEX,
    ]
    return "\n".join(lines) + "\n"
