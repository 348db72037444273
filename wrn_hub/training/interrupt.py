"""When a run pauses to save its state: every few minutes and at SIGTERM, every process after the same step."""
import signal
import threading
import time
from typing import Any

import torch
import torch.distributed
from accelerate import Accelerator

__all__ = ["SAVE", "STOP", "Interrupt"]

SAVE, STOP = 1, 2


class Interrupt:
    """Collects the wishes to save or to stop, which the loop asks for after each update.

    A context manager, within which SIGTERM is a wish to stop instead of the end.

    Args:
        minutes: Time from one checkpoint to the next wish to save.
    """

    def __init__(self, minutes: float) -> None:
        self.seconds, self.stop = 60 * minutes, False
        self.handler: Any = None
        self.group: Any | None = None
        self.pending: tuple[Any, torch.Tensor] | None = None

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():  # no other may handle signals
            self.handler = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *_: Any) -> None:
        if self.handler is not None:
            signal.signal(signal.SIGTERM, self.handler)

    def _note(self, *_: Any) -> None:
        self.stop = True

    def start(self, accelerator: Accelerator) -> None:
        """Start the clock, and let the processes hear each other through gloo: no GPU waits for an answer."""
        self.main = accelerator.is_main_process
        if accelerator.num_processes > 1:
            self.group = torch.distributed.new_group(backend="gloo")
        self.saved()

    def saved(self) -> None:
        """Start the clock again, on every process; answers that are on their way are forgotten."""
        self.last, self.pending = time.monotonic(), None

    def wish(self) -> int:
        """0, SAVE or STOP, the same on every process.

        Several processes hear what was wished when they asked the time before: each asks after a step and reads the
        answer after the next, so that none waits.
        """
        due = self.main and time.monotonic() - self.last >= self.seconds
        mine = STOP if self.stop else SAVE if due else 0
        if self.group is None:
            return mine
        heard, wish = self.pending, torch.tensor(mine)
        self.pending = torch.distributed.all_reduce(
            wish, torch.distributed.ReduceOp.MAX, self.group, async_op=True), wish
        if heard is None:
            return 0
        heard[0].wait()
        return int(heard[1])
