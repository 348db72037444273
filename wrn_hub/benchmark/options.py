"""What a benchmark can be told, each setting once."""
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..errors import UserError
from ..options import LARGEST_SIDE, option

if TYPE_CHECKING:
    import torch

__all__ = ["SECTIONS", "BenchmarkOptions"]

_MOST = 1_000_000  # of what is counted: beyond it is a slip of the pen

SECTIONS = ("train", "inference", "growth", "data")
AXES = {"width": "width k", "depth": "depth n", "batch_size": "batch", "images": "images"}  # what a cost grows along


@dataclass(frozen=True)
class BenchmarkOptions:
    """Settings of one benchmark; the defaults are those of ``scripts/benchmark.py``.

    Raises:
        UserError: a value outside what is allowed.
    """

    model: str = option("wrn_16_2", "model of the sections train and inference, as timm names it")
    batch_size: int = option(128, "images a training step")
    image_size: int = option(32, "side of the images in pixels; they are random")
    batch_sizes: tuple[int, ...] = option((), "images a step of inference; 1,8,32,128 on a CPU, 1,32,256,1024 on a GPU")
    precision: str = option(
        "auto", "the fast precision; auto: bf16 where that is the faster, else fp32", ("auto", "fp32", "bf16"))
    compile: str = option(
        "none", "torch.compile of the trainer's model; others than none are timed as bare steps too",
        ("none", "default", "reduce-overhead", "max-autotune"))
    workers: int = option(0, "worker processes of the loaders from files; 0: one a core, up to 16")
    seconds: float = option(2.0, "least duration of a turn")
    rounds: int = option(5, "turns of every rival, one after the other; one more comes first, to warm up")
    quick: bool = option(False, "a rehearsal: one round, turns of one step, tiny nets for the growth")

    def __post_init__(self) -> None:
        allowed = {"batch_size": (2, _MOST), "image_size": (8, LARGEST_SIDE), "workers": (0, 1024),
                   "seconds": (0, 86_400), "rounds": (1, _MOST)}
        for name, (low, high) in allowed.items():
            if not low <= getattr(self, name) <= high:
                raise UserError(f"{name} = {getattr(self, name)}: allowed is {low} to {high}")
        if not all(1 <= size <= _MOST for size in self.batch_sizes):
            sizes = ",".join(map(str, self.batch_sizes))
            raise UserError(f"batch_sizes = {sizes}: allowed are numbers from 1 to {_MOST}")

    def resolved(self, device: "torch.device", fast_precision: str, cores: int) -> "BenchmarkOptions":
        """The same with every choice that was left to the machine made."""
        return replace(
            self,
            batch_sizes=self.batch_sizes or ((1, 32, 256, 1024) if device.type == "cuda" else (1, 8, 32, 128)),
            precision=fast_precision if self.precision == "auto" else self.precision,
            workers=self.workers or min(cores, 16),
            seconds=0.0 if self.quick else self.seconds,
            rounds=1 if self.quick else self.rounds)
