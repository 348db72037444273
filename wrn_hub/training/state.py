"""What a checkpoint is: the state of a run, as it is saved and as it is read back."""
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from timm.utils import ModelEmaV3
from torch import nn

from ..errors import UserError, first_line

__all__ = ["RunState", "check_saved"]

# what a checkpoint holds; the second line is of some runs, or wasn't kept by older ones
_PARTS = {"run_id": str, "model": dict, "optimizer": dict, "history": list, "step": int, "seconds": float | int}
_OPTIONAL = {"settings": dict, "ema": dict, "scaler": dict, "processes": list}


def check_saved(saved: Any, path: Path) -> None:
    """Hold what was read of a checkpoint against what a run keeps.

    Raises:
        UserError: a part is missing or of another type; names the file and the part.
    """
    parts = saved if isinstance(saved, dict) else {}
    wrong = [name for name, kind in _PARTS.items() if not isinstance(parts.get(name), kind)]
    wrong += [name for name, kind in _OPTIONAL.items() if name in parts and not isinstance(parts[name], kind)]
    if not wrong and not all(isinstance(row, dict) for row in parts["history"]):
        wrong = ["history"]
    if not wrong and parts["step"] and "processes" not in parts:
        wrong = ["processes"]
    if wrong:
        raise UserError(f"{path}: not a checkpoint of a training (see its {', '.join(wrong)}); move it away to go on "
                        "from the one before")


@dataclass
class RunState:
    """All that a run has come to: with the same settings and images, whatever follows depends on it alone.

    Attributes:
        model: The net as it was before it was compiled or spread over processes.
        ema: The moving average of its weights, or None.
        optimizer: Prepared by Accelerate.
        scaler: Of the gradients in fp16, or None.
        losses: float32 (steps an epoch,), those of this epoch and process, on the device.
        correct: int64 (), images of this epoch and process that were recognised, on the device.
        history: A row of metrics for each whole epoch.
        step: Steps of the epoch that were done when it was saved; 0 between epochs.
        seconds: Wall-clock that they had taken.
    """

    model: nn.Module
    ema: ModelEmaV3 | None
    optimizer: Any
    scaler: Any | None
    losses: torch.Tensor
    correct: torch.Tensor
    history: list[dict[str, Any]] = field(default_factory=list)
    step: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.begin_epoch()

    @property
    def result(self) -> nn.Module:
        """The net that is measured and kept: the average, where there is one."""
        return self.ema.module if self.ema else self.model

    def begin_epoch(self) -> None:
        """Start its clock, by what the steps took that are done already."""
        self.started = time.perf_counter() - self.seconds

    def end_epoch(self, row: dict[str, Any]) -> None:
        """Add the epoch's row to the history; the next begins."""
        self.history.append(row)
        self.step, self.seconds = 0, 0.0
        self.losses.zero_()
        self.correct.zero_()
        self.begin_epoch()

    def elapsed(self) -> float:
        """Seconds that this epoch has taken, those before an interruption included."""
        return time.perf_counter() - self.started

    def state_dict(self, step: int) -> dict[str, Any]:
        """What :meth:`load_state_dict` takes, after ``step`` steps of the epoch; every process has to ask for it."""
        saved: dict[str, Any] = {
            "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "history": self.history,
            "step": step, "seconds": self.elapsed()}
        if self.ema:
            saved["ema"] = self.ema.module.state_dict()
        if self.scaler:
            saved["scaler"] = self.scaler.state_dict()
        if step:  # within an epoch each process has its own statistics
            mine = {"losses": self.losses.cpu(), "correct": self.correct.cpu(), "buffers": _buffers(self.model)}
            if self.ema:
                mine["ema_buffers"] = _buffers(self.ema.module)
            saved["processes"] = gather_object([mine])
        return saved

    def load_state_dict(self, saved: dict[str, Any], rank: int) -> None:
        """Go back to what was saved.

        Args:
            saved: Of :meth:`state_dict`, on the CPU.
            rank: Number of this process.

        Raises:
            UserError: it is of another net or optimizer.
        """
        try:
            self.model.load_state_dict(saved["model"])
            self.optimizer.load_state_dict(saved["optimizer"])
            if self.ema:
                self.ema.module.load_state_dict(saved["ema"])
            if self.scaler and "scaler" in saved:  # a run may have begun in another precision
                self.scaler.load_state_dict(saved["scaler"])
            self.history, self.step, self.seconds = saved["history"], saved["step"], saved["seconds"]
            if not 0 <= self.step <= len(self.losses):
                raise ValueError(f"step {self.step} of {len(self.losses)}")
            if self.step:
                mine = saved["processes"][rank]
                self.losses.copy_(mine["losses"])
                self.correct.copy_(mine["correct"])
                _load_buffers(self.model, mine["buffers"])
                if self.ema:
                    _load_buffers(self.ema.module, mine["ema_buffers"])
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise UserError(
                f"the newest checkpoint is of another net or optimizer ({first_line(error)}); give a new output"
            ) from error


def _buffers(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: buffer.cpu() for name, buffer in model.named_buffers()}


def _load_buffers(model: nn.Module, saved: dict[str, torch.Tensor]) -> None:
    for name, buffer in model.named_buffers():
        buffer.copy_(saved[name])
