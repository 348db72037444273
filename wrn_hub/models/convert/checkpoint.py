"""The weights in a checkpoint, wherever in it they lie."""
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from ...errors import UserError, first_line
from ...pickles import StandIn
from ..tensors import State, some
from .files import load_checkpoint, odd, pickled_array

__all__ = ["read_checkpoint"]

_DEEPEST = 6


def read_checkpoint(path: str | Path, entry: str | None = None) -> State:
    """The weights in a file of PyTorch, safetensors or NumPy's .npz; nothing that the file would like to run is run.

    Whatever else lies beside them, settings, dates, optimizers, is left unread.

    Args:
        path: The file, or a zip archive with it alone.
        entry: Which entry holds the weights, needed where several do ("state_dict", "model.ema").

    Raises:
        UserError: there is no such file, it is damaged or of another kind, holds no weights, several sets of them, or
            a tensor of a kind that isn't read.
    """
    loaded = load_checkpoint(path)
    try:
        sets = dict(_sets(loaded, set()))
    except (TypeError, ValueError) as error:
        raise UserError(f"{path} can't be read ({first_line(error)}); it may be damaged") from error
    if entry is None and len(sets) == 1:
        chosen = next(iter(sets))
    elif entry in sets and entry:
        chosen = entry
    elif set(sets) == {""}:
        raise UserError(f"{path} has no entry {entry!r}: it is a single set of weights, leave --entry out")
    elif sets:
        raise UserError(f"{path} holds weights in {', '.join(sets)}: name the one to convert with --entry")
    else:
        other = f"; what it holds else was not run: {some(names, 3)}" if (names := set(_stand_ins(loaded))) else ""
        raise UserError(f"{path} holds no weights of a convolutional net{other}")
    weights = sets[chosen]
    for key, value in weights.items():
        if reason := odd(value):
            raise UserError(f"{path}: {key} {reason}")
    return weights


def _entries(value: Any) -> Mapping[Any, Any]:
    """What may be looked into: of a dictionary, a list, or an object that was pickled whole."""
    if isinstance(value, StandIn):
        if _is_module(value):
            return dict(_of_module(value))
        state = value.state[-1] if isinstance(value.state, tuple) and value.state else value.state  # (None, slots)
        return {**value.entries, **(state if isinstance(state, dict) else {})}
    if isinstance(value, list | tuple):
        return dict(enumerate(value))
    if not isinstance(value, dict):
        return {}
    if isinstance(value.get("params"), dict) and isinstance(value.get("stats"), dict):  # szagoruyko's older ones
        return {**value, "params": {**value["params"], **value["stats"]}}
    return value


def _is_module(value: Any) -> bool:
    return isinstance(value, StandIn) and isinstance(value.state, dict) and {
        "_parameters", "_buffers", "_modules"} <= value.state.keys()


def _of_module(module: StandIn, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """What state_dict() of a net that was pickled whole would give."""
    if depth > 50:
        raise UserError("the net's modules lie in each other without end")
    assert isinstance(module.state, dict)
    for kind in ("_parameters", "_buffers"):
        for name, value in module.state[kind].items():
            yield f"{prefix}{name}", value
    for name, child in module.state["_modules"].items():
        if _is_module(child):
            yield from _of_module(child, f"{prefix}{name}.", depth + 1)


def _weight(value: Any) -> Any:
    """A tensor, or what stands for one; None for all else."""
    if isinstance(value, StandIn):
        value = pickled_array(value)
    return value if isinstance(value, torch.Tensor) or odd(value) else None


def _sets(value: Any, seen: set[int], name: str = "", depth: int = 0) -> Iterator[tuple[str, dict[str, Any]]]:
    """The sets of weights in a value, each once, by the names of the entries that lead to them.

    A set has a convolution's weight, and names with dots, which the state that an optimizer keeps of one has not.
    """
    if id(value) in seen:
        return
    seen.add(id(value))
    entries = _entries(value)
    tensors = {str(key): weight for key, each in entries.items() if (weight := _weight(each)) is not None}
    if any(getattr(tensor, "ndim", 4) == 4 for tensor in tensors.values()) and any("." in key for key in tensors):
        yield name, tensors
    elif depth < _DEEPEST:
        for key, each in entries.items():
            if isinstance(each, StandIn | dict | list | tuple):
                yield from _sets(each, seen, f"{name}.{key}" if name else str(key), depth + 1)


def _stand_ins(value: Any, depth: int = 0) -> Iterator[str]:
    if isinstance(value, StandIn):
        yield value.name
    elif depth < 2 and isinstance(value, dict | list | tuple):
        for each in _entries(value).values():
            yield from _stand_ins(each, depth + 1)
