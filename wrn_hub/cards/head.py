"""The head of a model card: somebody's YAML between two lines of dashes, read within limits.

A few hundred bytes of YAML whose aliases refer to each other unfold into gigabytes. No card needs an alias.
"""
import re
from typing import Any

import yaml

from ..errors import UserError, first_line

__all__ = ["parse_head", "split_head"]

MOST_CHARACTERS, MOST_VALUES, DEEPEST = 1 << 16, 10_000, 32
_BEGIN = re.compile(r"\s*---[ \t]*(?=[\r\n])")
_END = re.compile(r"[\r\n]---[ \t]*(?:\r\n|[\r\n]|\Z)")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # PyYAML may come without libyaml


def split_head(text: str) -> tuple[str | None, str]:
    """The YAML at the beginning of a card, None where there is none, and the Markdown after it."""
    begin = _BEGIN.match(text)
    end = _END.search(text, begin.end()) if begin else None
    if not begin or not end:
        return None, text
    return text[begin.end():end.start()], text[end.end():]


def parse_head(head: str) -> Any:
    """The content of a card's head.

    Raises:
        UserError: it isn't YAML, or is longer, deeper or more intertwined than the head of any card.
    """
    if len(head) > MOST_CHARACTERS:
        raise UserError(f"the card's head has {len(head):,} characters, {MOST_CHARACTERS:,} are read at most")
    try:
        values = depth = 0
        for event in yaml.parse(head, Loader=_LOADER):  # one after the other: nothing is built yet
            if getattr(event, "anchor", None) is not None:  # aliases have one too
                raise UserError(f"the card's head has the anchor or alias {event.anchor!r}: write out what it means")
            values += isinstance(event, yaml.NodeEvent)
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if values > MOST_VALUES or depth > DEEPEST:
                raise UserError(f"the card's head has more than {MOST_VALUES:,} values or {DEEPEST} levels")
        return yaml.load(head, Loader=_LOADER)  # a safe loader in any case
    except UserError:
        raise
    except Exception as error:  # PyYAML raises nearly anything, an IndexError for one
        raise UserError(f"the card's head is not YAML ({first_line(error)})") from None
