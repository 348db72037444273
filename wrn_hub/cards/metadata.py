"""What a card says to the Hub, its YAML head, and a check of it that needs no network.

The rules are those of the Hub's documentation (huggingface/hub-docs: modelcard.md, docs/hub/repositories-licenses.md),
as far as they concern image classifiers.
"""
import math
import re
from numbers import Real
from typing import Any, TypeGuard

from huggingface_hub import ModelCardData

from ..errors import UserError
from .head import parse_head, split_head

__all__ = ["check_metadata", "check_text", "finetuned", "front_matter", "read_metadata"]

# identifiers that the Hub knows; a licence that isn't among them is "other", with license_name and license_link
LICENSES = frozenset((
    "apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "isc", "unlicense", "zlib",
    "cc", "cc0-1.0", "cc-by-4.0", "cc-by-3.0", "cc-by-sa-4.0", "cc-by-sa-3.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0",
    "cc-by-nc-nd-4.0", "cc-by-nd-4.0", "gpl", "gpl-2.0", "gpl-3.0", "lgpl", "lgpl-2.1", "lgpl-3.0", "agpl-3.0",
    "mpl-2.0", "epl-2.0", "openrail", "openrail++", "pddl", "odc-by", "odbl", "unknown", "other"))
FIELDS: dict[str, type | tuple[type, ...]] = {
    "license": str, "library_name": str, "pipeline_tag": str, "tags": list, "datasets": list, "metrics": list,
    "base_model": (str, list), "base_model_relation": str, "language": (str, list), "license_name": str,
    "license_link": str, "model-index": list}
RELATIONS = ("finetune", "adapter", "merge", "quantized")  # that a model may have to its base
_REPOSITORY = re.compile(r"(?:[A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]{0,95}")


def front_matter(metadata: ModelCardData) -> str:
    """The YAML head of a card, between its two lines of dashes, its fields in the order of :data:`FIELDS`."""
    return f"---\n{metadata.to_yaml(original_order=list(FIELDS))}\n---\n"


def finetuned(base: str | None) -> dict[str, Any]:
    """What a head says of the weights that a training began with: their Hub id, where it is known."""
    return {"base_model": base, "base_model_relation": "finetune"} if base else {}


def read_metadata(text: str) -> Any:
    """The metadata of a card; None where there is no head, or it isn't YAML."""
    head, _ = split_head(text)
    try:
        return parse_head(head) if head is not None else None
    except UserError:
        return None


def _texts(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and bool(value) and all(isinstance(item, str) and item for item in value)


def check_metadata(text: str) -> list[str]:
    """What the Hub would refuse or ignore in a card's metadata, a line each; empty where all is well."""
    metadata = read_metadata(text)
    if not isinstance(metadata, dict):
        return ["the card begins with no metadata between two lines of ---"]
    wrong = [f"unknown field {key!r}" for key in metadata if key not in FIELDS]
    wrong += [
        f"{key}: {metadata[key]!r} has the wrong type" for key, kind in FIELDS.items()
        if key in metadata and not isinstance(metadata[key], kind)]
    for key, needed in (("library_name", "timm"), ("pipeline_tag", "image-classification")):
        if metadata.get(key) != needed:
            wrong.append(f"{key}: {metadata.get(key)!r}, needed is {needed!r}")
    license_id = metadata.get("license")
    if license_id not in LICENSES:
        wrong.append(f"license: {license_id!r} is not an identifier that the Hub knows")
    if license_id == "other" and not (metadata.get("license_name") and metadata.get("license_link")):
        wrong.append("license: other needs license_name and license_link")
    tags = metadata.get("tags")
    if not _texts(tags) or "timm" not in tags:
        wrong.append("tags: needed is a list of texts, timm among them")
    datasets = metadata.get("datasets", [])
    if not _texts(datasets) or not all(_REPOSITORY.fullmatch(name) for name in datasets):
        wrong.append(f"datasets: {datasets!r} is not a list of ids on the Hub")
    relation = metadata.get("base_model_relation")
    if relation is not None and (relation not in RELATIONS or "base_model" not in metadata):
        wrong.append(f"base_model_relation: {relation!r}, allowed is one of {', '.join(RELATIONS)}, with a base_model")
    if "model-index" in metadata:
        wrong += _check_index(metadata["model-index"])
    return wrong


def _check_index(index: Any) -> list[str]:
    """The model-index: models, their results, each with task, dataset and metrics."""
    wrong: list[str] = []

    def need(place: str, content: Any, *keys: str) -> bool:
        missing = [key for key in keys if not isinstance(content, dict) or not content.get(key)]
        if missing:
            wrong.append(f"{place} lacks {', '.join(missing)}")
        return not missing

    models: list[Any] = index if isinstance(index, list) and index else [None]
    for model in models:
        if not need("model-index", model, "name", "results"):
            continue
        for result in model["results"]:
            if not need("model-index: a result", result, "task", "dataset", "metrics"):
                continue
            need("model-index: a task", result["task"], "type")
            need("model-index: a dataset", result["dataset"], "type", "name")
            for metric in result["metrics"]:
                value = metric.get("value") if isinstance(metric, dict) else None
                if not (isinstance(metric, dict) and isinstance(metric.get("type"), str)
                        and isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)):
                    wrong.append(f"model-index: the metric {metric!r} needs a type and a finite number as its value")
    return wrong


_HOLES = re.compile(r"\b(None|nan|NaN|inf|TODO|TBD|FIXME|XXX|lorem)\b|More Information Needed|\{\{|\}\}|\{\w+\}")


def check_text(text: str) -> list[str]:
    """Placeholders and empty cells in a card, a line each; empty where all is well."""
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    wrong = [f"placeholder {match.group()!r}" for match in _HOLES.finditer(prose)]
    for line in prose.splitlines():
        if line.startswith("|") and any(not cell.strip() for cell in line.strip().strip("|").split("|")):
            wrong.append(f"an empty cell in {line!r}")
    wrong += [f"a picture or link without a target: {match}" for match in re.findall(r"!?\[[^\]]*\]\(\s*\)", prose)]
    return wrong
