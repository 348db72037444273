"""Batches from files: the same ones whoever makes them, from whatever step; what users put into folders."""
import pickle
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from wrn_hub.data import FileDataset, load_files
from wrn_hub.data.encoded import Images
from wrn_hub.data.file_loader import FileAugmentation, FileTrainLoader
from wrn_hub.errors import UserError

MEAN, STD, CPU = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26), torch.device("cpu")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """28 images of two classes in every form in which ImageNet and people have them."""
    folder, draw = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for name in ("cat", "dog"):
        place = folder / "train" / name
        place.mkdir(parents=True)
        for number in range(9):
            height, width = draw.integers(20, 60, 2)
            Image.fromarray(draw.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(place / f"{number}.jpg")
        one = Image.fromarray(draw.integers(0, 256, (40, 30, 3), dtype=np.uint8))
        one.convert("CMYK").save(place / "cmyk.JPEG")
        one.convert("L").save(place / "gray.jpeg")
        one.save(place / "named.JPEG", format="PNG")
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned by a quarter
        one.save(place / "turned.jpg", exif=exif)
    Image.fromarray(np.full((1, 1, 3), 200, np.uint8)).save(folder / "train" / "dog" / "pixel.png")
    Image.fromarray(np.full((30, 90, 3), 90, np.uint8)).save(folder / "train" / "cat" / "wide.webp")
    return load_files(str(folder), "train")


def loader(pictures, workers=0, rank=0, world_size=1, batch_size=8, **augmentation):
    how = FileAugmentation(**{"auto_augment": "rand-m9-mstd0.5-inc1", "reprob": 0.5, **augmentation})
    return FileTrainLoader(pictures, batch_size, MEAN, STD, CPU, 24, how, workers, rank, world_size)


def batches(made):
    return [(images.clone(), labels) for images, labels in made]


def assert_equal(some, others):
    assert len(some) == len(others) > 0
    for (images, labels), (other_images, other_labels) in zip(some, others, strict=True):
        assert torch.equal(images, other_images) and torch.equal(labels, other_labels)


@pytest.mark.parametrize("how", [
    {}, {"auto_augment": None, "color_jitter": 0.4, "remode": "const"}, {"auto_augment": "augmix-m3-w3"},
    {"auto_augment": None, "augment": "trivial"}, {"repeats": 3, "interpolation": "bilinear"}])
def test_workers_processes_and_interruptions_change_no_bit(pictures, how):
    whole = loader(pictures, **how)
    expected = batches(whole.epoch(3))
    assert len(expected) == len(whole) == 3 and not torch.equal(expected[0][0], batches(whole.epoch(4))[0][0])
    for images, labels in expected:
        assert images.shape == (8, 3, 24, 24) and images.dtype == torch.float32 and labels.dtype == torch.int64
        assert images.is_contiguous(memory_format=torch.channels_last)
    by_two = loader(pictures, workers=2, **how)
    list(by_two.epoch(2, 16, 1))  # workers that have made other batches, of another size
    assert_equal(expected, batches(by_two.epoch(3)))
    assert_equal(expected[2:], batches(by_two.epoch(3, first_step=2)))
    next(by_two.epoch(5))  # left in the middle
    assert_equal(expected[1:], batches(by_two.epoch(3, first_step=1)))
    halves = [batches(loader(pictures, rank=rank, world_size=2, **how).epoch(3)) for rank in range(2)]
    joined = [tuple(map(torch.cat, zip(*pair, strict=True))) for pair in zip(*halves, strict=True)]
    assert_equal(expected, joined)


def test_another_seed_draws_otherwise(pictures):
    (first, _), (other, _) = (next(loader(pictures, seed=seed).epoch(0)) for seed in (0, 1))
    assert not torch.equal(first, other)


def test_nothing_random_is_the_image_itself(tmp_path):
    """Cropped whole, resized to its own size: what decode makes of it, normalised."""
    pixels = np.random.default_rng(0).integers(0, 256, (4, 24, 24, 3), dtype=np.uint8)
    for number, image in enumerate(pixels):
        (tmp_path / "train" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "train" / "ab"[number % 2] / f"{number}.png")
    made = loader(
        load_files(str(tmp_path), "train"), batch_size=4, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=False,
        auto_augment=None, reprob=0.0)
    ((images, labels),) = made.epoch(0)
    back = (images.permute(0, 2, 3, 1) * torch.tensor(STD) + torch.tensor(MEAN)) * 255
    found = {image.round().to(torch.uint8).numpy().tobytes(): int(label)
             for image, label in zip(back, labels, strict=True)}
    assert found == {image.tobytes(): number % 2 for number, image in enumerate(pixels)}


def test_images_are_turned_as_people_see_them(tmp_path):
    """The same images upright, and as a phone stores them: turned, with a note of how to turn them back."""
    draw = np.random.default_rng(0)
    for number in range(4):
        pixels = draw.integers(0, 256, (30, 40, 3), dtype=np.uint8)
        exif = Image.Exif()
        exif[0x0112] = 6
        for kind, stored, options in (("seen", pixels, {}), ("stored", np.rot90(pixels), {"exif": exif})):
            path = tmp_path / kind / "train" / "ab"[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.ascontiguousarray(stored)).save(path, **options)
    seen, stored = (load_files(str(tmp_path / kind), "train") for kind in ("seen", "stored"))
    assert_equal(*(batches(loader(each, batch_size=4).epoch(0)) for each in (seen, stored)))


class Counted(Images):
    """Notes which images were read."""

    def __init__(self, images):
        self.images, self.read = images, []

    def __len__(self):
        return len(self.images)

    def __getitem__(self, place):
        self.read.append(place)
        return self.images[place]

    def identity(self):
        return self.images.identity()


def test_every_image_is_decoded_once_an_epoch_over_all_processes(pictures):
    counted = [Counted(pictures.images) for _ in range(2)]
    for rank, images in enumerate(counted):
        split = FileDataset("counted", "train", images, pictures.labels, pictures.classes)
        list(loader(split, rank=rank, world_size=2, batch_size=28).epoch(0))
    assert sorted(counted[0].read + counted[1].read) == list(range(28)) and len(counted[0].read) == 14


def test_copies_of_an_image_are_in_one_batch_and_no_neighbours(pictures):
    images = Counted(pictures.images)
    split = FileDataset("counted", "train", images, pictures.labels, pictures.classes)
    list(loader(split, batch_size=12, repeats=3, auto_augment=None).epoch(0))
    first, second = images.read[:12], images.read[12:]
    for batch in (first, second):
        assert all(batch.count(place) == 3 for place in batch)
        assert all(one != other for one, other in pairwise(batch))
    assert not set(first) & set(second) and len(images.read) == 24


def test_erasing_leaves_the_rest_of_the_image_alone(pictures):
    (plain, _), (erased, _) = (next(loader(pictures, reprob=p, remode="const").epoch(0)) for p in (0.0, 1.0))
    same = (plain == erased).all(dim=1)
    assert ((erased == 0).all(dim=1) | same).all()
    assert (same.float().mean(dim=(1, 2)) < 1).sum() >= 7 and same.float().mean() > 0.5


def test_what_workers_are_given_is_small(pictures):
    assert len(pickle.dumps(loader(pictures).loader.dataset)) < 5000


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_is_gone_is_said_in_one_line(pictures, workers, tmp_path):
    for name in "ab":
        (tmp_path / "train" / name).mkdir(parents=True)
        for number in range(2):
            (tmp_path / "train" / name / f"{number}.jpg").write_bytes(pictures.images[number][1])
    split = load_files(str(tmp_path), "train")
    (tmp_path / "train" / "b" / "0.jpg").write_bytes(pictures.images[0][1][:300])
    (tmp_path / "train" / "a" / "1.jpg").unlink()
    with pytest.raises(UserError) as error:
        list(loader(split, workers, batch_size=2).epoch(0))
    assert "\n" not in str(error.value)
    assert "b/0.jpg can't be decoded" in str(error.value) or "a/1.jpg: No such file" in str(error.value)


KILLING = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"


class Deadly(Counted):
    def __getitem__(self, place):
        exec(KILLING)


def test_a_worker_that_the_system_ends_is_said_in_one_line(pictures):
    split = FileDataset("deadly", "train", Deadly(pictures.images), pictures.labels, pictures.classes)
    with pytest.raises(UserError, match=r"a worker process .* was ended \(.*fewer --workers"):
        list(loader(split, workers=1).epoch(0))


@pytest.mark.parametrize(("how", "said"), [
    ({"auto_augment": "rnd-m9"}, r"auto_augment = 'rnd-m9' \(.*allowed are timm's policies, such as rand-m9"),
    ({"world_size": 3}, "a batch of 8 can't be shared evenly by 3 processes"),
])
def test_bad_options(pictures, how, said):
    with pytest.raises(UserError, match=said):
        loader(pictures, **how)
