"""Model cards for people and for machines: the YAML block as a dict, the Markdown as HTML that is safe to show."""
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count, pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import nh3
from markdown_it import MarkdownIt
from markdown_it.token import Token

from ..cards.head import parse_head, split_head

__all__ = ["Shown", "as_list", "beginning", "mapping", "read_card", "render", "split_card"]

MOST_BYTES = 1 << 16  # of a card; the longest here has a sixth, and some texts take the square of their length
_PARSER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def mapping(load: Callable[[str], Any], text: str) -> dict[str, Any]:
    """What ``load`` makes of somebody's text; nothing, where that is no mapping that JSON can carry."""
    try:
        found = load(text)
        # YAML has dates, and JSON, in which the Hub hands the metadata on, has neither them nor NaN
        plain = json.loads(json.dumps(found, default=str, allow_nan=False, ensure_ascii=False).encode())
    except Exception:  # a number too long for json, half a character, what is nested too deeply
        return {}
    return plain if isinstance(plain, dict) else {}


def beginning(path: Path, most: int) -> str:
    """The first ``most`` bytes of a file as text, as far as they are UTF-8."""
    with path.open("rb") as file:
        return file.read(most).decode("utf-8", "replace")


def split_card(text: str) -> tuple[dict[str, Any], str]:
    """The metadata of a card and the Markdown after it; a block that is no YAML mapping counts as no metadata."""
    head, markdown = split_head(text)
    return mapping(parse_head, head) if head is not None else {}, markdown


def read_card(path: Path | None) -> tuple[dict[str, Any], str]:
    """:func:`split_card` of a file; of none, or of one that went meanwhile, an empty card; of a long one its part."""
    try:
        return split_card(beginning(path, MOST_BYTES)) if path else ({}, "")
    except OSError:
        return {}, ""


def as_list(value: Any) -> list[str]:
    """Metadata that may be missing, one value or many."""
    return [str(item) for item in (value if isinstance(value, list) else [value]) if item is not None]


@dataclass(frozen=True)
class Shown:
    """A card as a page shows it.

    Attributes:
        html: Safe to show.
        sections: Its headings of the second level, each (anchor, text).
    """

    html: str
    sections: tuple[tuple[str, str], ...]


def _anchor(text: str, taken: set[str]) -> str:
    """A heading's anchor, as the Hub and GitHub name it; the pages' own ids begin with "_", none of these does."""
    slug = re.sub(r"[^\w\- ]", "", text.lower()).strip().replace(" ", "-").lstrip("_") or "section"
    same = (f"{slug}-{number}" if number else slug for number in count())
    anchor = next(name for name in same if name not in taken)
    taken.add(anchor)
    return anchor


def _headings(tokens: list[Token]) -> tuple[set[str], tuple[tuple[str, str], ...]]:
    """Give every heading below the first level its anchor."""
    anchors: set[str] = set()
    sections = []
    for token, inside in pairwise(tokens):
        if token.type == "heading_open" and token.tag != "h1":
            text = "".join(part.content for part in inside.children or [] if part.type in ("text", "code_inline"))
            token.attrs["id"] = _anchor(text, anchors)
            if token.tag == "h2":
                sections.append((str(token.attrs["id"]), text))
    return anchors, tuple(sections)


def _footnotes(tokens: list[Token]) -> set[str]:
    """Let ``[^1]`` lead to the line that begins with ``[^1]:``, as on the Hub; returns the anchors of such lines."""
    anchors = set()
    for token in tokens:
        children = []
        for part in token.children or []:
            pieces = re.split(r"\[\^(\w+)\](:?)", part.content) if part.type == "text" else [""]
            if len(pieces) == 1:
                children.append(part)
                continue
            for text, name, defines in zip(pieces[::3], [*pieces[1::3], ""], [*pieces[2::3], ""], strict=True):
                children.append(Token("text", "", 0, content=text))
                if defines:
                    anchors.add(f"_note-{name}")
                if name:
                    mark = f'<br><sup id="_note-{name}">{name}</sup>' if defines else (
                        f'<sup><a href="#_note-{name}">{name}</a></sup>')
                    children.append(Token("html_inline", "", 0, content=mark))
        token.children = children if token.children else token.children
    return anchors


def _scrollable(html: str) -> str:
    """Let what may be wider than the window be scrolled with the keys, under a name of its own."""
    heading, tables = "", 0

    def named(match: re.Match[str]) -> str:
        nonlocal heading, tables
        if match[2] is not None:  # of a heading, which holds no quotation marks but escaped ones
            heading = re.sub(r"<[^>]*>", "", match[2]).replace('"', "&quot;").strip()
            return match[0]
        tables += 1
        return f'<div class="scroll" role="region" aria-label="Table {tables}: {heading}" tabindex="0"><table>'

    html = re.sub(r"<table>|<(h[1-6])(?: [^>]*)?>(.*?)</h[1-6]>", named, html, flags=re.DOTALL)
    return html.replace("</table>", "</table></div>").replace("<pre>", '<pre tabindex="0">')


_ALLOWED = {tag: set(names) for tag, names in nh3.ALLOWED_ATTRIBUTES.items()} | {
    "table": set(), "sup": {"id"}, **{f"h{level}": {"id"} for level in range(2, 7)}}


def render(markdown: str, base: str) -> Shown:
    """Markdown, with tables and HTML within, as HTML without scripts, styles and whatever else could do something.

    Args:
        markdown: A card's text.
        base: Address that relative links and pictures start from, with a slash at its end. Pictures from elsewhere are
            left out, with their description in their place: nothing of a page is fetched from another server.
    """
    tokens = _PARSER.parse(markdown)
    anchors, sections = _headings(tokens)
    anchors |= _footnotes(tokens)
    for token in tokens:
        if align := str(token.attrs.pop("style", "")).removeprefix("text-align:"):
            token.attrs["align"] = align  # a style would be taken out below, and by the pages' security policy
        if token.type == "th_open":
            token.attrs["scope"] = "col"

    def resolved(tag: str, name: str, value: str) -> str | None:
        if name == "id":
            return value if value in anchors else None
        if (tag, name) not in (("img", "src"), ("a", "href")) or value.startswith("#"):
            return value
        address = urlsplit(value)
        if not address.scheme and not address.netloc:
            return urljoin(base, value)
        return value if tag == "a" else None

    html = nh3.clean(
        _PARSER.renderer.render(tokens, _PARSER.options, {}), attributes=_ALLOWED, attribute_filter=resolved)
    return Shown(_scrollable(html), sections)
