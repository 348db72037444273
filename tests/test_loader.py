"""Batches on the device: each image as a plain numpy reference makes it, whoever shares the work."""
from dataclasses import replace

import numpy as np
import pytest
import torch

from wrn_hub.data import ImageDataset
from wrn_hub.data.loader import Augmentation, EvalLoader, TrainLoader, crop_and_flip, cutout_, normalize
from wrn_hub.errors import UserError

MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)
CPU = torch.device("cpu")


def noise(count=10, height=8, width=8, classes=10):
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    names = tuple(str(label) for label in range(classes))
    return ImageDataset("noise", "train", images, np.arange(count) % classes, names)


def train_loader(dataset, batch_size=4, rank=0, world_size=1, **augmentation):
    how = Augmentation(**{"crop_padding": 2, **augmentation})
    return TrainLoader(dataset, batch_size, MEAN, STD, CPU, how, rank, world_size)


def pixels(batch):
    """Normalised batches back to uint8 (B, H, W, 3)."""
    images = batch.permute(0, 2, 3, 1) * torch.tensor(STD) + torch.tensor(MEAN)
    return (images * 255).round().to(torch.uint8).numpy()


def test_images_may_lie_in_memory_in_any_order():
    """As those of the official CIFAR files do, channel by channel."""
    dataset = noise()
    planes = np.ascontiguousarray(dataset.images.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
    for (images, labels), (others, same) in zip(
            train_loader(dataset).epoch(0), train_loader(replace(dataset, images=planes)).epoch(0), strict=True):
        assert torch.equal(images, others) and torch.equal(labels, same)


# crop, mirror, normalise, cut out

@pytest.mark.parametrize("height, width", [(8, 8), (7, 12)])
@pytest.mark.parametrize("padding", [0, 2, 6])
def test_crop_and_flip_is_pad_slice_and_flip(height, width, padding):
    images = noise(20, height, width).images
    draw = np.random.default_rng(1)
    index, shift = draw.integers(0, 20, 50), draw.integers(-padding, padding + 1, (50, 2))
    flip = draw.integers(0, 2, 50).astype(bool)
    made = crop_and_flip(*(torch.from_numpy(array) for array in (images, index, shift, flip)))
    for image, source, (down, right), mirrored in zip(made.numpy(), index, shift, flip, strict=True):
        padded = np.pad(images[source], [(padding, padding)] * 2 + [(0, 0)], mode="reflect")
        cropped = padded[padding + down : padding + down + height, padding + right : padding + right + width]
        assert np.array_equal(image, cropped[:, ::-1] if mirrored else cropped)


def test_normalize_is_the_formula():
    images = noise(5, 6, 7).images
    made = normalize(torch.from_numpy(images), torch.tensor(MEAN), torch.tensor(STD))
    expected = (images / 255 - MEAN) / STD
    assert made.dtype == torch.float32 and made.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(made.numpy(), expected.transpose(0, 3, 1, 2), atol=1e-6)


@pytest.mark.parametrize("size", [1, 4, 5])
def test_cutout_is_a_square_cut_off_at_the_border(size):
    centre = torch.tensor([[5, 5], [0, 0], [9, 3]])
    made = cutout_(torch.ones(3, 2, 10, 12), centre, size)
    for image, (row, column) in zip(made, centre.tolist(), strict=True):
        expected = torch.ones(10, 12)
        top, left = row - size // 2, column - size // 2
        expected[max(top, 0) : top + size, max(left, 0) : left + size] = 0
        assert torch.equal(image, expected.expand(2, -1, -1))


# training

def test_an_epoch_has_every_image_once_but_for_the_last_incomplete_batch():
    dataset = noise(10)
    loader = train_loader(dataset, crop_padding=0, flip="none")
    labels = torch.cat([labels for _, labels in loader.epoch(0)])
    assert len(loader) == 2 and len(labels) == 8 and len(set(labels.tolist())) == 8
    for images, labels in loader.epoch(0):
        assert np.array_equal(pixels(images), dataset.images[labels])  # label i is image i's


def test_alternating_flip_mirrors_every_image_in_every_other_epoch():
    dataset = noise(40, classes=40)
    loader = train_loader(dataset, 40, crop_padding=0)
    mirrored = []
    for epoch in range(4):
        ((images, labels),) = loader.epoch(epoch)
        made = pixels(images)[labels.argsort().numpy()]
        straight = (made == dataset.images).all((1, 2, 3))
        assert ((made == dataset.images[:, :, ::-1]).all((1, 2, 3)) == ~straight).all()
        mirrored.append(~straight)
    assert 5 < mirrored[0].sum() < 35
    assert (mirrored[1] == ~mirrored[0]).all() and (mirrored[2] == mirrored[0]).all()
    assert (mirrored[3] == mirrored[1]).all()


@pytest.mark.parametrize("options", [{}, {"cutout": 3}, {"flip": "none"}, {"flip": "random"}, {"augment": "trivial"}])
def test_two_processes_see_what_one_sees(options):
    dataset = noise(23)
    whole = list(train_loader(dataset, 8, **options).epoch(3))
    first, second = (list(train_loader(dataset, 8, rank=rank, world_size=2, **options).epoch(3)) for rank in (0, 1))
    assert len(whole) == len(first) == len(second) == 2
    for (images, labels), *halves in zip(whole, first, second, strict=True):
        assert torch.equal(images, torch.cat([images for images, _ in halves]))
        assert torch.equal(labels, torch.cat([labels for _, labels in halves]))


def test_an_epoch_depends_on_seed_and_number_alone():
    def epoch(seed, number):
        return torch.cat([images for images, _ in train_loader(noise(20), 20, seed=seed, cutout=2).epoch(number)])

    torch.manual_seed(1)
    first = epoch(0, 5)
    torch.manual_seed(2)
    assert torch.equal(epoch(0, 5), first)
    assert not torch.equal(epoch(0, 6), first) and not torch.equal(epoch(1, 5), first)


def test_smaller_images_on_request():
    for images, _ in train_loader(noise(8, 16, 16), cutout=4).epoch(0, size=8):
        assert images.shape == (4, 3, 8, 8)
    flat = ImageDataset("flat", "train", np.full((4, 16, 16, 3), 100, np.uint8), np.zeros(4, np.int64), ("a",))
    ((images, _),) = train_loader(flat).epoch(0, size=8)
    assert (pixels(images) == 100).all()


def test_a_batch_larger_than_the_dataset_is_the_dataset():
    loader = train_loader(noise(5), 512, world_size=2)
    assert loader.batch_size == 4 and len(loader) == 1


@pytest.mark.parametrize("options, said", [
    ({"batch_size": 5, "world_size": 2}, "choose a multiple of 2"),
    ({"world_size": 16}, "can't be shared evenly by 16"),
    ({"crop_padding": 8}, "crop padding 8: allowed are 0 to 7"),
    ({"crop_padding": -1}, "crop padding -1"),
])
def test_bad_options(options, said):
    with pytest.raises(UserError, match=said):
        train_loader(noise(10), **options)


# evaluation

@pytest.mark.parametrize("count", [1, 7, 10])
@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 12])
def test_evaluation_has_every_image_once_and_in_order(count, world_size):
    dataset = noise(count)
    parts = [
        batch for rank in range(world_size)
        for batch in EvalLoader(dataset, 4, MEAN, STD, CPU, rank=rank, world_size=world_size)]
    assert np.array_equal(np.concatenate([pixels(images) for images, _ in parts]), dataset.images)
    assert torch.cat([labels for _, labels in parts]).tolist() == dataset.labels.tolist()
    assert all(0 < len(labels) <= max(4 // world_size, 1) for _, labels in parts)


def test_evaluation_at_another_size_and_from_a_memory_map(tmp_path):
    dataset = noise(3, 16, 16)
    np.save(tmp_path / "images.npy", dataset.images)
    mapped = ImageDataset(
        "mapped", "test", np.load(tmp_path / "images.npy", mmap_mode="r"), dataset.labels, dataset.classes)
    (native,), (smaller,) = (list(EvalLoader(mapped, 4, MEAN, STD, CPU, size)) for size in (None, 8))
    assert np.array_equal(pixels(native[0]), dataset.images)
    assert smaller[0].shape == (3, 3, 8, 8)
    assert next(iter(train_loader(mapped, 2).epoch(0)))[0].shape == (2, 3, 16, 16)
