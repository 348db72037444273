"""A hub of one's own: a folder of staged models, served as the Hub serves its repositories."""
import asyncio
import logging
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..errors import UserError
from .pages import page_routes, problem_page
from .routes import error, not_found, read_routes
from .store import FolderStore, NotFound
from .tryit import TryIt

__all__ = ["application", "configuration", "serve"]

PATIENCE = 30.0  # seconds in which something has to move on a connection
MOST_CONNECTIONS = 200  # at a time; a process may usually hold 1,024 files and connections


def _problem(request: Request, problem: Exception) -> Response:
    """Programs are answered as the Hub answers them, people by a page."""
    for_programs = request.url.path.startswith("/api/") or "/resolve/" in request.url.path
    if isinstance(problem, NotFound):
        answer = not_found(request, problem)
        return answer if for_programs else problem_page(request, 404, str(problem))
    assert isinstance(problem, HTTPException)
    if for_programs:
        return error(problem.status_code, problem.detail)
    message = f"There is no page {request.url.path} here." if problem.status_code == 404 else problem.detail
    return problem_page(request, problem.status_code, message)


class _Compressed:
    """Pages, lists and what is beside them go gzipped to who takes that; the files of repositories as they are, so that
    a part of one is a part of its bytes."""

    def __init__(self, app: ASGIApp) -> None:
        self.app, self.compressing = app, GZipMiddleware(app, compresslevel=6)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        plain = scope["type"] != "http" or "/resolve/" in scope["path"] or scope["path"].startswith("/-/folder/")
        await (self.app if plain else self.compressing)(scope, receive, send)


def application(store: FolderStore, try_it: TryIt | None = None, exported: bool = False) -> Starlette:
    """The hub as an ASGI application.

    Args:
        store: What to serve.
        try_it: Lets its models be tried on pictures; None where that is not wanted.
        exported: Whether its pages are to be files, without what needs a server.
    """
    asked = try_it.routes() if try_it else []
    return Starlette(
        routes=[*read_routes(store), *asked, *page_routes(store, try_it, exported)],
        middleware=[Middleware(_Compressed)], exception_handlers={NotFound: _problem, HTTPException: _problem})


class _Connection(H11Protocol):
    """A connection that is ended when nothing has moved on it for a while.

    uvicorn itself waits without end for a request that doesn't come, or comes a byte at a time, and for a client that
    doesn't take its answer. What counts here is an answer that was completed, or bytes of one that were taken.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._done = 0
        if len(self.connections) > 2 * MOST_CONNECTIONS:  # beyond those that are told so
            transport.abort()
        else:
            self._look = self.loop.call_later(PATIENCE, self._look_again, self._state())

    def connection_lost(self, exc: Exception | None) -> None:
        if look := getattr(self, "_look", None):
            look.cancel()
        super().connection_lost(exc)

    def resume_writing(self) -> None:
        self._done += 1
        super().resume_writing()

    def on_response_complete(self) -> None:
        self._done += 1
        super().on_response_complete()

    def _state(self) -> tuple[int, int]:
        return self._done, self.transport.get_write_buffer_size()

    def _look_again(self, before: tuple[int, int]) -> None:
        now = self._state()
        # a whole request whose answer hasn't begun: it is we who are slow
        at_work = self.cycle is not None and not self.cycle.response_started and not self.cycle.more_body
        if now == before and not at_work:
            self.transport.abort()
        else:
            self._look = self.loop.call_later(PATIENCE, self._look_again, now)


def _is_our_fault(record: logging.LogRecord) -> bool:
    """Whether uvicorn's record belongs into the log: not that a client went, or the end cut off an answer."""
    problem = record.exc_info[1] if record.exc_info else None
    return not isinstance(problem, asyncio.CancelledError | ClientDisconnect)


def configuration(app: Any, **options: Any) -> uvicorn.Config:
    """How uvicorn serves an application here: no connection is held for nothing, and its log has what is our fault."""
    logging.getLogger("uvicorn.error").addFilter(_is_our_fault)
    return uvicorn.Config(
        app, http=_Connection, ws="none", log_level="warning", timeout_keep_alive=5, timeout_graceful_shutdown=3,
        limit_concurrency=MOST_CONNECTIONS, **options)


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65535:
        raise UserError(f"--port {port}: ports are 0 to 65535")
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except (socket.gaierror, UnicodeError):  # the latter of a..b, whose middle is empty
        raise UserError(f"--host {host}: no address of this machine; 127.0.0.1 is for it alone, 0.0.0.0 for its "
                        "whole network") from None
    except OSError as problem:
        raise UserError(
            f"cannot listen on port {port} of {host}: {problem.strerror}; name another with --port") from None


def _prepare(store: FolderStore, stop: threading.Event) -> None:
    """Hash every file, so that who opens the first page need not wait for it; from the end, since a page that is asked
    for meanwhile hashes from the beginning."""
    for repo_id in reversed(store.repositories()):
        if not stop.is_set():
            with suppress(NotFound):
                store.revision("models", repo_id)


def serve(
    store: FolderStore, host: str = "127.0.0.1", port: int = 8000, say: Callable[[str], None] = print,
    try_it: bool = True,
) -> None:
    """Serve until Ctrl-C.

    Args:
        store: What to serve.
        host: Address of this machine to listen on; "0.0.0.0" for all of them.
        port: 0 for any that is free.
        say: Told where the hub is, once it can be asked.
        try_it: Whether its models can be tried on pictures.

    Raises:
        UserError: the port is taken, or the address isn't this machine's.
    """
    listener = _listen(host, port)
    name = socket.gethostname() if host in ("0.0.0.0", "::") else host
    endpoint = f"http://{f'[{name}]' if ':' in name else name}:{listener.getsockname()[1]}"
    count = len(store.repositories())
    say(f"{count} {'model' if count == 1 else 'models'} of {store.root} to browse: {endpoint}")
    say(f"to load them, set HF_ENDPOINT={endpoint} for what loads from the Hub; Ctrl-C ends")
    stop = threading.Event()
    preparing = threading.Thread(target=_prepare, args=(store, stop))
    preparing.start()
    try:
        uvicorn.Server(configuration(application(store, TryIt(store) if try_it else None))).run(sockets=[listener])
    except KeyboardInterrupt:
        pass  # raised again by the server after it has ended in order
    finally:
        listener.close()
        stop.set()
        preparing.join()
