"""When a run pauses to save its state: every few minutes, at SIGTERM, at Ctrl-C and when its terminal is closed; every
process after the same step.
"""
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from accelerate import Accelerator

__all__ = ["SAVE", "STOP", "Interrupt"]

SAVE, STOP = 1, 2
_NAMES = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C"}
if hasattr(signal, "SIGHUP"):  # Windows has none
    _NAMES[signal.SIGHUP] = "the end of its terminal"
_ECHO = 2.0  # seconds in which a second Ctrl-C is the first one, that a launcher passed on


class Interrupt:
    """Collects the wishes to save or to stop, which the loop asks for after each update.

    A context manager, within which SIGTERM and SIGHUP, and Ctrl-C once the training is under way, are wishes to stop
    instead of the end. A second Ctrl-C ends it at once.

    Args:
        minutes: Time from one checkpoint to the next wish to save.
    """

    def __init__(self, minutes: float) -> None:
        self.seconds = 60 * minutes
        self.signal: signal.Signals | None = None
        self.running, self.main, self.asked, self.wished = False, True, 0.0, 0
        self.folder = Path()
        self.handlers: dict[signal.Signals, Any] = {}
        self.group: Any | None = None
        self.pending: tuple[Any, torch.Tensor] | None = None

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():  # no other may handle signals
            for number in _NAMES:
                if signal.getsignal(number) is not signal.SIG_IGN:  # as a shell has it in the background
                    self.handlers[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type | None, *_: Any) -> None:
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        if self.group is not None and kind is None:  # after an error the others may be anywhere
            self.saved()
            torch.distributed.destroy_process_group(self.group)

    def _note(self, number: int, _: Any) -> None:
        again = self.signal is not None and time.monotonic() - self.asked > _ECHO
        if number == signal.SIGINT and (again or not self.running):
            raise KeyboardInterrupt
        if self.signal is None:
            self.signal, self.asked = signal.Signals(number), time.monotonic()
            if number == signal.SIGINT and self.main:
                # at once, since a launcher may be gone before the end; print might be in the middle of another line
                os.write(2, f"\nsaving after this step, then the end; the same command with --output {self.folder} "
                            "--resume goes on; Ctrl-C again ends at once, without\n".encode())

    @property
    def by(self) -> str:
        """What asked to stop, in words; of several processes, one may know it from the others alone."""
        return _NAMES[self.signal or signal.SIGTERM]

    def start(self, accelerator: Accelerator, folder: Path) -> None:
        """Start the clock, and let the processes hear each other through gloo: no GPU waits for an answer.

        Args:
            accelerator: Knows the processes.
            folder: Of the run, to tell how to go on.
        """
        self.main, self.folder, self.running = accelerator.is_main_process, folder, True
        if accelerator.num_processes > 1:
            self.group = torch.distributed.new_group(backend="gloo")
        self.saved()

    def saved(self) -> None:
        """Start the clock again, on every process; answers that are on their way are forgotten."""
        if self.pending is not None:
            self.pending[0].wait()
        self.last, self.pending = time.monotonic(), None

    def wish(self) -> int:
        """0, SAVE or STOP, the same on every process; ``wished`` keeps the answer.

        Several processes hear what was wished when they asked the time before: each asks after a step and reads the
        answer after the next, so that none waits.
        """
        due = self.main and time.monotonic() - self.last >= self.seconds
        mine = STOP if self.signal else SAVE if due else 0
        if self.group is None:
            self.wished = mine
            return mine
        heard, wish = self.pending, torch.tensor(mine)
        self.pending = torch.distributed.all_reduce(
            wish, torch.distributed.ReduceOp.MAX, self.group, async_op=True), wish
        self.wished = 0
        if heard is not None:
            heard[0].wait()
            self.wished = int(heard[1])
        return self.wished
