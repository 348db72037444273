"""Sharpness-aware minimization: the gradient is taken a little uphill of the weights.

SAM: Foret et al., arXiv:2010.01412. ASAM, whose step uphill is measured in each weight's own size: Kwon et al.,
arXiv:2102.11600.
"""
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

__all__ = ["uphill"]

ETA = 0.01  # added to the size of a weight, lest those at 0 stay there (ASAM, section 4)


@contextmanager
def uphill(model: nn.Module, rho: float, adaptive: bool) -> Iterator[None]:
    """Within it, the weights lie ``rho`` uphill along their gradients, which are cleared.

    Afterwards the weights are bit for bit what they were, and so are BatchNorm's statistics: they come from the first
    pass alone. The gradients stay those of the second.

    Args:
        model: Its parameters hold the gradients of the first pass.
        rho: Length of the step uphill; in units of the weights' own size where ``adaptive``.
        adaptive: ASAM instead of SAM.
    """
    with torch.no_grad():
        weights = [parameter for parameter in model.parameters() if parameter.grad is not None]
        before = [weight.clone() for weight in weights]
        buffers = list(model.buffers())
        statistics = [buffer.clone() for buffer in buffers]
        step = [weight.grad for weight in weights]
        if adaptive:
            sizes = [weight.abs().add_(ETA) for weight in weights]
            step = torch._foreach_mul(step, sizes)
        norm = torch.stack(torch._foreach_norm(step)).norm()
        if adaptive:
            step = torch._foreach_mul(step, sizes)
        torch._foreach_add_(weights, torch._foreach_mul(step, rho / (norm + 1e-12)))
        model.zero_grad()
    yield
    with torch.no_grad():
        torch._foreach_copy_(weights, before)
        for buffer, statistic in zip(buffers, statistics, strict=True):
            buffer.copy_(statistic)
