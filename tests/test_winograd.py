"""3x3 convolutions by Winograd's algorithm on a CPU: the same numbers as torch's own."""
import copy
import json
import pickle
import weakref
from dataclasses import replace

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

import wrn_hub
from wrn_hub.errors import UserError
from wrn_hub.kernels import build, ops
from wrn_hub.kernels.winograd import WinogradConv2d, computes, winograd
from wrn_hub.training.trainer import train


@pytest.fixture(autouse=True)
def everywhere(monkeypatch):
    """By Winograd's algorithm, though the images are small."""
    monkeypatch.setattr(ops, "pays", lambda *_, **__: True)


needs_compiler = pytest.mark.skipif(not computes(torch.float32), reason="no C++ compiler")


def pair(channels: int, filters: int) -> tuple[nn.Conv2d, nn.Conv2d]:
    """torch's convolution, and the same by Winograd's algorithm."""
    torch.manual_seed(0)
    ours, theirs = winograd(nn.Conv2d(channels, filters, 3, padding=1)), nn.Conv2d(channels, filters, 3, padding=1)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def near(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    return bool((ours - theirs).abs().max() < 1e-4 * theirs.abs().max())


SHAPES = [
    (1, 16, 16, 3, 3), (2, 16, 32, 4, 4), (3, 32, 16, 5, 7), (1, 48, 112, 6, 9), (40, 16, 16, 8, 8), (2, 16, 16, 3, 33),
    (21, 128, 144, 19, 20)]  # more than a group of the tiles that threads share where channels are many


@needs_compiler
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("batch, channels, filters, height, width", SHAPES)
def test_outputs_and_gradients_are_those_of_torch(batch, channels, filters, height, width, layout):
    ours, theirs = (layer.to(memory_format=layout) for layer in pair(channels, filters))
    images = torch.randn(batch, channels, height, width).to(memory_format=layout)
    gradient = torch.randn(batch, filters, height, width)
    got = []
    for layer in (ours, theirs):
        leaf = images.clone().requires_grad_()
        output = layer(leaf)
        output.backward(gradient)
        got.append((output, leaf.grad, layer.weight.grad, layer.bias.grad))
    assert all(near(a, b) for a, b in zip(*got, strict=True))


@needs_compiler
@pytest.mark.parametrize("batch, channels, filters, height, width", SHAPES)
def test_inference_in_bf16_where_the_cpu_multiplies_it(batch, channels, filters, height, width):
    ours, theirs = (layer.requires_grad_(False) for layer in pair(channels, filters))
    images = torch.randn(batch, channels, height, width).bfloat16()
    output, exact = ours.bfloat16()(images), theirs(images.float())
    assert output.dtype == torch.bfloat16
    assert (output - exact).norm() < 0.02 * exact.norm()
    assert torch.equal(output, theirs.bfloat16()(images)) != computes(torch.bfloat16)


@needs_compiler
@pytest.mark.parametrize("batch, channels, filters, height, width", SHAPES)
def test_training_in_bf16_where_the_cpu_multiplies_it(batch, channels, filters, height, width):
    ours, theirs = pair(channels, filters)
    images, gradient = torch.randn(batch, channels, height, width), torch.randn(batch, filters, height, width)
    got = []
    for layer, bf16 in ((ours, True), (theirs, False)):
        leaf = images.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            output = layer(leaf)
        output.backward(gradient.to(output.dtype))
        got.append((output, leaf.grad, layer.weight.grad, layer.bias.grad))
    for rounded, exact in zip(*got, strict=True):
        assert (rounded - exact).norm() < 0.02 * exact.norm()
    assert got[0][0].dtype == torch.bfloat16
    assert [tensor.dtype for tensor in got[0][1:]] == [torch.float32] * 3
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ours(images), theirs(images)) != computes(torch.bfloat16)


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_frozen_model_follows_changes_of_its_weights_nevertheless(dtype):
    ours, _ = pair(16, 32)
    frozen = winograd(copy.deepcopy(ours), frozen=True)
    images = torch.randn(2, 16, 8, 8, dtype=dtype)
    for layer in (ours, frozen):
        layer.requires_grad_(False).to(dtype)
    for change in (lambda layer: None, lambda layer: layer.weight.mul_(2), lambda layer: layer.weight.zero_()):
        for layer in (ours, frozen):
            change(layer)
        assert torch.equal(frozen(images), ours(images)) and torch.equal(frozen(images), ours(images))
    assert torch.equal(frozen(images)[0], frozen.bias[:, None, None].expand(-1, 8, 8))
    with torch.inference_mode():  # in which a weight doesn't count its changes
        frozen.weight = nn.Parameter(torch.ones_like(frozen.weight), requires_grad=False)
        before = frozen(images)
        frozen.weight.zero_()
        assert not torch.equal(frozen(images), before)


CHANGES = {
    "in place": lambda layer: layer.weight.mul_(2),
    "assigned": lambda layer: setattr(layer, "weight", nn.Parameter(torch.randn_like(layer.weight), False)),
    "loaded": lambda layer: layer.load_state_dict({n: 3 * t for n, t in layer.state_dict().items()}),
    "loaded by assignment": lambda layer: layer.load_state_dict(
        {n: 3 * t for n, t in layer.state_dict().items()}, assign=True),
    "data assigned": lambda layer: setattr(layer.weight, "data", torch.randn_like(layer.weight)),
    "data assigned in the same layout": lambda layer: setattr(layer.weight, "data", -layer.weight.data),
    "rounded and back": lambda layer: layer.bfloat16().float(),
    "copied to": lambda layer: layer.weight.copy_(torch.ones(())),
    "swapped": lambda layer: torch.utils.swap_tensors(
        layer.weight, nn.Parameter(torch.randn_like(layer.weight), False))}


@needs_compiler
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_kept_filters_never_outlive_the_weight(change, mode):
    ours, theirs = (layer.requires_grad_(False) for layer in pair(16, 16))
    winograd(ours, frozen=True)
    images = torch.randn(2, 16, 8, 8)
    with mode():
        for _ in range(10):  # the allocator gives the address of what is gone to what comes
            ours(images)
            change(ours)
            theirs.load_state_dict(ours.state_dict())
            assert near(ours(images), theirs(images))


@needs_compiler
def test_a_weight_is_transformed_once_until_it_changes(monkeypatch):
    ours, _ = pair(16, 16)
    winograd(ours, frozen=True)
    images = torch.randn(2, 16, 8, 8)
    transformed, count = ops._transformed, []
    monkeypatch.setattr(ops, "_transformed", lambda *args, **kw: count.append(1) or transformed(*args, **kw))
    with torch.inference_mode():
        for _ in range(5):
            ours(images)
        assert len(count) == 1
        ours.weight.mul_(2)
        for _ in range(5):
            ours(images)
        assert len(count) == 2
    with torch.no_grad():
        ours(images)
    assert len(count) == 2
    ours(images)  # for a gradient it may be about to change
    assert len(count) == 3


@needs_compiler
def test_what_is_kept_is_neither_copied_nor_saved():
    ours = winograd(nn.Conv2d(16, 16, 3, padding=1), frozen=True).requires_grad_(False)
    images = torch.randn(2, 16, 8, 8)
    ours(images)
    assert len(pickle.dumps(ours)) < 4 * ours.weight.numel() + 4000
    for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        before = other(images)
        ours.weight.mul_(2)
        other.weight.mul_(3)  # changed as often as the other, which must not be taken for it
        assert near(other(images) - other.bias[:, None, None], 3 * (before - other.bias[:, None, None]))
    kept = weakref.ref(ours.kept)
    del ours
    assert kept() is None


@needs_compiler
@pytest.mark.parametrize("channels, size, batch, training, inference", [
    (16, 4, 1, False, False), (16, 16, 1, True, True), (64, 8, 4, True, True), (64, 8, 3, False, True),
    (128, 16, 1, False, True), (128, 16, 2, True, True), (512, 14, 2, False, True), (512, 14, 8, True, True),
    (640, 8, 8, False, True), (640, 8, 128, True, True), (64, 2, 64, False, False)])
def test_it_is_used_where_it_pays(channels, size, batch, training, inference, monkeypatch):
    monkeypatch.undo()
    calls: list[int] = []
    convolved = ops._convolved
    monkeypatch.setattr(ops, "_convolved", lambda *args: calls.append(1) or convolved(*args))
    layer = winograd(nn.Conv2d(channels, channels, 3, padding=1), frozen=True)
    images = torch.randn(batch, channels, size, size)
    assert ops.pays(images.shape, channels) == training and ops.pays(images.shape, channels, True) == inference
    if channels <= 128:
        with torch.inference_mode():
            layer(images)
        assert len(calls) == inference
        layer(images.requires_grad_()).sum().backward()
        assert len(calls) == inference + 2 * training


@needs_compiler
@pytest.mark.parametrize("weight, bias", [
    ((8, 16, 3, 3), (8,)), ((16, 16, 1, 1), (16,)), ((16, 16, 5, 5), (16,)), ((16, 16, 3, 3), (1,)),
    ((16, 16, 3, 3), (8,)), ((16, 8, 3, 3), (16,)), ((32, 16, 3, 3), (32,)), ((0, 16, 3, 3), (0,))])
def test_weights_of_another_shape_are_taken_or_refused_as_torch_does(weight, bias):
    ours, theirs = pair(16, 16)
    values = {"weight": torch.randn(weight), "bias": torch.randn(bias)}
    found = []
    for layer in (ours, theirs):
        try:
            found.append(functional_call(layer, values, torch.randn(2, 16, 8, 8, generator=torch.Generator())).detach())
        except RuntimeError as error:
            found.append(str(error))
    if isinstance(found[1], str):
        assert found[0] == found[1]
    else:
        assert found[0].shape == found[1].shape
        assert found[1].numel() == 0 or near(*found)


@needs_compiler
def test_a_layer_changed_afterwards_computes_what_it_says():
    ours, theirs = pair(16, 16)
    images = torch.randn(2, 16, 8, 8)
    for layer in (ours, theirs):
        layer.stride = (2, 2)
    assert torch.equal(ours(images), theirs(images))


@needs_compiler
@pytest.mark.parametrize("operator, shapes", [
    (ops.conv3x3, [(2, 16, 9, 8), (32, 16, 3, 3), (32,)]),
    (ops.conv3x3_to_images, [(2, 32, 9, 8), (32, 16, 3, 3)]),
    (ops.conv3x3_to_weight, [(2, 32, 9, 8), (2, 16, 9, 8), (32, 16, 3, 3)])])
def test_the_operators_are_what_torch_asks_of_one(operator, shapes):
    """Its schema, its gradients, its shapes without numbers, compiled for any shape."""
    tensors = [torch.randn(shape, requires_grad=True) for shape in shapes]
    rest = [0] if operator is ops.conv3x3 else []
    torch.library.opcheck(operator.default, (*tensors, *rest), atol=1e-3, rtol=1e-3)


@needs_compiler
def test_every_pixel_of_the_border_counts():
    """An image of one pixel that isn't 0 shows the filter, wherever it lies."""
    ours, theirs = pair(16, 16)
    images = torch.zeros(36, 16, 6, 6)
    images.view(36, 16, 36)[torch.arange(36), 3, torch.arange(36)] = 1
    torch.testing.assert_close(ours(images), theirs(images), rtol=0, atol=1e-6)


@needs_compiler
@pytest.mark.parametrize("channels", [16, 128])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_any_number_of_threads(threads, channels):
    torch.set_num_threads(threads)
    ours, theirs = pair(channels, 128)
    images = torch.randn(3, channels, 5, 5)
    outputs = [layer(images) for layer in (ours, theirs)]
    for output in outputs:
        output.square().sum().backward()
    assert near(*outputs) and near(ours.weight.grad, theirs.weight.grad)


@needs_compiler
def test_the_same_bits_twice():
    ours, _ = pair(32, 32)
    images = torch.randn(50, 32, 8, 8)
    gradients = []
    for _ in range(2):
        ours.zero_grad()
        ours(images).square().sum().backward()
        gradients.append(ours.weight.grad.clone())
    assert torch.equal(*gradients)


@needs_compiler
def test_frozen_filters_and_images_without_gradient():
    ours, theirs = pair(16, 16)
    images = torch.randn(2, 16, 4, 4)
    ours(images).sum().backward()  # the filters alone
    theirs(images).sum().backward()
    assert images.grad is None and near(ours.weight.grad, theirs.weight.grad)
    ours.requires_grad_(False)
    leaf = images.clone().requires_grad_()
    ours(leaf).sum().backward()
    assert near(leaf.grad, F.conv_transpose2d(torch.ones(2, 16, 4, 4), ours.weight, padding=1))


@needs_compiler
def test_of_a_wide_resnet_all_3x3_convolutions_of_stride_1_but_the_first():
    model = winograd(timm.create_model("wrn_16_2"))
    taken = [name for name, layer in model.named_modules() if type(layer) is WinogradConv2d]
    left = [name for name, layer in model.named_modules() if type(layer) is nn.Conv2d and layer.kernel_size == (3, 3)]
    assert len(taken) == 10 and left == ["stem.conv", "stages.1.0.residual.conv1", "stages.2.0.residual.conv1"]


@needs_compiler
def test_a_net_and_its_copies_compute_the_same_as_before():
    torch.manual_seed(0)
    model = timm.create_model("wrn_10_2").eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        before = model(images)
        fast = winograd(copy.deepcopy(model))
        assert fast.state_dict().keys() == model.state_dict().keys()
        for net in (fast, copy.deepcopy(fast), wrn_hub.fold_batch_norm(fast)):
            assert near(net(images), before)


@needs_compiler
def test_another_dtype_goes_on_as_ever():
    ours, theirs = (layer.double() for layer in pair(16, 16))
    images = torch.randn(2, 16, 8, 8, dtype=torch.double)
    assert torch.equal(ours(images), theirs(images))


@needs_compiler
def test_a_layer_all_in_bf16_has_gradients_in_bf16():
    ours, exact = pair(16, 16)
    images = torch.randn(2, 16, 8, 8)
    ours.bfloat16()(images.bfloat16()).sum().backward()
    exact(images).sum().backward()
    for rounded, parameter in zip(ours.parameters(), exact.parameters(), strict=True):
        assert rounded.grad.dtype == torch.bfloat16
        assert (rounded.grad - parameter.grad).norm() < 0.02 * parameter.grad.norm()


@needs_compiler
def test_wrong_images_are_refused_as_torch_refuses_them():
    ours, _ = pair(16, 16)
    with pytest.raises(RuntimeError, match="to have 16 channels, but got 8 channels"):
        ours(torch.randn(2, 8, 8, 8))
    assert ours(torch.randn(16, 8, 8)).shape == (16, 8, 8)  # one image, without a batch
    assert ours(torch.randn(0, 16, 8, 8)).shape == (0, 16, 8, 8)


@pytest.fixture
def compiler(monkeypatch, tmp_path):
    """Tells winograd, which has compiled nothing yet, what the compiler is."""
    def forget() -> None:
        build.library.cache_clear()
        ops._kernels.cache_clear()
        ops.computes.cache_clear()

    forget()
    monkeypatch.setenv("WRN_HUB_CACHE", str(tmp_path / "cache"))
    yield lambda command: monkeypatch.setenv("CXX", command)
    forget()


@pytest.mark.parametrize("command, says", [
    ("no-such-compiler", r"no C\+\+ compiler \(no-such-compiler\): install one .* or name it in the variable CXX"),
    ("false", "false can't compile its kernels"), ("true", "made nothing that can be loaded")])
def test_without_a_compiler_training_goes_on_by_the_direct_algorithm(command, says, compiler, options):
    compiler(command)
    assert not computes(torch.float32)
    with pytest.raises(UserError, match=says):
        winograd(nn.Identity())
    with pytest.raises(UserError, match=says):
        train(replace(options, epochs=1, winograd="on"))
    result = train(replace(options, epochs=1))
    assert json.loads((result.folder / "args.json").read_text())["winograd"] == "off"


@needs_compiler
def test_training_uses_it_and_a_run_goes_on_with_what_it_began_with(options):
    result = train(replace(options, epochs=1))
    assert json.loads((result.folder / "args.json").read_text())["winograd"] == "on"
    with pytest.raises(UserError, match=r"winograd = off \(was on\)"):
        train(replace(options, epochs=1, winograd="off", resume=True))


@needs_compiler
def test_a_cpu_that_does_not_multiply_bf16_trains_by_the_direct_algorithm(compiler, options, tmp_path):
    other = tmp_path / "c++"
    other.write_text('#!/bin/sh\nexec c++ "$@" -U__AVX512BF16__\n')
    other.chmod(0o755)
    compiler(str(other))
    with pytest.raises(UserError, match=r"this CPU doesn't multiply bf16 \(AVX512-BF16\); use --precision fp32"):
        train(replace(options, epochs=1, precision="bf16", winograd="on"))
    result = train(replace(options, epochs=1, precision="bf16"))
    assert json.loads((result.folder / "args.json").read_text())["winograd"] == "off"
    assert computes(torch.float32)


@pytest.mark.parametrize("other, says", [
    ({"channels_last": False}, "channels_last False"), ({"compile": "default"}, "compile 'default'")])
def test_on_is_refused_where_it_can_do_nothing(other, says, options):
    with pytest.raises(UserError, match=f"winograd = 'on': works on a CPU in fp32 or bf16 and channels_last .*{says}"):
        train(replace(options, winograd="on", **other))
