"""What every variant costs and whose weights there are of it beside ours, without building it: costs.json.

Counting takes seconds a net, and torch and timm, which pages and tables that list all of them do without. The file is
made from the nets by ``python scripts/maintain/list_models.py --costs``, and a test holds it against them.
"""
import json
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from ..evaluation.results import strictly
from ..facts import DATASETS
from ..files import read_json, write_whole

__all__ = ["COSTS", "TimmWeights", "VariantCost", "counted", "size_and_cost", "variant_costs", "variant_names",
           "write_costs"]

COSTS = Path(__file__).with_name("costs.json")


@dataclass(frozen=True)
class TimmWeights:
    """Weights of timm's.

    Attributes:
        repository: Where they are on the Hub, "timm/name.tag".
        license: As the Hub names it; empty where timm says none.
    """

    repository: str
    license: str


@dataclass(frozen=True)
class VariantCost:
    """One variant, with its default number of classes.

    Attributes:
        size: Side in pixels of the image that the rest is for.
        parameters: Number of trained numbers.
        gmacs: Billions of multiply-accumulates of a forward pass of one image.
        activations: Millions of numbers that come out of convolutions in that pass.
        timm: timm's weights of it, by their tags.
    """

    size: int
    parameters: int
    gmacs: float
    activations: float
    timm: dict[str, TimmWeights]


@cache
def variant_costs() -> dict[str, VariantCost]:
    """All variants by their timm names, in the order of timm's lists.

    Raises:
        UserError: costs.json is damaged.
    """
    return {name: strictly(VariantCost, entry, f"{COSTS}, {name}", "restore the file")
            for name, entry in read_json(COSTS).items()}


def variant_names() -> list[str]:
    """timm names of all variants, without tags."""
    return list(variant_costs())


def size_and_cost(name: str) -> VariantCost:
    """What is known of a variant; KeyError where there is none of this name."""
    return variant_costs()[name]


def counted(name: str) -> VariantCost:
    """Count a variant from its net, which is built without memory for weights."""
    import timm
    from timm.models import get_arch_pretrained_cfgs

    from ..evaluation.cost import cost_of

    model = timm.create_model(name, device="meta")
    size = model.pretrained_cfg["input_size"][-1]
    cost = cost_of(model, size)
    theirs = {
        cfg.tag: TimmWeights(cfg.hf_hub_id, cfg.license or "") for cfg in get_arch_pretrained_cfgs(name).values()
        if cfg.tag and cfg.tag not in DATASETS and cfg.has_weights}
    return VariantCost(size, cost.parameters, cost.gmacs, cost.activations, theirs)


def write_costs(path: Path = COSTS) -> None:
    """Count every registered variant anew."""
    import timm

    names = [name for module in ("wide_resnet", "wide_resnet_in1k") for name in timm.list_models(module=module)]
    write_whole(path, json.dumps({name: asdict(counted(name)) for name in names}, indent=1) + "\n")
