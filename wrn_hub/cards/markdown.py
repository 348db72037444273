"""Markdown: pages from the templates beside this file, and the one writer of tables."""
from collections.abc import Sequence
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from ..facts import ISSUES, ORGANISATION, REPOSITORY

__all__ = ["listed", "megabytes", "percent", "render", "table"]

MIB = 2**20


def percent(share: float | None) -> str:
    """A share from 0 to 1 in %, with two digits."""
    return "Not measured" if share is None else f"{100 * share:.2f} %"


def megabytes(count: int | None) -> str:
    """Bytes in MiB."""
    return "Not measured" if count is None else f"{count / MIB:,.0f} MiB"


def listed(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = (), padded: bool = False) -> str:
    """A Markdown table, without a line end after its last row.

    Args:
        header: Names of the columns.
        rows: Cells, which are Markdown; a stroke within one is escaped.
        right: Numbers of the columns that are flush right.
        padded: Whether the columns stand below each other on a screen too.
    """
    lines = [[cell.replace("|", r"\|").replace("\n", " ") for cell in row] for row in (header, *rows)]
    least = [4 if i in right else 3 for i in range(len(header))]  # of the rule below the header
    widths = [max(least[i], *(len(row[i]) for row in lines)) if padded else 0 for i in range(len(header))]
    rule = [("-" * max(width, least[i]))[i in right :] + ":" * (i in right) for i, width in enumerate(widths)]
    texts = [
        [cell.rjust(width) if i in right else cell.ljust(width)
         for i, (cell, width) in enumerate(zip(row, widths, strict=True))] for row in lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in (texts[0], rule, *texts[1:]))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("wrn_hub.cards"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True)
    environment.globals |= {"table": table, "repository": REPOSITORY, "issues": ISSUES, "organisation": ORGANISATION}
    environment.filters |= {
        "percent": percent, "count": "{:,}".format, "listed": listed, "flow": lambda text: " ".join(text.split())}
    return environment


def render(template: str, **values: Any) -> str:
    """A page from ``templates/<template>.md.jinja``; a value that the template wants and isn't given is an error."""
    return _environment().get_template(f"{template}.md.jinja").render(values)
