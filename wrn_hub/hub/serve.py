"""A hub of one's own: a folder of staged models, served as the Hub serves its repositories."""
import socket
import threading
from collections.abc import Callable
from contextlib import suppress

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ..cards.variants import size_and_cost, variant_names
from ..errors import UserError
from .pages import page_routes, problem_page
from .routes import error, not_found, read_routes
from .store import FolderStore, NotFound

__all__ = ["application", "serve"]


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


def application(store: FolderStore) -> Starlette:
    """The hub as an ASGI application."""
    return Starlette(
        routes=[*read_routes(store), *page_routes(store)],
        exception_handlers={NotFound: _problem, HTTPException: _problem})


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
    """Hash every file and build every net, so that who opens the first page need not wait for it."""
    for repo_id in store.repositories():
        if not stop.is_set():
            with suppress(NotFound):
                store.revision("models", repo_id)
    for name in variant_names():
        if not stop.is_set():
            size_and_cost(name)


def serve(store: FolderStore, host: str = "127.0.0.1", port: int = 8000, say: Callable[[str], None] = print) -> None:
    """Serve until Ctrl-C.

    Args:
        store: What to serve.
        host: Address of this machine to listen on; "0.0.0.0" for all of them.
        port: 0 for any that is free.
        say: Told where the hub is, once it can be asked.

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
    config = uvicorn.Config(application(store), log_level="warning", timeout_graceful_shutdown=3)
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:
        pass  # raised again by the server after it has ended in order
    finally:
        listener.close()
        stop.set()
        preparing.join()
