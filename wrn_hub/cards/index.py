"""``model_cards`` as a whole: every card, and the page that compares all variants."""
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from ..facts import DATASETS
from ..weights import staged
from . import plots
from .card import check_card, percent, table, write_card
from .metadata import check_metadata, check_text
from .timm_card import timm_card_text, timm_cards
from .variants import speeds, variants
from .variants import table as variant_rows

__all__ = ["check_cards", "frontier", "index_text", "write_cards"]

_TITLES = {**{name: facts.title for name, facts in DATASETS.items()}, "imagenet": "ImageNet"}
_MEASURES = ("parameters", "multiply-accumulates of one image", "inference, images/s")


def frontier() -> dict[str, list[plots.Point]]:
    """Dataset -> what its nets reach and cost, for datasets of small images of which four or more nets are known."""
    points = defaultdict(list)
    for row in variant_rows():
        if row["size"] > 32:
            continue
        costs = (float(row["parameters"]), 1e9 * row["gmacs"], row["images_per_second"])
        label = row["model"].removeprefix("wrn_").replace("preresnet_", "pre-").replace("_", "-")
        for accuracy, measured in ((row["top1"], True), (row["reported"], False)):
            if accuracy is not None:
                points[_TITLES[row["dataset"]]].append(
                    plots.Point(label, round(100 * (1 - accuracy), 4), measured, costs))
    return {title: some for title, some in points.items() if len(some) >= 4}


def _per_second(images: float | None) -> str:
    return "Not measured" if images is None else f"{images:,.0f}" if images >= 10 else f"{images:.1f}"


def _cells(row: dict[str, Any]) -> list[str]:
    name, dataset = row["model"], row["dataset"]
    if row["top1"] is not None:
        measured = f"[{percent(row['top1'])}]({name}.{dataset}/README.md)"
    elif row["weights"] == "timm":
        measured = f"[timm's weights]({name}/README.md), not measured"
    else:
        measured = "no weights yet"
    best = "nothing known" if row["reported"] is None else (
        f"{percent(row['reported'])}: {row['reported_source']}; {row['reported_preprocessing']}")
    return [
        f"`{name}`", f"{row['parameters']:,}", f"{row['gmacs']:.4g}", f"{row['activations']:.4g}",
        f"{row['size']}x{row['size']}", _TITLES[dataset], measured,
        _per_second(row["images_per_second"]), best]


def _width_lines() -> list[str]:
    """What width costs: nets of one depth side by side."""
    measured = speeds()
    if measured is None:
        return ["Not measured."]
    by_depth = defaultdict(list)
    for variant in variants():
        match = re.fullmatch(r"wrn_(\d+)_(\d+)", variant.name)
        if match and variant.name in measured.nets:
            by_depth[int(match.group(1))].append(variant)
    rows = []
    for depth in sorted(depth for depth, some in by_depth.items() if len(some) >= 3):
        first = by_depth[depth][0]
        for variant in by_depth[depth]:
            net, base = measured.nets[variant.name], measured.nets[first.name]
            rows.append([
                f"`{variant.name}`", f"{variant.parameters:,}", f"{variant.gmacs:.4g}",
                _per_second(net.images_per_second), f"{base.images_per_second / net.images_per_second:.1f}",
                f"{variant.gmacs / first.gmacs:.1f}", f"{net.memory / 2**20:,.0f} MiB"])
    return [
        "Nets of one depth, with random weights, which cost what trained ones do. Time and GMACs are multiples of what "
        "the narrowest net of that depth takes. Memory is what the net and its forward passes took at most, Python and "
        "its libraries left out.",
        "",
        *table(["net", "parameters", "GMACs", "images/s", "times the time", "times the GMACs", "memory"], rows,
               right=range(1, 7)),
        "",
        f"The fastest of several forward passes of {measured.batch_size} images, {measured.precision}, measured on "
        f"{measured.date[:10]} ({measured.hardware}; a single thread is timed by the processor's clock) by",
        "",
        "```bash",
        f"python scripts/maintain/{measured.command}",
        "```",
    ]


def index_text() -> str:
    """The README.md of ``model_cards``: every registered variant, those without weights too, by size."""
    lines = [
        "# Wide Residual Networks",
        "",
        "Every variant of wrn_hub. A folder here with weights is, byte for byte, the Hub repository of these weights; "
        "a folder with a README.md alone is a page about a net whose weights are timm's. Measured is top-1 accuracy on "
        "the whole test split after the last epoch, in fp32, without test-time augmentation; best reported is the "
        "highest that others report of nets of this name, by whatever training. A net without weights is trained by, "
        "for example,",
        "",
        "```bash",
        "accelerate launch scripts/train.py --model wrn_28_2 --dataset cifar10 --data-dir data",
        "```",
        "",
        "## What accuracy costs",
        "",
        "![Top-1 error against parameters, multiply-accumulates and inference speed, one row of panels a dataset]"
        "(frontier.png)",
        "",
        "Filled circles were measured here, hollow triangles are reported by others; the speed of both was measured "
        "here, as below. The same numbers as plain rows: `wrn_hub.table()`.",
        "",
        "## All variants",
        "",
        *table(["model", "parameters", "GMACs", "activations, M", "input", "dataset", "measured", "images/s",
                "best reported"],
               [_cells(row) for row in variant_rows()], right=[1, 2, 3, 6, 7]),
        "",
        "## What width costs",
        "",
        *_width_lines(),
    ]
    return "\n".join(lines) + "\n"


def write_cards(root: Path) -> list[str]:
    """Make every card and the comparison below ``root``, a ``model_cards`` folder; returns what was made.

    Raises:
        UserError: a staged folder lacks a file, or its files don't belong together.
    """
    folders = staged(root)
    for folder in folders:
        write_card(folder)
    for arch in timm_cards():
        (root / arch).mkdir(exist_ok=True)
        (root / arch / "README.md").write_text(timm_card_text(arch))
    points = frontier()
    if plots.digest_of(root / "frontier.png") != plots.digest(points, _MEASURES):
        plots.save(root / "frontier.png", plots.frontier_plot, points, _MEASURES)
    (root / "README.md").write_text(index_text())
    return [f"{name}/README.md" for name in (*(folder.name for folder in folders), *timm_cards())] + ["README.md"]


def check_cards(root: Path) -> list[str]:
    """What is stale or wrong below ``root``, a line each; empty where all is well."""
    wrong = [line for folder in staged(root) for line in check_card(folder)]
    pages = {f"{arch}/README.md": timm_card_text(arch) for arch in timm_cards()}
    for name, text in {**pages, "README.md": index_text()}.items():
        problems = check_text(text) + (check_metadata(text) if name in pages else [])
        wrong += [f"{name}: {line}" for line in problems]
        if not (root / name).is_file() or (root / name).read_text() != text:
            wrong.append(f"{name} is stale: run scripts/maintain/make_cards.py")
    if plots.digest_of(root / "frontier.png") != plots.digest(frontier(), _MEASURES):
        wrong.append("frontier.png is stale: run scripts/maintain/make_cards.py")
    return wrong
