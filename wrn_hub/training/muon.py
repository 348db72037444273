"""Muon for the convolutions and SGD for the rest: fewer epochs to the same accuracy, at a few percent more a step.

A step moves a layer's filters along their momentum with all its singular values brought to 1, so that no direction is
left behind. Muon: Jordan et al., 2024, https://kellerjordan.github.io/posts/muon/. Two things differ from timm's
``muon``: the rest is left to SGD, whose settings for Wide ResNets are known, and the step is measured in the filters'
own norm, so that one learning rate serves all depths and widths, new nets and pretrained ones.
"""
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from timm.optim import OptimInfo
from timm.optim._optim_factory import default_registry  # timm's way in for other optimizers

__all__ = ["MuonSGD", "orthogonalized"]

FILTER_STEP = 0.1  # a learning rate of 0.2, good for SGD, moves filters by 2 % of their norm
ITERATIONS = 4


def orthogonalized(matrices: torch.Tensor) -> torch.Tensor:
    """The nearest matrices whose singular values are about 1 (0.5 to 1.3), by Newton-Schulz iteration.

    Args:
        matrices: (count, rows, columns).

    Returns:
        The same shape and dtype. Zero stays zero.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-12)
    if x.device.type != "cpu":
        x = x.bfloat16()  # which is enough, since the values need not be 1
        for _ in range(ITERATIONS):
            x = _factor(x @ x.mT) @ x
    else:  # a third of the time in float32, by small square matrices alone; bf16 would lose small values in them
        square = x @ x.mT
        product = factor = _factor(square)
        for _ in range(ITERATIONS - 1):
            square = factor @ square @ factor
            factor = _factor(square)
            product = factor @ product
        x = product @ x
    x = x.to(matrices.dtype)
    return x.mT if tall else x


def _factor(square: torch.Tensor) -> torch.Tensor:
    """By what x is multiplied in an iteration, from x x'."""
    # this polynomial of the singular values is the steepest at 0 that stays near 1 there (Jordan)
    factor = 2.0315 * square @ square - 4.7750 * square
    factor.diagonal(dim1=1, dim2=2).add_(3.4445)
    return factor


class MuonSGD(torch.optim.SGD):
    """Muon for filters of several input channels, Nesterov SGD for the other parameters; ``muonsgd`` in timm.

    A step moves the filters of a layer by ``0.1 * lr`` of the norm that they had in the first step (of a layer that
    starts at 0: of He's initialisation), and that norm isn't exceeded later; this takes the place of weight decay.

    Args:
        params: Parameters, or groups of them, each with its own ``lr`` or ``weight_decay`` where it differs.
        lr: Learning rate, as it is good for SGD.
        momentum: Of both, 0 to 1, 1 excluded.
        weight_decay: Of the other parameters.
    """

    def __init__(
        self, params: Iterable[Any], lr: float = 0.2, momentum: float = 0.9, weight_decay: float = 0.0,
    ) -> None:
        groups = list(params)
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        split = []
        for group in groups:
            filters = [parameter for parameter in group["params"] if parameter.ndim == 4 and parameter.shape[1] > 1]
            known = {id(parameter) for parameter in filters}
            rest = [parameter for parameter in group["params"] if id(parameter) not in known]
            # SGD adds no momentum or decay of its own to what step() puts in the place of these gradients
            own = {"filter_momentum": momentum, "momentum": 0.0, "weight_decay": 0.0}
            split += [{**group, "params": filters, **own}] if filters else []
            split += [{**group, "params": rest}] if rest else []
        super().__init__(split, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=momentum > 0)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update; the gradients of the filters are overwritten by the direction that they took."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        filters = []
        for group in self.param_groups:
            if "filter_momentum" in group:
                mine = [parameter for parameter in group["params"] if parameter.grad is not None]
                self._direct(mine, group["filter_momentum"])
                filters += mine
        super().step()
        for weight in filters:
            size = self.state[weight]["size"]
            weight.mul_(size / weight.norm().clamp(min=size))
        return loss

    def _direct(self, filters: list[torch.Tensor], momentum: float) -> None:
        """Put the way to go, in units of the learning rate, in the place of the gradients."""
        alike = defaultdict(list)  # those of one shape are orthogonalised together
        for weight in filters:
            state = self.state[weight]
            if not state:
                norm, he = weight.norm(), weight.new_tensor(2.0 * len(weight)).sqrt()
                state["size"] = torch.where(norm > 0, norm, he)
                state["momentum_buffer"] = torch.zeros_like(weight)
            state["momentum_buffer"].mul_(momentum).add_(weight.grad)
            alike[len(weight), weight[0].numel()].append(weight)
        for (rows, columns), weights in alike.items():
            ways = orthogonalized(torch.stack([
                weight.grad.add(self.state[weight]["momentum_buffer"], alpha=momentum).flatten(1)
                for weight in weights]))
            length = min(rows, columns) ** 0.5
            for weight, way in zip(weights, ways, strict=True):
                weight.grad.copy_((way * (self.state[weight]["size"] * FILTER_STEP / length)).view_as(weight))


default_registry.register(OptimInfo(
    "muonsgd", MuonSGD, "Muon for convolutions, Nesterov SGD for the rest", has_eps=False, has_momentum=True))
