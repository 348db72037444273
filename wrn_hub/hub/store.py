"""What a hub serves: repositories, each a set of named files under a commit; here, those of a folder of models."""
import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from glob import glob
from pathlib import Path
from typing import Protocol

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from ..errors import UserError

__all__ = ["ORGANISATION", "File", "FolderStore", "NotFound", "Revision", "Store"]

ORGANISATION = "wrn-hub"
CARD, WEIGHTS, CONFIG = "README.md", "model.safetensors", "config.json"


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


@lru_cache(maxsize=4096)
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


class FolderStore:
    """A folder of staged models, such as ``model_cards``: each subfolder that holds a model is a repository.

    So is each that holds one in ``model/``, as the folder of a training does. The commit is computed from the files,
    so it changes when they do. What is changed is served at once.

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
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", organisation) or organisation in ("api", "datasets"):
            raise UserError(
                f"organisation {organisation!r}: allowed are letters, digits, '-', '_' and '.', not api or datasets")

    def _models(self) -> dict[str, Path]:
        """The folder of each repository by its id."""
        found: dict[str, Path] = {}
        for folder in self.root.iterdir():
            repo_id = f"{self.organisation}/{folder.name}"
            for place in (folder, folder / "model"):
                whole = all(_may_be_served(place / name, place) for name in (CONFIG, WEIGHTS))
                if whole and _can_be_asked_for(repo_id):
                    found.setdefault(repo_id, place)
        return found

    def repositories(self, kind: str = "models") -> list[str]:
        return sorted(self._models()) if kind == "models" else []

    def revision(self, kind: str, repo_id: str, revision: str = "main") -> Revision:
        folder = self._models().get(repo_id) if kind == "models" else None
        if folder is None:
            raise NotFound("RepoNotFound", f"there is no repository {repo_id} here")
        try:
            files = repository_files(folder)
        except OSError:
            raise NotFound("RepoNotFound", f"{repo_id} is being replaced; ask again") from None
        listing = "".join(f"{path} {file.sha256}\n" for path, file in files.items())
        commit = hashlib.sha1(listing.encode()).hexdigest()
        if revision not in ("main", commit):
            raise NotFound("RevisionNotFound", f"{repo_id} has no revision {revision}; there is only main, {commit}")
        return Revision(repo_id, commit, files, branches={"main": commit})

    def extras(self) -> dict[str, Path]:
        """Cards and pictures that belong to no repository, by path: of folders without weights, and beside them all."""
        models = {repo_id.partition("/")[2] for repo_id in self._models()}
        return {
            path: self.root / path
            for pattern in ("*", "*/*") for path in sorted(glob(pattern, root_dir=self.root))
            if path.endswith((".md", ".png", ".jpg", ".jpeg", ".webp", ".gif", ".svg"))
            and path.partition("/")[0] not in models and _may_be_served(self.root / path, self.root)}


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
    return {
        path.relative_to(folder).as_posix(): File.read(path) for path in sorted(folder.rglob("*"))
        if _may_be_served(path, folder)}
