"""Whether tensors from somebody's file can be the weights of a net."""
from collections.abc import Container, Mapping

import torch

from ..errors import UserError

__all__ = ["State", "check_tensors", "some"]

State = dict[str, torch.Tensor]


def _trouble(name: str, tensor: object, whole_number: bool) -> str | None:
    """What keeps a tensor from being a weight, in the words of a message; None where nothing does."""
    if not isinstance(tensor, torch.Tensor):
        return f"is no tensor but of type {type(tensor).__name__}"
    if tensor.is_meta:
        return "has a shape but no values: it was saved from the meta device"
    if tensor.layout is not torch.strided:
        return "is a sparse tensor: save it after to_dense()"
    if tensor.is_quantized:
        return f"is quantized ({tensor.dtype}): save it after dequantize()"
    if name.endswith("num_batches_tracked"):  # a count, which averaging makes a fraction
        return None
    if not tensor.is_floating_point():
        return None if whole_number and not tensor.is_complex() else f"is of {tensor.dtype}, where floats are needed"
    if not tensor.numel():
        return f"has no elements: its shape is {tuple(tensor.shape)}"
    values = tensor.detach().float() if tensor.element_size() < 2 else tensor.detach()  # no arithmetic in float8
    if not values.isfinite().all():
        return f"holds {'NaN' if values.isnan().any() else 'infinite values'}, so that the net would predict nothing"
    if name.endswith("running_var") and values.min() < 0:
        return "holds a variance below 0"
    return None


def check_tensors(state: Mapping[str, object], source: object, whole_numbers: Container[str] = ()) -> None:
    """Refuse what no net can compute with.

    Args:
        state: Names to tensors.
        source: Where they come from, for messages.
        whole_numbers: Names of those that may be whole numbers, as indices are that some nets keep.

    Raises:
        UserError: one is no dense tensor of finite real numbers; names it.
    """
    for name, tensor in state.items():
        if trouble := _trouble(str(name), tensor, name in whole_numbers):
            raise UserError(f"{source}: {name} {trouble}")


def some(names: Mapping[str, object] | set[str] | list[str], number: int = 5) -> str:
    """The first of many names, and how many more there are; those of a set are sorted."""
    names = sorted(names) if isinstance(names, set) else list(names)
    return ", ".join(names[:number]) + (f" and {len(names) - number} more" if len(names) > number else "")
