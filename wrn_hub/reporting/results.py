"""results.json: what was measured, of which weights, on which images, how and where.

Version 1 of the schema is the dataclass below. A file with a field too few or too many is refused.
"""
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ..errors import UserError

__all__ = ["VERSION", "Results"]

VERSION = 1


@dataclass(frozen=True)
class Results:
    """One measurement of one model on one split.

    Attributes:
        model: timm name, with its tag where it has one.
        weights_sha256: sha256 of model.safetensors; None for a net with random weights.
        dataset: name, split, number of images, and fingerprint (sha256 of pixels and labels).
        preprocessing: side in pixels, mean and std per channel in units of 1.
        top1: Share of the images whose class is the likeliest, 0 to 1.
        top5: Share of the images whose class is among the five likeliest, 0 to 1; None below six classes.
        loss: Mean cross-entropy in nats.
        precision: "fp32" on a CPU is the canonical one.
        processes: How many shared the work.
        images_per_second: Over all processes, from pixels on the device to logits.
        command: What was typed.
        versions: Of Python and the packages.
        hardware: Name and number of the devices.
        date: UTC, ISO 8601.
        schema_version: 1.
    """

    model: str
    weights_sha256: str | None
    dataset: dict[str, Any]
    preprocessing: dict[str, Any]
    top1: float
    top5: float | None
    loss: float
    precision: str
    processes: int
    images_per_second: float
    command: str
    versions: dict[str, str]
    hardware: str
    date: str
    schema_version: int = VERSION

    def write(self, path: str | Path) -> None:
        """Write the file, whole or not at all."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}")
        beside.write_text(json.dumps(asdict(self), indent=2) + "\n")
        beside.replace(path)

    @classmethod
    def read(cls, path: str | Path) -> "Results":
        """Read a results.json.

        Raises:
            UserError: it is not JSON, is of another version, or lacks or adds a field.
        """
        try:
            content = json.loads(Path(path).read_text())
        except (OSError, json.JSONDecodeError) as error:
            raise UserError(f"{path}: not a results file ({error}); measure again with scripts/evaluate.py") from None
        known = {item.name for item in fields(cls)}
        if not isinstance(content, dict) or content.get("schema_version") != VERSION or set(content) != known:
            given = set(content) if isinstance(content, dict) else set()
            raise UserError(
                f"{path}: not version {VERSION} of results.json (missing {sorted(known - given)}, "
                f"unknown {sorted(given - known)}); measure again with scripts/evaluate.py")
        return cls(**content)
