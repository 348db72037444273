"""Where the weights of a variant lie, and whether a file holds what it should.

``weights.json`` beside this file is the manifest, the one place that says which weights there are: "arch.tag" to
``sha256`` and ``bytes`` of its model.safetensors, and ``published``, the "organisation/name@commit" of its Hub
repository or null. Weights are looked for, in this order, in

1. the folders of the environment variable WRN_HUB_WEIGHTS (separated as in PATH), read at import,
2. ``model_cards/`` of a source checkout,
3. this package (``pretrained/``), where a wheel carries the small ones,

each as ``<folder>/<arch.tag>/model.safetensors``. Those that lie in none of them, but are published, are downloaded
from that commit into the Hub's cache.
"""
import hashlib
import json
import logging
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UserError, first_line
from .facts import REPOSITORY
from .files import locked, read_json, write_whole
from .logs import quiet

if TYPE_CHECKING:
    from timm.models import PretrainedCfg

__all__ = [
    "MANIFEST", "WeightsError", "asking_the_hub", "download", "elsewhere", "endpoint_problem", "file_sha256",
    "local_file", "published_id", "quiet_retries", "read_manifest", "say_what_is_asked", "search_path", "staged",
    "update_manifest", "verified_cfg"]

_log = logging.getLogger(__name__)
_PACKAGE = Path(__file__).resolve().parent


class WeightsError(UserError):
    """A weights file is not the one that the manifest names, or isn't to be had at all."""


def read_manifest(path: Path) -> dict[str, dict[str, Any]]:
    """A manifest, in which every entry was looked at.

    Raises:
        UserError: it can't be read, or an entry isn't one; names it.
    """
    manifest = read_json(path)
    for name, entry in manifest.items():
        fits = isinstance(entry, dict) and (
            re.fullmatch("[0-9a-f]{64}", str(entry.get("sha256")))
            and type(entry.get("bytes")) is int
            and (entry.get("published", ...) is None
                 or re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", str(entry.get("published")))))
        if not fits:
            raise UserError(f"{path}: the entry of {name} needs sha256 (64 hexadecimal digits), bytes (a number) and "
                            "published (organisation/name@commit or null); restore the file")
    return manifest


def update_manifest(path: Path, name: str, *, of_sha256: str | None = None, **facts: Any) -> dict[str, Any]:
    """Set facts of ``name`` in a manifest, one writer at a time, and replace its file whole.

    Args:
        path: The manifest; a lock file beside it is made and stays.
        name: "arch.tag".
        of_sha256: What the entry has to be of still.
        **facts: What to set.

    Returns:
        The new entry.

    Raises:
        UserError: the manifest is damaged, or the entry is of other weights by now.
    """
    with locked(path.with_name(f"{path.name}.lock")):
        manifest = read_manifest(path)
        entry = manifest.get(name, {})
        if of_sha256 is not None and entry.get("sha256") != of_sha256:
            raise UserError(f"{path}: other weights of {name} were staged meanwhile; run it again")
        manifest[name] = {**entry, **facts}
        write_whole(path, json.dumps(dict(sorted(manifest.items())), indent=2) + "\n", durable=True)
    return manifest[name]


def _own_manifest(path: Path) -> tuple[dict[str, dict[str, Any]], str | None]:
    """The manifest, and what is wrong with it: a damaged one takes the weights away, but not the models."""
    try:
        return read_manifest(path), None
    except UserError as error:
        warnings.warn(f"{error}; until then there are no pretrained weights", stacklevel=2)
        return {}, str(error)


MANIFEST, _PROBLEM = _own_manifest(_PACKAGE / "weights.json")


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


def elsewhere(name: str) -> str:
    """Where weights are that the manifest lists, but that lie nowhere on this machine and aren't published."""
    size = MANIFEST[name]["bytes"] / 1e6
    return (
        f"the weights of {name} ({size:.1f} MB) are neither in this installation nor on the Hub yet: they are in "
        f"model_cards/{name} of a clone of {REPOSITORY}; name its model_cards in the environment variable "
        "WRN_HUB_WEIGHTS before Python starts, or use pretrained=False")


def published_id(name: str) -> str | None:
    """The Hub repository "organisation/name@commit" of ``arch.tag``, or None where no publication is on record."""
    return MANIFEST.get(name, {}).get("published")


def file_sha256(path: str | Path) -> str:
    """sha256 of a file's bytes, as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def endpoint_problem() -> str | None:
    """What is wrong with HF_ENDPOINT, before anything is asked there; None where it is the address of a server."""
    from huggingface_hub import constants

    if re.fullmatch(r"https?://[^/\s]+\S*", constants.ENDPOINT):
        return None
    given = constants.ENDPOINT or os.environ.get("HF_ENDPOINT", "")  # see wrn_hub/__init__.py
    return f"HF_ENDPOINT is {given!r}, which is no address such as https://huggingface.co"


def say_what_is_asked(what: str) -> None:
    """Log it with the address, before the Hub is asked: where nobody answers, its client tries for half a minute."""
    from huggingface_hub import constants

    if not constants.HF_HUB_OFFLINE:
        _log.info("asking the Hub at %s for %s", constants.ENDPOINT, what)


@contextmanager
def asking_the_hub(what: str) -> Iterator[None]:
    """Ask the Hub for a file, or its cache, and say in one line why ``what`` can't be had.

    Raises:
        UserError: HF_ENDPOINT is no address, nobody answers there, or what answers has no such file.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import HTTPError, LocalEntryNotFoundError  # HTTPError: of whatever library it uses

    if not constants.HF_HUB_OFFLINE and (problem := endpoint_problem()):
        raise UserError(f"{what}: {problem}")
    try:
        with quiet_retries():
            yield
    except UserError:
        raise
    except LocalEntryNotFoundError as error:
        tried = "HF_HUB_OFFLINE is set: unset it" if constants.HF_HUB_OFFLINE else (
            f"{constants.ENDPOINT} can't be reached: check the network and HF_ENDPOINT")
        raise UserError(f"{what}: it is not in the cache, and {tried}") from error
    except (HTTPError, OSError, ValueError, KeyError, TypeError, AssertionError) as error:
        raise UserError(f"{what}: {first_line(error)}") from error


@contextmanager
def quiet_retries() -> Iterator[None]:
    """Keep the Hub's client from logging each of its tries: what comes of them is said once, by the error."""
    with quiet("huggingface_hub.utils._http", below=logging.CRITICAL):
        yield


def download(name: str, cache_dir: str | Path | None = None) -> str:
    """Bring the published weights of ``arch.tag`` into the Hub's cache, and hold them against the manifest.

    The Hub's client compares sizes only, and trusts ever after what its cache holds.

    Args:
        name: A name with a publication on record.
        cache_dir: The Hub's cache; its usual place where None.

    Returns:
        The file.

    Raises:
        WeightsError: it can't be had, or isn't what was published; it is removed from the cache then.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import HTTPError  # of whatever HTTP library it uses

    repo_id, _, commit = MANIFEST[name]["published"].partition("@")
    if not isinstance(try_to_load_from_cache(repo_id, "model.safetensors", cache_dir, commit), str):
        say_what_is_asked(f"the weights of {name}")
    try:
        with quiet_retries():
            path = Path(hf_hub_download(repo_id, "model.safetensors", revision=commit, cache_dir=cache_dir))
    except (HTTPError, OSError, ValueError) as error:
        reason = endpoint_problem() or " ".join(str(error).split())[:200]
        raise WeightsError(
            f"the weights of {name} can't be had from {repo_id}@{commit} ({reason}); connect to the network and try "
            f"again, or put {name}/model.safetensors into a folder named by WRN_HUB_WEIGHTS") from error
    expected, found = MANIFEST[name]["sha256"], file_sha256(path)
    if found != expected:
        try:
            for cached in (path.resolve(), path):  # the content, and the link that names it
                cached.unlink(missing_ok=True)
            advice = "it was removed from the cache; try again"
        except OSError:
            advice = f"delete {path.resolve()} and try again"
        raise WeightsError(
            f"{path}, downloaded from {repo_id}@{commit}, is damaged: its sha256 is {found}, that of {name} is "
            f"{expected}; {advice}")
    return str(path)


def verified_cfg(
    variant: str,
    cfg: str | dict[str, Any] | None,
    overlay: dict[str, Any] | None,
    cache_dir: str | Path | None = None,
) -> dict[str, Any]:
    """timm's pretrained cfg of ``variant``, after its weights file, if it is one of ours, was held against its sum.

    Hashing comes before timm opens the file, so that a damaged one is named instead of half-read. What is published
    and lies nowhere on this machine is downloaded and held against its sum as well. A user's own weights
    (``pretrained_cfg_overlay``, ``local-dir:``, ``hf-hub:``) pass untouched.

    Args:
        variant: Architecture name without a tag.
        cfg: What timm hands to an entrypoint: a tag, a cfg as a dict, or None for the default tag.
        overlay: Entries that override those of the cfg. One that names a Hub repository or a URL, but no file,
            means that source, not our file.
        cache_dir: The Hub's cache; its usual place where None.

    Raises:
        WeightsError: the file is damaged or can't be downloaded, or there are no weights of this name.
    """
    from timm.models._builder import resolve_pretrained_cfg

    overlay = dict(overlay or {})
    if any(overlay.get(key) for key in ("hf_hub_id", "url")):
        overlay.setdefault("file", None)
    resolved: PretrainedCfg = resolve_pretrained_cfg(variant, cfg, overlay)
    name = f"{variant}.{resolved.tag}" if resolved.tag else variant
    published = published_id(name)
    if published and resolved.hf_hub_id == published and not (
            resolved.file or resolved.state_dict or resolved.hf_hub_filename):
        # named by us, or as hf-hub:org/name@commit: the one commit that the manifest vouches for
        return {**resolved.to_dict(remove_null=False), "source": None, "file": download(name, cache_dir)}
    if resolved.source or resolved.state_dict:
        pass  # local-dir: and hf-hub: name a source of their own
    elif resolved.file and name in MANIFEST and resolved.file == resolve_pretrained_cfg(variant, resolved.tag).file:
        expected, found = MANIFEST[name]["sha256"], file_sha256(resolved.file)
        if found != expected:
            raise WeightsError(
                f"{resolved.file} is damaged: its sha256 is {found}, that of {name} is {expected}; "
                "restore the file, or delete it")
    elif not resolved.has_weights:
        if _PROBLEM:
            raise WeightsError(f"no weights of {name}: {_PROBLEM}")
        if name in MANIFEST:
            raise WeightsError(elsewhere(name))
        had = ", ".join(sorted(n for n in MANIFEST if local_file(n) or published_id(n))) or "none yet"
        raise WeightsError(
            f"there are no weights of {name} here; to be had are: {had}. Train it with scripts/train.py and load it "
            "through local-dir:, or use pretrained=False")
    return resolved.to_dict(remove_null=False)
