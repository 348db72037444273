"""What a training began with, who taught it, and what was changed while it ran: from its args.json, in words."""
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import timm

__all__ = ["changes", "origin", "public_names"]


def public_names(value: Any) -> list[str]:
    """Models by their names, without the folders of somebody's machine."""
    several = [value] if isinstance(value, str) else value or []
    return [name if name.startswith("hf-hub:") else Path(name.removeprefix("local-dir:")).name for name in several]


def origin(arch: str, tag: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Where a training came from.

    Args:
        arch: The net.
        tag: The dataset that it was trained on.
        settings: The run's args.json; ``start_weights_sha256`` may be on record there.

    Returns:
        ``how``, for a sentence that goes on with "on CIFAR-10"; ``start``, what the weights were to begin with, or
        None; ``teachers`` in backticks, with the ``share`` of the loss and the ``temperature``.
    """
    model = str(settings.get("model", arch))
    started = settings.get("pretrained") or ":" in model
    start, how = None, "trained from scratch"
    if started:
        cfg = timm.get_pretrained_cfg(model) if timm.is_model(model) else None
        own = cfg is not None and cfg.architecture == arch and cfg.tag == tag
        what = "earlier weights of this hub" if own else f"`{public_names(model)[0]}`"
        sha256 = settings.get("start_weights_sha256")
        start = f"{what} (sha256 `{sha256}`)" if sha256 else f"{what}, whose sha256 isn't on record"
        how = f"trained on from {what}" if own else f"fine-tuned from {what}"
        how += f" (sha256 `{sha256[:12]}`)" if sha256 else ""
    return {
        "how": how, "start": start, "teachers": [f"`{name}`" for name in public_names(settings.get("teacher"))],
        "share": f"{100 * settings.get('distill_weight', 0):.0f} %",
        "temperature": f"{settings.get('distill_temperature', 1):g}"}


def _became(value: Any) -> str:
    if isinstance(value, list) and len(value) == 2:
        return f"{value[0]} became {value[1]}"
    return str(value)


def _pairs(entry: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    for key, value in entry.items():
        if isinstance(value, dict):
            yield from _pairs(value)
        elif key not in ("step", "epoch"):
            yield key, value


def changes(settings: dict[str, Any]) -> list[str]:
    """What was changed while a training ran, a line each.

    An entry of ``changes`` in args.json is a text, or says after which ``step`` what became what: ``{"step": 1200,
    "precision": ["bf16", "fp32"]}``.
    """
    told = []
    for entry in settings.get("changes") or []:
        if isinstance(entry, dict):
            epoch = f" of epoch {entry['epoch']}" if "epoch" in entry else ""
            where = f"after step {entry['step']:,}{epoch}" if "step" in entry else "later"
            what = ", ".join(f"{key.replace('_', ' ')}: {_became(value)}" for key, value in _pairs(entry))
            told.append(f"It went on otherwise {where}: {what}.")
        else:
            told.append(str(entry))
    return told
