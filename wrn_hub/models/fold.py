"""Inference with BatchNorm folded into the convolutions before it."""
import copy
from collections import Counter
from typing import TypeVar

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..errors import UserError

__all__ = ["fold_batch_norm"]

Model = TypeVar("Model", bound=nn.Module)


class _Tracer(fx.Tracer):
    """Takes convolutions and norms, timm's with their activation too, as one step each."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return isinstance(module, nn.Conv2d | nn.BatchNorm2d) or super().is_leaf_module(module, name)


def fold_batch_norm(model: Model) -> Model:
    """A copy of the model that computes the same with fewer layers, for inference alone.

    In evaluation mode BatchNorm is a scale and an offset for each channel. Where it reads a convolution that nothing
    else reads, the convolution takes them over: in a pre-activation block every norm but the first, which reads a sum;
    in a post-activation net all of them. The feature maps that the model returns stay the same too, so the stem of a
    pre-activation net stays as it is.

    Args:
        model: Any timm model whose forward pass can be traced by torch.fx, the Wide ResNets among them. It is not
            changed. Fold in float32 and cast afterwards: the product of two rounded numbers is rounded once more.

    Returns:
        The copy, in evaluation mode, with the names of the modules as they were: a folded norm has become its
        activation, or an identity.

    Raises:
        UserError: the forward pass can't be traced.
    """
    folded = copy.deepcopy(model).eval()
    if hasattr(folded, "set_grad_checkpointing"):
        folded.set_grad_checkpointing(False)
    try:
        graph = _Tracer().trace(folded)
    except (fx.proxy.TraceError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{type(model).__name__}: its forward pass can't be traced ({error}), so nothing is folded") from error

    modules = dict(folded.named_modules())
    returned = {info["module"] for info in getattr(folded, "feature_info", ())}
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    for node in graph.nodes:
        norm = modules.get(node.target) if node.op == "call_module" else None
        if not isinstance(norm, nn.BatchNorm2d) or norm.running_var is None:
            continue
        before = node.args[0]
        conv = modules.get(before.target) if before.op == "call_module" else None
        if (not isinstance(conv, nn.Conv2d) or len(before.users) > 1 or before.target in returned
                or calls[before.target] > 1 or calls[node.target] > 1):
            continue
        folded.set_submodule(before.target, fuse_conv_bn_eval(conv, norm))
        folded.set_submodule(node.target, getattr(norm, "act", nn.Identity()))
    return folded
