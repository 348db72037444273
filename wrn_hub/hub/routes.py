"""The Hub's read routes over a store, as huggingface_hub, timm, transformers and datasets ask for them.

The real clients work unchanged when HF_ENDPOINT names a server with these routes: information on a repository, its
files with their sizes and sums, and downloads, whole or in part.
"""
import logging
import re
from contextlib import suppress
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qs, quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Message, Receive, Scope, Send

from .markdown import as_list, read_card
from .store import CARD, CONFIG, File, NotFound, Revision, Store

__all__ = ["ALONE", "LARGE", "Download", "card", "error", "metadata", "not_found", "read_routes"]

_log = logging.getLogger(__name__)

LARGE = (".safetensors", ".parquet", ".bin", ".arrow", ".png")  # what the Hub keeps as large files, known by sha256
# Files can be looked at and do nothing; a drawing's styles lie in itself.
ALONE = {"X-Content-Type-Options": "nosniff",
         "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"}
MOST_BYTES, MOST_FIELDS = 1 << 20, 10_000  # of a request


def error(status: int, message: str, code: str | None = None, **headers: str) -> JSONResponse:
    """An error as the Hub words it: the clients read its headers."""
    named = {"X-Error-Message": message.encode("unicode_escape").decode(), **({"X-Error-Code": code} if code else {})}
    return JSONResponse({"error": message}, status, {**named, **headers})


def not_found(_: Request, problem: Exception) -> Response:
    """Starlette's handler for :class:`NotFound`."""
    assert isinstance(problem, NotFound)
    return error(404, str(problem), problem.code)


def _entry(path: str, file: File) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": path, "size": file.size, "oid": file.blob_id}
    if path.endswith(LARGE):
        entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": 130}
    return entry


def card(found: Revision) -> tuple[dict[str, Any], str]:
    """The metadata of a repository's card and the Markdown after it."""
    return read_card(found.files[CARD].content if CARD in found.files else None)


@lru_cache(maxsize=4096)
def _metadata(file: File) -> dict[str, Any]:
    return read_card(file.content)[0]


def metadata(found: Revision) -> dict[str, Any]:
    """The metadata of a repository's card, read again only after it was changed."""
    return _metadata(found.files[CARD]) if CARD in found.files else {}


def _information(found: Revision) -> dict[str, Any]:
    known = metadata(found)
    return {
        "_id": found.repo_id, "id": found.repo_id, "modelId": found.repo_id, "author": found.repo_id.partition("/")[0],
        "sha": found.commit, "private": False, "gated": False, "disabled": False, "downloads": 0, "likes": 0,
        "tags": [*as_list(known.get("tags")), *(f"license:{name}" for name in as_list(known.get("license")))],
        "pipeline_tag": known.get("pipeline_tag"), "library_name": known.get("library_name"),
        "cardData": known,
        "siblings": [
            {"rfilename": path, "size": file.size, "blobId": file.blob_id,
             **({"lfs": {"sha256": file.sha256, "size": file.size, "pointerSize": 130}} if path.endswith(LARGE)
                else {})}
            for path, file in found.files.items()],
        "config": {} if CONFIG in found.files else None,
    }


class _Changed(Exception):
    pass


_RANGE = re.compile(r"\s*(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))\s*")


def _ranges(asked: str, size: int) -> str | None:
    """A Range header as it is answered; None where it counts as not sent, as RFC 9110 wants of what is malformed.

    Of several ranges those that begin beyond the end are left out, as long as one is left.
    """
    unit, _, specs = asked.partition("=")
    parts = [part for part in specs.split(",") if part.strip()]  # a list may have empty elements
    if unit.strip().lower() != "bytes" or not parts:
        return None
    within: list[str] = []
    beyond: list[str] = []
    for part in parts:
        match = _RANGE.fullmatch(part)
        if match is None or (match[2] and int(match[1]) > int(match[2])):
            return None
        first = int(match[1]) if match[1] else max(size - int(match[3]), 0)
        (within if first < size else beyond).append(part.strip())
    return "bytes=" + ",".join(within or beyond)


def _is_known(request: Request, etag: str) -> bool:
    """Whether If-None-Match says that the client has this already."""
    tags = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    return "*" in tags or f'"{etag}"' in tags


class Download(FileResponse):
    """A file as it was hashed; the connection breaks where it is changed on the way, even to as many bytes."""

    chunk_size = 1 << 20  # each read and each look at the file is a turn of another thread

    def __init__(self, file: File, **options: Any) -> None:
        super().__init__(file.content, **options)
        self.file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def send_current(message: Message) -> None:
            nonlocal begun
            if not await run_in_threadpool(self.file.is_current):
                raise _Changed
            begun = True
            await send(message)

        headers = []
        for name, value in scope["headers"]:
            kept = _ranges(value.decode("latin-1"), self.file.size) if name == b"range" else ""
            if kept is not None:
                headers.append((name, kept.encode() if name == b"range" else value))
        try:
            await super().__call__({**scope, "headers": headers}, receive, send_current)
        except (_Changed, OSError, RuntimeError) as problem:  # it was replaced, or closed, since it was looked at
            if not isinstance(problem, _Changed):
                _log.warning("%s can't be sent: %s", self.file.content, problem)
            if not begun:  # else the server closes the connection after an answer that is cut off
                await error(503, "the file is being replaced; ask again")(scope, receive, send)


def _kind(request: Request) -> str:
    return "datasets" if request.url.path.startswith(("/api/datasets", "/datasets/")) else "models"


class _Reader:
    """Answers about a store; plain functions, which Starlette runs in threads, since files are read and hashed."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def at(self, request: Request) -> Revision:
        asked = request.path_params
        return self.store.revision(_kind(request), f"{asked['org']}/{asked['name']}", asked.get("revision", "main"))

    def repositories(self, request: Request) -> Response:
        kind, asked = _kind(request), request.query_params
        found = []
        for repo_id in self.store.repositories(kind):
            author = repo_id.partition("/")[0]
            if asked.get("author", author) == author and asked.get("search", "").lower() in repo_id.lower():
                with suppress(NotFound):  # it went meanwhile
                    found.append(_information(self.store.revision(kind, repo_id)))
        limit = asked.get("limit", "")
        return JSONResponse(found[: int(limit)] if re.fullmatch("[0-9]{1,9}", limit) else found)

    def information(self, request: Request) -> Response:
        return JSONResponse(_information(self.at(request)))

    def tree(self, request: Request) -> Response:
        found, below = self.at(request), request.path_params.get("path", "").strip("/")
        deep = request.query_params.get("recursive", "").lower() in ("true", "1")
        prefix = f"{below}/" if below else ""
        entries: list[dict[str, Any]] = []
        folders: set[str] = set()
        for path, file in found.files.items():
            if not path.startswith(prefix):
                continue
            parts = path[len(prefix):].split("/")
            folders.update(prefix + "/".join(parts[:depth]) for depth in range(1, len(parts) if deep else 2))
            if deep or len(parts) == 1:
                entries.append(_entry(path, file))
        if below and not entries and not folders:
            raise NotFound("EntryNotFound", f"{found.repo_id} has no folder {below}")
        listed = [
            {"type": "directory", "path": path, "size": 0, "oid": found.commit} for path in sorted(folders)
            if path not in found.files]
        return JSONResponse(listed + entries)

    async def paths_info(self, request: Request) -> Response:
        found, body = await run_in_threadpool(self.at, request), b""
        with suppress(ClientDisconnect):  # nobody is left to answer to
            async for part in request.stream():
                body += part
                if len(body) > MOST_BYTES:
                    return error(413, f"more than {MOST_BYTES:,} bytes are not read")
        try:
            paths = parse_qs(body.decode(), max_num_fields=MOST_FIELDS).get("paths", [])
        except ValueError:
            return error(400, f"this is no form in UTF-8 of {MOST_FIELDS:,} fields at most")
        return JSONResponse([_entry(path, found.files[path]) for path in paths if path in found.files])

    def refs(self, request: Request) -> Response:
        found = self.at(request)
        listed = {
            key: [{"name": name, "ref": f"refs/{place}/{name}", "targetCommit": commit}
                  for name, commit in values.items()]
            for key, place, values in (("branches", "heads", found.branches), ("tags", "tags", found.tags))}
        return JSONResponse({**listed, "converts": []})

    def resolve(self, request: Request) -> Response:
        found = self.at(request)
        path, query = request.path_params["path"], request.url.query
        file = found.file(path)
        if request.path_params["revision"] != found.commit:
            # Clients look at a file first and then fetch it from where this leads: what they looked at, or nothing,
            # where a new version came between. They would not notice a body of the same size.
            place = request.url.path.partition("/resolve/")[0]
            location = f"{place}/resolve/{found.commit}/{quote(path)}" + (f"?{query}" if query else "")
            return RedirectResponse(location, 307, {"X-Repo-Commit": found.commit, "Cache-Control": "no-cache"})
        etag = file.sha256 if path.endswith(LARGE) else file.blob_id
        # whatever a commit holds it holds for ever
        headers = {"X-Repo-Commit": found.commit, "ETag": f'"{etag}"',
                   "Cache-Control": "public, max-age=31536000, immutable", **ALONE}
        if path.endswith(LARGE):
            headers |= {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(file.size)}
        if _is_known(request, etag):
            return Response(status_code=304, headers=headers)
        return Download(
            file, headers=headers, filename=path.rsplit("/", 1)[-1], content_disposition_type="inline")

    def routes(self) -> list[BaseRoute]:
        routes: list[BaseRoute] = []
        for kind, prefix in (("models", ""), ("datasets", "/datasets")):
            repository = f"/api/{kind}/{{org}}/{{name}}"
            routes += [
                Route(f"/api/{kind}", self.repositories),
                Route(repository, self.information),
                Route(repository + "/revision/{revision}", self.information),
                Route(repository + "/tree/{revision}", self.tree),
                Route(repository + "/tree/{revision}/{path:path}", self.tree),
                Route(repository + "/paths-info/{revision}", self.paths_info, methods=["POST"]),
                Route(repository + "/refs", self.refs),
                Route(prefix + "/{org}/{name}/resolve/{revision}/{path:path}", self.resolve),
            ]
        return routes


def read_routes(store: Store) -> list[BaseRoute]:
    """Starlette's routes for reading every repository of a store.

    The application has to turn :class:`NotFound` into an answer: ``exception_handlers={NotFound: not_found}``.
    """
    return _Reader(store).routes()
