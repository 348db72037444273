"""TrivialAugment on batches makes of every image what torchvision makes of it alone."""
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.transforms import InterpolationMode
from torchvision.transforms.autoaugment import TrivialAugmentWide, _apply_op

from wrn_hub.data.trivial_augment import OPERATIONS, STRENGTHS, apply, draw


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """Noise, a gradient, a low contrast and one colour: uint8 (4, 32, 32, 3)."""
    torch.manual_seed(0)
    noise = torch.randint(0, 256, (32, 32, 3), dtype=torch.uint8)
    gradient = (torch.arange(32 * 32 * 3).view(32, 32, 3) // 13).to(torch.uint8)
    return torch.stack([noise, gradient, noise // 8 + 100, torch.full_like(noise, 77)])


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_at_every_strength_is_torchvisions(name, images):
    _, strengths, signed = OPERATIONS[name]
    tried = torch.cat([strengths, -strengths]) if signed else strengths
    number = list(OPERATIONS).index(name)
    batch = images.repeat(len(tried), 1, 1, 1)
    strength = tried.repeat_interleave(len(images))
    made = apply(batch, torch.full((len(batch),), number), strength)
    for image, value, result in zip(batch, strength.tolist(), made, strict=True):
        expected = _apply_op(image.permute(2, 0, 1), name, value, InterpolationMode.NEAREST, None).permute(1, 2, 0)
        assert torch.equal(result, expected), f"strength {value}"


class Uploads(TorchDispatchMode):
    """Refuses what would make a GPU wait for the CPU: a tensor sent there from ordinary memory, or read from there.

    The meta device stands in for the GPU; ``non_blocking`` is how the few indices of an operation travel.
    """

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        named = named or {}
        made = function(*arguments, **named)
        sent = function in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
        if sent and made.is_meta and not next(a for a in reversed(arguments) if isinstance(a, torch.Tensor)).is_meta:
            assert named.get("non_blocking"), "the GPU is waited for"
        return made


@pytest.mark.parametrize("name", OPERATIONS)
def test_no_operation_waits_for_the_device(name):
    strengths = OPERATIONS[name][1][:4]
    with Uploads():
        apply(torch.zeros(4, 8, 8, 3, dtype=torch.uint8, device="meta"),
              torch.full((4,), list(OPERATIONS).index(name)), strengths)


def test_the_space_is_that_of_the_paper():
    """Of torchvision's table, which says the same."""
    theirs = TrivialAugmentWide()._augmentation_space(STRENGTHS)
    assert list(theirs) == list(OPERATIONS)
    for name, (_, strengths, signed) in OPERATIONS.items():
        expected, expected_sign = theirs[name]
        torch.testing.assert_close(strengths, expected.float().expand(STRENGTHS))
        assert signed == expected_sign


def test_images_of_a_batch_go_through_different_operations(images):
    operation, strength = draw(len(OPERATIONS) * 200, torch.Generator().manual_seed(0))
    counts = operation.bincount(minlength=len(OPERATIONS))
    assert counts.min() > 130 and counts.max() < 270  # 200 each, give or take five standard deviations
    assert torch.equal(draw(len(operation), torch.Generator().manual_seed(0))[1], strength)

    batch = images[:1].expand(4, -1, -1, -1)
    names = list(OPERATIONS)
    mixed = torch.tensor([names.index(name) for name in ("Identity", "Solarize", "Rotate", "Solarize")])
    strength = torch.tensor([0.0, 100.0, 40.0, 200.0])
    made = apply(batch, mixed, strength)
    alone = [apply(batch[i : i + 1], mixed[i : i + 1], strength[i : i + 1])[0] for i in range(4)]
    assert torch.equal(made, torch.stack(alone)) and torch.equal(made[0], batch[0])
