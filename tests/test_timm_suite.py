"""timm's own tests/test_models.py, unmodified, on every model of this package.

``python tests/fetch_timm_tests.py`` fetches it; WRN_HUB_ALL_MODELS=1 runs all of it on the large nets too.
"""
import importlib.util
import os

import pytest
import timm
from fetch_timm_tests import SUITE, VERSION
from timm import get_pretrained_cfg, list_models

import wrn_hub  # noqa: F401, registers the models

OURS = ["wide_resnet", "wide_resnet_in1k"]

# Variants differ by depth and width alone, so that one net of each kind of block and of each kind of shortcut takes
# every path through the code; the others take minutes of CPU time and gigabytes for the same paths. Nothing but SLOW
# is left out of the tests of the cfgs, every tag of every net: they are on the meta device, where weights cost nothing.
KINDS = [
    "wrn_10_2",       # one block a stage, all three with a projection
    "wrn_16_1",       # a first stage without projection
    "wrn_16_2",
    "preresnet_164",  # bottlenecks
    "wrn_18_1p5",     # for ImageNet, basic blocks
    "wrn_50_2",       # for ImageNet, bottlenecks
]
SLOW = ["preresnet_1001.cifar100", "preresnet_1001.svhn"]  # as long as all the rest; .cifar10 has the same layers


def our_models(filter="", module="", pretrained=False, include_tags=None, **kwargs):
    """timm.list_models over our models; ``module`` names those that have forward_intermediates: all of ours have."""
    names = list_models(filter, OURS, pretrained, include_tags=include_tags, **kwargs)
    if pretrained:  # of the weights, those that lie on this machine: no test downloads anything
        return [name for name in names if get_pretrained_cfg(name).file]
    if os.environ.get("WRN_HUB_ALL_MODELS"):
        return names
    return [name for name in names if (name not in SLOW if include_tags else name in KINDS)]


def our_pretrained(filter="", **kwargs):
    """timm.list_pretrained over our models."""
    return our_models(filter, pretrained=True, **kwargs)


def load_suite():
    """timm's file as a module, which asks for the names of the models while it is imported."""
    spec = importlib.util.spec_from_file_location("timm_test_models", SUITE)
    suite = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("GITHUB_ACTIONS", raising=False)  # there it leaves out what is too much for timm's largest nets
        patch.setattr(timm, "list_models", our_models)
        patch.setattr(timm, "list_pretrained", our_pretrained)
        spec.loader.exec_module(suite)
    return suite


def is_on_ours(name, test):
    """Whether it is a test that got names of ours to run on: many of timm's tests are of nets that they name."""
    marks = [mark for mark in getattr(test, "pytestmark", ()) if mark.name == "parametrize"]
    nets = [net for mark in marks if mark.args[0] == "model_name" for net in mark.args[1]]
    return name.startswith("test_") and any(timm.models.is_model_in_modules(net, OURS) for net in nets)


if SUITE.is_file():
    suite = load_suite()
    cfg_device = suite.cfg_device  # its one fixture
    globals().update({name: test for name, test in vars(suite).items() if is_on_ours(name, test)})

    @pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
    @pytest.mark.parametrize("model_name", ["wrn_16_1", "wrn_16_2"])
    @pytest.mark.parametrize("test, arguments", [
        ("test_reset_classifier_keeps_pool", ()),
        ("test_head_hidden_size", ({},)),
        ("test_model_init_weights_after_to_empty", ({},)),
        ("test_features_only_feature_cls_class", ()),
        ("test_features_only_grad_checkpointing_backward", ()),
        ("test_feature_getter_stage_ends_torchscript", ()),
        ("test_forward_intermediates_stop_early_final_norm", ({},)),
        ("test_model_features_output_stride", (2,)),
        ("test_prune_intermediate_layers_params_used", ()),
        ("test_prune_intermediate_layers_last_feature", (False,)),
        ("test_prune_to_stem_feature", ()),
    ])
    def test_what_timm_asks_of_nets_that_it_names(test, arguments, model_name):
        """Tests that hold for any convolutional net."""
        getattr(suite, test)(model_name, *arguments)
else:
    def test_timm_suite_is_here():
        pytest.fail(f"no tests of timm {VERSION} here: run python tests/fetch_timm_tests.py first", pytrace=False)
