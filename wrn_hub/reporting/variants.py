"""Every registered Wide ResNet side by side: its size, its cost, and what its weights were measured to do."""
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import timm
import torch
from timm.models import get_arch_pretrained_cfgs
from torch.utils.flop_counter import FlopCounterMode

from ..facts import DATASETS
from ..weights import MANIFEST, search_path
from .results import Results

__all__ = ["Variant", "markdown_table", "size_and_cost", "variant_names", "variants"]


@dataclass(frozen=True)
class Variant:
    """One architecture.

    Attributes:
        name: timm name.
        parameters: Number of parameters with the default number of classes.
        size: Side in pixels of the input that ``gmacs`` is for.
        gmacs: Billions of multiply-accumulates of a forward pass of one image.
        weights: Tag -> measured top-1 on its test split (0 to 1), None where it isn't measured here.
    """

    name: str
    parameters: int
    size: int
    gmacs: float
    weights: dict[str, float | None]


def _measured(name: str) -> float | None:
    for folder in search_path():
        if (folder / name / "results.json").is_file():
            return Results.read(folder / name / "results.json").top1
    return None


def variant_names() -> list[str]:
    """timm names of all variants, without tags."""
    return [name for module in ("wide_resnet", "wide_resnet_in1k") for name in timm.list_models(module=module)]


def size_and_cost(name: str) -> tuple[int, int, float]:
    """Number of parameters, side of the input in pixels and GMACs of a variant.

    Built without memory for weights, which takes up to seconds, but only once; any thread may ask.
    """
    with _ONE_AT_A_TIME:
        return _size_and_cost(name)


_ONE_AT_A_TIME = threading.Lock()


@cache
def _size_and_cost(name: str) -> tuple[int, int, float]:
    model = timm.create_model(name, device="meta").eval()
    size = model.pretrained_cfg["input_size"][-1]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.empty(1, 3, size, size, device="meta"))
    return sum(p.numel() for p in model.parameters()), size, counter.get_total_flops() / 2e9


def variants() -> list[Variant]:
    """All variants, those for small images first, by size; the first call takes seconds."""
    found = []
    for name in variant_names():
        tags = [cfg.tag for cfg in get_arch_pretrained_cfgs(name).values() if cfg.has_weights]
        found.append(Variant(
            name, *size_and_cost(name), weights={tag: _measured(f"{name}.{tag}") for tag in tags if tag}))
    return sorted(found, key=lambda variant: (variant.size, variant.parameters))


def markdown_table(rows: list[Variant]) -> str:
    """The variants as a Markdown table."""
    lines = ["| model | parameters | GMACs | input | weights |", "|---|---:|---:|---:|---|"]
    for row in rows:
        weights = []
        for tag, top1 in row.weights.items():
            if f"{row.name}.{tag}" in MANIFEST:
                weights.append(f"`{tag}`" + (f" {top1:.2%}".replace("%", " %") if top1 is not None else ""))
            elif tag not in DATASETS:
                weights.append(f"`{tag}` (timm's)")
        lines.append(
            f"| `{row.name}` | {row.parameters:,} | {row.gmacs:.4g} | {row.size}x{row.size} | "
            f"{', '.join(weights) or 'none yet'} |")
    return "\n".join(lines) + "\n"


def update_between_marks(path: Path, table: str, mark: str = "models") -> bool:
    """Put the table between ``<!-- MARK -->`` and ``<!-- /MARK -->``; returns whether the file changed."""
    text = path.read_text()
    head, _, rest = text.partition(f"<!-- {mark} -->\n")
    _, _, tail = rest.partition(f"<!-- /{mark} -->")
    new = f"{head}<!-- {mark} -->\n{table}<!-- /{mark} -->{tail}"
    if new != text:
        path.write_text(new)
    return new != text
