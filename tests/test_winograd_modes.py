"""Winograd's convolutions in every mode of torch: each gives what the net gives without them."""
import copy
import io
import pickle
import threading
from collections.abc import Callable

import onnx
import onnxruntime
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacrev, jvp, stack_module_state, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.parallel import DataParallel
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from wrn_hub.kernels import ops
from wrn_hub.kernels.winograd import WinogradConv2d, computes, winograd

pytestmark = [
    pytest.mark.skipif(not computes(torch.float32), reason="no C++ compiler"),
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")]

Tensors = torch.Tensor | tuple[torch.Tensor, ...] | list[torch.Tensor]
Mode = Callable[[nn.Module, torch.Tensor], Tensors]
BY_WINOGRAD: list[Mode] = []
ORDINARY: list[Mode] = []


def by_winograd(mode: Mode) -> Mode:
    """A mode in which Winograd's algorithm computes, at least where nothing is differentiated twice."""
    BY_WINOGRAD.append(mode)
    return mode


def ordinary(mode: Mode) -> Mode:
    """A mode in which the ordinary convolution computes."""
    ORDINARY.append(mode)
    return mode


def net(frozen: bool = False) -> tuple[nn.Module, nn.Module]:
    """Ours and torch's: three convolutions, of which ours takes two, and what has second derivatives."""
    torch.manual_seed(0)
    theirs = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.Tanh(), nn.Conv2d(16, 32, 3, padding=1), nn.Tanh(),
        nn.Conv2d(32, 16, 3, padding="same", bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    theirs = theirs.to(memory_format=torch.channels_last)
    ours = winograd(copy.deepcopy(theirs), frozen)
    assert sum(type(layer) is WinogradConv2d for layer in ours) == 2
    return ours, theirs


@pytest.fixture(autouse=True)
def calls(monkeypatch) -> list[tuple]:
    """By Winograd's algorithm, though the images are small; what its kernels were called with."""
    monkeypatch.setattr(ops, "pays", lambda *_, **__: True)
    calls, convolved = [], ops._convolved
    monkeypatch.setattr(ops, "_convolved", lambda *args: calls.append(args) or convolved(*args))
    return calls


def loss(net: nn.Module, images: torch.Tensor) -> torch.Tensor:
    return net(images).square().sum()


def parameters(net: nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach() for name, parameter in net.named_parameters()}


def loss_of(net: nn.Module, images: torch.Tensor) -> Callable[[dict], torch.Tensor]:
    return lambda values: functional_call(net, values, images).square().sum()


def gradients(net: nn.Module, value: torch.Tensor, **how) -> tuple[torch.Tensor, ...]:
    return torch.autograd.grad(value, list(net.parameters()), **how)


@by_winograd
def eager(net, images):
    return net(images)


@by_winograd
def backward(net, images):
    images.requires_grad_()
    return *gradients(net, loss(net, images)), *torch.autograd.grad(loss(net, images), images)


@by_winograd
@torch.no_grad()
def no_grad(net, images):
    return net(images)


@by_winograd
@torch.inference_mode()
def inference_mode(net, images):
    return net(images)


@by_winograd
def weights_made_in_inference_mode(net, images):
    with torch.inference_mode():
        copied = copy.deepcopy(net)
        return copied(images)


@by_winograd
def of_inference_mode_outside_it(net, images):
    with torch.inference_mode():
        made = images.clone()
    with torch.no_grad():
        return net(made)


@by_winograd
def autocast(net, images):
    with torch.autocast("cpu", torch.bfloat16):
        value = net(images)
    return value.float(), *gradients(net, value.float().square().sum())


@by_winograd
def autocast_backward_twice(net, images):
    with torch.autocast("cpu", torch.bfloat16):
        value = net(images).float().square().sum()
        first = gradients(net, value, create_graph=True)
        return gradients(net, sum(part.square().sum() for part in first))


@by_winograd
def bf16(net, images):
    return net.bfloat16()(images.bfloat16()).float()


@ordinary
def double(net, images):
    return net.double()(images.double())


@ordinary
def half(net, images):
    return net.half()(images.half()).float()


@by_winograd
def double_backward(net, images):
    images.requires_grad_()
    inputs = [*net.parameters(), images]
    first = torch.autograd.grad(loss(net, images), inputs, create_graph=True)
    return torch.autograd.grad(sum(part.square().sum() for part in first), inputs)


@by_winograd
def third_order(net, images):
    images.requires_grad_()
    value = loss(net, images)
    for _ in range(2):
        value = torch.autograd.grad(value, images, create_graph=True)[0].square().sum()
    return gradients(net, value, allow_unused=True)[:-1]


@by_winograd
def hessian_vector_product(net, images):
    first = gradients(net, loss(net, images), create_graph=True)
    return gradients(net, sum(part.sum() for part in first))


@by_winograd
def of_one_input_alone(net, images):
    """Gradient penalty: frozen filters, differentiated by the images twice."""
    net.requires_grad_(False)
    images.requires_grad_()
    first, = torch.autograd.grad(loss(net, images), images, create_graph=True)
    return torch.autograd.grad(first.square().sum(), images)


@by_winograd
def images_in_nchw_twice(net, images):
    images = images.contiguous().requires_grad_()
    hidden = torch.tanh(net[0](images)).contiguous()
    first = torch.autograd.grad(net[2](hidden).square().sum(), images, create_graph=True)[0]
    return torch.autograd.grad(first.square().sum(), images)


@by_winograd
def several_gradients_at_once(net, images):
    value = net(images)[0, :3]
    return gradients(net, value, grad_outputs=torch.eye(3), is_grads_batched=True)


@by_winograd
def autograd_functional(net, images):
    return torch.autograd.functional.hvp(lambda x: loss(net, x), images, torch.ones_like(images))[1]


@by_winograd
def vectorised_jacobian(net, images):
    return torch.autograd.functional.jacobian(lambda x: net(x).sum(0), images[:1], vectorize=True)


@ordinary
def forward_differentiated(net, images):
    with forward_ad.dual_level():
        value = net(forward_ad.make_dual(images, torch.ones_like(images)))
        return forward_ad.unpack_dual(value).tangent


@ordinary
@torch.no_grad()
def forward_differentiated_without_gradient(net, images):
    with forward_ad.dual_level():
        values = {n: forward_ad.make_dual(p, torch.ones_like(p)) for n, p in parameters(net).items()}
        return forward_ad.unpack_dual(functional_call(net, values, images)).tangent


@ordinary
def forward_over_reverse(net, images):
    with forward_ad.dual_level():
        images = forward_ad.make_dual(images, torch.ones_like(images)).requires_grad_()
        return forward_ad.unpack_dual(torch.autograd.grad(loss(net, images), images)[0]).tangent


@by_winograd
def tangents_that_enter_backward_alone(net, images):
    images.requires_grad_()
    value = net(images)
    with forward_ad.dual_level():
        along = forward_ad.make_dual(torch.ones_like(value), torch.ones_like(value))
        return forward_ad.unpack_dual(torch.autograd.grad(value, images, along)[0]).tangent


@by_winograd
def functional(net, images):
    with torch.no_grad():
        return [functional_call(net, {n: k * p for n, p in parameters(net).items()}, images) for k in range(1, 6)]


@ordinary
def func_grad(net, images):
    return tuple(grad(loss_of(net, images))(parameters(net)).values())


@ordinary
def func_grad_with_respect_to_images(net, images):
    return grad(lambda x: loss(net, x))(images)


@ordinary
def func_jvp(net, images):
    return jvp(net, (images,), (torch.ones_like(images),))


@ordinary
def func_jacrev(net, images):
    return jacrev(lambda x: net(x)[0, :4])(images)


@ordinary
def func_hessian(net, images):
    return hessian(lambda x: net(images + x).square().sum())(torch.zeros(3, 1, 1))


@ordinary
def per_sample_gradients(net, images):
    each = vmap(grad(lambda values, x: functional_call(net, values, x[None]).square().sum()), in_dims=(None, 0))
    return tuple(each(parameters(net), images).values())


@ordinary
def ensemble(net, images):
    others = [copy.deepcopy(net) for _ in range(3)]
    for number, other in enumerate(others):
        with torch.no_grad():
            other[2].weight.mul_(number)
    values, buffers = stack_module_state(others)
    return vmap(lambda v, b: functional_call(net, (v, b), images))(values, buffers)


@by_winograd
def compiled(net, images):
    """By the operators, forward and backward."""
    torch.compiler.reset()
    fast = torch.compile(net, backend="aot_eager", fullgraph=True)
    value = fast(images)
    return value, *gradients(net, value.square().sum())


@by_winograd
def compiled_for_any_batch(net, images):
    torch.compiler.reset()
    fast = torch.compile(net, backend="aot_eager", fullgraph=True, dynamic=True)
    with torch.no_grad():
        return fast(images), fast(images[:1]), fast(torch.cat([images] * 3))


@by_winograd
def compiled_under_autocast(net, images):
    torch.compiler.reset()
    fast = torch.compile(net, backend="aot_eager", fullgraph=True)
    with torch.autocast("cpu", torch.bfloat16):
        return fast(images).float()


@ordinary
def compiled_transformed(net, images):
    torch.compiler.reset()
    return torch.compile(grad(lambda x: loss(net, x)), backend="aot_eager")(images)


@ordinary
def exported(net, images):
    program = torch.export.export(net, (images,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    assert "wrn_hub" not in str(program.graph)
    return program.module()(images)


@ordinary
def exported_strictly(net, images):
    program = torch.export.export(net, (images,), strict=True, dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    assert "wrn_hub" not in str(program.graph)
    return program.module()(torch.cat([images] * 2))


@ordinary
def exported_for_training(net, images):
    program = torch.export.export(net.train(), (images,)).run_decompositions()
    return program.module()(images)


def in_onnxruntime(net: nn.Module, images: torch.Tensor, **how) -> torch.Tensor:
    file = io.BytesIO()
    torch.onnx.export(net, (images,), file, **how)
    assert {node.domain for node in onnx.load_from_string(file.getvalue()).graph.node} <= {"", "ai.onnx"}
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return torch.from_numpy(session.run(None, {name: images.contiguous().numpy()})[0])


@ordinary
def onnx_as_of_old(net, images):
    return in_onnxruntime(net.eval(), images, dynamo=False)


@ordinary
def onnx_of_today(net, images):
    return in_onnxruntime(net.eval(), images, dynamo=True, verbose=False)


@ordinary
def traced(net, images):
    program = torch.jit.trace(net, images, check_trace=False)
    assert "wrn_hub::" not in str(program.inlined_graph)
    return program(images), *gradients(net, program(images).square().sum())


@ordinary
@torch.no_grad()
def traced_without_gradient(net, images):
    return torch.jit.trace(net, images, check_trace=False)(2 * images)


@ordinary
def scripted(net, images):
    return torch.jit.script(net)(images)


@ordinary
def symbolically_traced(net, images):
    return torch.fx.symbolic_trace(net)(images)


@ordinary
def symbolically_traced_without_gradients(net, images):
    return torch.fx.symbolic_trace(net.requires_grad_(False))(images)


@by_winograd
def made_fx(net, images):
    with torch.no_grad():
        return make_fx(net)(images)(2 * images)


@ordinary
def made_fx_of_gradients(net, images):
    return make_fx(lambda x: grad(lambda y: loss(net, y))(x))(images)(2 * images)


@ordinary
def fake(net, images):
    with FakeTensorMode(allow_non_fake_inputs=True) as fakes:
        value = net(fakes.from_tensor(images))
    return torch.tensor([value.shape, value.stride()], dtype=torch.float)


@ordinary
def on_meta(net, images):
    value = net.to("meta")(images.to("meta"))
    return torch.tensor([value.shape, value.stride()], dtype=torch.float)


@by_winograd
def counted(net, images):
    with FlopCounterMode(display=False) as counter:
        loss(net, images.requires_grad_()).backward()
    return torch.tensor(float(counter.get_total_flops()))


@by_winograd
def copied(net, images):
    with torch.no_grad():
        net(images)
        return copy.deepcopy(net)(images), copy.copy(net)(images)


@by_winograd
def pickled(net, images):
    with torch.no_grad():
        net(images)
    return pickle.loads(pickle.dumps(net))(images)


@by_winograd
def replicated(net, images):
    copies = [layer._replicate_for_data_parallel() for layer in net]
    for replica, layer in zip(copies, net, strict=True):
        for name, parameter in layer._parameters.items():
            setattr(replica, name, None if parameter is None else parameter * 2)
    return nn.Sequential(*copies)(images), DataParallel(net)(images)


@by_winograd
def shared_weights(net, images):
    layer = winograd(nn.Conv2d(16, 16, 3, padding=1)) if isinstance(net[2], WinogradConv2d) else nn.Conv2d(
        16, 16, 3, padding=1)
    layer.weight, layer.bias = nn.Parameter(net[4].weight[:, :16].detach().clone()), net[0].bias
    other = copy.copy(layer)
    assert other.weight is layer.weight
    both = nn.ModuleList([layer, other, layer])
    hidden = net[0](images)
    for one in both:
        hidden = one(hidden)
    return hidden, *torch.autograd.grad(hidden.square().sum(), list(both.parameters()))


@by_winograd
def checkpointed(net, images):
    images.requires_grad_()
    return [gradient for reentrant in (False, True) for gradient in gradients_of_checkpoint(net, images, reentrant)]


def gradients_of_checkpoint(net, images, reentrant):
    net.zero_grad()
    checkpoint(net, images, use_reentrant=reentrant).square().sum().backward()
    return [parameter.grad.clone() for parameter in net.parameters()]


@by_winograd
def checkpointed_twice_differentiated(net, images):
    images.requires_grad_()
    value = checkpoint(net, images, use_reentrant=False).square().sum()
    first, = torch.autograd.grad(value, images, create_graph=True)
    return torch.autograd.grad(first.square().sum(), images)


@by_winograd
def in_threads(net, images):
    results: dict[int, torch.Tensor] = {}

    def work(number: int) -> None:
        with torch.no_grad():
            for _ in range(5):
                results[number] = net(images * (number + 1))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [results[number] for number in range(4)]


@by_winograd
def parametrised(net, images):
    nn.utils.parametrizations.weight_norm(net[2])
    with torch.no_grad():
        return net(images), net(images)


@by_winograd
def with_saved_tensors_elsewhere(net, images):
    with torch.autograd.graph.save_on_cpu():
        value = loss(net, images)
    return gradients(net, value)


@by_winograd
def hooked(net, images):
    seen: list[torch.Tensor] = []
    net[2].register_full_backward_hook(lambda _module, inputs, _outputs: seen.append(inputs[0]))
    loss(net, images).backward()
    return seen


SLOW = {compiled, compiled_under_autocast, exported_for_training, exported_strictly, onnx_of_today}  # once is enough


@pytest.mark.parametrize("mode, frozen", [
    pytest.param(mode, frozen, id=f"{mode.__name__}{', frozen' * frozen}")
    for mode in BY_WINOGRAD + ORDINARY for frozen in (False, True) if not (frozen and mode in SLOW)])
def test_it_is_what_the_net_gives_without(mode, frozen, calls):
    images = torch.randn(2, 3, 9, 10, generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last)
    found = [mode(one, images.clone()) for one in net(frozen)]
    coarse = "autocast" in mode.__name__ or "bf16" in mode.__name__
    assert bool(calls) == (mode in BY_WINOGRAD and (not coarse or computes(torch.bfloat16)))
    ours, theirs = ([value] if isinstance(value, torch.Tensor) else list(value) for value in found)
    assert len(ours) == len(theirs) > 0
    for got, wanted in zip(ours, theirs, strict=True):
        assert got.shape == wanted.shape and got.dtype == wanted.dtype
        assert (got - wanted).norm() <= (0.05 if coarse else 1e-4) * wanted.norm()
