"""What a forward pass costs: counted from the net's shape, and measured on the machine at hand."""
import time
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ..processes import synchronize

__all__ = ["Cost", "cost_of", "fastest_pass"]


@dataclass(frozen=True)
class Cost:
    """Size of a net.

    Attributes:
        parameters: Number of trained numbers.
        gmacs: Billions of multiply-accumulates of a forward pass of one image.
        activations: Millions of numbers that come out of convolutions in that pass, as timm's tables count them.
    """

    parameters: int
    gmacs: float
    activations: float


def cost_of(model: nn.Module, size: int) -> Cost:
    """Count a net, on whatever device it lies, the meta device too.

    Args:
        model: A timm model; left in evaluation mode.
        size: Side of the image in pixels.
    """
    parameter = next(model.parameters())
    outputs: list[int] = []
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output.numel()))
        for module in model.modules() if isinstance(module, nn.Conv2d)]
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model.eval()(torch.zeros(1, 3, size, size, device=parameter.device, dtype=parameter.dtype))
    finally:
        for hook in hooks:
            hook.remove()
    return Cost(sum(p.numel() for p in model.parameters()), counter.get_total_flops() / 2e9, sum(outputs) / 1e6)


@torch.inference_mode()
def fastest_pass(model: nn.Module, images: torch.Tensor, seconds: float = 1.0) -> float:
    """Seconds of the fastest of several forward passes, at least four, which other work on the machine disturbs least.

    A CPU with one thread is timed by the processor's own clock, which stands still while it does other work.

    Args:
        model: A timm model; left in evaluation mode.
        images: What goes in.
        seconds: Repeat for at least so long.
    """
    model.eval()
    alone = images.device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.thread_time if alone else time.perf_counter
    times: list[float] = []
    while len(times) < 4 or sum(times) < seconds:
        started = clock()
        model(images)
        synchronize(images.device)
        times.append(clock() - started)
    return min(times)
