"""What the README says is true: its Python runs as written, its table is that of the models there are."""
import re
from pathlib import Path

import pytest
import timm
import torch

from wrn_hub.benchmark.report import readme_section
from wrn_hub.cards.variants import markdown_table, variants, weights_table
from wrn_hub.kernels.winograd import computes
from wrn_hub.models.export import save_model

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda text: text.strip().splitlines()[-1][:40])
def test_every_snippet_runs(snippet, tmp_path, monkeypatch):
    if "winograd" in snippet and not computes(torch.float32):
        pytest.skip("no C++ compiler")
    monkeypatch.chdir(tmp_path)
    save_model(timm.create_model("wrn_10_2"), tmp_path / "runs" / "finetune" / "model")
    exec(snippet, {})


@pytest.mark.parametrize("table", [lambda: markdown_table(variants()), weights_table])
def test_the_tables_are_up_to_date(table):
    assert table() in README, "run: python scripts/list_models.py README.md"


def test_the_figures_of_speed_are_those_that_were_measured():
    folder = ROOT / "model_cards" / "benchmarks"
    section = f"<!-- speed -->\n{readme_section(folder)}<!-- /speed -->"
    readme = folder / "README.md"
    assert section in readme.read_text(), f"run: python scripts/benchmark.py --tables ONE.json --readme {readme}"
