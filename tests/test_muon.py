"""Muon for the filters, SGD for the rest: ``--optimizer muonsgd``."""
from dataclasses import replace

import pytest
import timm
import torch
from timm.optim import create_optimizer_v2
from torch import nn

import wrn_hub  # noqa: F401
from wrn_hub.errors import UserError
from wrn_hub.training.muon import MuonSGD, orthogonalized
from wrn_hub.training.trainer import train


@pytest.mark.parametrize("shape", [(16, 27), (32, 16), (64, 64), (128, 1152)])
def test_singular_values_come_near_to_1(shape):
    torch.manual_seed(0)
    way = orthogonalized(torch.randn(2, *shape))
    values = torch.linalg.svdvals(way)
    assert way.shape == (2, *shape) and values.max() < 1.3
    if shape[0] != shape[1]:  # a square one has a value of about 0, which a few iterations leave small
        assert values.min() > 0.5


def test_a_layer_without_a_gradient_gets_no_direction():
    assert not orthogonalized(torch.zeros(1, 16, 27)).any()


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_a_step_moves_filters_by_a_tenth_of_the_learning_rate_whatever_their_size(scale):
    torch.manual_seed(0)
    layer = nn.Conv2d(8, 16, 3, bias=False)
    with torch.no_grad():
        layer.weight.mul_(scale)
    before = layer.weight.detach().clone()
    optimizer = MuonSGD(layer.parameters(), lr=0.2)
    layer(torch.randn(4, 8, 5, 5)).square().sum().backward()
    optimizer.step()
    moved = (layer.weight - before).norm() / before.norm()
    assert 0.015 < moved < 0.025
    for _ in range(50):  # uphill, where the norm would grow
        layer.weight.grad = -layer.weight.detach().clone()
        optimizer.step()
    assert layer.weight.norm() <= before.norm() * 1.0001


def test_a_closure_computes_the_gradients_first():
    torch.manual_seed(0)
    layer, images = nn.Conv2d(8, 16, 3, bias=False), torch.randn(4, 8, 5, 5)
    before = layer.weight.detach().clone()
    optimizer = MuonSGD(layer.parameters())

    def closure():
        optimizer.zero_grad()
        loss = layer(images).square().sum()
        loss.backward()
        return loss

    first, second = optimizer.step(closure), optimizer.step(closure)
    assert second < first and 0.02 < (layer.weight - before).norm() / before.norm() < 0.06


def test_filters_that_start_at_0_leave_it():
    layer = nn.Conv2d(8, 16, 3, bias=False)
    nn.init.zeros_(layer.weight)
    optimizer = MuonSGD(layer.parameters())
    layer(torch.randn(4, 8, 5, 5)).sum().backward()
    optimizer.step()
    assert layer.weight.isfinite().all() and layer.weight.any()


def test_what_is_no_filter_of_several_channels_follows_nesterov_sgd():
    def net():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 2))

    ours, theirs = net(), net()
    settings = dict(lr=0.1, momentum=0.9, weight_decay=1e-2)
    for model, optimizer in (
            (ours, MuonSGD(ours.parameters(), **settings)),
            (theirs, torch.optim.SGD(theirs.parameters(), nesterov=True, **settings))):
        for step in range(3):
            torch.manual_seed(step)
            optimizer.zero_grad()
            model(torch.randn(4, 8, 3, 3)).square().sum().backward()
            optimizer.step()
    for mine, its in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, its, rtol=0, atol=0)


def test_timm_makes_it_with_its_groups():
    model = timm.create_model("wrn_10_2")
    optimizer = create_optimizer_v2(model, "muonsgd", lr=0.1, weight_decay=5e-4, layer_decay=0.9)
    assert isinstance(optimizer, MuonSGD)
    handled = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert len(handled) == len({id(parameter) for parameter in handled}) == len(list(model.parameters()))
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0, 5e-4}


def test_it_trains(options):
    result = train(replace(options, optimizer="muonsgd", epochs=2))
    assert result.accuracy > 0.9


def test_an_unknown_optimizer_is_named_with_the_nearest(options):
    with pytest.raises(UserError, match=r"optimizer = 'muonsdg'.*Did you mean 'muonsgd'"):
        train(replace(options, optimizer="muonsdg"))
