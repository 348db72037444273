"""The hub as static files: every link holds, nothing needs a server, and a folder is replaced whole or not at all."""
import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from conftest import NAME
from hub_server import make_model

from wrn_hub.cards.head import parse_head, split_head
from wrn_hub.commands.hub import main
from wrn_hub.errors import UserError
from wrn_hub.hub import export as exporting
from wrn_hub.hub.export import export
from wrn_hub.hub.store import FolderStore


class Page(HTMLParser):
    """What a page names: addresses, and places of its own."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.places: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        named = {"href", "src", "action", "data-net", "data-facts", "data-ort", "data-wasm", "data-sample"}
        self.links += [value for name, value in attributes if name in named]
        self.places |= {value for name, value in attributes if name == "id"}


def broken(site: Path) -> list[str]:
    """Links of all pages that lead nowhere, or out of the folder."""
    pages = {path: Page(path) for path in site.rglob("*.html")}
    found = []
    for path, page in pages.items():
        for link in page.links:
            address = urlsplit(link)
            if address.scheme:
                continue
            target = (path.parent / unquote(address.path)).resolve() if address.path else path
            there = target.is_file() and target.is_relative_to(site) and not link.startswith("/")
            place = unquote(address.fragment)
            if not there or (place and target in pages and place not in pages[target].places):
                found.append(f"{path.relative_to(site)}: {link}")
    return found


@pytest.fixture
def models(tmp_path) -> Path:
    """Two models that quickly become pages: a staged one without weights to speak of, and one without a card."""
    folder = tmp_path / "models"
    make_model(folder / "bare")
    make_model(folder / "carded")
    (folder / "carded" / "README.md").write_text(
        "---\ntags: [a b]\n---\n# A net\n\n## One part\n\n[back](#one-part) [gone](gone.txt) ![plot](a plot.png)\n\n"
        "![plot](a%20plot.png) [config](config.json) [files](../../tree/main)\n")
    shutil.copy(Path(__file__).parent.parent / "model_cards" / NAME / "curve.png", folder / "carded" / "a plot.png")
    return folder


def test_every_link_of_a_whole_site_holds(site):
    assert len(list(site.rglob("*.html"))) > 30  # every variant has a page
    assert broken(site) == []
    for page in ("index.html", "frontier/index.html", f"wrn-hub/{NAME}/index.html", "wrn-hub/pets/index.html",
                 f"wrn-hub/{NAME}/tree/main/index.html", "wrn-hub/wrn_28_10/index.html"):
        text = (site / page).read_text(encoding="utf-8")
        assert "environ[" not in text and "HF_ENDPOINT=" not in text, page  # nobody's server serves these repositories
        assert "/compare" not in text and "http://export" not in text, page
        assert "frame-ancestors" not in text and "default-src &#x27;none&#x27;" in text, page


def test_the_files_are_those_that_the_hub_serves(site, gallery):
    for name in ("config.json", "model.safetensors", "results.json"):
        (copy,) = (site / "wrn-hub" / NAME / "resolve").glob(f"*/{name}")
        assert copy.read_bytes() == (gallery / NAME / name).read_bytes()
    page = (site / "wrn-hub" / NAME / "index.html").read_text(encoding="utf-8")
    assert f'timm.create_model("local-dir:{NAME}", pretrained=True)' in page


def test_a_static_space_and_github_pages_take_it(site):
    head, _ = split_head((site / "README.md").read_text(encoding="utf-8"))
    assert parse_head(head)["sdk"] == "static" and (site / parse_head(head)["app_file"]).is_file()
    assert (site / ".nojekyll").is_file()


def test_what_a_card_names_and_is_not_there_is_told(models, tmp_path, monkeypatch, capsys):
    site = tmp_path / "site"
    monkeypatch.setattr("sys.argv", ["wrn-hub hub", str(models), "--org", "my-lab", "--export", str(site)])
    main()
    told = capsys.readouterr().out.splitlines()
    gone = [line for line in told if line.startswith("not there, though a page names it")]
    assert len(gone) == 1 and "gone.txt: 404" in gone[0]
    assert told[-1].startswith(f"{site}: ") and "python -m http.server" in told[-1]
    assert [line for line in broken(site) if "gone.txt" not in line] == []
    assert (site / "my-lab" / "carded" / "resolve").is_dir() and list(site.rglob("a plot.png"))


def test_an_export_is_replaced_and_nothing_else_is(models, tmp_path):
    store, site = FolderStore(models), tmp_path / "site"
    export(store, site)
    shutil.rmtree(models / "carded")
    export(store, site)
    assert (site / "wrn-hub" / "bare").is_dir() and not (site / "wrn-hub" / "carded").exists()
    (other := tmp_path / "photos").mkdir()
    (other / "cat.jpg").write_bytes(b"")
    with pytest.raises(UserError, match="holds something else than an export and isn't replaced"):
        export(store, other)
    with pytest.raises(UserError, match="the models lie there"):
        export(store, models / "site")
    with pytest.raises(UserError, match="there is no folder"):
        export(store, tmp_path / "a" / "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["models", "photos", "site"]


def test_a_disk_that_fills_up_leaves_what_stood_there(models, tmp_path, monkeypatch):
    store, site = FolderStore(models), tmp_path / "site"
    export(store, site)
    before = sorted(site.rglob("*"))
    written = []

    def full(path, content):
        written.append(path)
        if len(written) == 5:
            raise OSError(28, "No space left on device")
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    monkeypatch.setattr(exporting, "write_whole", full)
    with pytest.raises(OSError, match="No space left"):
        export(store, site)
    assert sorted(site.rglob("*")) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["models", "site"]
