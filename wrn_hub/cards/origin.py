"""What a training began with, who taught it, and what was changed while it ran: from its args.json, in words."""
from pathlib import Path
from typing import Any

from ..weights import MANIFEST

__all__ = ["base_model", "changes", "earlier_epochs", "origin", "public_names", "teaching"]


def public_names(value: Any) -> list[str]:
    """Models by their names, without the folders of somebody's machine."""
    several = [value] if isinstance(value, str) else value or []
    return [name if name.startswith("hf-hub:") else Path(name.removeprefix("local-dir:")).name for name in several]


def base_model(settings: dict[str, Any], organisation: str | None = None) -> str | None:
    """Hub id of the weights that a training began with, as far as they are on the Hub.

    Args:
        settings: The run's args.json.
        organisation: Whose the weights of this package are, for a card that is published with them; for any other card
            they are on the Hub if a publication is on record.
    """
    import timm  # with torch, which the rest here needs as little as who imports it

    model = settings["model"]
    if model.startswith("hf-hub:"):
        return model.removeprefix("hf-hub:").partition("@")[0]
    if not settings.get("pretrained") or ":" in model or not timm.is_model(model):
        return None
    cfg = timm.get_pretrained_cfg(model)
    name, hub_id = f"{cfg.architecture}.{cfg.tag}", (cfg.hf_hub_id or "").partition("@")[0]
    if organisation and name in MANIFEST:
        return f"{organisation}/{name}"
    return f"{hub_id}{name}" if hub_id == "timm/" else hub_id or None


def origin(arch: str, tag: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Where a training came from.

    Args:
        arch: The net.
        tag: The dataset that it was trained on.
        settings: The run's args.json; ``start_weights_sha256`` may be on record there.

    Returns:
        ``how``, for a sentence that goes on with "on CIFAR-10"; ``start``, what the weights were to begin with, or
        None; and what :func:`teaching` says.
    """
    import timm

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
    return {"how": how, "start": start, **teaching(settings)}


def earlier_epochs(settings: dict[str, Any]) -> int:
    """Epochs of the trainings, one after the other, whose weights this one began with; 0 where it began anew."""
    return sum(before["epochs"] for before in settings.get("before", []))


def teaching(settings: dict[str, Any]) -> dict[str, Any]:
    """``teachers`` of a training in backticks, with their ``share`` of the loss and the ``temperature``."""
    return {
        "teachers": [f"`{name}`" for name in public_names(settings.get("teacher"))],
        "share": f"{100 * settings.get('distill_weight', 0):.0f} %",
        "temperature": f"{settings.get('distill_temperature', 1):g}"}


def changes(settings: dict[str, Any]) -> list[str]:
    """What was changed while a training ran, a sentence each, from ``changes`` of its args.json.

    An entry says after how many whole ``epochs`` and how many steps (``step``) of the next one the settings in
    ``before`` became those in ``after``.
    """
    told = []
    for entry in settings.get("changes") or []:
        what = ", ".join(f"{name} {before} became {entry['after'][name]}" for name, before in entry["before"].items())
        steps = f" and {entry['step']:,} steps" if entry["step"] else ""
        told.append(f"After {entry['epochs']} epoch{'s' * (entry['epochs'] != 1)}{steps} it went on otherwise: {what}.")
    return told
