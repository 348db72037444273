"""The models: as the paper has them, and as timm's users expect them."""
import subprocess
import sys

import onnxruntime
import pytest
import timm
import torch
from timm.models import group_parameters
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from wrn_hub import WideResNet, wide_resnet
from wrn_hub.facts import DATASETS
from wrn_hub.models.wide_resnet import bottleneck_blocks, deepened_blocks, family_blocks

OURS = ["wide_resnet", "wide_resnet_in1k"]
IN1K = {"wrn_50_2": "wide_resnet50_2", "wrn_101_2": "wide_resnet101_2"}  # ours -> timm's name


def create(name: str, **kwargs) -> nn.Module:
    """A net with weights like trained ones, in evaluation mode: fresh norms change next to nothing, so that a test
    would not notice one in the wrong place."""
    torch.manual_seed(0)
    model = timm.create_model(name, **kwargs)
    for module in model.modules():
        if hasattr(module, "running_var"):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
            nn.init.normal_(module.running_mean, 0, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model.eval()


def images(batch: int = 2, size: int = 32, channels: int = 3) -> torch.Tensor:
    return torch.randn(batch, channels, size, size, generator=torch.Generator().manual_seed(1))


def num_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


# The sizes


@pytest.mark.parametrize("name, parameters", [
    ("wrn_16_1", 175_066), ("wrn_10_2", 303_706), ("wrn_40_1", 563_930), ("wrn_16_2", 691_674),
    ("wrn_28_2", 1_467_610), ("wrn_40_2", 2_243_546), ("wrn_16_4", 2_748_890), ("wrn_40_4", 8_949_210),
    ("wrn_16_8", 10_961_370), ("wrn_16_10", 17_116_634), ("wrn_22_8", 17_158_106), ("wrn_40_8", 35_748_314),
    ("wrn_28_10", 36_479_194), ("wrn_28_12", 52_517_850), ("wrn_40_10", 55_841_754),
    ("wrn_16_2.cifar100", 703_284), ("wrn_28_2.cifar100", 1_479_220), ("wrn_40_2.cifar100", 2_255_156),
    ("wrn_16_4.cifar100", 2_772_020), ("wrn_40_4.cifar100", 8_972_340), ("wrn_16_8.cifar100", 11_007_540),
    ("wrn_28_10.cifar100", 36_536_884),
    ("wrn_18_1p5", 25_875_816), ("wrn_18_2", 45_618_216), ("wrn_18_3", 101_783_976), ("wrn_34_1p5", 48_613_608),
    ("wrn_34_2", 86_036_008), ("wrn_50_2", 68_883_240), ("wrn_101_2", 126_886_696),
])
def test_parameters(name, parameters):
    assert num_parameters(timm.create_model(name, device="meta")) == parameters


@pytest.mark.parametrize("name, millions", [
    ("wrn_22_10", 26.8), ("preresnet_164", 1.7), ("preresnet_1001", 10.3), ("wrn_52_1", 0.8)])
def test_parameters_as_the_paper_rounds_them(name, millions):
    assert round(num_parameters(timm.create_model(name, device="meta")) / 1e6, 1) == millions


@pytest.mark.parametrize("kernels, depth, millions", [
    ((3, 3), 28, 1.47), ((1, 3, 1), 40, 1.43), ((3, 1), 40, 1.21), ((1, 3), 40, 1.30), ((3, 1, 1), 40, 1.34),
    ((3, 1, 3), 22, 1.15),
])
def test_block_types_of_table_2(kernels, depth, millions):
    model = wide_resnet(depth, 2, kernels=kernels, device="meta")
    assert round(num_parameters(model) / 1e6, 2) == millions


def test_deepened_blocks_of_table_3():
    """WRN-40-2 with one to four 3x3 convolutions a block: as many convolutions and weights in all."""
    models = [
        WideResNet(deepened_blocks(40, convs), 2, kernels=(3,) * convs, device="meta") for convs in (1, 2, 3, 4)]
    assert [len(model.stages[0]) for model in models] == [12, 6, 4, 3]
    assert {round(num_parameters(model) / 1e6, 1) for model in models} == {2.2}


@pytest.mark.parametrize("name, gmacs", [
    ("wrn_16_1", 0.0267), ("wrn_10_2", 0.0445), ("wrn_40_1", 0.0833), ("wrn_16_2", 0.1011), ("wrn_28_2", 0.2144),
    ("wrn_40_2", 0.3276), ("wrn_16_4", 0.3926), ("wrn_40_4", 1.2986), ("wrn_16_8", 1.5481), ("wrn_16_10", 2.412),
    ("wrn_22_8", 2.454), ("wrn_40_8", 5.172), ("wrn_28_10", 5.2433), ("wrn_28_12", 7.544), ("wrn_40_10", 8.074),
])
def test_multiply_accumulates(name, gmacs):
    model = timm.create_model(name, device="meta")
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, 32, 32, device="meta"))
    assert counter.get_total_flops() / 2e9 == pytest.approx(gmacs, rel=2e-3)


def test_width_may_be_a_fraction():
    model = wide_resnet(22, 1.5)
    assert [info["num_chs"] for info in model.feature_info] == [16, 24, 48, 96]
    assert model(images()).shape == (2, 10)


@pytest.mark.parametrize("build, nearest", [
    (lambda: wide_resnet(30, 2), "28 and 34"),
    (lambda: wide_resnet(5, 2), "10 and 16"),
    (lambda: family_blocks(4), "10 and 16"),
    (lambda: deepened_blocks(40, 5), "34 and 49"),
    (lambda: bottleneck_blocks(165), "164 and 173"),
])
def test_a_depth_that_fits_no_net_names_the_nearest(build, nearest):
    with pytest.raises(ValueError, match=nearest):
        build()


@pytest.mark.parametrize("arguments", [
    dict(blocks_per_stage=0), dict(kernels=()), dict(kernels=(3, 2)), dict(width=0.01), dict(bottle_ratio=0.001),
    dict(output_stride=8)])
def test_arguments_that_make_no_net_are_named(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        WideResNet(**arguments)


def test_unknown_arguments_are_refused():
    with pytest.raises(TypeError, match="widht"):
        timm.create_model("wrn_16_2", widht=4)


# The paper's structure


def paper_forward(state: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """The forward pass of a B(3, 3) net as the paper and its code describe it, from nothing but the weights."""
    def bn_relu(name: str, x: torch.Tensor) -> torch.Tensor:
        mean, var, weight, bias = (state[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias"))
        return F.relu(F.batch_norm(x, mean, var, weight, bias))

    x = F.conv2d(x, state["stem.conv.weight"], padding=1)
    blocks = [name.removesuffix(".norm1.weight") for name in state if name.endswith(".norm1.weight")]
    for name in blocks:
        stride = 2 if name in ("stages.1.0", "stages.2.0") else 1
        activated = bn_relu(f"{name}.norm1", x)
        if f"{name}.shortcut.weight" in state:  # the channels change: the projection reads what the branch reads
            x = F.conv2d(activated, state[f"{name}.shortcut.weight"], stride=stride)
        branch = F.conv2d(activated, state[f"{name}.residual.conv1.weight"], stride=stride, padding=1)
        x = x + F.conv2d(bn_relu(f"{name}.residual.norm2", branch), state[f"{name}.residual.conv2.weight"], padding=1)
    return F.linear(bn_relu("norm", x).mean((2, 3)), state["head.fc.weight"], state["head.fc.bias"])


@pytest.mark.parametrize("name", ["wrn_10_2", "wrn_16_1", "wrn_16_2.cifar100", "wrn_16_4"])
def test_logits_are_those_of_the_paper(name):
    model = create(name)
    with torch.no_grad():
        torch.testing.assert_close(model(images()), paper_forward(model.state_dict(), images()), rtol=1e-4, atol=1e-4)


def test_projections_stand_only_where_channels_change():
    def projections(name):
        stages = timm.create_model(name, device="meta").stages
        return [[block.shortcut is not None for block in stage] for stage in stages]

    assert projections("wrn_16_2") == [[True, False]] * 3
    assert projections("wrn_16_1") == [[False, False], [True, False], [True, False]]  # 16 channels from 16


def test_strides_and_biases():
    convs = {name: m for name, m in create("wrn_16_2").named_modules() if isinstance(m, nn.Conv2d)}
    assert {name for name, conv in convs.items() if conv.stride == (2, 2)} == {
        f"stages.{i}.0.{conv}" for i in (1, 2) for conv in ("shortcut", "residual.conv1")}
    assert all(conv.bias is None for conv in convs.values())


@pytest.mark.parametrize("name", ["wrn_16_4", "preresnet_164"])
def test_initial_weights(name):
    torch.manual_seed(0)
    model = timm.create_model(name)
    for conv in (m for m in model.modules() if isinstance(m, nn.Conv2d) and m.weight.numel() > 4000):
        fan_in = conv.in_channels * conv.kernel_size[0] * conv.kernel_size[1]
        assert conv.weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.08)
    assert not model.head.fc.bias.any() and model.head.fc.weight.any()


def test_post_activation_order():
    """preact=False: conv-norm-act, so that stages end in an activation and the net needs no norm after them."""
    pre, post = create("wrn_16_2"), create("wrn_16_2", preact=False)
    with torch.no_grad():
        assert all(maps.min() < 0 for maps in pre.forward_intermediates(images())[1])
        assert all(maps.min() == 0 for maps in post.forward_intermediates(images())[1])
    assert isinstance(post.norm, nn.Identity)
    assert list(dict(post.stages[0][0].residual.named_children())) == ["conv1", "norm2", "conv2"]
    assert list(dict(post.stages[0][0].shortcut.named_children())) == ["conv", "norm"]


@pytest.mark.parametrize("preact", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
def test_dilation_instead_of_stride(stride, preact):
    """Between the pixels that a net with strides has, one with dilations has more; those of both are equal."""
    coarse = create("wrn_16_2", preact=preact)
    fine = create("wrn_16_2", preact=preact, output_stride=stride)
    with torch.no_grad():
        few, many = coarse.forward_features(images()), fine.forward_features(images())
    assert few.shape[-1] == 8 and many.shape[-1] == 32 // stride
    torch.testing.assert_close(many[..., ::4 // stride, ::4 // stride], few, rtol=1e-4, atol=1e-4)
    assert [info["reduction"] for info in fine.feature_info] == [1, 1, min(2, stride), stride]


# Regularization


def test_dropout_in_a_block_stands_between_its_convolutions():
    model = timm.create_model("wrn_16_2", block_drop_rate=0.3)
    for block in (block for stage in model.stages for block in stage):
        assert list(dict(block.residual.named_children())) == ["conv1", "norm2", "drop2", "conv2"]
        assert block.residual.drop2.p == 0.3
    assert model.head.drop.p == 0 and not model.state_dict().keys() ^ create("wrn_16_2").state_dict().keys()


def test_dropout_before_the_classifier():
    model = timm.create_model("wrn_16_2", drop_rate=0.4)
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout) and m.p] == [0.4] and model.head.drop.p == 0.4


def test_stochastic_depth_grows_linearly():
    model = timm.create_model("wrn_22_8", drop_path_rate=0.2, device="meta")
    rates = [getattr(block.drop_path, "drop_prob", 0.) for stage in model.stages for block in stage]
    assert rates == sorted(rates) and rates[0] == 0 and rates[-1] == pytest.approx(0.2)


@pytest.mark.parametrize("rate", ["drop_rate", "block_drop_rate", "drop_path_rate"])
def test_rates_act_in_training_only(rate):
    model = create("wrn_10_2", **{rate: 0.5})
    with torch.no_grad():
        torch.testing.assert_close(model(images()), create("wrn_10_2")(images()))
        model.train()
        assert not torch.equal(model(images()), model(images()))
        plain = timm.create_model("wrn_10_2").train()
        assert torch.equal(plain(images()), plain(images()))


# As timm's users use it


@pytest.mark.parametrize("size", [32, 33, 47, 64, 224])
def test_image_sizes(size):
    model = create("wrn_10_2")
    with torch.no_grad():
        assert model.forward_features(images(1, size)).shape == (1, 128, -(-size // 4), -(-size // 4))
        assert model(images(1, size)).shape == (1, 10)


def test_a_batch_of_one_is_a_row_of_a_batch():
    model = create("wrn_16_2")
    with torch.no_grad():
        torch.testing.assert_close(model(images(4)[2:3]), model(images(4))[2:3])


def test_other_images_and_no_classifier():
    assert timm.create_model("wrn_10_2", in_chans=1)(images(channels=1)).shape == (2, 10)
    headless = timm.create_model("wrn_10_2", num_classes=0)
    assert headless(images()).shape == (2, headless.num_features) == (2, 128)


def test_another_classifier_keeps_the_rest():
    model = create("wrn_10_2")
    before = model.forward_features(images())
    model.reset_classifier(7, "max")
    torch.testing.assert_close(model.forward_features(images()), before)
    assert model(images()).shape == (2, 7) and model.num_classes == 7
    torch.testing.assert_close(model.forward_head(before, pre_logits=True), before.amax((2, 3)))


@pytest.mark.parametrize("layer", ["silu", nn.SiLU])
def test_other_activations(layer):
    model = create("wrn_10_2", act_layer=layer)
    assert isinstance(model.norm.act, nn.SiLU) and not any(isinstance(m, nn.ReLU) for m in model.modules())


@pytest.mark.parametrize("name", timm.list_models(module=OURS, exclude_filters="preresnet_1001"))  # 164, but slower
def test_feature_maps_of_every_model(name):
    """On the meta device, where the largest cost nothing."""
    model = timm.create_model(name, features_only=True, device="meta")
    size = model.pretrained_cfg["input_size"][-1]
    maps = model(torch.empty(1, 3, size, size, device="meta"))
    assert [m.shape[1] for m in maps] == model.feature_info.channels()
    assert [size // m.shape[2] for m in maps] == model.feature_info.reduction()
    assert model.feature_info.reduction() == ([2, 4, 8, 16, 32] if size == 224 else [1, 1, 2, 4])


def test_backbone_for_detection():
    """WRN-34-2 at strides 4, 8, 16 and 32, as in the paper's experiments on COCO."""
    model = timm.create_model("wrn_34_2", features_only=True, out_indices=(1, 2, 3, 4), device="meta")
    assert model.feature_info.reduction() == [4, 8, 16, 32]
    assert model.feature_info.channels() == [128, 256, 512, 1024]
    maps = model(torch.empty(1, 3, 800, 1344, device="meta"))
    assert [tuple(m.shape[2:]) for m in maps] == [(200, 336), (100, 168), (50, 84), (25, 42)]


@pytest.mark.parametrize("feature_cls", ["list", "getter", "hook", "fx"])
def test_feature_maps_are_those_of_the_net(feature_cls):
    model, features = create("wrn_16_2"), create("wrn_16_2", features_only=True, feature_cls=feature_cls)
    with torch.no_grad():
        torch.testing.assert_close(list(features(images())), model.forward_intermediates(images())[1])


def test_groups_of_parameters_for_layer_decay():
    model = timm.create_model("wrn_16_2")
    for coarse, groups in ((False, 1 + 3 * 2 + 1), (True, 1 + 3 + 1)):
        layers = group_parameters(model, model.group_matcher(coarse), reverse=True)
        assert layers.keys() == dict(model.named_parameters()).keys()
        assert layers["stem.conv.weight"] == 0 and layers["head.fc.weight"] == max(layers.values()) == groups - 1
        if not coarse:
            assert layers["norm.weight"] == layers["stages.2.1.residual.conv2.weight"]  # it belongs to what it norms


def test_checkpointing_gives_the_same_gradients():
    gradients = []
    for checkpointing in (False, True):
        model = create("wrn_16_2").train()
        model.set_grad_checkpointing(checkpointing)
        model(images()).square().sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    torch.testing.assert_close(*gradients)


def test_bfloat16():
    model = create("wrn_16_2")
    with torch.no_grad():
        logits = model(images())
        half = model.to(torch.bfloat16)(images().bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), logits, rtol=0.05, atol=0.05 * logits.abs().max().item())


def test_channels_last():
    model = create("wrn_16_2")
    with torch.no_grad():
        logits = model(images())
        model = model.to(memory_format=torch.channels_last)
        again = model(images().to(memory_format=torch.channels_last))
    torch.testing.assert_close(again, logits, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_torchscript():
    model = create("wrn_16_1")
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(model)(images()), model(images()))


def test_compile():
    """One graph, forward and backward; the kernels that a backend makes of it take minutes to build and are torch's."""
    model = create("wrn_10_2")
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(images()), model(images()))
    compiled.train()(images()).square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_export():
    """One exported program for batches of every size."""
    model = create("wrn_16_2")
    program = torch.export.export(model, (images(),), dynamic_shapes=({0: torch.export.Dim("batch")},)).module()
    with torch.no_grad():
        torch.testing.assert_close(program(images(5)), model(images(5)))


def test_onnx(tmp_path):
    model = create("wrn_16_2")
    torch.onnx.export(
        model, (images(),), tmp_path / "model.onnx", input_names=["images"], output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},), dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (logits,) = session.run(["logits"], {"images": images(5).numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(logits), model(images(5)), rtol=1e-4, atol=1e-4)


# The registry


def test_cfgs_hold_the_facts_of_the_dataset():
    for tag, facts in DATASETS.items():
        cfg = timm.create_model(f"wrn_28_10.{tag}", device="meta").pretrained_cfg
        assert (cfg["mean"], cfg["std"], cfg["label_names"]) == (facts.mean, facts.std, facts.classes)
        assert cfg["num_classes"] == len(facts.classes) and cfg["tag"] == tag


def test_the_bare_name_is_the_cifar10_net():
    for name in timm.list_models("*", module="wide_resnet"):
        assert timm.get_pretrained_cfg(name).tag == "cifar10"
        assert timm.get_pretrained_cfg(name).num_classes == 10


def test_unknown_tags_are_refused():
    with pytest.raises(RuntimeError, match="cifar1000"):
        timm.create_model("wrn_16_2.cifar1000")


@pytest.mark.parametrize("ours, timms", IN1K.items())
def test_imagenet_bottlenecks_are_timms(ours, timms):
    """timm's weights fit the net and give timm's logits."""
    model = timm.create_model(timms).eval()
    same = timm.create_model(ours, device="meta").eval()
    same.load_state_dict(model.state_dict(), strict=True, assign=True)
    with torch.no_grad():
        assert torch.equal(same(images(size=64)), model(images(size=64)))


@pytest.mark.parametrize("ours, timms", IN1K.items())
def test_imagenet_weights_are_found_where_timm_publishes_them(ours, timms):
    for cfg in timm.models.get_arch_pretrained_cfgs(timms).values():
        mine = timm.get_pretrained_cfg(f"{ours}.{cfg.tag}")
        assert mine.hf_hub_id == cfg.hf_hub_id == f"timm/{timms}.{cfg.tag}"  # timm's own names stay as they were
        assert (mine.mean, mine.std, mine.crop_pct, mine.test_input_size, mine.license) == (
            cfg.mean, cfg.std, cfg.crop_pct, cfg.test_input_size, cfg.license)
    assert timm.get_pretrained_cfg(ours).tag == timm.get_pretrained_cfg(timms).tag
    assert timm.models.is_model_in_modules(timms, ["resnet"])


def test_imagenet_tags():
    tags = [name for name in timm.list_models("wrn_*", module="wide_resnet_in1k", include_tags=True)]
    assert {"wrn_50_2.racm_in1k", "wrn_50_2.tv_in1k", "wrn_50_2.tv2_in1k", "wrn_101_2.tv_in1k",
            "wrn_101_2.tv2_in1k"} <= set(tags)


def test_import_registers_and_does_no_more():
    """No training code, no data sets and no download comes with the models."""
    code = ("import sys, timm, wrn_hub; assert timm.is_model('wrn_28_10'); "
            "print(*(name for name in sys.modules if name.startswith('wrn_hub') or '.' not in name))")
    loaded = set(subprocess.check_output([sys.executable, "-c", code], text=True).split())
    assert not loaded & {"accelerate", "datasets", "transformers", "matplotlib", "pandas", "tensorboard"}
    parts = {name.split(".")[1] for name in loaded if name.startswith("wrn_hub.")}
    ground = {"files", "facts", "logs", "options", "errors", "version", "record"}
    assert {"models", "weights"} <= parts <= {"models", "weights", "kernels", *ground}


def test_a_new_net_of_a_thousand_layers_stays_finite():
    """In evaluation too, where its running statistics are those of no image yet."""
    model = timm.create_model("preresnet_1001").eval()
    with torch.inference_mode():
        assert torch.isfinite(model(torch.randn(1, 3, 32, 32))).all()


@pytest.mark.parametrize("preact", [True, False])
def test_residual_branches_may_start_at_zero(preact):
    model = timm.create_model("wrn_10_2", zero_init_last=True, preact=preact)
    for stage in model.stages:
        for block in stage:
            assert not (block.residual[-1] if preact else block.norm).weight.any()
