"""One repository on the Hub against the files that it is to hold: what differs, one commit, what was received.

Token and server are the client's own: HF_TOKEN or ``hf auth login``, and HF_ENDPOINT.
"""
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from json import JSONDecodeError
from pathlib import Path

import timm
import torch
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, RepoFile, constants, get_token
from huggingface_hub.errors import (
    HFValidationError,
    HTTPError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import get_session, validate_repo_id

from ..errors import UserError
from ..weights import endpoint_problem, file_sha256, quiet_retries
from .check import answers, check_model
from .store import File

__all__ = ["Difference", "check_access", "commit", "compare", "plain_transfers", "plainly", "verify"]

PATIENCE = 120.0  # seconds between two signs of life
_HUB = "https://huggingface.co"
_LOG_IN = f"make a token that may write at {_HUB}/settings/tokens, then hf auth login, or set HF_TOKEN"
_ANSWERS = {
    400: ("the server refuses the request", "mend what it names"),
    401: ("the token is not valid", _LOG_IN),
    403: ("the token may not do this", "ask the organisation for write access, or name another with --org"),
    404: ("it is not there", "check the name and HF_ENDPOINT"),
    409: ("something of this name has just been made", "look at what differs now, and run it again"),
    412: ("another commit came between", "look at what differs now, and run it again"),
    429: ("too many requests", "wait some minutes, and run it again"),
}


@contextmanager
def plainly(what: str) -> Iterator[None]:
    """Turn whatever the client raises into one line that says what happened to ``what`` and what to do.

    The client by itself waits for ever for a server that doesn't answer, and logs each time that it asks again.
    """
    if problem := endpoint_problem():
        raise UserError(problem)
    session = get_session()
    before, session.timeout = session.timeout, PATIENCE
    try:
        with quiet_retries():
            yield
    except (HTTPError, OSError, ValueError, RuntimeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{what} at {constants.ENDPOINT}: {_reason(error)}") from error
    finally:
        session.timeout = before


def _reason(error: BaseException) -> str:
    if isinstance(error, LocalTokenNotFoundError):
        return f"there is no token; {_LOG_IN}"
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set; unset it"
    # the client wraps what happened to a file's transfer into errors of other kinds
    while not isinstance(error, HTTPError) and error.__cause__ is not None:
        error = error.__cause__
    said = getattr(error, "server_message", None) or ""
    response = getattr(error, "response", None)
    if response is not None:
        happened, advice = _ANSWERS.get(
            response.status_code,
            ("the server is in trouble", "run it again later: what is done is not done twice"))
        happened = f"{happened} ({response.status_code}{': ' + said if said else ''})"
    elif isinstance(error, HTTPError):
        happened = f"the connection broke off ({type(error).__name__})"
        advice = "check the network and HF_ENDPOINT, and run it again"
    elif isinstance(error, JSONDecodeError):
        happened, advice = "the answer is not one of the Hub's", "check HF_ENDPOINT, and run it again"
    else:
        happened, advice = f"{type(error).__name__}: {error}", "run it again"
    happened = " ".join(happened.split())[:300]
    token = get_token()
    return f"{happened.replace(token, '(token)') if token else happened}; {advice}"


@contextmanager
def plain_transfers() -> Iterator[None]:
    """Large files go through Xet where the Hub itself is asked; other servers lack it, and the client, which has no
    way back to LFS by itself, would fail there."""
    before = constants.HF_HUB_DISABLE_XET
    constants.HF_HUB_DISABLE_XET = before or constants.ENDPOINT != _HUB
    try:
        yield
    finally:
        constants.HF_HUB_DISABLE_XET = before


def check_access(api: HfApi, repo_id: str) -> None:
    """Whether the token may write to a repository of this name, as far as the Hub tells without trying.

    Raises:
        UserError: the name is none, there is no valid token, or it doesn't reach that far.
    """
    namespace, _, name = repo_id.partition("/")
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise UserError(f"{repo_id!r} is no name of a repository: {error}") from None
    with plainly("your account"):
        account = api.whoami(cache=True)  # the Hub answers this one seldom
    if not name:
        raise UserError(f"{repo_id!r}: name the organisation or user too, for example {account['name']}/{repo_id}")
    roles = {account["name"]: "admin", **{org["name"]: org.get("roleInOrg") for org in account.get("orgs", [])}}
    if roles.get(namespace, "read") == "read":
        may = ", ".join(known for known, role in roles.items() if role != "read")
        raise UserError(
            f"{repo_id}: your token may not write to {namespace}; it may to {may}: ask for access, or name one of them")
    token = account.get("auth", {}).get("accessToken", {})
    scopes = token.get("fineGrained", {}).get("scoped", [])
    reaches = any(
        scope.get("entity", {}).get("name") in (namespace, repo_id) and "repo.write" in scope.get("permissions", [])
        for scope in scopes)
    if token.get("role") == "read" or (token.get("role") == "fineGrained" and not reaches):
        raise UserError(f"{repo_id}: your token may only read there; {_LOG_IN}")


@dataclass(frozen=True)
class Difference:
    """What a repository holds against what it is to hold.

    Attributes:
        repo_id: "organisation/name".
        wanted: The files it is to hold, by path.
        parent: The commit of its main branch that was looked at; None where there is no repository.
        tags: Tag -> commit.
        added: Paths that it lacks.
        changed: Paths whose content differs.
        deleted: Paths that it is to hold no longer.
    """

    repo_id: str
    wanted: Mapping[str, File]
    parent: str | None
    tags: Mapping[str, str]
    added: tuple[str, ...]
    changed: tuple[str, ...]
    deleted: tuple[str, ...]

    @property
    def empty(self) -> bool:
        """Whether the repository is there and holds just what it should."""
        return self.parent is not None and not (self.added or self.changed or self.deleted)

    @property
    def to_send(self) -> int:
        """Bytes of the files that are added or changed."""
        return sum(self.wanted[path].size for path in (*self.added, *self.changed))

    def lines(self) -> list[str]:
        """A line for each thing that a commit would do."""
        sent = [
            f"{verb} {path}, {self.wanted[path].size:,} bytes"
            for verb, paths in (("add", self.added), ("change", self.changed)) for path in paths]
        return [*(["create the repository"] if self.parent is None else []), *sent,
                *(f"delete {path}" for path in self.deleted)]


def compare(api: HfApi, repo_id: str, wanted: Mapping[str, File], delete: bool = True) -> Difference:
    """Look at a repository's main branch; sends nothing.

    Args:
        api: The client.
        repo_id: "organisation/name".
        wanted: The files it is to hold, by path.
        delete: Whether files beyond those are to go; hidden ones (the Hub's .gitattributes) stay in any case.
    """
    with plainly(repo_id):
        try:
            refs = api.list_repo_refs(repo_id)
        except RepositoryNotFoundError:
            return Difference(repo_id, wanted, None, {}, tuple(wanted), (), ())
        parent = next(branch.target_commit for branch in refs.branches if branch.name == "main")
        there = {
            entry.path: entry for entry in api.list_repo_tree(repo_id, recursive=True, revision=parent)
            if isinstance(entry, RepoFile)}

    def same(path: str) -> bool:
        entry, file = there[path], wanted[path]
        return entry.lfs.sha256 == file.sha256 if entry.lfs else entry.blob_id == file.blob_id

    return Difference(
        repo_id, wanted, parent, {tag.name: tag.target_commit for tag in refs.tags},
        added=tuple(path for path in wanted if path not in there),
        changed=tuple(path for path in wanted if path in there and not same(path)),
        deleted=tuple(path for path in there if delete and path not in wanted and not path.startswith(".")))


def commit(api: HfApi, difference: Difference, message: str) -> str:
    """Bring a repository to what it is to hold: one commit upon the one that was looked at, or none.

    Returns:
        The commit that holds the files.

    Raises:
        UserError: it couldn't be done, a file here has changed since it was looked at, or somebody else's commit came
            between; the repository is as it was.
    """
    if difference.empty:
        assert difference.parent
        return difference.parent
    for path in (*difference.added, *difference.changed):
        if not difference.wanted[path].is_current():
            raise UserError(f"{difference.wanted[path].content} has changed since it was looked at; run it again")
    repo_id, parent = difference.repo_id, difference.parent
    with plainly(repo_id), plain_transfers():
        if parent is None:
            api.create_repo(repo_id)
            parent = api.model_info(repo_id).sha
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            *(CommitOperationAdd(path, str(difference.wanted[path].content))
              for path in (*difference.added, *difference.changed)),
            *(CommitOperationDelete(path) for path in difference.deleted)]
        try:
            return api.create_commit(repo_id, operations, commit_message=message, parent_commit=parent).oid
        except Exception:
            with suppress(UserError):  # the commit may have been made, and only the answer been lost
                found = compare(api, repo_id, difference.wanted, bool(difference.deleted))
                if found.empty and found.parent:
                    return found.parent
            raise


def verify(api: HfApi, repo_id: str, commit: str, wanted: Mapping[str, File], folder: Path, cache: Path) -> None:
    """Download every file of a commit and compare it, then build the model from there and compare its logits.

    Args:
        api: The client.
        repo_id: "organisation/name".
        commit: 40 hexadecimal digits.
        wanted: What the commit holds.
        folder: The same files here, which ``local-dir:`` loads.
        cache: An empty folder for the downloads.

    Raises:
        UserError: a file isn't what was sent, or the model isn't the same to the bit.
    """
    for path, file in wanted.items():
        with plainly(f"{repo_id}/{path}"):
            received = file_sha256(api.hf_hub_download(repo_id, path, revision=commit, cache_dir=cache))
        if received != file.sha256:
            raise UserError(
                f"{repo_id}/{path} at {commit} is not what was sent: its sha256 is {received}, that of {file.content} "
                f"is {file.sha256}; run it again, and if this comes again, delete the file there first")
    ours = check_model(folder)
    with plainly(repo_id):
        theirs = timm.create_model(f"hf-hub:{repo_id}@{commit}", pretrained=True, cache_dir=cache)
    if not torch.equal(answers(ours), answers(theirs)):
        raise UserError(f"{repo_id} at {commit} computes other logits than {folder}; don't use this commit")
