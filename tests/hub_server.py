"""Hubs on loopback for tests: a real server, in a thread, asked by the real clients over real HTTP.

``served`` serves any application. ``WritableHub`` is one that the clients also write to, with accounts and a history,
and that goes wrong as it is told to: ``hub.faults.append(Fault("PUT /lfs/", status=503))``. ``make_model`` makes what a
hub of a folder takes for a model.
"""
import asyncio
import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from wrn_hub.hub.routes import LARGE, error, not_found, read_routes
from wrn_hub.hub.store import File, NotFound, Revision

TOKEN = "hf_thisIsTheSecretOfTheseTests"
ACCOUNT = {"name": "ada", "orgs": [{"name": "wrn-hub", "roleInOrg": "write"}, {"name": "readers", "roleInOrg": "read"}],
           "auth": {"accessToken": {"role": "write"}}}


PLAIN = partial(uvicorn.Config, log_level="warning")


@contextmanager
def served(app, configuration=PLAIN) -> Iterator[str]:
    """Serve an ASGI application on a free port; yields its address."""
    server = uvicorn.Server(configuration(app, host="127.0.0.1", port=0))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def make_model(folder: Path, weights: bytes = b"{}") -> Path:
    """What a hub takes for a model."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(weights)
    return folder


@dataclass
class Repository:
    commits: dict[str, dict[str, File]]
    branches: dict[str, str]
    tags: dict[str, str] = field(default_factory=dict)


class History:
    """A store of repositories that change by commits, and of which every commit can be read ever after."""

    def __init__(self, root: Path) -> None:
        self.root = root  # contents, each under its sha256
        self.all: dict[tuple[str, str], Repository] = {}

    def keep(self, content: bytes) -> File:
        path = self.root / hashlib.sha256(content).hexdigest()
        if not path.exists():
            path.write_bytes(content)
        return File.read(path)

    def repository(self, kind: str, repo_id: str) -> Repository:
        try:
            return self.all[kind, repo_id]
        except KeyError:
            raise NotFound("RepoNotFound", f"there is no {repo_id}") from None

    def create(self, kind: str, repo_id: str) -> None:
        self.all[kind, repo_id] = Repository({}, {})  # the Hub's first commit is of this file
        self.commit(kind, repo_id, "main", {".gitattributes": self.keep(b"*.safetensors filter=lfs\n")})

    def commit(self, kind: str, repo_id: str, branch: str, files: dict[str, File]) -> str:
        repository = self.repository(kind, repo_id)
        listing = f"{len(repository.commits)} {repo_id} " + json.dumps({k: f.sha256 for k, f in files.items()})
        commit = hashlib.sha1(listing.encode()).hexdigest()
        repository.commits[commit] = dict(sorted(files.items()))
        repository.branches[branch] = commit
        return commit

    # What the read routes ask of a store

    def repositories(self, kind: str) -> list[str]:
        return sorted(repo_id for of_kind, repo_id in self.all if of_kind == kind)

    def revision(self, kind: str, repo_id: str, revision: str = "main") -> Revision:
        repository = self.repository(kind, repo_id)
        commit = {**repository.tags, **repository.branches}.get(revision, revision)
        if commit not in repository.commits:
            raise NotFound("RevisionNotFound", f"{repo_id} has no revision {revision}")
        return Revision(repo_id, commit, repository.commits[commit], repository.branches, repository.tags)


@dataclass
class Fault:
    """What goes wrong with requests whose "METHOD /path" matches: with the first ``times`` after ``after`` of them.

    ``status`` answers so instead. ``kind`` is "drop" (no answer, nothing done), "lose" (done, and no answer),
    "truncate" (half the body, then the connection breaks), "garble" (other bytes, as many), "slow" or "redirect".
    ``before`` is called first: something happens in between.
    """

    pattern: str
    status: int | None = None
    kind: str = ""
    times: int = 1
    after: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    before: Any = None
    seen: int = 0

    def strikes(self, request: str) -> bool:
        if not re.match(self.pattern, request):
            return False
        self.seen += 1
        return self.after < self.seen <= self.after + self.times


class WritableHub:
    """The Hub as its clients see it, for the accounts of ``tokens``: token -> what ``whoami`` says of it.

    Attributes:
        store: The repositories.
        requests: Every request so far, as "METHOD /path".
        faults: What is to go wrong.
        endpoint: Its address, once it is served.
        slept: Seconds that the clients in this process would have waited before they tried again.
    """

    def __init__(self, root: Path, tokens: dict[str, dict[str, Any]]) -> None:
        self.store, self.tokens = History(root), tokens
        self.requests: list[str] = []
        self.faults: list[Fault] = []
        self.endpoint = ""
        self.slept: list[float] = []
        self.collections: dict[str, dict[str, Any]] = {}
        self.app = Starlette(
            routes=[*self._routes(), *read_routes(self.store)], exception_handlers={NotFound: not_found})

    @property
    def writes(self) -> list[str]:
        return [request for request in self.requests if not request.startswith(("GET", "HEAD"))]

    # The faults

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = f"{scope['method']} {scope['path']}"
        self.requests.append(request)
        fault = next((fault for fault in self.faults if fault.strikes(request)), None)
        if fault and fault.before:
            fault.before()
        if fault is None or not (fault.kind or fault.status):
            await self.app(scope, receive, send)
        elif fault.status:
            await error(fault.status, "as the test wants it", **fault.headers)(scope, receive, send)
        elif fault.kind == "redirect":
            await RedirectResponse(f"{scope['path']}?{scope['query_string'].decode()}", 307)(scope, receive, send)
        elif fault.kind == "drop":
            send.__self__.transport.abort()
        else:
            await self._answer_badly(fault.kind, scope, receive, send)

    async def _answer_badly(self, kind: str, scope, receive, send) -> None:
        transport = send.__self__.transport
        if kind == "slow":
            await asyncio.sleep(0.5)

        async def bad(message) -> None:
            if kind == "lose":
                return
            if message["type"] == "http.response.body" and kind == "garble":
                message = {**message, "body": bytes(byte ^ 1 for byte in message.get("body", b""))}
            if message["type"] == "http.response.body" and kind == "truncate":
                body = message.get("body", b"")
                await send({**message, "body": body[: len(body) // 2], "more_body": True})
                transport.close()
                return
            await send(message)

        await self.app(scope, receive, bad)
        if kind == "lose":
            transport.abort()

    # The routes that write

    def _routes(self) -> list[Route]:
        routes = [
            Route("/api/whoami-v2", self._may(lambda request, account: JSONResponse({"type": "user", **account}))),
            Route("/api/validate-yaml", self._validate, methods=["POST"]),
            Route("/api/repos/create", self._may(self._create), methods=["POST"]),
            Route("/api/repos/delete", self._may(self._delete), methods=["DELETE"]),
            Route("/lfs/{oid}", self._receive, methods=["PUT"]),
            Route("/lfs/verify", self._verify, methods=["POST"]),
            Route("/api/collections", self._list_collections, methods=["GET"]),
            Route("/api/collections", self._may(self._create_collection), methods=["POST"]),
            Route("/api/collections/{org}/{name}", self._read_collection),
            Route("/api/collections/{org}/{name}/items", self._may(self._add_item), methods=["POST"]),
        ]
        for kind, prefix in (("models", ""), ("datasets", "/datasets")):
            repository = f"/api/{kind}/{{org}}/{{name}}"
            routes += [
                Route(repository + "/preupload/{revision}", self._may(self._preupload), methods=["POST"]),
                Route(repository + "/commit/{revision}", self._may(self._commit), methods=["POST"]),
                Route(repository + "/tag/{revision}", self._may(self._tag), methods=["POST", "DELETE"]),
                Route(repository + "/branch/{revision}", self._may(self._branch), methods=["POST", "DELETE"]),
                Route(prefix + "/{org}/{name}.git/info/lfs/objects/batch", self._may(self._batch), methods=["POST"]),
            ]
        return routes

    def _may(self, route):
        """``route``, for those who may write to the organisation in the path."""

        async def checked(request: Request) -> Response:
            account = self.tokens.get(request.headers.get("authorization", "").removeprefix("Bearer "))
            if account is None:
                return error(401, "Invalid credentials in Authorization header")
            body = await request.body()
            request.state.body = json.loads(body) if body[:1] == b"{" and b"\n{" not in body else body
            organisation = request.path_params.get("org", account["name"])
            if not self._member(account, organisation):
                return error(403, f"you may not write to {organisation}")
            return route(request, account)

        return checked

    @staticmethod
    def _member(account: dict[str, Any], organisation: str) -> bool:
        return organisation in (account["name"], *(org["name"] for org in account["orgs"]))

    @staticmethod
    def _named(request: Request) -> tuple[str, str]:
        asked, path = request.path_params, request.url.path
        return ("datasets" if path.startswith(("/api/datasets", "/datasets/")) else "models",
                f"{asked['org']}/{asked['name']}")

    def _asked(self, request: Request, account: dict[str, Any]) -> tuple[str, str] | Response:
        body = request.state.body
        organisation = body.get("organization") or account["name"]
        if not self._member(account, organisation):
            return error(403, f"you may not write to {organisation}")
        return f"{body.get('type') or 'model'}s", f"{organisation}/{body['name']}"

    def _create(self, request: Request, account: dict[str, Any]) -> Response:
        named = self._asked(request, account)
        if isinstance(named, Response):
            return named
        url = str(request.url.replace(path="/" + named[1] if named[0] == "models" else f"/datasets/{named[1]}"))
        if named in self.store.all:
            return JSONResponse({"error": "You already created this repo", "url": url}, 409)
        self.store.create(*named)
        return JSONResponse({"url": url})

    def _delete(self, request: Request, account: dict[str, Any]) -> Response:
        named = self._asked(request, account)
        if isinstance(named, Response):
            return named
        self.store.repository(*named)
        del self.store.all[named]
        return Response()

    async def _validate(self, request: Request) -> Response:
        content = (await request.json())["content"]
        errors = [] if content.startswith("---\n") else [{"message": "no metadata"}]
        return JSONResponse({"errors": errors, "warnings": []}, 400 if errors else 200)

    def _preupload(self, request: Request, _: dict[str, Any]) -> Response:
        self.store.revision(*self._named(request), request.path_params["revision"])
        return JSONResponse({"files": [
            {"path": file["path"], "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
             "shouldIgnore": False} for file in request.state.body["files"]]})

    def _batch(self, request: Request, _: dict[str, Any]) -> Response:
        base, objects = str(request.base_url), []
        for entry in request.state.body["objects"]:
            known = (self.store.root / entry["oid"]).exists()
            actions = {"upload": {"href": f"{base}lfs/{entry['oid']}"}, "verify": {"href": f"{base}lfs/verify"}}
            objects.append({**entry, **({} if known else {"actions": actions})})
        return JSONResponse({"transfer": "basic", "objects": objects})

    async def _receive(self, request: Request) -> Response:
        content = await request.body()
        if hashlib.sha256(content).hexdigest() != request.path_params["oid"]:
            return error(400, "the content is not of this name")
        self.store.keep(content)
        return Response()

    async def _verify(self, request: Request) -> Response:
        return Response(status_code=200 if (self.store.root / (await request.json())["oid"]).exists() else 404)

    def _commit(self, request: Request, _: dict[str, Any]) -> Response:
        kind, repo_id = self._named(request)
        now = self.store.revision(kind, repo_id, request.path_params["revision"])
        body = request.state.body
        lines = [json.loads(line) for line in body.splitlines()] if isinstance(body, bytes) else [body]
        files = dict(now.files)
        for key, value in ((line["key"], line["value"]) for line in lines):
            if key == "header" and value.get("parentCommit", now.commit) != now.commit:
                return error(412, "A commit has happened since. Please refresh and try again.")
            if key == "file":
                files[value["path"]] = self.store.keep(base64.b64decode(value["content"]))
            elif key == "lfsFile":
                files[value["path"]] = File.read(self.store.root / value["oid"])
            elif key == "deletedFile":
                del files[value["path"]]
            elif key == "deletedFolder":
                files = {path: file for path, file in files.items() if not path.startswith(value["path"])}
        commit = self.store.commit(kind, repo_id, request.path_params["revision"], files)
        return JSONResponse({"commitOid": commit, "commitUrl": f"{request.base_url}{repo_id}/commit/{commit}"})

    def _tag(self, request: Request, _: dict[str, Any]) -> Response:
        repository, revision = self.store.repository(*self._named(request)), request.path_params["revision"]
        if request.method == "DELETE":
            return Response() if repository.tags.pop(revision, None) else error(404, "no such tag", "RevisionNotFound")
        name = request.state.body["tag"]
        if name in repository.tags:
            return error(409, "Tag reference exists already")
        repository.tags[name] = self.store.revision(*self._named(request), revision).commit
        return Response()

    def _branch(self, request: Request, _: dict[str, Any]) -> Response:
        repository, name = self.store.repository(*self._named(request)), request.path_params["revision"]
        if request.method == "DELETE":
            return Response() if repository.branches.pop(name, None) else error(404, "no branch", "RevisionNotFound")
        if name in repository.branches:
            return error(409, "Branch reference exists already")
        start = (request.state.body or {}).get("startingPoint", "main")
        repository.branches[name] = self.store.revision(*self._named(request), start).commit
        return Response()

    # Collections

    def _list_collections(self, request: Request) -> Response:
        owner = request.query_params.get("owner")
        return JSONResponse([  # as the Hub does it: no more than four items each, and no position
            {**{key: found[key] for key in found if key != "position"}, "items": found["items"][:4]}
            for found in self.collections.values() if owner in (None, found["owner"]["name"])])

    def _read_collection(self, request: Request) -> Response:
        found = self.collections.get(f"{request.path_params['org']}/{request.path_params['name']}")
        return JSONResponse(found) if found else error(404, "no such collection")

    def _create_collection(self, request: Request, account: dict[str, Any]) -> Response:
        body = request.state.body
        if not self._member(account, body["namespace"]):
            return error(403, f"you may not write to {body['namespace']}")
        slug = f"{body['namespace']}/{body['title'].lower().replace(' ', '-')}-{len(self.collections):024x}"
        self.collections[slug] = {
            "slug": slug, "title": body["title"], "owner": {"name": body["namespace"]}, "items": [], "position": 0,
            "lastUpdated": "2026-01-01T00:00:00.000Z", "private": False, "theme": "blue", "upvotes": 0}
        return JSONResponse(self.collections[slug])

    def _add_item(self, request: Request, _: dict[str, Any]) -> Response:
        found = self.collections[f"{request.path_params['org']}/{request.path_params['name']}"]
        item = request.state.body["item"]
        if any(item["id"] == known["id"] for known in found["items"]):
            return error(409, "it is in the collection already")
        found["items"].append({"_id": f"{len(found['items']):024x}", "position": len(found["items"]), **item})
        return JSONResponse(found)


if __name__ == "__main__":
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder, served(WritableHub(Path(folder), {TOKEN: ACCOUNT})) as address:
        print(f"a Hub that forgets everything on Ctrl-C:\nexport HF_ENDPOINT={address} HF_TOKEN={TOKEN}", flush=True)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()
