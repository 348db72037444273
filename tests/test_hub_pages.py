"""The local hub's pages: what they say, what they leave out, and how they behave in a real browser."""
import json
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urljoin
from urllib.request import urlopen

import pytest
import timm
from hub_server import make_model, served

import wrn_hub
from wrn_hub.cards.head import parse_head, split_head
from wrn_hub.cards.reported import best_reported
from wrn_hub.cards.variants import speeds, variants
from wrn_hub.errors import UserError
from wrn_hub.hub.markdown import render, split_card
from wrn_hub.hub.rows import rows
from wrn_hub.hub.serve import application
from wrn_hub.hub.store import FolderStore
from wrn_hub.models.export import save_model

ROOT = Path(__file__).resolve().parent.parent
NAME = "wrn_16_2.cifar10"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A hub of everything that may lie in one: a staged model, one's own of a training, a card alone, a picture."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(ROOT / "model_cards" / NAME, folder / NAME)
    save_model(timm.create_model("wrn_10_2", num_classes=2), folder / "pets" / "model", classes=["cat", "<b>dog</b>"])
    (folder / "wrn_50_2").mkdir()
    (folder / "wrn_50_2" / "README.md").write_text("# wrn_50_2\n\nWeights of timm's. ![a curve](curve.png)\n")
    shutil.copy(folder / NAME / "curve.png", folder / "wrn_50_2")
    shutil.copy(folder / NAME / "curve.png", folder / "frontier.png")
    shutil.copy(folder / NAME / "curve.svg", folder / "frontier.svg")
    (folder / "README.md").write_text(
        "# Nets\n\nAll of them.\n\n[![Accuracy and cost of every net](frontier.png)](frontier.svg)\n\n## Studies\n\n"
        f"- [What width buys](studies/width/README.md)\n- [A card]({NAME}/README.md)\n")
    study = folder / "studies" / "width"
    study.mkdir(parents=True)
    shutil.copy(folder / NAME / "curve.png", study / "small.png")
    (study / "results.json").write_text('{"runs": []}')
    (study / "README.md").write_text(
        f"# What width buys\n\nLess error. ![Error](small.png)\n\n[All](../README.md), [numbers](results.json), [a "
        f"card](../../{NAME}/README.md)\n")
    (folder / "studies" / "README.md").write_text("# Studies\n\n[What width buys](width/README.md)\n")
    return folder


@pytest.fixture(scope="module")
def endpoint(folder):
    with served(application(FolderStore(folder))) as address:
        yield address


def page(address: str) -> str:
    with urlopen(address) as answer:
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        return answer.read().decode()


def test_tables_and_html_of_a_card_are_shown_and_its_pictures_found():
    shown = render(
        "| a | b |\n|---|---:|\n| 1 | 2 |\n\n![one](p.png) <img src='q.png'> [file](results.json) [up](#up)\n\n"
        "<details><summary>More</summary>\n\n`code`\n\n</details>\n\n[paper](https://arxiv.org/abs/1605.07146)",
        "/wrn-hub/net/resolve/main/").html
    assert '<th align="right" scope="col">b</th>' in shown and '<td align="right">2</td>' in shown
    for path in ("p.png", "q.png"):
        assert f'src="/wrn-hub/net/resolve/main/{path}"' in shown
    assert 'href="/wrn-hub/net/resolve/main/results.json"' in shown and 'href="#up"' in shown
    assert "<details><summary>More</summary>" in shown and "<code>code</code>" in shown
    assert 'href="https://arxiv.org/abs/1605.07146"' in shown


@pytest.mark.parametrize("harmful", [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "[a](javascript:alert(1))",
    "<a href='javascript:alert(1)'>a</a>", "<style>*{}</style>", "<iframe src=/></iframe>",
    "<p style='color:red'>a</p>",
    "![tracked](https://example.com/pixel.png)", "<img src=//example.com/pixel.png>", "<svg onload=alert(1)>",
    "![a](data:image/png;base64,AA)"])
def test_nothing_in_a_card_acts_or_is_fetched_from_elsewhere(harmful):
    """Every element and attribute that is left is looked at, as a browser would read it."""
    left = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attributes):
            left.append((tag, dict(attributes)))

    Reader().feed(render(f"before\n\n{harmful}\n\nafter", "/org/net/resolve/main/").html)
    assert left[0][0] == "p" and left[-1][0] == "p"
    for tag, attributes in left:
        assert tag not in ("script", "style", "iframe", "svg")
        assert set(attributes) <= {"src", "alt", "href", "rel"}
        assert attributes.get("src", "/org/net/").startswith("/org/net/")
        assert not attributes.get("href", "").startswith("javascript")


def test_headings_have_anchors_tables_can_be_scrolled_with_the_keys_and_footnotes_lead_somewhere():
    shown = render(
        "# Net\n\n## What others *report*\n\n| a |\n|---|\n| 1[^1] |\n\n### Main\n\n## What others report\n\n"
        "    code\n\n[^1]: of their own\n\n<h2 id='_main'>raw</h2>", "/")
    assert shown.sections == tuple((anchor, "What others report") for anchor in (
        "what-others-report", "what-others-report-1"))
    assert '<h2 id="what-others-report-1">' in shown.html and '<h3 id="main">' in shown.html
    assert 'role="region" aria-label="Table 1: What others report" tabindex="0"><table>' in shown.html
    assert '<a href="#_note-1" rel="noopener noreferrer">1</a>' in shown.html and '<sup id="_note-1">' in shown.html
    assert '<pre tabindex="0">' in shown.html and 'id="_main"' not in shown.html


def test_every_variant_has_a_page_that_leads_to_its_weights(endpoint):
    assert f'href="/wrn-hub/{NAME}"' in page(f"{endpoint}/wrn-hub/wrn_16_2")
    without = page(f"{endpoint}/wrn-hub/wrn_28_10")
    assert "36,479,194" in without and "train --model wrn_28_10" in without and "the paper, Table 5" in without
    theirs = page(f"{endpoint}/wrn-hub/wrn_101_2")
    assert "bsd-3-clause" in theirs and "https://huggingface.co/timm/wide_resnet101_2.tv_in1k" in theirs
    for name, leads in (("WRN-28-10", "wrn_28_10"), ("wide_resnet101_2", "wrn_101_2"), ("Pets", "pets")):
        with urlopen(f"{endpoint}/wrn-hub/{name}") as answer:
            assert answer.url == f"{endpoint}/wrn-hub/{leads}"
    for name, near in (("wrn_16_3", "wrn_16_2"), ("wrn_28_10.cifar100", "wrn_28_10"), ("wrn_16_2.cifar1", NAME)):
        with pytest.raises(HTTPError, match="404") as caught:
            urlopen(f"{endpoint}/wrn-hub/{name}")
        assert f'<a href="/wrn-hub/{near}">{near}</a>' in caught.value.read().decode()


def test_facts_are_links_and_the_box_says_how_the_model_is_used(endpoint):
    shown = page(f"{endpoint}/wrn-hub/{NAME}")
    for link in ("https://huggingface.co/datasets/uoft-cs/cifar10", "https://www.apache.org/licenses/LICENSE-2.0",
                 "https://arxiv.org/abs/1605.07146", "#measured", f"{wrn_hub.weights.REPOSITORY}/issues"):
        assert f'href="{link}"' in shown, link
    for use in (f"hf-hub:wrn-hub/{NAME}", f'pipeline("image-classification", model="wrn-hub/{NAME}")',
                f"hf download wrn-hub/{NAME}", "wrn_hub finetune", "wrn-hub export"):
        assert use in shown, use


def test_a_short_run_leads_to_the_others(tmp_path):
    card = Path(shutil.copytree(ROOT / "model_cards" / NAME, tmp_path / NAME)) / "README.md"
    card.write_text(card.read_text().replace("- wide-resnet\n", "- wide-resnet\n- short-run\n", 1))
    with served(application(FolderStore(tmp_path))) as address:
        assert 'href="/?q=short-run"' in page(f"{address}/wrn-hub/{NAME}")


def test_the_table_is_searched_without_a_script_too(endpoint):
    def visible(query: str) -> list[str]:
        rows = re.findall(r'<tr[^>]* data-terms="[^"]*" data-dataset="[^"]*"( hidden)?>\s*<th.*?>([^<]+)</a></th>',
                          page(f"{endpoint}/{query}"))
        assert len(rows) > 40
        return [name for hidden, name in rows if not hidden]

    assert visible("?q=28_10+cifar100") == ["wrn_28_10"] and set(visible("?q=WRN-16-2")) == {NAME, "wrn_16_2"}
    assert visible("?q=16-2&weights=here") == [NAME] and visible("?q=16-2&dataset=cifar100") == ["wrn_16_2"]
    assert visible("?q=xyzzy") == []
    assert 'Did you mean <a href="/wrn-hub/wrn_16_4">' in page(f"{endpoint}/?q=wrn_16_44")


def test_metadata_that_is_none_is_no_metadata():
    assert split_card("---\nlicense: mit\ndate: 2026-01-01\n---\ntext") == (
        {"license": "mit", "date": "2026-01-01"}, "text")
    assert split_card("---\n[1, {\n---\ntext") == ({}, "text")
    assert split_card("---\n- a\n---\ntext") == ({}, "text")
    assert split_card("text") == ({}, "text")


@pytest.mark.parametrize("head, says", [
    ("a: &a [x]\nb: *a", "the anchor or alias 'a'"),
    ("a: *b", "the anchor or alias 'b'"),
    ("a: " + "[" * 40 + "]" * 40, "32 levels"),
    ("- 1\n" * 10_001, "10,000 values"),
    ("a: " + "b" * 70_000, "has 70,003 characters, 65,536 are read at most"),
    ("a: !!python/name:os.system", "is not YAML"),
    ("a: [", "is not YAML"),
])
def test_the_head_of_a_card_is_read_within_limits(head, says):
    with pytest.raises(UserError, match=says) as error:
        parse_head(head)
    assert "\n" not in str(error.value)
    assert split_card(f"---\n{head}\n---\ntext") == ({}, "text")


@pytest.mark.parametrize("text, head, after", [
    ("---\na: 1\n---\ntext", "\na: 1", "text"), ("---\r\na: 1\r\n---\r\ntext", "\r\na: 1\r", "text"),
    ("\n --- \na: 1\n---", "\na: 1", ""), ("---\n---\ntext", "", "text"),
    ("---\na: 1\n--- b\ntext", None, None), ("--- a\n---\n", None, None), ("text\n---\na: 1\n---\n", None, None),
])
def test_where_the_head_of_a_card_ends(text, head, after):
    assert split_head(text) == (head, text if after is None else after)


def test_the_table_has_the_served_models_first_and_then_every_variant_on_every_dataset(folder):
    found, known = rows(FolderStore(folder)), {variant.name: variant for variant in variants()}
    assert [row.name for row in found if row.weights] == ["pets", NAME] == [row.name for row in found[:2]]
    own, staged = found[:2]
    results = json.loads((folder / NAME / "results.json").read_text())
    assert (staged.dataset, staged.top1) == ("cifar10", pytest.approx(results["top1"]))
    assert staged.parameters == known["wrn_16_2"].parameters and staged.gmacs == known["wrn_16_2"].gmacs
    assert staged.weights == wrn_hub.weights.MANIFEST[NAME]["bytes"] and staged.license == "apache-2.0"
    assert staged.reported == best_reported("wrn_16_2", "cifar10")
    assert staged.images_per_second == speeds().nets["wrn_16_2"].images_per_second
    assert own.dataset is None and own.top1 is None  # it is of somebody's own classes, not of CIFAR-10
    assert own.parameters == sum(p.numel() for p in timm.create_model("wrn_10_2", num_classes=2).parameters())
    others = {(row.name, row.dataset) for row in found[2:]}
    assert len(others) == len(found) - 2 and {name for name, _ in others} == set(known)
    assert ("wrn_16_2", "cifar100") in others and ("wrn_16_2", "cifar10") not in others
    (theirs,) = [row for row in found if row.name == "wrn_50_2"]
    assert theirs.href == "/wrn-hub/wrn_50_2" and theirs.dataset == "imagenet" and "tv_in1k" in theirs.elsewhere


def test_the_mark_of_a_short_run_is_the_cards(tmp_path):
    for name, tags in (("short", "[timm, short-run]"), ("long", "[timm]")):
        make_model(tmp_path / name)
        (tmp_path / name / "README.md").write_text(f"---\ntags: {tags}\n---\n")
    assert {row.name: row.short_run for row in rows(FolderStore(tmp_path))} == {"short": True, "long": False}


def test_a_labs_own_hub_has_its_own_title_and_no_rows_of_ours(tmp_path, folder):
    make_model(tmp_path / "cats")
    for store, title in ((FolderStore(tmp_path, "my-lab"), "Models of my-lab"),
                         (FolderStore(tmp_path), f"Models in {tmp_path.name}"),
                         (FolderStore(folder, "my-lab"), "Models of my-lab"),
                         (FolderStore(folder), "Wide Residual Networks")):
        with served(application(store)) as address:
            start = page(address)
            ours = title == "Wide Residual Networks"
            assert f"<h1>{title}</h1>" in start and ("wrn_70_16" in start) == ours
            if not ours:
                with pytest.raises(HTTPError, match="404"):
                    urlopen(f"{address}/{store.organisation}/wrn_70_16")


@pytest.mark.parametrize("splits, top1", [("test", 0.9), ("train", None), ("train test", 0.9)])
def test_the_table_has_accuracies_on_test_splits_alone(tmp_path, splits, top1):
    """A training's own card may have one on images held out of the training split."""
    (tmp_path / "net").mkdir()
    results = [
        {"dataset": {"name": "pets", "split": split}, "metrics": [{"type": "accuracy", "value": value}]}
        for split, value in (("train", 95), ("test", 90)) if split in splits]
    metadata = {"model-index": [{"name": "net", "results": results}]}
    for name, content in (("config.json", "{}"), ("model.safetensors", ""),
                          ("README.md", f"---\n{json.dumps(metadata)}\n---\n")):
        (tmp_path / "net" / name).write_text(content)
    row = rows(FolderStore(tmp_path))[0]
    assert (row.name, row.dataset, row.top1) == ("net", "pets", top1)


def test_a_repository_page_shows_the_card_and_the_facts(endpoint, folder):
    shown = page(f"{endpoint}/wrn-hub/{NAME}")
    metadata, _ = split_card((folder / NAME / "README.md").read_text())
    metric, *_ = metadata["model-index"][0]["results"][0]["metrics"]
    for fact in (f"{metric['value']:.4g} %", *metadata["tags"], *metadata["datasets"], metadata["license"],
                 wrn_hub.weights.MANIFEST[NAME]["sha256"],
                 FolderStore(folder).revision("models", f"wrn-hub/{NAME}").commit):
        assert fact in shown, fact
    commit = FolderStore(folder).revision("models", f"wrn-hub/{NAME}").commit
    assert f'<img src="/wrn-hub/{NAME}/resolve/{commit}/curve.png"' in shown  # no picture is asked for twice
    assert "model-index" not in shown and "<h1>" in shown


def test_a_model_without_a_card_has_a_page_of_its_config(endpoint):
    shown = page(f"{endpoint}/wrn-hub/pets")
    assert "wrn_10_2" in shown and "0 cat, 1 &lt;b&gt;dog&lt;/b&gt;" in shown
    assert "0.4914, 0.4822, 0.4465" in shown and "hf-hub:wrn-hub/pets" in shown


def test_a_card_without_a_model_is_a_page_and_no_repository(endpoint):
    shown = page(f"{endpoint}/wrn-hub/wrn_50_2")
    (picture,) = re.findall(r'<img src="(/-/folder[^"]+)"', shown)
    assert urlopen(endpoint + picture).read(4) == b"\x89PNG"
    with pytest.raises(HTTPError, match="404"):
        urlopen(f"{endpoint}/api/models/wrn-hub/wrn_50_2")


def test_the_list_of_files_has_their_sizes_sums_and_links(endpoint, folder):
    shown = page(f"{endpoint}/wrn-hub/{NAME}/tree/main")
    for path, file in FolderStore(folder).revision("models", f"wrn-hub/{NAME}").files.items():
        assert file.sha256 in shown and f'data-value="{file.size}"' in shown
        (href,) = re.findall(rf'href="(/wrn-hub/{NAME}/resolve/[0-9a-f]{{40}}/{re.escape(path)})"', shown)
        assert urlopen(endpoint + href).read() == file.content.read_bytes()


def test_pictures_beside_the_models_are_on_the_start_page(endpoint):
    shown = page(endpoint)
    assert shown.count('<a href="/-/folder/frontier.svg"><img src="/-/folder/frontier.png" '
                       'alt="Accuracy and cost of every net"></a>') == 1
    assert shown.count("frontier.svg") == 1  # the same as the other: one to be seen, one to be looked into


def test_studies_and_other_texts_are_pages_whose_links_lead_somewhere(endpoint):
    (study,) = re.findall(r'href="([^"]*)"[^>]*>What width buys</a>', page(endpoint))
    shown = page(endpoint + study)
    assert "<h1>What width buys</h1>" in shown and "<title>What width buys</title>" in shown
    links = dict(re.findall(r'<a href="([^"]*)"[^>]*>([^<]*)</a>', shown.partition("<article>")[2]))
    leads = {text: urlopen(urljoin(endpoint + study, link)) for link, text in links.items() if link.startswith("/")}
    assert json.load(leads["numbers"]) == {"runs": []} and leads["a card"].url == f"{endpoint}/wrn-hub/{NAME}"
    assert f'href="{study}"' in leads["All"].read().decode()
    assert urlopen(f"{endpoint}/-/folder/studies/width/small.png").headers["Content-Type"] == "image/png"


def test_an_empty_folder_says_what_belongs_into_it(tmp_path):
    with served(application(FolderStore(tmp_path))) as address:
        assert "No model is here yet" in page(address)


def test_unknown_addresses_are_answered_to_programs_and_to_people(endpoint):
    for path, kind in (("/api/agents", "application/json"), ("/api/models/a/b", "application/json"),
                       ("/a/b/resolve/main/c", "application/json"), ("/a/b", "text/html"), ("/a/b/c/d", "text/html"),
                       ("/-/folder/../../etc/passwd", "text/html"), ("/other-organisation", "text/html")):
        with pytest.raises(HTTPError) as caught:
            urlopen(endpoint + path)
        assert caught.value.code == 404 and caught.value.headers["Content-Type"].startswith(kind), path


def test_a_card_with_broken_metadata_or_a_broken_config_is_still_shown(tmp_path):
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "README.md").write_text("---\ntags: [\n---\n# My net\n")
    (tmp_path / "net" / "config.json").write_text("{")
    (tmp_path / "net" / "model.safetensors").write_text("cut off")
    (tmp_path / "net" / "results.json").write_text("[]")
    with served(application(FolderStore(tmp_path, "my-lab"))) as address:
        assert "<h1>My net</h1>" in page(f"{address}/my-lab/net")
        assert 'href="/my-lab/net"' in page(address)
        assert json.load(urlopen(f"{address}/api/models/my-lab/net"))["tags"] == []
        (tmp_path / "net" / "README.md").write_text("---\ntags: alone\nlicense:\nmodel-index: [1]\n---\n")
        assert "without a card" in page(f"{address}/my-lab/net")
        assert json.load(urlopen(f"{address}/api/models/my-lab/net"))["tags"] == ["alone"]


ODD = {
    "card-in-latin-1": (b"README.md", b"---\nlicense: mit\n---\n# caf\xe9"),
    "dates-as-keys": (b"README.md", b"---\n2026-01-01: a\n---\n# Odd"),
    "yaml-in-itself": (b"README.md", b"---\na: &a [*a]\n---\n# Odd"),
    "deep-yaml": (b"README.md", b"---\na: %b%b\n---\n# Odd" % (b"[" * 2000, b"]" * 2000)),
    "not-a-number": (b"README.md", b"---\na: .nan\n---\n# Odd"),
    "half-a-character": (b"README.md", b'---\na: "\\ud800"\n---\n# Odd'),
    "no-integer": (b"README.md", b"---\na: !!int ''\n---\n# Odd"),
    "no-date": (b"README.md", b"---\na: 2026-02-30\n---\n# Odd"),
    "too-accurate": (b"README.md", b"---\nmodel-index: [{results: [{dataset: {name: a}, metrics: [{type: accuracy, "
                                   b"value: %b}]}]}]\n---\n# Odd" % (b"9" * 400)),
    "name-in-latin-1": (b"caf\xe9.txt", b""),
    "odd-tag": (b"config.json", b'{"tag": []}'),
    "deep-config": (b"config.json", b"[" * 100_000),
    "yaml-bomb": (b"README.md", b"---\na: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
        b"%c: &%c [%b]\n" % (98 + i, 98 + i, b",".join([b"*%c" % (97 + i)] * 9)) for i in range(9)) + b"---\n# Odd"),
    "many-values": (b"README.md", b"---\na: [%b]\n---\n# Odd" % (b"1," * 20_000)),
    "endless-head": (b"README.md", b"---\n" + b"\n" * 60_000 + b"---\n# Odd"),
    "infinitely-accurate": (b"README.md", b"---\nmodel-index: [{results: [{dataset: {name: a}, metrics: [{type: "
                                          b"accuracy, value: 1.0e+999, name: [a]}]}]}]\n---\n# Odd"),
    "long-card": (b"README.md", b"# Odd\n" + b"[" * 3_000_000),
    "long-config": (b"config.json", b'{"a": "%b"}' % (b"a" * 2_000_000)),
    "other-types": (b"config.json", b'{"architecture": [1], "num_classes": {}, "label_names": 3, "pretrained_cfg": {'
                                    b'"input_size": [3, true, true], "mean": {"a": 1}, "interpolation": []}}'),
    "cfg-as-a-list": (b"config.json", b'{"pretrained_cfg": [1], "label_names": {"a": []}, "num_classes": true}'),
    "negative-size": (b"config.json", b'{"input_size": [3, -1, -1], "tag": {}, "mean": true}'),
    "long-header": (b"model.safetensors", (90 << 20).to_bytes(8, "little") + b" " * (90 << 20)),
    "half-a-label": (b"config.json", b'{"label_names": ["\\ud800"]}'),
}


def test_one_odd_file_leaves_the_hub_as_it_is(tmp_path):
    for name, (path, content) in ODD.items():
        (tmp_path / name).mkdir()
        for usual in ("config.json", "model.safetensors"):
            (tmp_path / name / usual).write_text("{}")
        (tmp_path / name / os.fsdecode(path)).write_bytes(content)
    with served(application(FolderStore(tmp_path))) as address:
        assert {model["id"] for model in json.load(urlopen(f"{address}/api/models"))} == {f"wrn-hub/{n}" for n in ODD}
        start = page(address)
        for name, (path, _) in ODD.items():
            assert f'href="/wrn-hub/{name}"' in start
            shown = page(f"{address}/wrn-hub/{name}")
            assert ("<h1>Odd</h1>" in shown or name == "card-in-latin-1") == (path == b"README.md"), name
            assert "config.json" in page(f"{address}/wrn-hub/{name}/tree/main")
            assert json.load(urlopen(f"{address}/api/models/wrn-hub/{name}"))["id"] == f"wrn-hub/{name}"
        assert "<h1>caf\ufffd</h1>" in page(f"{address}/wrn-hub/card-in-latin-1")
        assert json.load(urlopen(f"{address}/api/models/wrn-hub/card-in-latin-1"))["tags"] == ["license:mit"]


def test_a_model_that_goes_between_the_list_and_the_look_is_left_out(folder):
    class Late(FolderStore):
        def repositories(self, kind="models"):
            return ["wrn-hub/gone", *super().repositories(kind)]

    with served(application(Late(folder))) as address:
        assert "gone" not in page(address) and NAME in page(address)
        assert NAME in urlopen(f"{address}/api/models").read().decode()


@pytest.mark.parametrize("width", [1280, 390], ids=["desktop", "phone"])
def test_browsing_it(endpoint, browser, width):
    complaints, asked = [], []
    tab = browser.new_page(viewport={"width": width, "height": 800})
    tab.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda problem: complaints.append(str(problem)))
    tab.on("request", lambda request: asked.append(request.url))

    def shown() -> list[str]:
        return [cell.inner_text().strip() for cell in tab.locator("table.models tbody th").all() if cell.is_visible()]

    def loaded() -> list[bool]:
        return tab.locator("img").evaluate_all("all => all.map(one => one.complete && one.naturalWidth > 0)")

    tab.goto(endpoint, wait_until="networkidle")
    everything = shown()
    assert loaded() and all(loaded())

    tab.get_by_role("searchbox", name="Find").fill("WRN 16-2")
    assert set(shown()) == {NAME, "wrn_16_2"} and len(everything) > 40
    tab.get_by_label("only with weights here").check()
    assert shown() == [NAME] and tab.locator("output").inner_text() == f"1 of {len(everything)}"
    assert tab.url == f"{endpoint}/?q=WRN+16-2&weights=here"
    tab.reload(wait_until="networkidle")
    assert shown() == [NAME] and tab.get_by_role("searchbox").input_value() == "WRN 16-2"
    tab.get_by_label("only with weights here").uncheck()
    tab.locator(".chips").get_by_role("link", name="CIFAR-100").click()
    assert shown() == ["wrn_16_2"] and tab.url == f"{endpoint}/?q=WRN+16-2&dataset=cifar100"
    tab.get_by_role("searchbox").fill("xyzzy")
    assert shown() == [] and tab.get_by_text("Nothing found.").is_visible()
    tab.get_by_role("link", name="show all").click()
    tab.wait_for_load_state("networkidle")
    assert shown() == everything and tab.url == f"{endpoint}/" and tab.get_by_text("Nothing found.").is_hidden()

    parameters = tab.get_by_role("columnheader", name="Parameters")
    parameters.get_by_role("button").press("Enter")  # with the keys alone
    assert parameters.get_attribute("aria-sort") == "ascending" and shown()[0] == "wrn_16_1"
    parameters.get_by_role("button").click()
    assert parameters.get_attribute("aria-sort") == "descending" and shown()[0] == "wrn_70_16"
    tab.get_by_role("columnheader", name="Accuracy").get_by_role("button").click()
    assert parameters.get_attribute("aria-sort") == "none" and shown()[0] == NAME  # nothing measured comes last

    compare = tab.get_by_role("button", name="Compare")
    tab.get_by_label(f"Compare {NAME}").check()
    assert compare.is_disabled()
    tab.get_by_label("Compare pets").check()
    compare.click()
    tab.wait_for_load_state("networkidle")
    assert {*tab.url.partition("?")[2].split("&")} == {f"m={NAME}", "m=pets"} and "beside" in tab.inner_text("h1")
    tab.goto(endpoint, wait_until="networkidle")

    tab.get_by_role("link", name=NAME).click()
    tab.wait_for_load_state("networkidle")
    assert tab.url == f"{endpoint}/wrn-hub/{NAME}"
    drawn = {path.name for path in (ROOT / "model_cards" / NAME).glob("*.png")} - {"sample.png"}  # that is to be tried
    assert len(loaded()) == len(drawn) + 1 and all(loaded())  # and the hub's own sign
    tab.locator("article .code button").first.click()
    tab.locator("article .code button", has_text="Copied").wait_for()  # the clipboard answers when it has it
    for address in (f"/wrn-hub/{NAME}", f"/wrn-hub/{NAME}/tree/main", "/wrn-hub/pets", "/wrn-hub/wrn_50_2",
                    "/wrn-hub/wrn_28_10", f"/compare?m={NAME}&m=pets", "/?q=xyzzy", "/"):
        tab.goto(endpoint + address)
        assert tab.evaluate("document.documentElement.scrollWidth") == width, f"{address} is wider than the window"

    assert complaints == []
    assert asked and all(url.startswith(endpoint + "/") for url in asked)
