"""What :mod:`wrn_hub.evaluation.speed` measured, as it stands in model_cards/speed.json and latency.json."""
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from ..files import write_whole
from .results import read_record

__all__ = ["NetSpeed", "SpeedTable"]

_AGAIN = "measure again with scripts/maintain/measure_speed.py"


@dataclass(frozen=True)
class NetSpeed:
    """One net.

    Attributes:
        images_per_second: Of the fastest forward pass of several.
        memory: Bytes that the net and its forward passes took at most, the process's own left out; None where the
            system doesn't tell.
    """

    images_per_second: float
    memory: int | None = None


@dataclass(frozen=True)
class SpeedTable:
    """Several nets, measured one after the other in the same way.

    Attributes:
        nets: timm name -> what was measured.
        batch_size: Images a forward pass.
        precision: "fp32", "bf16" or "fp16".
        hardware: Name of the device, for a CPU with its threads.
        command: What was typed.
        versions: Of Python and the packages.
        date: UTC, ISO 8601.
    """

    nets: dict[str, NetSpeed]
    batch_size: int
    precision: str
    hardware: str
    command: str
    versions: dict[str, str]
    date: str

    @property
    def conditions(self) -> str:
        """What holds for every number: batch, precision, device and threads."""
        return f"batch {self.batch_size}, {self.precision}, {self.hardware}"

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        write_whole(path, json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> "SpeedTable":
        """Read a speed.json.

        Raises:
            UserError: it is not JSON, lacks a field, or holds something else in one.
        """
        return read_record(cls, path, _AGAIN)
