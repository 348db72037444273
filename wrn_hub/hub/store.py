"""What a hub serves: repositories, each a set of named files under a commit; here, those of a folder of models."""
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Protocol

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
        sha256: Of its bytes, in hexadecimal digits.
        blob_id: Its name in git: sha1 of the bytes after a short header.
    """

    content: Path
    size: int
    sha256: str
    blob_id: str

    @classmethod
    def read(cls, path: Path) -> "File":
        """Describe the file at ``path``; read once, and again only after it was changed."""
        facts = path.stat()
        return _read(path, facts.st_size, facts.st_mtime_ns)


@lru_cache(maxsize=4096)
def _read(path: Path, size: int, _modified: int) -> File:
    content = path.read_bytes()
    return File(path, size, hashlib.sha256(content).hexdigest(),
                hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest())


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

    The commit is computed from the files, so it changes when they do. What is changed is served at once.

    Args:
        root: The folder.
        organisation: First half of the repositories' ids.

    Raises:
        UserError: there is no such folder, or the organisation is no name that the Hub would take.
    """

    def __init__(self, root: str | Path, organisation: str = ORGANISATION) -> None:
        self.root, self.organisation = Path(root).resolve(), organisation
        if not self.root.is_dir():
            raise UserError(f"{root} is not a folder: name one with a subfolder per model, such as model_cards")
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", organisation):
            raise UserError(f"organisation {organisation!r}: allowed are letters, digits, '-', '_' and '.'")

    def repositories(self, kind: str = "models") -> list[str]:
        if kind != "models":
            return []
        return sorted(
            f"{self.organisation}/{folder.name}" for folder in self.root.iterdir()
            if (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file() and not folder.name.startswith("."))

    def revision(self, kind: str, repo_id: str, revision: str = "main") -> Revision:
        if repo_id not in self.repositories(kind):
            raise NotFound("RepoNotFound", f"there is no repository {repo_id} here")
        files = repository_files(self.root / repo_id.partition("/")[2])
        listing = "".join(f"{path} {file.sha256}\n" for path, file in files.items())
        commit = hashlib.sha1(listing.encode()).hexdigest()
        if revision not in ("main", commit):
            raise NotFound("RevisionNotFound", f"{repo_id} has no revision {revision}; there is only main, {commit}")
        return Revision(repo_id, commit, files, branches={"main": commit})


def repository_files(folder: Path) -> dict[str, File]:
    """The files of a repository's folder by path, sorted: no hidden ones, and none that a link brings from outside."""
    folder = folder.resolve()
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in name.parts)
        if path.is_file() and not hidden and path.resolve().is_relative_to(folder):
            found[name.as_posix()] = File.read(path)
    return found
