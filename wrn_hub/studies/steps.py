"""What a training step of each net of a study takes, all measured in turns in one process."""
import logging
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ..benchmark.measure import Rival, Steps, race, steps_for, two_steps
from ..evaluation.memory import peak_memory
from ..kernels.winograd import winograd
from ..processes import fast_precision, process_state, use_cores
from ..record import hardware, now, versions
from ..training.options import TrainOptions
from ..training.trainer import uses_winograd
from .nets import build
from .run import Machine, counted
from .study import Net, Scale

__all__ = ["measure_steps"]

_log = logging.getLogger(__name__)


def _steps(
    make: Callable[[], nn.Module], batch_size: int, device: torch.device, precision: str, channels_last: bool,
    by_winograd: bool, size: int,
) -> Steps:
    """Forward and backward of one batch that lies on the device; no update, as in the paper's Figure 4."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = make().to(device, memory_format=layout).train()
    if by_winograd:
        winograd(model)
    images = torch.randn(batch_size, 3, size, size, device=device).to(memory_format=layout)
    labels = torch.zeros(batch_size, dtype=torch.long, device=device)
    while True:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            loss = F.cross_entropy(model(images), labels)
        loss.backward()
        model.zero_grad(set_to_none=True)
        yield


def measure_steps(
    scale: Scale, machine: Machine, rounds: int = 5, seconds: float = 0.5, memory_tries: int = 3,
) -> dict[str, Any]:
    """Time and memory of forward and backward: plainly, in fp32 and torch's own layout, and as this package trains.

    Args:
        scale: Its nets, and how many images a step has.
        machine: Its threads and precision.
        rounds: Turns of each net.
        seconds: A turn lasts about so long, at least one step.
        memory_tries: Measurements of the memory, of which the least counts: each adds to what the step needs what the
            allocator happens to leave idle, and the first of a process what libraries set up.

    Returns:
        ``rows`` with each net's ``seconds`` and ``package_seconds`` a step in every round, and ``memory``, the most
        bytes that plain steps needed, None where the system doesn't tell; and the conditions.
    """
    use_cores(machine.threads)
    device = process_state().device
    torch.backends.cudnn.benchmark = True
    fast = fast_precision(device) if machine.precision == "auto" else machine.precision
    by_winograd = uses_winograd(TrainOptions(), fast, device)

    def steps(net: Net, package: bool) -> Steps:
        make = partial(build, net.model, net.kwargs)
        how = (fast, True, by_winograd) if package else ("fp32", False, False)
        return _steps(make, scale.steps, device, *how, scale.image_size)

    def held(net: Net) -> int | None:
        _log.info("memory of a step of %s", net.name)
        tries = [peak_memory(device, lambda: two_steps(steps(net, False))) for _ in range(memory_tries)]
        return min((most for most in tries if most is not None), default=None)

    rows: list[dict[str, Any]] = []
    for net in scale.nets:
        cost = counted(scale, net)
        rows.append({"net": net.name, "parameters": cost.parameters, "gmacs": cost.gmacs, "memory": held(net)})
    for key, package in (("seconds", False), ("package_seconds", True)):
        _log.info("time of a step, %d rounds: %s", rounds, ", ".join(net.name for net in scale.nets))
        rivals = [Rival(net.name, steps(net, package)) for net in scale.nets]
        turns = {rival.name: steps_for(rival, seconds, device) for rival in rivals}
        taken = race(rivals, turns, rounds, device)
        for row in rows:
            row[key] = taken[row["net"]]
            _log.info("%s: %.1f ms", row["net"], 1000 * statistics.median(taken[row["net"]]))
        for rival in rivals:
            rival.steps.close()
    return {
        "batch_size": scale.steps, "image_size": scale.image_size, "memory_tries": memory_tries, "package": {
            "precision": fast, "layout": "channels_last", "winograd": "on" if by_winograd else "off"},
        "hardware": hardware(device), "threads": torch.get_num_threads(), "versions": versions(), "date": now(),
        "rows": rows}
