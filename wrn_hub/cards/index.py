"""``model_cards`` as a whole: every card, and the page that compares all variants."""
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..evaluation.speed_table import SpeedTable
from ..facts import DATASETS
from ..files import read_text, write_whole
from ..weights import staged
from . import plots
from .card import check_card, write_card
from .frontier_plot import Point, frontier_plot
from .head import split_head
from .markdown import megabytes, percent, render
from .metadata import check_metadata, check_text
from .standing import SHORT_EPOCHS, SHORT_POINTS
from .timm_card import timm_card_text, timm_cards
from .variants import speeds, variants
from .variants import table as variant_rows

__all__ = ["check_cards", "frontier", "index_text", "write_cards"]

_TITLES = {**{name: facts.title for name, facts in DATASETS.items()}, "imagenet": "ImageNet"}
# Picture -> what accuracy is shown against, in the order of a point's costs, and whether more of it costs less.
_FRONTIERS = {
    "frontier": ("parameters", False),
    "frontier_macs": ("multiply-accumulates of one image", False),
    "frontier_speed": ("inference, images/s", True),
}


def frontier() -> dict[str, list[Point]]:
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
                    Point(label, round(100 * (1 - accuracy), 4), measured, costs))
    return {title: some for title, some in points.items() if len(some) >= 4}


def _per_second(images: float | None) -> str:
    return "Not measured" if images is None else f"{images:,.0f}" if images >= 10 else f"{images:.1f}"


class _Notes(dict[str, int]):
    """Footnotes by their text, numbered in the order in which they are first mentioned."""

    def mark(self, text: str) -> str:
        return f"[^{self.setdefault(text, len(self) + 1)}]"


def _accuracy_cells(row: dict[str, Any], notes: _Notes) -> list[str]:
    """What is known of a net on one dataset."""
    name, dataset = row["model"], row["dataset"]
    if row["top1"] is not None:
        measured = f"[{percent(row['top1'])}]({name}.{dataset}/README.md)" + (", short run" if row["short_run"] else "")
    elif row["weights"] == "timm":
        measured = f"[timm's weights]({name}/README.md), not measured"
    else:
        measured = "no weights yet"
    best = "nothing known" if row["reported"] is None else percent(row["reported"]) + notes.mark(
        f"{row['reported_source']}; {row['reported_preprocessing']}")
    epochs = "-" if row["epochs"] is None else str(row["epochs"])
    return [f"`{name}`", f"{row['parameters'] / 1e6:.3g} M", measured, epochs, best]


def _cost_cells(row: dict[str, Any]) -> list[str]:
    """What a net is, whatever it was trained on."""
    return [
        f"`{row['model']}`", f"{row['parameters']:,}", f"{row['gmacs']:.4g}", f"{row['activations']:.4g}",
        f"{row['size']}x{row['size']}", _per_second(row["images_per_second"])]


def _width_rows(measured: SpeedTable) -> list[list[str]]:
    """What width costs: nets of one depth side by side."""
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
                f"{variant.gmacs / first.gmacs:.1f}", megabytes(net.memory)])
    return rows


def _studies(root: Path) -> list[dict[str, str]]:
    """What was studied, from the pages below ``studies``: title, where the page lies, and its first sentence."""
    found = []
    for page in sorted(root.glob("studies/*/README.md")):
        title, *rest = (part.strip() for part in split_head(read_text(page))[1].strip().split("\n\n"))
        first = next((part for part in rest if part[:1].isalnum()), "")  # no heading, picture, table or code
        if not title.startswith("# ") or not first:
            raise UserError(f"{page} needs a title (# ...) as its first line, and a sentence after an empty one")
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", " ".join(first.split()))  # links would lead elsewhere from here
        sentence = re.split(r"(?<=[.!?]) (?=[A-Z])", plain)[0]
        found.append({"title": title[2:], "path": page.relative_to(root).as_posix(), "says": sentence})
    return found


def _frontiers() -> dict[str, tuple[Any, ...]]:
    """File -> what is drawn there."""
    points = frontier()
    return {
        f"{name}.{kind}": (points, measure, column, more_is_better)
        for column, (name, (measure, more_is_better)) in enumerate(_FRONTIERS.items()) for kind in ("png", "svg")}


def index_text(root: Path) -> str:
    """The README.md of ``model_cards``: every registered variant, those without weights too, by size.

    Args:
        root: The folder, whose studies are listed.
    """
    rows, notes, speed = variant_rows(), _Notes(), speeds()
    datasets = [
        {"title": title, "rows": [_accuracy_cells(row, notes) for row in rows if row["dataset"] == name]}
        for name, title in _TITLES.items()]
    nets = {row["model"]: _cost_cells(row) for row in rows}
    to_train = next((row for row in rows if row["dataset"] in _TITLES and row["top1"] is None), None)
    return render(
        "index", datasets=[dataset for dataset in datasets if dataset["rows"]], nets=list(nets.values()),
        notes=list(notes), speed=vars(speed) if speed else None, width_rows=_width_rows(speed) if speed else [],
        short_epochs=SHORT_EPOCHS, short_points=SHORT_POINTS, studies=_studies(root), to_train=to_train,
        frontiers={name: measure for name, (measure, _) in _FRONTIERS.items()})


def write_cards(root: Path) -> list[str]:
    """Make every card and the comparison below ``root``, a ``model_cards`` folder; returns what was made.

    Raises:
        UserError: a staged folder lacks a file, or its files don't belong together.
    """
    folders = staged(root)
    for folder in folders:
        write_card(folder)
    for arch in timm_cards():
        write_whole(root / arch / "README.md", timm_card_text(arch))
    for name, inputs in _frontiers().items():
        if plots.digest_of(root / name) != plots.digest(*inputs):
            plots.save(root / name, frontier_plot, *inputs)
    write_whole(root / "README.md", index_text(root))
    return [f"{name}/README.md" for name in (*(folder.name for folder in folders), *timm_cards())] + ["README.md"]


def check_cards(root: Path) -> list[str]:
    """What is stale or wrong below ``root``, a line each; empty where all is well."""
    wrong = [line for folder in staged(root) for line in check_card(folder)]
    pages = {f"{arch}/README.md": timm_card_text(arch) for arch in timm_cards()}
    for name, text in {**pages, "README.md": index_text(root)}.items():
        problems = check_text(text) + (check_metadata(text) if name in pages else [])
        wrong += [f"{name}: {line}" for line in problems]
        if not (root / name).is_file() or (root / name).read_bytes() != text.encode():
            wrong.append(f"{name} is stale: run scripts/maintain/make_cards.py")
    wrong += [f"{name} is stale: run scripts/maintain/make_cards.py" for name, inputs in _frontiers().items()
              if plots.digest_of(root / name) != plots.digest(*inputs)]
    return wrong
