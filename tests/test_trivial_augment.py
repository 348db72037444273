"""TrivialAugment on batches makes of every image what torchvision makes of it alone."""
import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.transforms import InterpolationMode
from torchvision.transforms.autoaugment import TrivialAugmentWide, _apply_op

from wrn_hub.data import ImageDataset
from wrn_hub.data.loader import Augmentation, TrainLoader
from wrn_hub.data.trivial_augment import OPERATIONS, STRENGTHS, apply, draw, plan

CPU = torch.device("cpu")


def augmented(images, operation, strength):
    """One batch through its operations."""
    (planned,) = plan(operation[None], strength[None], *images.shape[1:3], images.device)
    return apply(images, planned)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """Noise, a gradient, a low contrast and one colour: uint8 (4, 32, 32, 3)."""
    torch.manual_seed(0)
    noise = torch.randint(0, 256, (32, 32, 3), dtype=torch.uint8)
    gradient = (torch.arange(32 * 32 * 3).view(32, 32, 3) // 13).to(torch.uint8)
    return torch.stack([noise, gradient, noise // 8 + 100, torch.full_like(noise, 77)])


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_at_every_strength_is_torchvisions(name, images):
    strengths = OPERATIONS[name].strengths
    tried = torch.cat([strengths, -strengths]) if OPERATIONS[name].signed else strengths
    number = list(OPERATIONS).index(name)
    batch = images.repeat(len(tried), 1, 1, 1)
    strength = tried.repeat_interleave(len(images))
    made = augmented(batch, torch.full((len(batch),), number), strength)
    for image, value, result in zip(batch, strength.tolist(), made, strict=True):
        expected = _apply_op(image.permute(2, 0, 1), name, value, InterpolationMode.NEAREST, None).permute(1, 2, 0)
        assert torch.equal(result, expected), f"strength {value}"


class Counted(TorchDispatchMode):
    """Counts what is launched on the device; views are not. Refuses what would make a GPU wait for the CPU: a tensor
    sent there, or read from there, for which the meta device stands in."""

    def __init__(self):
        super().__init__()
        self.launched = 0

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        made = function(*arguments, **(named or {}))
        if function in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default):
            source = next(a for a in reversed(arguments) if isinstance(a, torch.Tensor))
            assert made.device == source.device, "the GPU is waited for"
        assert function is not torch.ops.aten._local_scalar_dense.default, "the GPU is waited for"
        self.launched += not function.is_view
        return made


def test_a_batch_takes_few_launches_and_never_waits_for_the_device():
    """All operations at once: what they share is launched once, what follows from the draws alone not at all."""
    device = torch.device("meta")
    operation = torch.arange(len(OPERATIONS)).repeat(2)
    (planned,) = plan(operation[None], torch.ones(1, len(operation)), 8, 8, device)
    with Counted() as counted:
        made = apply(torch.zeros(len(operation), 8, 8, 3, dtype=torch.uint8, device=device), planned)
    assert made.is_meta and made.shape == (len(operation), 8, 8, 3)
    assert counted.launched <= 105


def test_a_batch_of_the_loader_takes_few_launches():
    data = ImageDataset("noise", "train", np.zeros((512, 8, 8, 3), np.uint8), np.zeros(512, np.int64), ("a",))
    launched = {}
    for augment in ("none", "trivial"):
        batches = TrainLoader(data, 128, (0.5,) * 3, (0.25,) * 3, CPU, Augmentation(augment=augment)).epoch(0)
        next(batches)  # what is done once an epoch is done before it
        with Counted() as counted:
            next(batches)
        launched[augment] = counted.launched
    assert launched["none"] <= 30 and launched["trivial"] <= 135


def test_batches_of_an_epoch_are_what_each_would_be_alone(images):
    """The order within a batch, and who else is in it, change nothing."""
    operation, strength = (part.view(3, 40) for part in draw(120, torch.Generator().manual_seed(2)))
    batches = images.repeat(30, 1, 1, 1).view(3, 40, 32, 32, 3)
    plans = plan(operation, strength, 32, 32, CPU)
    for batch, planned, *drawn in zip(batches, plans, operation, strength, strict=True):
        made = apply(batch, planned)
        for place, image in enumerate(batch):
            (number, value) = (part[place : place + 1] for part in drawn)
            assert torch.equal(made[place], augmented(image[None], number, value)[0])


def test_the_space_is_that_of_the_paper():
    """Of torchvision's table, which says the same."""
    theirs = TrivialAugmentWide()._augmentation_space(STRENGTHS)
    assert list(theirs) == list(OPERATIONS)
    for name, operation in OPERATIONS.items():
        expected, expected_sign = theirs[name]
        torch.testing.assert_close(operation.strengths, expected.float().expand(STRENGTHS))
        assert operation.signed == expected_sign


def test_images_of_a_batch_go_through_different_operations(images):
    operation, strength = draw(len(OPERATIONS) * 200, torch.Generator().manual_seed(0))
    counts = operation.bincount(minlength=len(OPERATIONS))
    assert counts.min() > 130 and counts.max() < 270  # 200 each, give or take five standard deviations
    assert torch.equal(draw(len(operation), torch.Generator().manual_seed(0))[1], strength)

    batch = images[:1].expand(4, -1, -1, -1)
    names = list(OPERATIONS)
    mixed = torch.tensor([names.index(name) for name in ("Identity", "Solarize", "Rotate", "Solarize")])
    strength = torch.tensor([0.0, 100.0, 40.0, 200.0])
    made = augmented(batch, mixed, strength)
    alone = [augmented(batch[i : i + 1], mixed[i : i + 1], strength[i : i + 1])[0] for i in range(4)]
    assert torch.equal(made, torch.stack(alone)) and torch.equal(made[0], batch[0])
