"""What the hub tells of a model without building it: the head of its weights, its config.json, its card's numbers; and
the lines of the start page made of them."""
import json
import math
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ..cards.costs import VariantCost, variant_costs
from ..cards.reported import Reported, best_reported
from ..errors import UserError
from ..evaluation.speed_table import SpeedTable
from ..facts import DATASETS, KNOWN
from ..weights import MANIFEST, search_path
from .markdown import as_list, beginning, mapping
from .routes import metadata
from .search import IMAGENET, dataset_key, terms
from .store import CONFIG, ORGANISATION, WEIGHTS, File, FolderStore, NotFound, Revision

__all__ = [
    "Number", "Row", "Tensors", "is_ours", "numbers", "preprocessing", "read_config", "read_tensors", "rows", "side",
    "speed_table", "title"]


@dataclass(frozen=True)
class Tensors:
    """What the head of a safetensors file tells.

    Attributes:
        parameters: Number of parameters; the running statistics of BatchNorm are none.
        dtypes: Their types, the most frequent first.
    """

    parameters: int
    dtypes: tuple[str, ...]


MOST_BYTES = 1 << 20  # of a config.json
MOST_HEADER = 4 << 20  # of a safetensors file; a net of a thousand layers has a tenth
_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


@lru_cache(maxsize=1024)
def read_tensors(weights: File) -> Tensors | None:
    """The head of a safetensors file; None where it is damaged, or none."""
    counts: dict[str, int] = {}
    try:
        with weights.content.open("rb") as head:
            if int.from_bytes(head.read(8), "little") > MOST_HEADER:
                return None
        with safe_open(weights.content, "np") as file:
            for name in file.keys():  # noqa: SIM118  the file is no mapping
                if name.rpartition(".")[2] not in ("running_mean", "running_var", "num_batches_tracked"):
                    part = file.get_slice(name)
                    counts[part.get_dtype()] = counts.get(part.get_dtype(), 0) + prod(part.get_shape())
    except (OSError, SafetensorError):
        return None
    frequent_first = sorted(counts, key=lambda dtype: -counts[dtype])
    return Tensors(sum(counts.values()), tuple(_DTYPES.get(dtype, dtype) for dtype in frequent_first))


@lru_cache(maxsize=1024)
def _config(file: File) -> dict[str, Any]:
    try:
        return mapping(json.loads, beginning(file.content, MOST_BYTES))
    except OSError:
        return {}


def read_config(found: Revision) -> dict[str, Any]:
    """What config.json says; nothing, where it is no mapping or too long."""
    return _config(found.file(CONFIG))


def preprocessing(config: dict[str, Any]) -> dict[str, Any]:
    """The pretrained_cfg of a config.json, which older versions of timm wrote without that level."""
    cfg = config.get("pretrained_cfg", config)
    return cfg if isinstance(cfg, dict) else {}


def side(config: dict[str, Any]) -> int | None:
    """Of the image that a config.json says the net takes, in pixels."""
    size = preprocessing(config).get("input_size")
    return size[-1] if isinstance(size, list) and size and type(size[-1]) is int and 0 < size[-1] < 10**6 else None


@dataclass(frozen=True)
class Number:
    """One result of a card's model-index.

    Attributes:
        name: Of the metric.
        value: Accuracies are in %.
        accuracy: Whether it is the top-1 accuracy.
        percent: Whether it is any accuracy.
        dataset: Name.
        split: Or an empty string.
    """

    name: str
    value: float
    accuracy: bool
    percent: bool
    dataset: str
    split: str


def _number(kind: str, name: str, value: float, dataset: str, split: str) -> Number:
    top1 = kind == "accuracy" and "top-5" not in name
    return Number(name, value, top1, top1 or "accuracy" in f"{kind} {name}".lower(), dataset, split)


def numbers(of_card: dict[str, Any]) -> list[Number]:
    """The results in a card's metadata; none where somebody wrote them otherwise."""
    found = []
    try:
        for entry in of_card.get("model-index") or []:
            for result in entry["results"]:
                dataset = result["dataset"]
                found += [
                    _number(str(metric["type"]), str(metric.get("name") or metric["type"]), float(metric["value"]),
                            str(dataset["name"]), str(dataset.get("split") or ""))
                    for metric in result["metrics"]]
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError):
        return []  # somebody's own card, written otherwise
    return [number for number in found if math.isfinite(number.value)]


@lru_cache(maxsize=16)
def _speeds(path: Path, modified: int) -> SpeedTable | None:
    with suppress(UserError):
        return SpeedTable.read(path)
    return None


def speed_table(store: FolderStore, name: str = "speed") -> SpeedTable | None:
    """How fast the nets are, whatever their weights: the folder's own speed.json, or that of this package."""
    for folder in (store.root, *search_path()):
        with suppress(OSError):
            path = folder / f"{name}.json"
            return _speeds(path, path.stat().st_mtime_ns)
    return None


def title(dataset: str) -> str:
    """A dataset's name for people."""
    return "ImageNet" if dataset == IMAGENET else KNOWN[dataset].title if dataset in KNOWN else dataset


@dataclass(frozen=True)
class Row:
    """A line of the start page: a model that is served here, or a variant and a dataset without weights here.

    Attributes:
        name: "arch.tag" or the folder's name; "arch" without weights.
        href: Its page.
        arch: timm name of the architecture; empty where that isn't known.
        terms: What finds it, see :func:`wrn_hub.hub.search.terms`.
        dataset: What it was measured on according to its card, or whose classes it tells; by its key where the package
            knows it.
        top1: The first accuracy of its card that is of a test split, 0 to 1.
        short_run: Whether its card has the mark of a short run.
        reported: The best that others report of the architecture on this dataset.
        parameters: Their number.
        gmacs: Billions of multiply-accumulates for one image of ``side`` pixels.
        images_per_second: Of the architecture, as :func:`speed_table` says.
        side: Of the input, in pixels.
        weights: Size of the weights in bytes; None where there are none here.
        license: Of the weights, as their card has it; empty where it has none.
        elsewhere: Tags of the weights that timm has of it.
    """

    name: str
    href: str
    arch: str
    terms: str
    dataset: str | None = None
    top1: float | None = None
    short_run: bool = False
    reported: Reported | None = None
    parameters: int | None = None
    gmacs: float | None = None
    images_per_second: float | None = None
    side: int | None = None
    weights: int | None = None
    license: str = ""
    elsewhere: tuple[str, ...] = ()


def _speed(arch: str, table: SpeedTable | None) -> float | None:
    net = table.nets.get(arch) if table else None
    return net.images_per_second if net else None


def _served_row(store: FolderStore, repo_id: str, table: SpeedTable | None) -> Row:
    found = store.revision("models", repo_id)
    config, about = read_config(found), metadata(found)
    arch, pixels, cfg = str(config.get("architecture", "")), side(config), preprocessing(config)
    # a net of somebody's own classes still has the tag of the net that it came from
    tag = str(cfg.get("tag"))
    same = tag in DATASETS and as_list(cfg.get("label_names")) == [*DATASETS[tag].classes]
    dataset, top1 = tag if same else None, None
    accuracies = [number for number in numbers(about) if number.accuracy]
    if accuracies:
        first = min(accuracies, key=lambda number: number.split != "test")  # one of a test split, if there is one
        dataset, top1 = dataset_key(first.dataset), first.value / 100 if first.split == "test" else None
    weights, tags, name = found.file(WEIGHTS), as_list(about.get("tags")), repo_id.partition("/")[2]
    tensors, cost = read_tensors(weights), variant_costs().get(arch)
    usual = cost is not None and cost.size == pixels
    return Row(
        name, f"/{repo_id}", arch, terms(name, arch, dataset, tags), dataset, top1, "short-run" in tags,
        best_reported(arch, dataset) if dataset else None, tensors.parameters if tensors else None,
        cost.gmacs if usual and cost else None, _speed(arch, table) if usual else None, pixels, weights.size,
        ", ".join(as_list(about.get("license"))))


def _other_rows(store: FolderStore, name: str, cost: VariantCost, table: SpeedTable | None) -> list[Row]:
    """A variant on each dataset that something is known of."""
    theirs = tuple(cost.timm)
    datasets = [key for key in (*DATASETS, IMAGENET) if best_reported(name, key) or (key == IMAGENET and theirs)]
    return [
        Row(name, f"/{store.organisation}/{name}", name, terms(name, name, dataset), dataset,
            reported=best_reported(name, dataset), parameters=cost.parameters, gmacs=cost.gmacs,
            images_per_second=_speed(name, table), side=cost.size, elsewhere=theirs)
        for dataset in datasets or ["cifar10" if cost.size == 32 else IMAGENET]]


def is_ours(store: FolderStore) -> bool:
    """Whether this is the hub of this package's weights, and not somebody's own: one at least lies here under its name.
    """
    for repo_id in store.repositories():
        name = repo_id.partition("/")[2]
        with suppress(NotFound):
            if store.organisation == ORGANISATION and name in MANIFEST and (
                    store.revision("models", repo_id).file(WEIGHTS).sha256 == MANIFEST[name]["sha256"]):
                return True
    return False


def rows(store: FolderStore) -> list[Row]:
    """What the start page lists: the models that are served, smallest first; then, if this is the hub of this package's
    weights, every variant on every dataset without weights here."""
    table = speed_table(store)
    served = []
    for repo_id in store.repositories():
        with suppress(NotFound):  # it went meanwhile
            served.append(_served_row(store, repo_id, table))
    served.sort(key=lambda row: (row.parameters or 0, row.name))
    if not is_ours(store):
        return served
    have = {(row.arch, row.dataset) for row in served}
    others = [row for name, cost in variant_costs().items() for row in _other_rows(store, name, cost, table)
              if (name, row.dataset) not in have]
    return served + sorted(others, key=lambda row: (row.side or 0, row.parameters or 0, row.dataset or ""))
