"""What is known of the datasets, and what can be a mean and a standard deviation."""
import pytest
import timm

from wrn_hub.errors import UserError
from wrn_hub.facts import DATASETS, DEFAULT_TAG, check_mean_std


@pytest.mark.parametrize("mean, std", [
    *((facts.mean, facts.std) for facts in DATASETS.values()),
    ((0, 0, 0), (1, 1, 1)), ([0.5] * 3, [0.5] * 3), (None, None), ((), ()), (None, (0.2, 0.2, 0.2)),
])
def test_a_mean_and_a_std_of_images(mean, std):
    check_mean_std(mean, std)


@pytest.mark.parametrize("mean, std, said", [
    ((125.3, 123.0, 113.9), (63.0, 62.1, 66.7), r"mean = \(125\.3, 123\.0, 113\.9\): .*from 0 to 1.*; divide by 255"),
    (None, (63.0, 62.1, 66.7), r"std = \(63\.0, .*above 0, up to 1.*; divide by 255"),
    ((0.5, 0.5, -0.1), None, r"mean = \(0\.5, 0\.5, -0\.1\): .*\(pixel / 255\)$"),
    (None, (0.2, 0.0, 0.2), r"std = .*above 0"),
    ((0.5,), None, "mean = .*three numbers"),
    ((0.5,) * 4, None, "mean = .*three numbers"),
    ((0.5, 0.5, float("nan")), None, "mean = "),
    (None, (0.2, 0.2, float("inf")), r"std = .*\(pixel / 255\)$"),
    ((1e9, 0, 0), None, r"\(pixel / 255\)$"),
])
def test_what_can_t_be_one(mean, std, said):
    with pytest.raises(UserError, match=said):
        check_mean_std(mean, std)


def test_every_net_has_a_tag_for_each_dataset_and_the_first_is_the_bare_name_s():
    import wrn_hub  # noqa: F401  # registers the nets

    assert DEFAULT_TAG == "cifar10"
    for tag in DATASETS:
        assert timm.get_pretrained_cfg(f"wrn_28_10.{tag}").num_classes == len(DATASETS[tag].classes)
    assert timm.get_pretrained_cfg("wrn_28_10").tag == DEFAULT_TAG
