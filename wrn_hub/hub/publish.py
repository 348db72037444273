"""Publish staged models: each folder of ``model_cards`` becomes the Hub repository of its name, byte for byte."""
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import HfApi

from ..cards.card import check_card
from ..cards.sample import SAMPLE
from ..errors import UserError, nearest
from ..files import read_text
from ..version import __version__
from ..weights import file_sha256, read_manifest, say_what_is_asked, staged, update_manifest
from .check import check_model
from .repository import Difference, check_access, commit, compare, plainly, verify
from .store import CARD, CONFIG, ORGANISATION, WEIGHTS, File, repository_files

__all__ = ["COLLECTION", "Publication", "plan", "publish"]

COLLECTION = "Wide Residual Networks"
# What a repository is made of, beside the pictures that its card shows or links to; whatever else lies in the folder
# stays here.
_KNOWN = (CARD, CONFIG, WEIGHTS, "args.json", "metrics.csv", "results.json", "results.seed*.json", "logits.safetensors",
          "worst.safetensors", SAMPLE)
_PICTURE = re.compile(r"\]\(([\w.-]+\.(?:png|svg))\)")


@dataclass(frozen=True)
class Publication:
    """What publishing one staged model would do.

    Attributes:
        name: "arch.tag".
        folder: The staged folder.
        difference: Between the folder and the repository.
        tag: The package version's tag.
        tagged: Whether the commit that is there has it already.
        listed: Whether the collection lists the repository already.
        published: What the manifest records: "organisation/name@commit" or None.
        left: What lies in the folder and is not sent.
    """

    name: str
    folder: Path
    difference: Difference
    tag: str
    tagged: bool
    listed: bool
    published: str | None
    left: tuple[str, ...] = ()

    @property
    def recorded(self) -> bool:
        """Whether the manifest names the commit that is there."""
        return self.published == f"{self.difference.repo_id}@{self.difference.parent}"

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return self.difference.empty and self.tagged and self.listed and self.recorded

    def lines(self) -> list[str]:
        """A line for each change, at the Hub and in the manifest, and for what is not sent."""
        return [
            *(f"leave out {name}, which is no file of a model" for name in self.left),
            *self.difference.lines(),
            *([] if self.tagged else [f"tag it {self.tag}"]),
            *([] if self.listed else [f'list it in the collection "{COLLECTION}"']),
            *([] if self.recorded and self.difference.empty else ["record the commit in wrn_hub/weights.json"]),
        ]


def _checked(folder: Path, manifest: Mapping[str, Any]) -> tuple[dict[str, File], tuple[str, ...]]:
    """What is sent of a folder, and what is left out; what :func:`verify` will ask of the commit is asked here."""
    name, weights = folder.name, folder / WEIGHTS
    if name not in manifest:
        raise UserError(
            f"{name} is not staged in {folder.parent}: stage a run with scripts/maintain/stage.py."
            f"{nearest(name, manifest)}")
    if not weights.is_file():
        raise UserError(f"{weights} is missing: restore it, or stage the run again")
    if folder.resolve() != folder.parent.resolve() / name:
        raise UserError(f"{folder} is a link to {folder.resolve()}: what is published lies in {folder.parent} itself")
    expected, found = manifest[name]["sha256"], file_sha256(weights)
    if found != expected:
        raise UserError(
            f"{weights} is not what wrn_hub/weights.json lists: its sha256 is {found}, listed is {expected}; restore "
            "it, or stage the run again")
    try:
        wrong = check_card(folder)
    except FileNotFoundError as error:
        raise UserError(
            f"{name}: {error}; measure with scripts/evaluate.py, then run scripts/maintain/make_cards.py") from None
    if wrong:
        raise UserError("; ".join(wrong))
    check_model(folder)
    shown = set(_PICTURE.findall(read_text(folder / CARD)))
    files = {path: file for path, file in repository_files(folder).items()
             if path in shown or any(fnmatch(path, known) for known in _KNOWN)}
    for needed in (CARD, CONFIG, WEIGHTS):
        if needed not in files:
            raise UserError(f"{folder / needed} is a link out of the folder, which isn't followed: put the file there")
    return files, tuple(path for path in sorted(os.listdir(folder)) if path not in files and path[0] != ".")


def _collection(api: HfApi, organisation: str) -> tuple[str | None, frozenset[str]]:
    """(slug of the collection or None, ids of what it lists)."""
    with plainly(f"the collections of {organisation}"):
        for found in api.list_collections(owner=organisation):
            if found.title == COLLECTION:  # the list shows only the first items of each
                return found.slug, frozenset(item.item_id for item in api.get_collection(found.slug).items)
    return None, frozenset()


def plan(api: HfApi, checkout: Path, names: Sequence[str] = (), organisation: str = ORGANISATION) -> list[Publication]:
    """Say what publishing would do; sends nothing.

    Args:
        api: The client.
        checkout: The source checkout, which holds ``model_cards`` and ``wrn_hub/weights.json``.
        names: "arch.tag" of each; everything that is staged where empty.
        organisation: Organisation or user whose repositories they are to be.

    Raises:
        UserError: something isn't fit to be published, or the Hub can't be asked.
    """
    root = checkout / "model_cards"
    manifest = read_manifest(checkout / "wrn_hub" / "weights.json")
    folders = [root / name for name in names] if names else staged(root)
    checked = [_checked(folder, manifest) for folder in folders]
    say_what_is_asked(f"the repositories of {organisation}")
    _, listed = _collection(api, organisation)
    plans, tag = [], f"v{__version__}"
    for folder, (files, left) in zip(folders, checked, strict=True):
        difference = compare(api, f"{organisation}/{folder.name}", files)
        tagged = difference.tags.get(tag)
        if tagged and (tagged != difference.parent or not difference.empty):
            raise UserError(
                f"{difference.repo_id} has {tag} at {tagged[:12]} already, and something has changed since: a "
                "published version stays as it is; raise __version__ in wrn_hub/version.py")
        plans.append(Publication(
            folder.name, folder, difference, tag, tagged is not None, difference.repo_id in listed,
            manifest[folder.name]["published"], left))
    return plans


def publish(api: HfApi, plans: Sequence[Publication], checkout: Path) -> Iterator[str]:
    """Carry out plans, one repository after the other, and check each before the manifest and the tag vouch for it.

    A repository changes in one commit or not at all; after an interruption, plan and publish again: what is done is
    not done twice.

    Yields:
        "organisation/name@commit" of each, once it is published, verified, tagged, listed and recorded.

    Raises:
        UserError: something failed; the line says what to do.
    """
    for one in plans:
        check_access(api, one.difference.repo_id)
    for one in plans:
        repo_id = one.difference.repo_id
        done = commit(api, one.difference, f"{one.name} of wrn_hub {one.tag}")
        with TemporaryDirectory() as cache:
            verify(api, repo_id, done, one.difference.wanted, one.folder, Path(cache))
        with plainly(repo_id):
            if not one.tagged:
                api.create_tag(repo_id, tag=one.tag, revision=done)
        if not one.listed:
            _list(api, repo_id)
        if not one.recorded or done != one.difference.parent:
            update_manifest(
                checkout / "wrn_hub" / "weights.json", one.name, of_sha256=one.difference.wanted[WEIGHTS].sha256,
                published=f"{repo_id}@{done}")
        yield f"{repo_id}@{done}"


def _list(api: HfApi, repo_id: str) -> None:
    organisation = repo_id.partition("/")[0]
    slug, _ = _collection(api, organisation)
    with plainly(f'the collection "{COLLECTION}" of {organisation}'):
        slug = slug or api.create_collection(COLLECTION, namespace=organisation, exists_ok=True).slug
        api.add_collection_item(slug, repo_id, "model", exists_ok=True)
