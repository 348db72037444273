"""Every registered Wide ResNet side by side: its size, its cost, and what its weights were measured to do."""
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..evaluation.results import Results
from ..evaluation.speed_table import SpeedTable
from ..facts import DATASETS
from ..files import read_json, read_text, write_whole
from ..weights import MANIFEST, local_file, published_id, search_path
from . import markdown
from .costs import variant_costs
from .markdown import percent
from .reported import best_reported, reported
from .standing import standing

__all__ = [
    "Variant", "markdown_table", "speeds", "table", "update_between_marks", "variants", "weights_table"]


@dataclass(frozen=True)
class Variant:
    """One architecture.

    Attributes:
        name: timm name.
        parameters: Number of parameters with the default number of classes.
        size: Side in pixels of the input that ``gmacs`` and ``activations`` are for.
        gmacs: Billions of multiply-accumulates of a forward pass of one image.
        activations: Millions of numbers that come out of convolutions in that pass.
        weights: Tag -> measured top-1 on its test split (0 to 1), None where it isn't measured here.
    """

    name: str
    parameters: int
    size: int
    gmacs: float
    activations: float
    weights: dict[str, float | None]


def _found(place: str) -> Path | None:
    return next((folder / place for folder in search_path() if (folder / place).is_file()), None)


def _results(name: str) -> Results | None:
    path = _found(f"{name}/results.json")
    return Results.read(path) if path else None


def _settings(name: str) -> dict[str, Any] | None:
    path = _found(f"{name}/args.json")
    return read_json(path) if path else None


def speeds(name: str = "speed") -> SpeedTable | None:
    """What ``scripts/maintain/measure_speed.py`` measured; None in an installation without ``model_cards``.

    Args:
        name: "speed", in batches, or "latency", one image at a time.
    """
    path = _found(f"{name}.json")
    return SpeedTable.read(path) if path else None


def variants() -> list[Variant]:
    """All variants, those for small images first, by size."""
    found = []
    for name, cost in variant_costs().items():
        own = [tag for tag in DATASETS if _where(f"{name}.{tag}") in ("here", "hub")]
        measured = {tag: _results(f"{name}.{tag}") for tag in (*own, *cost.timm)}
        found.append(Variant(
            name, cost.parameters, cost.size, cost.gmacs, cost.activations,
            {tag: results.top1 if results else None for tag, results in measured.items()}))
    return sorted(found, key=lambda variant: (variant.size, variant.parameters))


def _where(name: str) -> str | None:
    """Where the weights of ``arch.tag`` are: "here", "hub", "clone", or None where the manifest has none."""
    if local_file(name):
        return "here"
    return "hub" if published_id(name) else "clone" if name in MANIFEST else None


def table() -> list[dict[str, Any]]:
    """Every variant and dataset as a plain row, for a data frame or a page; None where something isn't known.

    Measured here are ``top1``, ``nll``, ``ece``, ``corrupted`` (mean top-1 on corrupted images; shares from 0 to 1,
    nats for ``nll``), ``images_per_second`` in batches and ``memory`` (bytes), both as ``measured_with`` says, and
    ``latency_ms``, milliseconds for one image, as ``latency_with`` says: the batch, the precision, the device and its
    threads. ``corrupted_images`` says of how many images ``corrupted`` is. ``epochs`` is how long the weights were
    trained, and ``short_run`` whether that was short by the rule of :mod:`wrn_hub.cards.standing`. ``reported`` is the
    best top-1 that others report, whose training and preprocessing may differ. ``weights`` says where there are some:
    "here", on this machine; "hub", where they are downloaded from when they are asked for; "clone", in ``model_cards``
    of a clone of the repository alone, see :func:`wrn_hub.weights.elsewhere`; "timm"; or None.
    """
    rows, throughput, latency = [], speeds(), speeds("latency")
    for variant in variants():
        datasets = [tag for tag in (*DATASETS, "imagenet") if tag in variant.weights or reported(variant.name, tag)]
        if not datasets:
            datasets = ["cifar10" if variant.size == 32 else "imagenet"]
        net, alone = (speed.nets.get(variant.name) if speed else None for speed in (throughput, latency))
        for dataset in datasets:
            results = _results(f"{variant.name}.{dataset}") if dataset in variant.weights else None
            best = best_reported(variant.name, dataset)
            settings = _settings(f"{variant.name}.{dataset}") if results else None
            stands = standing(variant.name, dataset, results, settings) if results else None
            rows.append({
                "model": variant.name,
                "dataset": dataset,
                "parameters": variant.parameters,
                "gmacs": variant.gmacs,
                "activations": variant.activations,
                "size": variant.size,
                "weights": _where(f"{variant.name}.{dataset}") or (
                    "timm" if dataset == "imagenet" and variant.weights else None),
                "top1": results.top1 if results else None,
                "nll": results.nll if results else None,
                "ece": results.ece if results else None,
                "corrupted": results.corruptions.mean if results and results.corruptions else None,
                "corrupted_images": results.corruptions.images if results and results.corruptions else None,
                "epochs": stands.epochs if stands else None,
                "short_run": stands.short_run if stands else None,
                "images_per_second": net.images_per_second if net else None,
                "memory": net.memory if net else None,
                "measured_with": throughput.conditions if throughput and net else None,
                "latency_ms": round(1000 / alone.images_per_second, 2) if alone else None,
                "latency_with": latency.conditions if latency and alone else None,
                "reported": round(1 - best.error / 100, 6) if best else None,
                "reported_source": best.source if best else None,
                "reported_preprocessing": best.preprocessing if best else None,
            })
    return rows


def markdown_table(rows: list[Variant]) -> str:
    """The variants as a Markdown table."""
    cells = []
    for row in rows:
        weights = []
        for tag, top1 in row.weights.items():
            if f"{row.name}.{tag}" in MANIFEST:
                weights.append(f"`{tag}`" + (f" {percent(top1)}" if top1 is not None else ""))
            elif tag not in DATASETS:
                weights.append(f"`{tag}` (timm's)")
        cells.append([
            f"`{row.name}`", f"{row.parameters:,}", f"{row.gmacs:.4g}", f"{row.size}x{row.size}",
            ", ".join(weights) or "none yet"])
    return markdown.table(["model", "parameters", "GMACs", "input", "weights"], cells, right=[1, 2, 3]) + "\n"


def weights_table() -> str:
    """What the weights were measured to do, beside the paper's numbers and the best of others, as a Markdown table."""
    cells = []
    for name in MANIFEST:
        (arch, _, dataset), results = name.partition("."), _results(name)
        papers = [entry for entry in reported(arch, dataset) if entry.source.startswith("the paper")]
        peers = [entry for entry in reported(arch, dataset) if entry not in papers]
        best = (
            f"{100 - one.error:.2f} %: {one.source.removeprefix('the paper, ')}; {one.preprocessing}" if one else "none"
            for one in (min(some, key=lambda entry: entry.error, default=None) for some in (papers, peers)))
        measured = f"{percent(results.top1)}; mean/std" if results else "not yet"
        if results and standing(arch, dataset, results, _settings(name)).short_run:
            measured += "; short run"
        cells.append([f"`{name}`", measured, *best])
    return markdown.table(["weights", "measured here", "the paper", "best of others"], cells) + "\n"


def update_between_marks(path: Path, table: str, mark: str = "models") -> bool:
    """Put the table between ``<!-- MARK -->`` and ``<!-- /MARK -->``; returns whether the file changed.

    Raises:
        UserError: the file can't be read, or lacks the marks.
    """
    text = read_text(path)
    first, last = f"<!-- {mark} -->\n", f"<!-- /{mark} -->"
    head, found, rest = text.partition(first)
    _, closed, tail = rest.partition(last)
    if not (found and closed):
        raise UserError(f"{path} lacks the lines {first.strip()} and {last}: add both where the table is to stand")
    new = f"{head}{first}{table}{last}{tail}"
    if new != text:
        write_whole(path, new)
    return new != text
