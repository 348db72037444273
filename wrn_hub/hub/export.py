"""The hub as static files, for a web server that computes nothing: GitHub Pages, a static Space, a lab's own.

The same application and templates answer, here in this process, for every address that a page names; then each address
becomes the path of a file, and each link a relative one, so that the pages work below any address. The comparison of
models is left out, since there are as many pages of it as pairs, and so is what programs ask: ``HF_ENDPOINT`` needs the
server.
"""
import asyncio
import html
import json
import os
import re
import secrets
import shutil
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import httpx2

from ..errors import UserError
from ..files import write_whole
from ..version import __version__
from .serve import application
from .store import FolderStore
from .tryit import TryIt

__all__ = ["export"]

MARK = ".wrn-hub-export"  # in a folder that an export may take the place of
_LINK = re.compile(r"""(?<=\s)(href|src|action|data-[a-z]+)="(/[^"]*)\"""")
_POLICY = re.compile("; frame-ancestors [^;]*")  # of which a page cannot tell in itself
# what a static Space reads; elsewhere it is a file like others
_SPACE = """---
title: {title}
emoji: 🖼️
colorFrom: green
colorTo: gray
sdk: static
app_file: index.html
---
The models of {title} as static pages, made by `wrn-hub hub --export`. To look at them here: `python -m http.server`.
"""


def _file(address: str) -> str:
    """The path of the file that an address becomes."""
    path = unquote(urlsplit(address).path).strip("/")
    parts = path.split("/")
    text = path.startswith("-/folder/") and path.endswith(".md")
    is_page = text or (parts[0] != "-" and (len(parts) < 3 or parts[2] == "tree"))
    return f"{path}/index.html".lstrip("/") if is_page else path


class _Site:
    """Asks an application for one address after the other, and writes what it answers below a folder."""

    def __init__(self, client: httpx2.AsyncClient, folder: Path) -> None:
        self._client, self._folder = client, folder
        self._known: set[str] = set()
        self._left: list[str] = []
        self.bytes = 0
        self.missing: list[str] = []

    def _relative(self, address: str, page: str) -> str:
        """A link on a page, to an address from the server's root, as one from file to file."""
        asked = urlsplit(address)
        if asked.path not in self._known:
            self._known.add(asked.path)
            self._left.append(asked.path)
        start = os.path.dirname(_file(page)) or "."
        path = quote(os.path.relpath(_file(asked.path), start).replace(os.sep, "/"))
        return path + (f"?{asked.query}" if asked.query else "") + (f"#{asked.fragment}" if asked.fragment else "")

    def _page(self, text: str, address: str, policy: str) -> str:
        def relative(found: re.Match) -> str:
            return f'{found[1]}="{html.escape(self._relative(html.unescape(found[2]), address))}"'

        meta = f'<meta http-equiv="Content-Security-Policy" content="{html.escape(_POLICY.sub("", policy))}">'
        return _LINK.sub(relative, text).replace('<meta charset="utf-8">', f'<meta charset="utf-8">\n{meta}', 1)

    async def write(self, *addresses: str) -> None:
        """Write these and whatever they lead to.

        What a card names and isn't there is listed in ``missing``; the pages without which there is no site aren't let
        miss.

        Raises:
            UserError: one of ``addresses`` isn't answered.
        """
        self._left += addresses
        self._known |= set(addresses)
        while self._left:
            address = self._left.pop()
            answer = await self._client.get(address, follow_redirects=True)
            if answer.status_code != 200:
                told = f"{address}: {answer.status_code} {answer.headers.get('X-Error-Message', '')}".rstrip()
                if address in addresses:
                    raise UserError(f"the site can't be exported: {told}")
                self.missing.append(told)
                continue
            content = answer.content
            if answer.headers["Content-Type"].startswith("text/html") and _file(address).endswith("index.html"):
                policy = answer.headers["Content-Security-Policy"]
                content = self._page(answer.text, address, policy).encode()
            place = self._folder / _file(address)
            place.parent.mkdir(parents=True, exist_ok=True)
            write_whole(place, content)
            self.bytes += len(content)


async def _written(store: FolderStore, folder: Path) -> tuple[int, list[str]]:
    app = application(store, TryIt(store, by_server=False), exported=True)
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://export") as client:
        site = _Site(client, folder)
        await site.write("/", "/frontier", *(f"/{repo_id}" for repo_id in store.repositories()))
    write_whole(folder / "README.md", _SPACE.format(title=store.organisation))
    write_whole(folder / ".nojekyll", "")  # GitHub Pages leaves folders out without it
    write_whole(folder / MARK, json.dumps({"wrn_hub": __version__}) + "\n")
    return site.bytes, site.missing


def export(store: FolderStore, folder: str | Path) -> tuple[int, list[str]]:
    """Write the whole site, or nothing.

    Args:
        store: What is shown.
        folder: Where to; an earlier export there is replaced, once the new one is complete.

    Returns:
        Bytes of the files, and a line for each address that a page names and that isn't there.

    Raises:
        UserError: the folder holds something else, or lies in the store; a page can't be made.
        OSError: they can't be written; what stood there before stands there still.
    """
    place = Path(folder).resolve()
    if place.is_relative_to(store.root) or store.root.is_relative_to(place):
        raise UserError(f"--export {folder}: the models lie there; name a folder beside {store.root}")
    if place.exists() and not (place.is_dir() and (not any(place.iterdir()) or (place / MARK).is_file())):
        raise UserError(f"--export {folder} holds something else than an export and isn't replaced: name a new folder")
    if not place.parent.is_dir():
        raise UserError(f"--export {folder}: there is no folder {place.parent}; make it first")
    new, old = (place.with_name(f".{place.name}.{kind}.{secrets.token_hex(6)}") for kind in ("new", "old"))
    try:
        new.mkdir()
        written = asyncio.run(_written(store, new))
        if place.exists():
            place.rename(old)
        new.rename(place)
    finally:
        if old.exists() and not place.exists():
            old.rename(place)
        for left in (new, old):
            shutil.rmtree(left, ignore_errors=True)
    return written
