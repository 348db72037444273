"""Publish staged models: each folder of ``model_cards`` becomes the Hub repository of its name, byte for byte."""
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import HfApi

from ..cards.card import check_card
from ..errors import UserError, nearest
from ..version import __version__
from ..weights import file_sha256, staged
from .repository import Difference, check_access, commit, compare, plainly, verify
from .stage import list_in_manifest
from .store import ORGANISATION, WEIGHTS, repository_files

__all__ = ["COLLECTION", "Publication", "plan", "publish"]

COLLECTION = "Wide Residual Networks"


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
    """

    name: str
    folder: Path
    difference: Difference
    tag: str
    tagged: bool
    listed: bool
    published: str | None

    @property
    def recorded(self) -> bool:
        """Whether the manifest names the commit that is there."""
        return self.published == f"{self.difference.repo_id}@{self.difference.parent}"

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return self.difference.empty and self.tagged and self.listed and self.recorded

    def lines(self) -> list[str]:
        """A line for each change, at the Hub and in the manifest."""
        return [
            *self.difference.lines(),
            *([] if self.tagged else [f"tag it {self.tag}"]),
            *([] if self.listed else [f'list it in the collection "{COLLECTION}"']),
            *([] if self.recorded and self.difference.empty else ["record the commit in wrn_hub/weights.json"]),
        ]


def _checked(folder: Path, manifest: Mapping[str, Any]) -> Path:
    """The folder, if it may be published: weights as the manifest lists them, a card that is up to date."""
    name, weights = folder.name, folder / WEIGHTS
    if name not in manifest or not weights.is_file():
        raise UserError(
            f"{name} is not staged in {folder.parent}: stage a run with scripts/maintain/stage.py."
            f"{nearest(name, manifest)}")
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
    return folder


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
    manifest = json.loads((checkout / "wrn_hub" / "weights.json").read_text())
    folders = [_checked(folder, manifest) for folder in ([root / name for name in names] if names else staged(root))]
    _, listed = _collection(api, organisation)
    plans, tag = [], f"v{__version__}"
    for folder in folders:
        difference = compare(api, f"{organisation}/{folder.name}", repository_files(folder))
        tagged = difference.tags.get(tag)
        if tagged and (tagged != difference.parent or not difference.empty):
            raise UserError(
                f"{difference.repo_id} has {tag} at {tagged[:12]} already, and something has changed since: a "
                "published version stays as it is; raise __version__ in wrn_hub/version.py")
        plans.append(Publication(
            folder.name, folder, difference, tag, tagged is not None, difference.repo_id in listed,
            manifest[folder.name]["published"]))
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
            list_in_manifest(checkout, one.name, published=f"{repo_id}@{done}")
        yield f"{repo_id}@{done}"


def _list(api: HfApi, repo_id: str) -> None:
    organisation = repo_id.partition("/")[0]
    slug, _ = _collection(api, organisation)
    with plainly(f'the collection "{COLLECTION}" of {organisation}'):
        slug = slug or api.create_collection(COLLECTION, namespace=organisation, exists_ok=True).slug
        api.add_collection_item(slug, repo_id, "model", exists_ok=True)
