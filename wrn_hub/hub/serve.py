"""A hub of one's own: a folder of staged models, served as the Hub serves its repositories."""
import uvicorn
from starlette.applications import Starlette

from .routes import not_found, read_routes
from .store import NotFound, Store

__all__ = ["application", "serve"]


def application(store: Store) -> Starlette:
    """The hub as an ASGI application."""
    return Starlette(routes=read_routes(store), exception_handlers={NotFound: not_found})


def serve(store: Store, host: str = "127.0.0.1", port: int = 8000) -> None:
    """Serve until Ctrl-C."""
    uvicorn.run(application(store), host=host, port=port, log_level="warning")
