"""What a hub serves: repositories, each a set of named files under a commit; here, those of a folder of models."""
import hashlib
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from ..errors import UserError
from ..facts import ORGANISATION

__all__ = ["ORGANISATION", "RESERVED", "File", "FolderStore", "NotFound", "Revision", "Store"]

RESERVED = ("api", "compare", "datasets", "frontier")  # first parts of the hub's own addresses; "-" begins no name
CARD, WEIGHTS, CONFIG = "README.md", "model.safetensors", "config.json"
_log = logging.getLogger(__name__)


class NotFound(Exception):
    """Something that isn't there; ``code`` is what the Hub calls it: RepoNotFound, RevisionNotFound, EntryNotFound."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class File:
    """One file of a repository.

    Attributes:
        content: Where its bytes lie.
        size: In bytes.
        modified: When it was, in nanoseconds.
        sha256: Of its bytes, in hexadecimal digits.
        blob_id: Its name in git: sha1 of the bytes after a short header.
    """

    content: Path
    size: int
    modified: int
    sha256: str
    blob_id: str

    @classmethod
    def read(cls, path: Path) -> "File":
        """Describe the file at ``path``; read once, and again only after it was changed."""
        facts = path.stat()
        return _read(path, facts.st_size, facts.st_mtime_ns)

    def is_current(self) -> bool:
        """Whether the file is still as it was read."""
        try:
            facts = self.content.stat()
        except OSError:
            return False
        return (facts.st_size, facts.st_mtime_ns) == (self.size, self.modified)


@lru_cache(maxsize=1 << 16)  # what falls out is hashed anew at every page
def _read(path: Path, size: int, modified: int) -> File:
    sha256, blob_id = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size)
    with path.open("rb") as content:
        while chunk := content.read(1 << 20):
            sha256.update(chunk)
            blob_id.update(chunk)
    return File(path, size, modified, sha256.hexdigest(), blob_id.hexdigest())


@dataclass(frozen=True)
class Revision:
    """A repository as one commit has it.

    Attributes:
        repo_id: "organisation/name".
        commit: 40 hexadecimal digits.
        files: By path within the repository, with forward slashes.
        branches: Name to commit.
        tags: Name to commit.
    """

    repo_id: str
    commit: str
    files: Mapping[str, File]
    branches: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    def file(self, path: str) -> File:
        """The file of that path, or NotFound; no path leads out of the repository, since it is only looked up."""
        try:
            return self.files[path]
        except KeyError:
            raise NotFound("EntryNotFound", f"{self.repo_id} has no file {path}") from None


class Store(Protocol):
    """Where a hub's repositories lie; ``kind`` is "models" or "datasets", as in the Hub's addresses."""

    def repositories(self, kind: str) -> list[str]:
        """Ids of all repositories, sorted."""

    def revision(self, kind: str, repo_id: str, revision: str = "main") -> Revision:
        """A repository at a branch, tag or commit, or NotFound."""


class _Walks:
    """What walks over folders found, each kept until one of the folders that it listed has another time.

    A folder that changed within the last second counts as changing still: its time may be too coarse to tell.
    """

    def __init__(self) -> None:
        self._kept: dict[Any, tuple[Any, dict[str, int]]] = {}

    def once(self, key: Any, walk: Callable[[Callable[[str], list[os.DirEntry]]], Any]) -> Any:
        """The result of ``walk``, which is given a function that lists a folder and has to list all by it."""
        kept = self._kept.get(key)
        if kept and all(_time(folder) == then for folder, then in kept[1].items()):
            return kept[0]
        times: dict[str, int] = {}

        def listed(folder: str) -> list[os.DirEntry]:
            times[folder] = _time(folder)
            try:
                with os.scandir(folder) as entries:
                    return sorted(entries, key=lambda entry: entry.name)
            except OSError:  # it went meanwhile, or is closed
                return []

        found = walk(listed)
        if max(times.values()) < time.time_ns() - 10**9:
            self._kept[key] = found, times
        else:
            self._kept.pop(key, None)
        return found


def _time(folder: str) -> int:
    try:
        return os.stat(folder).st_mtime_ns
    except OSError:
        return -1


class FolderStore:
    """A folder of staged models, such as ``model_cards``: each subfolder that holds a model is a repository.

    So is each that holds one in ``model/``, as the folder of a training does. The commit is computed from the files,
    so it changes when they do. What is changed is served at once. Links that lead out of the folder are not followed.
    Subfolders with a model that can't be served are named in the log, each once.

    Args:
        root: The folder.
        organisation: First half of the repositories' ids.

    Raises:
        UserError: there is no such folder to read, or the organisation is no name that the Hub would take.
    """

    def __init__(self, root: str | Path, organisation: str = ORGANISATION) -> None:
        self.root, self.organisation = Path(root).resolve(), organisation
        if not (os.access(self.root, os.R_OK | os.X_OK) and self.root.is_dir()):
            raise UserError(
                f"{root} is not a folder that can be read: name one with a subfolder per model, such as model_cards")
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", organisation) or organisation in RESERVED:
            raise UserError(
                f"organisation {organisation!r}: allowed are letters, digits, '-', '_' and '.', not "
                f"{' or '.join(RESERVED)}, which are pages of the hub; name another with --org")
        self._walks = _Walks()
        self._complained: set[str] = set()

    def _subfolders(self) -> tuple[str, ...]:
        return self._walks.once("subfolders", lambda listed: tuple(
            entry.name for entry in listed(str(self.root)) if not entry.name.startswith(".") and entry.is_dir()))

    def _models(self) -> dict[str, Path]:
        """The folder of each repository by its id."""
        found = {f"{self.organisation}/{name}": self._model(name) for name in self._subfolders()}
        return {repo_id: place for repo_id, place in found.items() if place is not None}

    def _model(self, name: str) -> Path | None:
        """Where the model of a subfolder is, if it holds one that may be served."""
        return self._walks.once(("model", name), lambda listed: self._look(name, listed))

    def _look(self, name: str, listed: Callable[[str], list[os.DirEntry]]) -> Path | None:
        places = [self.root / name]
        if any(below.name == "model" and below.is_dir() for below in listed(str(places[0]))):
            places.append(places[0] / "model")
            listed(str(places[1]))
        needed = (CONFIG, WEIGHTS)
        holding = [place for place in places if all(os.path.isfile(place / file) for file in needed)]
        whole = [place for place in holding if all(_may_be_served(place / file, self.root) for file in needed)]
        if whole and _can_be_asked_for(f"{self.organisation}/{name}"):
            return whole[0]
        if holding and name not in self._complained:
            self._complained.add(name)
            _log.warning("%r is not served: %s", name, (
                "a file of it may not be read, or is a link to somewhere else" if not whole else
                "a name consists of letters, digits, '-', '_' and '.'; rename the folder"))
        return None

    def repositories(self, kind: str = "models") -> list[str]:
        return sorted(self._models()) if kind == "models" else []

    def revision(self, kind: str, repo_id: str, revision: str = "main") -> Revision:
        organisation, _, name = repo_id.partition("/")
        here = kind == "models" and organisation == self.organisation and name in self._subfolders()
        folder = self._model(name) if here else None
        if folder is None:
            raise NotFound("RepoNotFound", f"there is no repository {repo_id} here")
        try:
            paths = self._walks.once(folder, lambda listed: [
                (path, folder / path) for path in _served_paths(folder, listed)])
            files = {path: File.read(place) for path, place in paths if os.access(place, os.R_OK)}
        except OSError:
            raise NotFound("RepoNotFound", f"{repo_id} is being replaced; ask again") from None
        listing = "".join(f"{path} {file.sha256}\n" for path, file in files.items())
        commit = hashlib.sha1(listing.encode()).hexdigest()
        if revision not in ("main", commit):
            raise NotFound("RevisionNotFound", f"{repo_id} has no revision {revision}; there is only main, {commit}")
        return Revision(repo_id, commit, files, branches={"main": commit})

    def extras(self) -> dict[str, Path]:
        """Texts, pictures and numbers that belong to no repository, by path: of folders without weights, of folders in
        them such as ``studies/NAME``, and beside them all."""
        models = {repo_id.partition("/")[2] for repo_id in self._models()}
        found = self._walks.once("extras", lambda listed: {
            path: self.root / path for path in _paths(str(self.root), listed, 3)
            if path.endswith((".md", ".json", ".png", ".jpg", ".jpeg", ".webp", ".gif", ".svg"))
            and _may_be_served(self.root / path, self.root)})
        return {path: place for path, place in found.items() if path.partition("/")[0] not in models}


def _paths(folder: str, listed: Callable[[str], list[os.DirEntry]], levels: int) -> Iterator[str]:
    """What lies in a folder, and so many levels deep below it."""
    for entry in listed(folder):
        yield entry.name
        if levels > 1 and not entry.name.startswith(".") and entry.is_dir():
            yield from (f"{entry.name}/{path}" for path in _paths(entry.path, listed, levels - 1))


def _served_paths(root: Path, listed: Callable[[str], list[os.DirEntry]], below: str = "") -> list[str]:
    """The paths of a folder's files that may be served, sorted."""
    found: list[str] = []
    for entry in listed(str(root / below)):
        path = f"{below}{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            found += [] if entry.name.startswith(".") else _served_paths(root, listed, f"{path}/")
        elif _may_be_served(root / path, root):
            found.append(path)
    return sorted(found)


def _can_be_asked_for(repo_id: str) -> bool:
    """Whether the Hub's clients take this for the name of a repository."""
    try:
        validate_repo_id(repo_id)
    except HFValidationError:
        return False
    return True


def _may_be_served(path: Path, root: Path) -> bool:
    """Whether this is a file below root that can be read, not hidden, named in UTF-8, and no link to somewhere else."""
    within = path.relative_to(root)
    hidden = any(part.startswith(".") for part in within.parts)
    named = str(within).encode(errors="ignore").decode() == str(within)
    readable = os.path.isfile(path) and os.access(path, os.R_OK)  # Path.is_file raises an error in a closed folder
    return named and not hidden and readable and path.resolve().is_relative_to(root.resolve())


def repository_files(folder: Path) -> dict[str, File]:
    """The files of a repository's folder by path, sorted: no hidden ones, and none that a link brings from outside."""
    folder = folder.resolve()
    paths = _Walks().once(folder, lambda listed: _served_paths(folder, listed))
    return {path: File.read(folder / path) for path in paths}
