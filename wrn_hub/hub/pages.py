"""The hub's pages for people: all variants in a table, a page and a list of files for each repository."""
import json
import math
import re
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from safetensors import SafetensorError, safe_open
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.templating import Jinja2Templates

from ..cards.variants import Variant, variants
from ..facts import DATASETS
from .markdown import as_list, beginning, mapping, read_card, render
from .routes import Download, card, metadata
from .store import CARD, CONFIG, WEIGHTS, File, FolderStore, NotFound, Revision

__all__ = ["Row", "page_routes", "problem_page", "rows"]

# Nothing from elsewhere, so that the pages are whole behind a firewall and a card can do no harm.
SECURITY = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; "
                               "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def _bytes(size: int) -> str:
    """A size for people, in units of 1000 bytes."""
    if size < 1000:
        return f"{size} bytes"
    power = min(len(str(size)) - 1, 9) // 3
    return f"{size / 1000**power:.1f} {('kB', 'MB', 'GB')[power - 1]}"


def _templates() -> Jinja2Templates:
    environment = Environment(
        loader=PackageLoader("wrn_hub.hub"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True)
    environment.filters |= {"bytes": _bytes, "count": "{:,}".format, "percent": lambda share: f"{100 * share:.2f} %"}
    return Jinja2Templates(env=environment)


TEMPLATES = _templates()


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
def _tensors(weights: File) -> Tensors | None:
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
def _read_config(file: File) -> dict[str, Any]:
    try:
        return mapping(json.loads, beginning(file.content, MOST_BYTES))
    except OSError:
        return {}


def _config(found: Revision) -> dict[str, Any]:
    """What config.json says; nothing, where it is no mapping or too long."""
    return _read_config(found.file(CONFIG))


def _preprocessing(config: dict[str, Any]) -> dict[str, Any]:
    """The pretrained_cfg of a config.json, which older versions of timm wrote without that level."""
    cfg = config.get("pretrained_cfg", config)
    return cfg if isinstance(cfg, dict) else {}


def _side(config: dict[str, Any]) -> int | None:
    size = _preprocessing(config).get("input_size")
    return size[-1] if isinstance(size, list) and size and type(size[-1]) is int and 0 < size[-1] < 10**6 else None


@dataclass(frozen=True)
class Number:
    """One result of a card's model-index.

    Attributes:
        name: Of the metric.
        value: Accuracies are in %.
        accuracy: Whether it is one.
        dataset: Name.
        split: Or an empty string.
    """

    name: str
    value: float
    accuracy: bool
    dataset: str
    split: str


def _numbers(of_card: dict[str, Any]) -> list[Number]:
    found = []
    try:
        for entry in of_card.get("model-index") or []:
            for result in entry["results"]:
                dataset = result["dataset"]
                found += [
                    Number(str(metric.get("name") or metric["type"]), float(metric["value"]),
                           metric["type"] == "accuracy", str(dataset["name"]), str(dataset.get("split") or ""))
                    for metric in result["metrics"]]
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError):
        return []  # somebody's own card, written otherwise
    return [number for number in found if math.isfinite(number.value)]


@dataclass(frozen=True)
class Row:
    """A line of the start page: a model that is served here, or a variant without weights here.

    Attributes:
        name: "arch.tag" or the folder's name; "arch" without weights.
        href: Its page, or None.
        dataset: What it was measured on according to its card, or whose classes it tells.
        top1: The first accuracy of its card that is of a test split, 0 to 1.
        parameters: Their number.
        gmacs: Billions of multiply-accumulates for one image of ``side`` pixels.
        side: Of the input, in pixels.
        weights: Size of the weights in bytes; None where there are none here.
        elsewhere: Tags of the weights that timm has of it.
    """

    name: str
    href: str | None = None
    dataset: str | None = None
    top1: float | None = None
    parameters: int | None = None
    gmacs: float | None = None
    side: int | None = None
    weights: int | None = None
    elsewhere: tuple[str, ...] = ()


def _served_row(store: FolderStore, repo_id: str, known: dict[str, Variant]) -> tuple[Row, str]:
    found = store.revision("models", repo_id)
    config = _config(found)
    arch, side, cfg = str(config.get("architecture", "")), _side(config), _preprocessing(config)
    # a net of somebody's own classes still has the tag of the net that it came from
    tag = str(cfg.get("tag"))
    same = tag in DATASETS and as_list(cfg.get("label_names")) == [*DATASETS[tag].classes]
    dataset, top1 = tag if same else None, None
    accuracies = [number for number in _numbers(metadata(found)) if number.accuracy]
    if accuracies:
        first = min(accuracies, key=lambda number: number.split != "test")  # one of a test split, if there is one
        dataset, top1 = first.dataset, first.value / 100 if first.split == "test" else None
    weights = found.file(WEIGHTS)
    tensors = _tensors(weights)
    variant = known.get(arch)
    return Row(
        repo_id.partition("/")[2], f"/{repo_id}", dataset, top1, tensors.parameters if tensors else None,
        variant.gmacs if variant and variant.size == side else None, side, weights.size), arch


def rows(store: FolderStore) -> list[Row]:
    """What the start page lists: the models that are served, then every variant that has no weights here."""
    known, extras = {variant.name: variant for variant in variants()}, store.extras()
    served = []
    for repo_id in store.repositories():
        with suppress(NotFound):  # it went meanwhile
            served.append(_served_row(store, repo_id, known))
    have = {arch for _, arch in served}
    others = [
        Row(variant.name, f"/{store.organisation}/{variant.name}" if f"{variant.name}/{CARD}" in extras else None,
            parameters=variant.parameters, gmacs=variant.gmacs, side=variant.size,
            elsewhere=tuple(tag for tag in variant.weights if tag not in DATASETS))
        for variant in known.values() if variant.name not in have]
    return sorted((row for row, _ in served), key=lambda row: (row.parameters or 0, row.name)) + others


def problem_page(request: Request, status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    """A page that says what isn't there."""
    return TEMPLATES.TemplateResponse(
        request, "problem.html", {"status": status, "message": message}, status, {**SECURITY, **(headers or {})})


def page_routes(store: FolderStore) -> list[BaseRoute]:
    """Starlette's routes of the pages; they come after those of the Hub."""

    def shown(request: Request, template: str, **context: Any) -> Response:
        context |= {"organisation": store.organisation, "endpoint": str(request.base_url).rstrip("/")}
        return TEMPLATES.TemplateResponse(request, template, context, headers=SECURITY)

    def start(request: Request) -> Response:
        asked = request.path_params.get("org", store.organisation)
        if asked != store.organisation:
            raise NotFound("RepoNotFound", f"There is no organisation {asked} here, only {store.organisation}.")
        extras = store.extras()
        _, text = read_card(extras.get(CARD))
        captions = {path: caption for caption, path in re.findall(r"!\[([^\]]*)\]\(([^)\s]+)\)", text)}
        pictures = [(path, captions.get(path, path)) for path in extras if "/" not in path and path != CARD]
        return shown(request, "start.html", rows=rows(store), pictures=pictures, folder=store.root.name)

    def repository(request: Request) -> Response:
        name = request.path_params["name"]
        repo_id = f"{request.path_params['org']}/{name}"
        extras = store.extras()
        if repo_id not in store.repositories() and repo_id == f"{store.organisation}/{name}" \
                and f"{name}/{CARD}" in extras:
            about, text = read_card(extras[f"{name}/{CARD}"])
            return shown(request, "repository.html", repo_id=repo_id, name=name, found=None, metadata=about,
                         card=render(text, f"/-/folder/{name}/"), numbers=_numbers(about), as_list=as_list)
        found = store.revision("models", repo_id)
        config, weights = _config(found), found.file(WEIGHTS)
        about, text = card(found)
        return shown(
            request, "repository.html", repo_id=repo_id, name=name, found=found, metadata=about, as_list=as_list,
            card=render(text, f"/{repo_id}/resolve/main/") if text.strip() else None, numbers=_numbers(about),
            config=config, cfg=_preprocessing(config), side=_side(config), weights=weights, tensors=_tensors(weights))

    def files(request: Request) -> Response:
        asked = request.path_params
        found = store.revision("models", f"{asked['org']}/{asked['name']}", asked["revision"])
        return shown(request, "files.html", repo_id=found.repo_id, name=asked["name"], found=found)

    def extra(request: Request) -> Response:
        path = request.path_params["path"]
        try:
            return Download(File.read(store.extras()[path]), headers=SECURITY)
        except (KeyError, OSError):
            raise NotFound("EntryNotFound", f"There is no {path} here.") from None

    return [
        Mount("/-/static", StaticFiles(packages=[("wrn_hub.hub", "static")])),
        Route("/-/folder/{path:path}", extra),
        Route("/", start),
        Route("/{org}", start),
        Route("/{org}/{name}", repository),
        Route("/{org}/{name}/tree/{revision}", files),
    ]
