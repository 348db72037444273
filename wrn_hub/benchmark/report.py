"""A benchmark as a file, as tables and as a picture; the last two are pure functions of the first.

Version 1 of the schema is the dataclass below. A file with a field too few or too many is refused.
"""
import json
import statistics
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ..cards.markdown import table
from ..errors import UserError
from ..files import read_json, write_whole
from .options import AXES

__all__ = ["VERSION", "Benchmark", "markdown", "picture", "readme_section"]

VERSION = 1


@dataclass(frozen=True)
class Benchmark:
    """One run of the benchmark.

    Attributes:
        model: timm name of the net in the sections train and inference.
        sections: "train", "inference", "growth" and "data", as far as they were asked for. A row has its ``name``, its
            ``images_per_second``, their ``ratio`` to the row compared with, ``peak_memory`` in bytes or null, and
            ``seconds``, the time of a step in every round; a point of the growth has ratios to the first point.
        notes: What was left out and why.
        settings: Of the benchmark, with nothing left to the machine.
        command: What was typed.
        versions: Of Python and the packages.
        hardware: Name and number of the devices.
        date: UTC, ISO 8601.
        schema_version: 1.
    """

    model: str
    sections: dict[str, dict[str, Any]]
    notes: list[str]
    settings: dict[str, Any]
    command: str
    versions: dict[str, str]
    hardware: str
    date: str
    schema_version: int = VERSION

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        write_whole(path, json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> "Benchmark":
        """Read a benchmark.

        Raises:
            UserError: it is not JSON, is of another version, or lacks or adds a field.
        """
        try:
            content = read_json(path)
        except UserError as error:
            raise UserError(f"{error}; measure with scripts/benchmark.py") from None
        known, given = {item.name for item in fields(cls)}, set(content)
        if content.get("schema_version") != VERSION or given != known:
            raise UserError(
                f"{path}: not version {VERSION} of a benchmark (missing {sorted(known - given)}, unknown "
                f"{sorted(given - known)}); measure again with scripts/benchmark.py")
        return cls(**content)


def _table(head: list[str], rows: list[list[str]]) -> str:
    return table(head, rows, right=range(1, len(head)), padded=True) + "\n"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _bytes(value: int | None) -> str:
    return "" if value is None else f"{value / 2**20:,.0f} MiB"


def _row(entry: dict[str, Any]) -> list[str]:
    return [entry["name"], _number(entry["images_per_second"]), f"{entry['ratio']:.2f}", _bytes(entry["peak_memory"])]


def _train(model: str, section: dict[str, Any]) -> str:
    head = ["training", "images/s", "ratio", "memory", "of the matrix product"]
    rows = [[*_row(entry), f"{entry['share_of_matmul']:.0%}"] for entry in section["rows"]]
    return (
        f"Training steps of {model}, batch {section['batch_size']}; the ratio is to the plain PyTorch loop:\n\n"
        f"{_table(head, rows)}\n"
        f"The trainer adds {section['trainer_adds']:.1%} to the {section['trainer_like']}. "
        f"The {section['matmul']} reached {section['matmul_flops_per_second'] / 1e12:.3g} TFLOP/s.\n")


def _inference(model: str, section: dict[str, Any]) -> str:
    batches = section["batches"]
    head = ["inference", *(text for b in batches for text in (f"batch {b['batch_size']}", "ratio")), "memory"]
    rows = []
    for entries in zip(*(b["rows"] for b in batches), strict=True):
        texts = [_row(entry) for entry in entries]
        rows.append([texts[0][0], *(part for text in texts for part in text[1:3]), texts[-1][3]])
    return (
        f"Inference of {model}, images a second by batch size, and the ratio to fp32 in NCHW of each batch size; "
        f"memory is that of the last:\n\n{_table(head, rows)}")


def _growth(section: dict[str, Any]) -> str:
    base = section["base"]
    parts = [
        f"Growth from WRN-{base['depth']}-{base['width']} at batch {base['batch_size']}: how many times the first "
        "point's time, and how many times its floating-point operations:\n"]
    for axis in section["axes"]:
        head = [AXES[axis["axis"]], f"ms a{'n' if axis['of'] == 'epoch' else ''} {axis['of']}", "time", "operations",
                "memory"]
        parts.append(_table(head, [
            [f"{p['value']:,}", _number(1000 * statistics.median(p["seconds"])), f"{p['time_ratio']:.2f}",
             f"{p['flops_ratio']:.2f}", _bytes(p["peak_memory"])] for p in axis["points"]]))
    return "\n".join(parts)


def _data(section: dict[str, Any]) -> str:
    rows = [_row(entry)[:3] for entry in section["rows"]]
    return (
        f"Images of {section['image_size']} pixels made ready for training, batch {section['batch_size']}, from "
        f"{section['files']} by {section['workers']} worker processes; the ratio is to timm's create_loader with the "
        f"same transforms:\n\n{_table(['loader', 'images/s', 'ratio'], rows)}")


def markdown(benchmark: Benchmark) -> str:
    """All tables of a benchmark, with what they were measured on."""
    parts = [
        f"On {benchmark.hardware}, PyTorch {benchmark.versions['torch']}, {benchmark.date[:10]}; medians over "
        "rounds in which every row had its turn, a ratio the median of the rounds' ratios.\n"]
    if section := benchmark.sections.get("train"):
        parts.append(_train(benchmark.model, section))
    if section := benchmark.sections.get("inference"):
        parts.append(_inference(benchmark.model, section))
    if section := benchmark.sections.get("growth"):
        parts.append(_growth(section))
    if section := benchmark.sections.get("data"):
        parts.append(_data(section))
    parts += [f"{note}\n" for note in benchmark.notes]
    return "\n".join(parts)


def readme_section(folder: Path) -> str:
    """The tables of every benchmark kept in a folder, each with its command and its picture."""
    parts = []
    for path in sorted(folder.glob("*.json")):
        benchmark = Benchmark.read(path)
        parts.append(
            f"`{benchmark.command}`\n\n{markdown(benchmark)}\n"
            f"[![Speed on {benchmark.hardware}]({path.stem}.png)]({path.stem}.svg)\n")
    return "\n".join(parts) or "No measurement is kept in this repository yet.\n"


def picture(benchmark: Benchmark, path: Path) -> None:
    """Draw the sections into one picture.

    Args:
        benchmark: What to draw.
        path: Of the benchmark's file; a PNG and an SVG are written beside it.

    Raises:
        UserError: matplotlib, of the extra "cards", is not installed.
    """
    try:
        from ..cards.plots import save
        from .plot import draw
    except ImportError as error:
        raise UserError(f"no picture without matplotlib ({error}): pip install 'wrn-hub[cards]'") from None
    for kind in (".png", ".svg"):
        save(path.with_suffix(kind), draw, benchmark.model, benchmark.hardware, benchmark.sections)
