"""Where the weights of a variant lie, and whether a file holds what it should.

``weights.json`` beside this file is the manifest, the one place that says which weights there are: "arch.tag" to
``sha256`` and ``bytes`` of its model.safetensors, and ``published``, the "organisation/name@commit" of its Hub
repository or null. Weights are looked for, in this order, in

1. the folders of the environment variable WRN_HUB_WEIGHTS (separated as in PATH), read at import,
2. ``model_cards/`` of a source checkout,
3. this package (``pretrained/``), where a wheel carries the small ones,

each as ``<folder>/<arch.tag>/model.safetensors``.
"""
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from timm.models import PretrainedCfg
from timm.models._builder import resolve_pretrained_cfg

from .errors import UserError

__all__ = [
    "MANIFEST", "WeightsError", "file_sha256", "local_file", "published_id", "search_path", "staged", "verified_cfg"]

_PACKAGE = Path(__file__).resolve().parent
MANIFEST: dict[str, dict[str, Any]] = json.loads((_PACKAGE / "weights.json").read_text())


class WeightsError(UserError):
    """A weights file is not the one that the manifest names, or isn't to be had at all."""


def search_path() -> list[Path]:
    """The folders in which weights are looked for, first match first."""
    own = [Path(p) for p in os.environ.get("WRN_HUB_WEIGHTS", "").split(os.pathsep) if p]
    return [*own, _PACKAGE.parent / "model_cards", _PACKAGE / "pretrained"]


def local_file(name: str) -> str | None:
    """The weights file of ``arch.tag`` on this machine, or None; only what the manifest lists is looked for."""
    if name in MANIFEST:
        for folder in search_path():
            if (path := folder / name / "model.safetensors").is_file():
                return str(path)
    return None


def staged(root: Path) -> list[Path]:
    """The folders of the manifest's models below ``root``, a ``model_cards`` folder."""
    return [root / name for name in sorted(MANIFEST) if (root / name / "model.safetensors").is_file()]


def published_id(name: str) -> str | None:
    """The Hub repository "organisation/name@commit" of ``arch.tag``, or None where no publication is on record."""
    return MANIFEST.get(name, {}).get("published")


def file_sha256(path: str | Path) -> str:
    """sha256 of a file's bytes, as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verified_cfg(
    variant: str, cfg: str | dict[str, Any] | None, overlay: dict[str, Any] | None
) -> dict[str, Any]:
    """timm's pretrained cfg of ``variant``, after its weights file, if it is one of ours, was held against its sum.

    Hashing comes before timm opens the file, so that a damaged one is named instead of half-read. A user's own
    weights (``pretrained_cfg_overlay``, ``local-dir:``, ``hf-hub:``) pass untouched.

    Args:
        variant: Architecture name without a tag.
        cfg: What timm hands to an entrypoint: a tag, a cfg as a dict, or None for the default tag.
        overlay: Entries that override those of the cfg. One that names a Hub repository or a URL, but no file,
            means that source, not our file.

    Raises:
        WeightsError: the file is damaged, or there are no weights of this name.
    """
    overlay = dict(overlay or {})
    if any(overlay.get(key) for key in ("hf_hub_id", "url")):
        overlay.setdefault("file", None)
    resolved: PretrainedCfg = resolve_pretrained_cfg(variant, cfg, overlay)
    name = f"{variant}.{resolved.tag}" if resolved.tag else variant
    if resolved.source or resolved.state_dict:
        pass  # local-dir: and hf-hub: name a source of their own
    elif resolved.file and resolved.file == local_file(name):
        expected, found = MANIFEST[name]["sha256"], file_sha256(resolved.file)
        if found != expected:
            raise WeightsError(
                f"{resolved.file} is damaged: its sha256 is {found}, that of {name} is {expected}; "
                "restore the file, or delete it")
    elif not resolved.has_weights:
        had = ", ".join(sorted(n for n in MANIFEST if local_file(n) or published_id(n))) or "none yet"
        raise WeightsError(
            f"there are no weights of {name} here; to be had are: {had}. Train it with scripts/train.py and load it "
            f"through local-dir:, or, where weights.json lists it, put {name}/model.safetensors into a folder named by "
            "WRN_HUB_WEIGHTS, or use pretrained=False")
    return resolved.to_dict(remove_null=False)
