"""The hub's pages for people: all variants in a table, a page for each model and each variant, lists of files."""
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.templating import Jinja2Templates

from ..cards.costs import variant_costs
from ..cards.reported import reported
from ..evaluation.intervals import EXACT_UP_TO
from ..facts import DATASETS
from ..version import __version__
from ..weights import REPOSITORY
from .frontier import AXES, MEASURES, chosen, drawn, measured, number
from .markdown import as_list, read_card, render
from .routes import ALONE, Download, card
from .rows import Row, is_ours, numbers, preprocessing, read_config, read_tensors, rows, side, speed_table, title
from .search import IMAGENET, matching, near, plain
from .store import CARD, ORGANISATION, WEIGHTS, File, FolderStore, NotFound
from .tryit import TryIt, allowed

__all__ = ["SECURITY", "TEMPLATES", "page_routes", "problem_page"]

# Nothing from elsewhere, so that the pages are whole behind a firewall and a card can do no harm.
POLICY = "Content-Security-Policy"
SECURITY = {
    POLICY: "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; "
            "base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_LICENSES = {
    "apache-2.0": "https://www.apache.org/licenses/LICENSE-2.0", "mit": "https://opensource.org/license/mit",
    "bsd-3-clause": "https://opensource.org/license/bsd-3-clause",
    "cc-by-4.0": "https://creativecommons.org/licenses/by/4.0/"}


def _bytes(size: int) -> str:
    """A size for people, in units of 1000 bytes."""
    if size < 1000:
        return f"{size} bytes"
    power = min(len(str(size)) - 1, 9) // 3
    return f"{size / 1000**power:.1f} {('kB', 'MB', 'GB')[power - 1]}"


def _rate(images: float) -> str:
    """Images a second, with two digits at least."""
    return f"{images:,.0f}" if images >= 10 else f"{images:.1f}"


def _templates() -> Jinja2Templates:
    environment = Environment(
        loader=PackageLoader("wrn_hub.hub"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True)
    filters: dict[str, Callable[..., str]] = {
        "bytes": _bytes, "count": "{:,}".format, "percent": lambda share: f"{100 * share:.2f} %", "rate": _rate,
        "title": title}
    environment.filters |= filters
    environment.globals |= {
        "repository_url": REPOSITORY, "version": __version__, "as_list": as_list, "licenses": _LICENSES}
    return Jinja2Templates(env=environment)


TEMPLATES = _templates()


def heading(store: FolderStore) -> str:
    """What the hub is called: by the organisation, or by the folder where nobody named one."""
    if is_ours(store):
        return "Wide Residual Networks"
    return f"Models of {store.organisation}" if store.organisation != ORGANISATION else f"Models in {store.root.name}"


def problem_page(request: Request, status: int, message: str, headers: dict[str, str] | None = None,
                 suggestions: tuple[tuple[str, str], ...] = ()) -> Response:
    """A page that says what isn't there, and with ``suggestions``, each (address, name), what is."""
    context = {"status": status, "message": message, "suggestions": suggestions}
    return TEMPLATES.TemplateResponse(request, "problem.html", context, status, {**SECURITY, **(headers or {})})


def _paper(metadata: dict[str, Any], text: str) -> str | None:
    """The arXiv number that a card's tags or its text name first."""
    for tag in as_list(metadata.get("tags")):
        if tag.startswith("arxiv:"):
            return tag.removeprefix("arxiv:")
    found = re.search(r"arxiv\.org/abs/(\d{4}\.\d{4,5})", text)
    return found[1] if found else None


def _facts(metadata: dict[str, Any], text: str) -> list[tuple[str, list[tuple[str, str | None]]]]:
    """What a card's metadata says, as (label, [(text, address or None)])."""
    hub, paper = "https://huggingface.co", _paper(metadata, text)

    def repositories(key: str, below: str) -> list[tuple[str, str | None]]:
        return [(name, f"{hub}{below}/{quote(name)}" if re.fullmatch(r"[\w.-]+/[\w.-]+", name) else None)
                for name in as_list(metadata.get(key))]

    facts: list[tuple[str, list[tuple[str, str | None]]]] = [
        ("Task", [(name, None) for name in as_list(metadata.get("pipeline_tag"))]),
        ("Library", [(name, None) for name in as_list(metadata.get("library_name"))]),
        ("Licence", [(name, _LICENSES.get(name)) for name in as_list(metadata.get("license"))]),
        ("Dataset", repositories("datasets", "/datasets")),
        ("Base model", repositories("base_model", "")),
        ("Paper", [(f"arXiv:{paper}", f"https://arxiv.org/abs/{paper}")] if paper else [])]
    return [(label, values) for label, values in facts if values]


class Pages:
    """The pages of one folder; plain functions, which Starlette runs in threads, since files are read."""

    def __init__(self, store: FolderStore, try_it: TryIt | None = None, exported: bool = False) -> None:
        self.store, self.try_it, self.exported = store, try_it, exported

    def shown(self, request: Request, template: str, status: int = 200, **context: Any) -> Response:
        """A page from a template, which is given what every page wants besides."""
        context |= {"organisation": self.store.organisation, "endpoint": str(request.base_url).rstrip("/"),
                    "heading": heading(self.store), "exported": self.exported}
        headers = SECURITY | {POLICY: allowed(SECURITY[POLICY], context.get("offer"))}
        return TEMPLATES.TemplateResponse(request, template, context, status, headers=headers)

    def names(self) -> dict[str, str]:
        """The address of every page of a model or a variant, by its name."""
        own = {repo_id.partition("/")[2]: f"/{repo_id}" for repo_id in self.store.repositories()}
        ours = variant_costs() if is_ours(self.store) else ()
        return {**{name: f"/{self.store.organisation}/{name}" for name in ours}, **own}

    def start(self, request: Request) -> Response:
        store, asked = self.store, request.query_params
        organisation = request.path_params.get("org", store.organisation)
        if organisation != store.organisation:
            raise NotFound("RepoNotFound", f"There is no organisation {organisation} here, only {store.organisation}.")
        extras, found = store.extras(), rows(store)
        query, dataset = asked.get("q", "").strip()[:200], asked.get("dataset", "")
        here = asked.get("weights") == "here"
        hits = matching(query, [row.terms for row in found])
        visible = [hit and dataset in ("", row.dataset) and (not here or row.weights is not None)
                   for hit, row in zip(hits, found, strict=True)]
        _, text = read_card(extras.get(CARD))
        captions = {path: caption for caption, path in re.findall(r"!\[([^\]]*)\]\(([^)\s]+)\)", text)}
        drawings = {path: f"{path[:-4]}.svg" for path in extras if f"{path[:-4]}.svg" in extras}  # the same, sharper
        pictures = [(path, captions.get(path, path), drawings.get(path, path)) for path in extras
                    if Path(path).suffix not in (".md", ".json") and "/" not in path
                    and not (path.endswith(".svg") and f"{path[:-4]}.png" in extras)]
        names = {row.name: row.href for row in found}
        return self.shown(
            request, "start.html", rows=list(zip(found, visible, strict=True)), pictures=pictures,
            folder=store.root.name, about=self._about(text), query=query, dataset=dataset, here=here,
            chips=_chips(found, query, here), speeds=speed_table(store),
            near=[(name, names[name]) for name in near(query, names)] if query and not any(visible) else [])

    def _about(self, text: str) -> dict[str, Any] | None:
        """The folder's own README.md without its title: what stands before its first section, and all the rest."""
        text = re.sub(r"\A\s*# .*\n", "", text)
        if not text.strip():
            return None
        text = re.sub(r"\]\(([\w.-]+)/README\.md\)", rf"](/{self.store.organisation}/\1)", text)
        # pictures, which may lead somewhere, stand above by themselves
        text = re.sub(r"^(\[?)!\[[^\]]*\]\([^)]*\)(?(1)\]\([^)]*\))\n", "", text, flags=re.MULTILINE)
        first, mark, rest = text.partition("\n## ")
        return {"first": render(first, "/-/folder/").html, "rest": render(mark + rest, "/-/folder/").html}

    def repository(self, request: Request) -> Response:
        store, name = self.store, request.path_params["name"]
        repo_id = f"{request.path_params['org']}/{name}"
        if repo_id not in store.repositories() and request.path_params["org"] == store.organisation:
            return self._variant(request, name)
        found = store.revision("models", repo_id)
        config, weights = read_config(found), found.file(WEIGHTS)
        metadata, text = card(found)
        arch = str(config.get("architecture", ""))
        tensors = read_tensors(weights)
        offer = self.try_it.shown(found, tensors.parameters if tensors else None) if self.try_it else None
        return self.shown(
            request, "repository.html", repo_id=repo_id, name=name, found=found, offer=offer,
            facts=_facts(metadata, text), tags=as_list(metadata.get("tags")), numbers=numbers(metadata),
            weights=weights, variant=None,
            card=render(text, f"/{repo_id}/resolve/{found.commit}/") if text.strip() else None,
            config=config, cfg=preprocessing(config), side=side(config), tensors=tensors,
            arch=arch if arch in variant_costs() and is_ours(store) else None)

    def _variant(self, request: Request, name: str) -> Response:
        """The page of an architecture: its weights here, those that timm has, and what others report of it."""
        names, extras = self.names(), self.store.extras()
        if name not in names and f"{name}/{CARD}" not in extras:
            same = [href for known, href in names.items() if plain(name) == plain(known)]
            same += [names[known] for known, cost in variant_costs().items() if known in names
                     and plain(name) in {plain(theirs.repository.partition("/")[2].partition(".")[0])
                                         for theirs in cost.timm.values()}]
            if same:
                return RedirectResponse(quote(same[0]), 307)
            arch = name.partition(".")[0]  # of weights that aren't here
            close = dict.fromkeys([*([arch] if arch in names else []), *near(name, names)])
            return problem_page(request, 404, f"There is no model {name} here.", suggestions=tuple(
                (names[known], known) for known in close))
        metadata, text = read_card(extras.get(f"{name}/{CARD}"))
        facts = _facts(metadata, text)
        if name in variant_costs():  # each of the weights has its own, which stands beside it
            facts = [(label, values) for label, values in facts if label != "Licence"]
        speeds = speed_table(self.store)
        own = [row for row in rows(self.store) if row.arch == name and row.weights is not None]
        others = [(key, entry) for key in (*DATASETS, IMAGENET) for entry in reported(name, key)]
        return self.shown(
            request, "repository.html", repo_id=f"{self.store.organisation}/{name}", name=name, found=None, offer=None,
            facts=facts, tags=as_list(metadata.get("tags")), numbers=numbers(metadata),
            card=render(text, f"/-/folder/{name}/") if text.strip() else None, arch=None,
            variant=variant_costs().get(name), own=own, others=others,
            speed=speeds if speeds and name in speeds.nets else None)

    def frontier(self, request: Request) -> Response:
        points = measured(self.store, rows(self.store))
        choice = chosen(points, request.query_params)
        return self.shown(request, "frontier.html", points=points, choice=choice, plot=drawn(points, choice),
                          axes=AXES, measures=MEASURES, number=number, speeds=speed_table(self.store))

    def files(self, request: Request) -> Response:
        asked = request.path_params
        found = self.store.revision("models", f"{asked['org']}/{asked['name']}", asked["revision"])
        return self.shown(request, "files.html", repo_id=found.repo_id, name=asked["name"], found=found)

    def compare(self, request: Request) -> Response:
        asked = [name.rpartition("/")[2] for name in request.query_params.getlist("m") if name]
        from .compare import compare  # with numpy, which nothing else here needs

        found = compare(self.store, list(dict.fromkeys(asked)))
        names = self.names()
        return self.shown(
            request, "compare.html", found=found, chosen=[side.row.name for side in found.sides],
            exact_up_to=EXACT_UP_TO,
            unknown=[(name, [(names[known], known) for known in near(name, names, 3)]) for name in found.unknown],
            choices=[row for row in rows(self.store) if row.weights is not None])

    def extra(self, request: Request) -> Response:
        """A file that belongs to no repository; a text as a page, so that links from one to the next lead somewhere."""
        path, names = request.path_params["path"], self.names()
        folder, _, file = path.rpartition("/")
        if file == CARD and folder in names:
            return RedirectResponse(quote(names[folder]), 307)
        try:
            place = self.store.extras()[path]
            if not path.endswith(".md"):
                return Download(File.read(place), headers=ALONE)
        except (KeyError, OSError):
            raise NotFound("EntryNotFound", f"There is no {path} here.") from None
        _, text = read_card(place)
        found = re.search(r"^# (.+)$", text, re.MULTILINE)
        return self.shown(request, "text.html", title=found[1] if found else path,
                          text=render(text, f"/-/folder/{folder}/" if folder else "/-/folder/").html)


def _chips(found: list[Row], query: str, here: bool) -> list[tuple[str, str, str, int]]:
    """Datasets to choose from: (key, title, address, models), after one for all of them."""
    counts: dict[str, int] = {}
    for row in found:
        if row.dataset:
            counts[row.dataset] = counts.get(row.dataset, 0) + 1
    kept = {**({"q": query} if query else {}), **({"weights": "here"} if here else {})}

    def address(**more: str) -> str:
        return "/" + (f"?{urlencode({**kept, **more})}" if kept or more else "")

    return [("", "All", address(), len(found)),
            *((key, title(key), address(dataset=key), count) for key, count in counts.items())]


def page_routes(store: FolderStore, try_it: TryIt | None = None, exported: bool = False) -> list[BaseRoute]:
    """Starlette's routes of the pages; they come after those of the Hub.

    Args:
        store: Whose models are shown.
        try_it: Lets them be tried.
        exported: Leave out what needs a server.
    """
    pages = Pages(store, try_it, exported)
    return [
        Mount("/-/static", StaticFiles(packages=[("wrn_hub.hub", "static")])),
        Route("/-/folder/{path:path}", pages.extra),
        Route("/", pages.start),
        Route("/compare", pages.compare),
        Route("/frontier", pages.frontier),
        Route("/{org}", pages.start),
        Route("/{org}/{name}", pages.repository),
        Route("/{org}/{name}/tree/{revision}", pages.files),
    ]
