"""Folding BatchNorm for inference: the same outputs from fewer layers, on every family of nets."""
import pytest
import timm
import torch
from timm.layers import BatchNormAct2d
from torch import nn

import wrn_hub
from wrn_hub.errors import UserError


def net(name: str, **arguments) -> nn.Module:
    """A net whose norms are like trained ones; fresh ones change next to nothing."""
    torch.manual_seed(0)
    model = timm.create_model(name, **arguments)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
            nn.init.normal_(module.running_mean, 0, 0.2)
            nn.init.uniform_(module.running_var, 0.8, 1.6)
    return model.eval()


def norms(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)]


NETS = {
    # what is folded in, norms before and after
    "every second norm of a pre-activation block": ("wrn_16_2", {}, 13, 7),
    "a net as narrow as its stem": ("wrn_16_1", {}, 13, 7),
    "blocks of one convolution have none": ("wrn_10_2", {"kernels": (3,)}, 4, 4),
    "a block of three convolutions": ("wrn_10_2", {"kernels": (3, 1, 3)}, 10, 4),
    "a dropout stays behind the activation": ("wrn_10_2", {"block_drop_rate": 0.3, "drop_path_rate": 0.1}, 7, 4),
    "another activation": ("wrn_10_2", {"act_layer": "silu"}, 7, 4),
    "the bottlenecks of a pre-activation net": (
        "wrn_10_2", {"kernels": (1, 3, 1), "channels": (64, 128, 256), "bottle_ratio": 0.25}, 10, 4),
    "every norm of a post-activation net": ("wrn_10_2", {"preact": False}, 10, 0),
    "the basic blocks for ImageNet": ("wrn_18_1p5", {}, 21, 0),
    "the bottlenecks for ImageNet": ("wrn_50_2", {}, 53, 0),
    "another net of timm": ("resnet10t", {}, 14, 0),
    "other norms are none of its business": ("wrn_10_2", {"norm_layer": "layernorm2d"}, 0, 0),
}


@pytest.mark.parametrize("case", NETS)
def test_the_outputs_stay_the_same_and_the_norms_go(case):
    name, arguments, before, after = NETS[case]
    model = net(name, **arguments)
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    folded = wrn_hub.fold_batch_norm(model)
    images = torch.randn(2, 3, 40, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = model(images)
        assert (folded(images) - expected).abs().max() <= 1e-5 * max(1, expected.abs().max())
    assert (len(norms(model)), len(norms(folded))) == (before, after)
    assert type(folded) is type(model) and folded.pretrained_cfg == model.pretrained_cfg
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items()), "the model was changed"


@pytest.mark.parametrize("preact", [True, False])
def test_feature_maps_stay_the_same_too(preact):
    """Also the stem's, which the first norm of a pre-activation net reads, and nothing else where k is above 1."""
    model = net("wrn_10_2", preact=preact)
    folded = wrn_hub.fold_batch_norm(model)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        pairs = zip(model.forward_intermediates(images, intermediates_only=True),
                    folded.forward_intermediates(images, intermediates_only=True), strict=True)
        for expected, made in pairs:
            torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-5)


def test_a_net_in_training_with_checkpointing_is_folded_for_inference():
    model = net("wrn_10_2").train()
    model.set_grad_checkpointing()
    folded = wrn_hub.fold_batch_norm(model)
    assert model.training and model.grad_checkpointing
    assert not folded.training and len(norms(folded)) == 4


def test_a_folded_net_computes_in_bfloat16():
    model = net("wrn_10_2")
    images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    folded = wrn_hub.fold_batch_norm(model).to(torch.bfloat16, memory_format=torch.channels_last)
    with torch.inference_mode():
        expected, made = model(images), folded(images.bfloat16()).float()
    torch.testing.assert_close(made, expected, rtol=0.05, atol=0.05 * expected.abs().max().item())


class SharedConv(nn.Module):
    """A convolution called twice, which one norm may not have to itself."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), BatchNormAct2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x)) + self.conv(x)


class DependsOnData(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


def test_what_others_read_is_not_folded():
    assert norms(wrn_hub.fold_batch_norm(SharedConv())) == ["norm"]


def test_a_net_that_cannot_be_traced_is_refused():
    with pytest.raises(UserError, match="DependsOnData: its forward pass can't be traced"):
        wrn_hub.fold_batch_norm(DependsOnData())
