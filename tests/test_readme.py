"""What the READMEs say is true: their Python runs as written, their tables are current, their links lead somewhere."""
import json
import re
import runpy
from pathlib import Path

import pytest
import timm
import torch

from wrn_hub.benchmark.report import readme_section
from wrn_hub.cards.variants import markdown_table, variants, weights_table
from wrn_hub.kernels.winograd import computes
from wrn_hub.models.export import save_model
from wrn_hub.recipes import finetune_recipe

ROOT = Path(__file__).resolve().parent.parent
README, SCRIPTS = ROOT / "README.md", ROOT / "scripts" / "README.md"
STUDIES = ROOT / "model_cards" / "studies"
SNIPPETS = [snippet for file in (README, SCRIPTS) for snippet in
            re.findall(r"```python\n(.*?)```", file.read_text(), re.DOTALL)]


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda text: text.strip().splitlines()[-1][:40])
def test_every_snippet_runs(snippet, tmp_path, monkeypatch):
    if "winograd" in snippet and not computes(torch.float32):
        pytest.skip("no C++ compiler")
    monkeypatch.chdir(tmp_path)
    save_model(timm.create_model("wrn_10_2"), tmp_path / "runs" / "finetune" / "model")
    exec(snippet, {})


@pytest.mark.parametrize("file, table", [(SCRIPTS, lambda: markdown_table(variants())), (README, weights_table)])
def test_the_tables_are_up_to_date(file, table):
    assert table() in file.read_text(), f"run: python scripts/maintain/list_models.py {file}"


def test_what_finetune_reaches_is_what_was_measured_when_its_learning_rates_were_chosen():
    recipe, page = finetune_recipe(), README.read_text()
    assert f"After {recipe['options']['epochs']} epochs each, of 400 images held out" in page
    for start, row in (("pretrained", "fine-tuned from CIFAR-10"), ("scratch", "from scratch")):
        assert f"| {row} | {max(recipe[start]['tried'].values()):.2%}".replace("%", " %") in page


def anchors(page: str) -> set[str]:
    """Of its headings, as GitHub makes them."""
    text = re.sub(r"```.*?```", "", page, flags=re.DOTALL)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
            for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}


@pytest.mark.parametrize("file", ["README.md", "scripts/README.md", "CONTRIBUTING.md", "model_cards/README.md",
                                  "model_cards/benchmarks/README.md",
                                  *(str(page.relative_to(ROOT)) for page in sorted(STUDIES.rglob("README.md")))])
def test_every_link_leads_somewhere(file):
    page = ROOT / file
    links = re.findall(r"\]\((?!https?:)([^)\s]*)\)", page.read_text())
    for link in links:
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text()), link
    if page == README:
        assert {"scripts/README.md", "model_cards/README.md", "model_cards/benchmarks/README.md"} <= set(links)


def test_the_figures_of_speed_are_those_that_were_measured():
    folder = ROOT / "model_cards" / "benchmarks"
    section = f"<!-- speed -->\n{readme_section(folder)}<!-- /speed -->"
    readme = folder / "README.md"
    assert section in readme.read_text(), f"run: python scripts/benchmark.py --tables ONE.json --readme {readme}"


def test_the_figures_of_a_hub_of_many_models_are_those_that_were_measured():
    told = runpy.run_path(str(ROOT / "scripts" / "maintain" / "measure_hub.py"))["told"]
    measured = json.loads((ROOT / "model_cards" / "hub.json").read_text())
    readme = (ROOT / "model_cards" / "benchmarks" / "README.md").read_text()
    assert f"<!-- hub -->\n{told(measured)}<!-- /hub -->" in readme, f"run: {measured['command']}"
    assert measured["models"] == 200 and measured["memory"] < 120e6
