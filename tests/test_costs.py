"""What is known of every variant without building it, held against the nets."""
import json

import pytest
import timm

from wrn_hub.cards import costs
from wrn_hub.cards.variants import variants
from wrn_hub.errors import UserError
from wrn_hub.facts import DATASETS


def test_what_is_kept_of_every_variant_is_what_its_net_counts():
    registered = [name for module in ("wide_resnet", "wide_resnet_in1k") for name in timm.list_models(module=module)]
    assert costs.variant_names() == registered
    assert {name: costs.counted(name) for name in registered} == costs.variant_costs(), (
        "python scripts/maintain/list_models.py --costs")


def test_the_weights_of_every_variant_are_those_that_timm_can_load():
    for variant in variants():
        cfgs = timm.models.get_arch_pretrained_cfgs(variant.name).values()
        assert set(variant.weights) == {cfg.tag for cfg in cfgs if cfg.has_weights and cfg.tag}
    resnet = costs.size_and_cost("wrn_50_2").timm
    assert resnet["tv_in1k"] == costs.TimmWeights("timm/wide_resnet50_2.tv_in1k", "bsd-3-clause")
    assert not set(DATASETS) & set(resnet)


def test_counts_that_are_damaged_are_named(tmp_path, monkeypatch):
    costs.variant_costs.cache_clear()
    monkeypatch.setattr(costs, "COSTS", tmp_path / "costs.json")
    (tmp_path / "costs.json").write_text(json.dumps({"wrn_16_2": {"size": "large"}}))
    with pytest.raises(UserError, match=r"costs.json, wrn_16_2: missing .*; restore the file"):
        costs.variant_costs()
