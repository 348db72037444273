"""Datasets by name and path: what loads, what it becomes, and what is said where something is wrong."""
import io
import json
import logging
import multiprocessing
import os
import pickle
import resource
import shutil
import signal
import sys
import tarfile
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from wrn_hub.data import file_loader, load_dataset, load_files, sample
from wrn_hub.data.cache import cache_folder, cached
from wrn_hub.data.encoded import decode, resize_and_crop
from wrn_hub.data.file_loader import FileTrainLoader
from wrn_hub.data.hub import CopiedImages
from wrn_hub.data.imagenet import readable, wordnet_ids
from wrn_hub.data.official import FOLDERS, read_pickle
from wrn_hub.data.sources import split_to_measure
from wrn_hub.errors import UserError
from wrn_hub.facts import DATASETS


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    """Every test has caches of its own, and no network."""
    import datasets
    import huggingface_hub

    monkeypatch.setenv("WRN_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")


def noise(count, height=32, width=32, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_official(folder, dataset="cifar10", per_file=10):
    """The official files with a few images each; returns the training split."""
    folder.mkdir(parents=True)
    train, keys = ([f"data_batch_{i}" for i in range(1, 6)], ["labels"])
    test = "test_batch"
    if dataset == "cifar100":
        train, test, keys = ["train"], "test", ["fine_labels", "coarse_labels"]
    every = []
    for number, name in enumerate([*train, test]):
        images = noise(per_file, seed=number)
        labels = (np.arange(per_file) % (100 if dataset == "cifar100" else 10)).tolist()
        content = {"data": images.transpose(0, 3, 1, 2).reshape(per_file, -1), **dict.fromkeys(keys, labels)}
        if dataset == "cifar100":
            content["coarse_labels"] = [label // 5 for label in labels]
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
        every.append((images, labels))
    return np.concatenate([images for images, _ in every[:-1]]), [label for _, labels in every[:-1] for label in labels]


def write_parquet(path, images, labels, names=("cat", "dog"), image="img", label="label", **more):
    """A parquet file as the datasets library writes it; an image is an array, or the cell itself."""
    import datasets

    cells = [{"bytes": png(cell), "path": None} if isinstance(cell, np.ndarray) else cell for cell in images]
    features = {image: datasets.Image(decode=False), label: datasets.ClassLabel(names=list(names))}
    columns = {image: cells, label: labels}
    for name, (feature, values) in more.items():
        features[name], columns[name] = feature, values
    table = datasets.Dataset.from_dict(columns, datasets.Features(features))
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(path)
    return path


def write_folder(folder, count=5, classes=("cat", "dog"), size=(32, 32)):
    """A class folder each, with that many PNGs."""
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for index, pixels in enumerate(noise(count, *size, seed=number)):
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return folder


# the official files

def test_official_files_from_their_parent_or_themselves(tmp_path):
    images, labels = write_official(tmp_path / FOLDERS["cifar10"])
    for data_dir in (tmp_path, tmp_path / FOLDERS["cifar10"]):
        train = load_dataset("cifar10", "train", data_dir)
        assert np.array_equal(train.images, images) and train.labels.tolist() == labels
        assert train.classes == DATASETS["cifar10"].classes
    assert len(load_dataset("cifar10", "test", tmp_path)) == 10
    by_path = load_dataset(str(tmp_path / FOLDERS["cifar10"]), "train")
    assert by_path.name == "cifar10" and by_path.fingerprint == train.fingerprint


def test_official_cifar100_has_fine_labels(tmp_path):
    images, labels = write_official(tmp_path / FOLDERS["cifar100"], "cifar100", 100)
    train = load_dataset("cifar100", "train", tmp_path)
    assert train.labels.tolist() == labels == list(range(100)) and np.array_equal(train.images, images)


def test_official_files_need_neither_datasets_nor_pyarrow(tmp_path, monkeypatch):
    write_official(tmp_path / FOLDERS["cifar10"])
    for name in ("datasets", "pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)  # importing it fails
    assert len(load_dataset("cifar10", "test", tmp_path)) == 10
    with pytest.raises(UserError, match="pip install datasets"):
        load_dataset("cifar10", "test")


class Call:
    """What a pickle would call, and what it would give the result."""

    def __init__(self, function, *arguments, state=None):
        self.made = (function, arguments, state) if state else (function, arguments)

    def __reduce__(self):
        return self.made


def official_array(shape=(1, 3072), data=bytes(3072), dtype=None, fortran=False, kind="u1"):
    """A pickled array as the official files have it, of parts that needn't fit together."""
    dtype = dtype or Call(np.dtype, kind, False, True, state=(3, "|", None, None, None, -1, -1, 0))
    return Call(np.empty(0).__reduce__()[0], np.ndarray, (0,), b"b", state=(1, shape, dtype, fortran, data))


STRUCTURED = Call(np.dtype, "V8", False, True, state=(3, "|", None, ("x",), {"x": (np.dtype("O"), 0)}, 8, 1, 16))


def test_an_array_put_together_of_its_parts_is_read(tmp_path):
    path = tmp_path / "test_batch"
    for protocol in (2, 3, 4):  # 2 is what Python 2 and 3 wrote
        path.write_bytes(pickle.dumps({"data": official_array((1, 3072), noise(1).tobytes())}, protocol))
        (images,) = read_pickle(path, "data")
        assert np.array_equal(images, noise(1).reshape(1, 3, 32, 32).transpose(0, 2, 3, 1))


@pytest.mark.parametrize("content", [
    pytest.param(pickle.dumps({"data": Call(os.mkdir, "executed"), "labels": [0]}, 2), id="code"),
    pytest.param(pickle.dumps({"data": official_array(), "labels": Call(os.mkdir, "executed")}, 4), id="in labels"),
    pytest.param(b"\x80\x02cos\nmkdir\n(X\x08\x00\x00\x00executedtR.", id="code by hand"),
    pytest.param(b"cos\nmkdir\n(S'executed'\ntR.", id="code of protocol 0"),
    pytest.param(b"\x80\x02(X\x08\x00\x00\x00executedios\nmkdir\n.", id="INST"),
    pytest.param(b"\x80\x02}(X\x04\x00\x00\x00datacos\nmkdir\nX\x08\x00\x00\x00executed\x85\x81u.", id="NEWOBJ"),
    pytest.param(pickle.dumps({"data": official_array(dtype=STRUCTURED), "labels": [0]}, 2), id="structured dtype"),
    *(pytest.param(pickle.dumps({"data": official_array(kind=kind), "labels": [0]}, 2), id=f"dtype {kind}")
      for kind in ("O", "V3072", "i8", "S1")),
    *(pytest.param(pickle.dumps({"data": official_array(shape), "labels": [0]}, 2), id=f"shape {shape}")
      for shape in [(2**62, 3072), (-1, 3072), (2, 3072), (3072,), (1, 3072, 2**40), (0, 3072), "ab", 7]),
    pytest.param(pickle.dumps({"data": official_array(fortran=True), "labels": [0]}, 2), id="other order"),
    pytest.param(pickle.dumps({"data": official_array(data=[b"x"] * 3072), "labels": [0]}, 2), id="bytes of objects"),
    pytest.param(pickle.dumps({"data": official_array(data="\u1234" * 3072), "labels": [0]}, 2), id="bytes of text"),
    *(pytest.param(pickle.dumps({"data": official_array(), "labels": labels}, 2), id=f"labels {str(labels)[:9]}")
      for labels in [7, [[0]], ["0"], [0.5], [True], [10**30]]),
    pytest.param(b"\x80\x02" + b"]" * 400_001 + b".", id="too many opcodes"),
    pytest.param(b"\x80\x02}(K\x01K\x02u.", id="a dict by numbers"),
    pytest.param(b"\x80\x02\x8a\xff" + b"\xff" * 100 + b".", id="cut in a number"),
    pytest.param(b"\x80\x04\x8e" + b"\xff" * 8 + b"x.", id="2**64 bytes"),
    pytest.param(b"\x80\x02X\xff\xff\xff\xffx.", id="4 GB of text"),
    *(pytest.param(b"\x80\x02" + code + b".", id=f"nothing on the stack: {code!r}")
      for code in (b"", b"a", b"e", b"s", b"u", b"t", b"R", b"b", b"q\x00", b"h\x00", b"\x87", b"\x93", b"K\x01a")),
    pytest.param(pickle.dumps({"data": noise(1)})[:-100], id="truncated"),
    pytest.param(pickle.dumps({"data": official_array()}, 2), id="no labels"),
    pytest.param(pickle.dumps([1, 2]), id="not a dict"),
    pytest.param(b"<html>404</html>", id="html"),
    pytest.param(b"", id="empty"),
])
def test_other_pickles_are_refused_and_not_run(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    write_official(tmp_path / FOLDERS["cifar10"])
    (tmp_path / FOLDERS["cifar10"] / "test_batch").write_bytes(content)
    with pytest.raises(UserError, match=r"test_batch is not the official file.*download it again") as caught:
        load_dataset("cifar10", "test", tmp_path)
    assert not Path("executed").exists() and "\n" not in str(caught.value)


def test_a_cut_official_file_is_refused_wherever_it_is_cut(tmp_path):
    write_official(tmp_path / "files", per_file=1)
    path = tmp_path / "files" / "test_batch"
    content = path.read_bytes()
    for length in (*range(0, 200, 3), *range(200, len(content), 97), len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(UserError, match="test_batch is not the official file"):
            read_pickle(path, "data", "labels")


def test_an_official_file_of_any_bytes_is_refused_in_one_line(tmp_path):
    write_official(tmp_path / "files", per_file=1)
    path = tmp_path / "files" / "test_batch"
    content, draw = path.read_bytes(), np.random.default_rng(0)
    frame = [place for place in range(len(content)) if place < 130 or place > len(content) - 60]
    for place in frame:  # but for the pixels
        path.write_bytes(content[:place] + bytes([draw.integers(256)]) + content[place + 1 :])
        try:
            images, labels = read_pickle(path, "data", "labels")
        except UserError as error:
            assert "\n" not in str(error)
        else:
            assert images.dtype == np.uint8 and images.shape[1:] == (32, 32, 3) and labels.dtype == np.int64


def test_an_official_file_is_missing(tmp_path):
    write_official(tmp_path / FOLDERS["cifar10"])
    (tmp_path / FOLDERS["cifar10"] / "data_batch_3").unlink()
    with pytest.raises(UserError, match="data_batch_3 is missing"):
        load_dataset("cifar10", "train", tmp_path)


def test_official_images_are_resized_on_demand(tmp_path):
    images, _ = write_official(tmp_path / FOLDERS["cifar10"])
    assert np.array_equal(load_dataset("cifar10", "train", tmp_path, size=32).images, images)
    larger = load_dataset("cifar10", "train", tmp_path, size=48)
    assert larger.images.shape == (50, 48, 48, 3)
    assert np.array_equal(larger.images[7], resize_and_crop(images[7], 48))


# parquet files as on the Hub

@pytest.mark.parametrize("folder", ["uoft-cs/cifar10/plain_text", "uoft-cs/cifar10/data", "uoft-cs/cifar10"])
def test_a_local_copy_of_a_hub_repository(tmp_path, folder):
    images, names = noise(6), DATASETS["cifar10"].classes
    write_parquet(tmp_path / folder / "train-00000-of-00002.parquet", images[:4], [0, 1, 2, 3], names)
    write_parquet(tmp_path / folder / "train-00001-of-00002.parquet", images[4:], [4, 5], names)
    for name, data_dir in [
        ("cifar10", tmp_path), ("cifar10", tmp_path / "uoft-cs" / "cifar10"), ("uoft-cs/cifar10", tmp_path),
        (str(tmp_path / "uoft-cs" / "cifar10"), None),
    ]:
        train = load_dataset(name, "train", data_dir)
        assert np.array_equal(train.images, images) and train.labels.tolist() == [0, 1, 2, 3, 4, 5]
        assert train.name == "cifar10"  # so its statistics are known


def test_columns_are_found_by_their_feature_types(tmp_path):
    import datasets

    write_parquet(
        tmp_path / "org" / "pets" / "data" / "train-00000-of-00001.parquet", noise(3, 20, 30), [1, 0, 1],
        image="photo", label="species", weight=(datasets.Value("float32"), [1.0, 2.0, 3.0]))
    train = load_dataset("org/pets", "train", tmp_path)
    assert train.classes == ("cat", "dog") and train.labels.tolist() == [1, 0, 1]
    assert np.array_equal(train.images, noise(3, 20, 30))


def test_a_cell_may_name_a_file_instead(tmp_path):
    Image.fromarray(noise(1)[0]).save(tmp_path / "a.png")
    path = write_parquet(
        tmp_path / "set" / "train.parquet", [{"bytes": None, "path": str(tmp_path / "a.png")}], [0])
    assert np.array_equal(load_dataset(str(path.parent), "train").images, noise(1))
    (tmp_path / "a.png").unlink()
    shutil.rmtree(cache_folder())
    with pytest.raises(UserError, match="image 0 is missing"):
        load_dataset(str(path.parent), "train")


def test_a_cell_without_an_image(tmp_path):
    write_parquet(tmp_path / "train.parquet", [*noise(1), None], [0, 1])
    with pytest.raises(UserError, match="image 1 is missing"):
        load_dataset(str(tmp_path), "train")


def test_a_cell_that_is_no_image(tmp_path):
    write_parquet(tmp_path / "train.parquet", [*noise(1), {"bytes": b"GIF or so", "path": None}], [0, 1])
    with pytest.raises(UserError, match=r"image 1 can't be decoded.*unknown format"):
        load_dataset(str(tmp_path), "train")


def test_several_or_no_label_columns(tmp_path):
    import datasets

    write_parquet(tmp_path / "a" / "train.parquet", noise(1), [0], coarse=(datasets.ClassLabel(names=["x"]), [0]))
    with pytest.raises(UserError, match=r"several ClassLabel columns \(label, coarse\)"):
        load_dataset(str(tmp_path / "a"), "train")
    (tmp_path / "b").mkdir()
    datasets.Dataset.from_dict({"text": ["a"], "label": [0]}).to_parquet(tmp_path / "b" / "train.parquet")
    with pytest.raises(UserError, match="no Image column among text, label"):
        load_dataset(str(tmp_path / "b"), "train")


def test_labels_that_say_nothing(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = write_parquet(tmp_path / "test.parquet", noise(3), [-1, -1, -1])
    with pytest.raises(UserError, match=r"3 of 3 images have no label \(-1\).*--held-out"):
        load_dataset(str(tmp_path), "test")
    table = pq.read_table(path)
    for labels, said in [([0, None, 1], "1 of 3 images have no label"), ([0, 2, 1], "labels run from 0 to 2")]:
        pq.write_table(table.set_column(1, table.schema.field("label"), pa.array(labels, pa.int64())), path)
        with pytest.raises(UserError, match=said):
            load_dataset(str(tmp_path), "test")
    pq.write_table(table.slice(0, 0), path)
    with pytest.raises(UserError, match="holds no images"):
        load_dataset(str(tmp_path), "test")


def test_a_validation_split_stands_in_for_the_test_split(tmp_path):
    write_parquet(tmp_path / "train.parquet", noise(2), [0, 1])
    with pytest.raises(UserError, match="has no test split, only train; hold out"):
        load_dataset(str(tmp_path), "test")
    write_parquet(tmp_path / "validation.parquet", noise(3), [0, 1, 0])
    assert len(load_dataset(str(tmp_path), "test")) == 3


def test_a_damaged_parquet_file(tmp_path):
    path = write_parquet(tmp_path / "train.parquet", noise(2), [0, 1])
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(UserError, match=r"train.parquet can't be read.*download it again"):
        load_dataset(str(tmp_path), "train")


def test_several_configurations(tmp_path):
    for config in ("large", "small"):
        write_parquet(tmp_path / config / "train.parquet", noise(2), [0, 1])
    with pytest.raises(UserError, match=r"several configurations \(large, small\)"):
        load_dataset(str(tmp_path), "train")
    assert len(load_dataset(str(tmp_path / "small"), "train")) == 2


def test_another_dataset_under_a_known_name(tmp_path):
    write_parquet(tmp_path / "train.parquet", noise(2), [0, 1])
    with pytest.raises(UserError, match="is not uoft-cs/cifar10"):
        load_dataset("cifar10", "train", tmp_path)


def repack(path, **changes):
    """Write a parquet file again with other columns or metadata."""
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    for name, values in changes.items():
        if name == "metadata":
            table = table.replace_schema_metadata({"huggingface": values})
        else:
            table = table.set_column(table.schema.get_field_index(name), name, values)
    pq.write_table(table, path)


def column(name, values, kind=None):
    import pyarrow as pa

    return lambda path: repack(path, **{name: pa.array(values, kind and getattr(pa, kind)())})


def metadata(content):
    return lambda path: repack(path, metadata=content)


def features(**label):
    return json.dumps({"info": {"features": {"img": {"_type": "Image"}, "label": {"_type": "ClassLabel", **label}}}})


def test_splits_that_name_their_classes_in_another_order_are_matched_by_name(tmp_path):
    write_parquet(tmp_path / "train.parquet", noise(3), [0, 1, 2], ("cat", "dog", "fish"))
    write_parquet(tmp_path / "test.parquet", noise(3), [0, 1, 2], ("fish", "cat", "dog"))
    train, test = (load_dataset(str(tmp_path), split) for split in ("train", "test"))
    assert train.classes == test.classes == ("cat", "dog", "fish")
    assert train.labels.tolist() == [0, 1, 2] and test.labels.tolist() == [2, 0, 1]
    (tmp_path / "test.parquet").unlink()
    write_parquet(tmp_path / "dev.parquet", noise(2), [1, 0], ("dog", "cat"))  # may know fewer
    assert load_dataset(str(tmp_path), "test").labels.tolist() == [0, 1]


def test_files_of_a_split_that_name_their_classes_in_another_order(tmp_path):
    write_parquet(tmp_path / "train-0.parquet", noise(2), [0, 1], ("cat", "dog"))
    write_parquet(tmp_path / "train-1.parquet", noise(2), [0, 1], ("dog", "cat"))
    assert load_dataset(str(tmp_path), "train").labels.tolist() == [0, 1, 1, 0]


def test_a_known_dataset_whose_copy_names_its_classes_otherwise(tmp_path):
    facts, folder = DATASETS["cifar100"], tmp_path / "uoft-cs" / "cifar100"
    spelled = [{"crab": "cra"}.get(name, name) for name in facts.classes]  # as the Hub spells it
    write_parquet(folder / "train.parquet", noise(2), [26, 99], spelled, label="fine_label")
    assert load_dataset("cifar100", "train", tmp_path).labels.tolist() == [26, 99]
    write_parquet(folder / "train.parquet", noise(2), [26, 99], spelled[::-1], label="fine_label")
    assert load_dataset("cifar100", "train", tmp_path).labels.tolist() == [73, 0]
    write_parquet(folder / "train.parquet", noise(2), [26, 99], [str(i) for i in range(100)], label="fine_label")
    with pytest.raises(UserError, match=r"train\.parquet has other classes than uoft-cs/cifar100: 0, 1, .*apple"):
        load_dataset("cifar100", "train", tmp_path)


def test_labels_of_a_known_dataset_without_names_are_in_its_order(tmp_path):
    path = tmp_path / "uoft-cs" / "cifar10" / "train.parquet"
    repack(write_parquet(path, noise(2), [3, 9], DATASETS["cifar10"].classes), metadata="{}")
    assert load_dataset("cifar10", "train", tmp_path).labels.tolist() == [3, 9]


@pytest.mark.parametrize("spoil, said", [
    *((metadata(content), "metadata isn't what the datasets library writes")
      for content in (b"{", b"[]", b'{"info": 7}', b'{"info": {"features": [1]}}', b"\xff", b"[" * 100_000)),
    *((metadata(content), "no Image column among img, label")
      for content in (b"{}", b'{"info": null}', b'{"info": {"features": {"img": [{"_type": "Image"}], "label": 3}}}')),
    *((metadata(features(names=names)), "needed is a list of distinct texts")
      for names in (None, 3, "ab", [], [0, 1], ["cat", "cat"], {"0": "cat"})),
    (metadata(features()), "ClassLabel has the names None"),
    (metadata(features(names=["cat", "fish"])),
     r"b\.parquet has other classes than .*a\.parquet: cat, fish there, cat, dog here; fish can't be matched"),
    (lambda path: write_parquet(path, noise(2), [0, 1], image="photo"),
     r"b\.parquet has the columns photo and label, .*train-a\.parquet has img and label"),
    (lambda path: path.write_bytes(path.read_bytes()[:-9]), "download it again"),
    (lambda path: path.write_bytes(path.read_bytes()[:200]), "download it again"),
    (lambda path: path.write_bytes(b""), "download it again"),
    (lambda path: path.write_bytes(b"<html>404</html>"), "download it again"),
    (column("label", ["cat", "dog"]), "labels are of type string, not integers"),
    (column("label", [0.0, 1.0]), "labels are of type double"),
    (column("label", [True, False]), "labels are of type bool"),
    (column("label", [None, None]), "labels are of type null"),
    (column("label", [[0], [1]]), "labels are of type list"),
    (column("label", [0, None]), "1 of 2 images have no label"),
    (column("label", [0, 2]), "labels run from 0 to 2, but 2 classes allow 0 to 1"),
    (column("label", [-2, 1]), "labels run from -2 to 1"),
    (column("label", [0, 2**63 - 1]), "labels run from 0 to 9223372036854775807"),
    (column("label", [0, 2**64 - 2], "uint64"), "labels run from -2 to 0"),
    (column("img", [1, 2]), "images are of type int64, not a struct of bytes and path"),
    (column("img", ["a.png", "b.png"]), "images are of type string"),
    (column("img", [[1, 2], [3]]), "images are of type list"),
    (column("img", [{"pixels": b"x"}] * 2), "images are of type struct<pixels: binary>"),
    (column("img", [{"bytes": "text", "path": None}] * 2), "images are of type struct<bytes: string"),
    (column("img", [{"bytes": None, "path": b"a"}] * 2), "images are of type struct"),
    (column("img", [None, None]), "b.parquet: image 0 is missing"),
    (column("img", [b"x", b"GIF"]), r"b\.parquet: image 0 can't be decoded"),
    (column("img", [{"path": "nowhere.png"}] * 2), "its cell has no bytes and its path is nowhere.png"),
])
def test_a_parquet_file_of_another_kind_among_good_ones(tmp_path, spoil, said):
    write_parquet(tmp_path / "train-a.parquet", noise(2), [0, 1])
    spoil(write_parquet(tmp_path / "train-b.parquet", noise(2), [0, 1]))
    with pytest.raises(UserError, match=said) as caught:
        load_dataset(str(tmp_path), "train")
    assert "train-b.parquet" in str(caught.value) and "\n" not in str(caught.value)


def test_a_parquet_file_of_any_bytes_is_read_or_refused_in_one_line(tmp_path):
    path = write_parquet(tmp_path / "train.parquet", noise(4, 8, 8), [0, 1, 0, 1])
    content, draw = path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for place in draw.integers(len(content) - 900, len(content), 150):  # the end says where everything is
        path.write_bytes(content[:place] + bytes([draw.integers(256)]) + content[place + 1 :])
        try:
            assert load_dataset(str(tmp_path), "train").images.dtype == np.uint8
        except UserError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 30


def test_an_empty_parquet_file_among_good_ones(tmp_path):
    write_parquet(tmp_path / "train-a.parquet", [], [])
    write_parquet(tmp_path / "train-b.parquet", noise(2), [0, 1])
    assert np.array_equal(load_dataset(str(tmp_path), "train").images, noise(2))


@pytest.mark.parametrize("kind", ["binary", "large_binary"])
def test_a_column_of_bytes_is_one_of_images(tmp_path, kind):
    path = write_parquet(tmp_path / "train.parquet", noise(2), [0, 1])
    column("img", [png(pixels) for pixels in noise(2)], kind)(path)
    assert np.array_equal(load_dataset(str(tmp_path), "train").images, noise(2))


# through the Hub

def test_a_hub_dataset_that_the_datasets_library_has_cached(tmp_path, caplog):
    import datasets

    write_parquet(tmp_path / "pets" / "train.parquet", noise(4), [0, 1, 1, 0])
    write_parquet(tmp_path / "pets" / "validation.parquet", noise(2, seed=1), [1, 0])
    datasets.load_dataset(str(tmp_path / "pets"))
    shutil.move(tmp_path / "datasets" / "pets", tmp_path / "datasets" / "org___pets")
    (version,) = (tmp_path / "datasets" / "org___pets").glob("*/*/*/")
    version.rename(version.with_name("0123456789" * 4))  # what comes through the Hub lies under its commit
    train, test = (load_dataset("org/pets", split) for split in ("train", "test"))
    assert np.array_equal(train.images, noise(4)) and train.labels.tolist() == [0, 1, 1, 0]
    assert np.array_equal(test.images, noise(2, seed=1)) and test.classes == ("cat", "dog")
    assert isinstance(train.images, np.memmap)
    assert test.revision == "0123456789" * 4
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


class Loaded(dict):
    """Splits as of the Hub, each with features of its own."""

    hub_id = "org/pets"

    def features(self, name):
        return self[name].features.to_dict()


def test_splits_of_the_hub_are_matched_by_name(monkeypatch):
    import datasets

    def split(*names):
        columns = {"img": [{"bytes": png(pixels), "path": None} for pixels in noise(2)], "label": [0, 1]}
        kinds = {"img": datasets.Image(decode=False), "label": datasets.ClassLabel(names=list(names))}
        return datasets.Dataset.from_dict(columns, datasets.Features(kinds))

    splits = {"train": split("cat", "dog"), "test": split("dog", "cat")}
    monkeypatch.setattr("wrn_hub.data.hub.HubSplits", lambda hub_id, _: Loaded(splits))
    test = load_dataset("org/pets", "test")
    assert test.classes == ("cat", "dog") and test.labels.tolist() == [1, 0]
    splits["test"] = splits["test"].remove_columns("label").add_column(
        "label", [-1, -1], feature=datasets.ClassLabel(names=["dog", "cat"]))
    splits["validation"] = split("dog", "cat")
    assert load_files("org/pets", "test").labels.tolist() == [1, 0]
    splits["test"] = split("dog", "fish")
    with pytest.raises(UserError, match="test split has other classes than org/pets's training split: dog, fish there"):
        load_dataset("org/pets", "test")


@pytest.mark.parametrize("name", ["cifar10", "nobody/nothing"])
def test_no_network(name):
    with pytest.raises(UserError, match=r"the Hub can't be reached and no copy is cached.*--data-dir") as caught:
        load_dataset(name, "train")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("error, said", [
    ("DatasetNotFoundError", "is not on the Hub, or not open to you.*log in"),
    ("DatasetGenerationError", "can't be loaded: two lines; or download it"),
])
def test_what_the_hub_refuses(monkeypatch, error, said):
    import datasets

    def refuse(*_):
        raise getattr(datasets.exceptions, error)("two\nlines")

    monkeypatch.setattr(datasets, "load_dataset_builder", refuse)
    with pytest.raises(UserError, match=said):
        load_dataset("org/name", "train")


# folders of images

def test_a_folder_with_splits(tmp_path):
    write_folder(tmp_path / "train", 3, ("cat", "dog"))
    write_folder(tmp_path / "val", 2, ("dog",))
    (tmp_path / "train" / "cat" / ".DS_Store").write_bytes(b"junk")
    (tmp_path / "train" / "cat" / "notes.txt").write_text("junk")
    train, test = (load_dataset(str(tmp_path), split) for split in ("train", "test"))
    assert train.classes == test.classes == ("cat", "dog")
    assert train.labels.tolist() == [0, 0, 0, 1, 1, 1] and test.labels.tolist() == [1, 1]
    assert np.array_equal(train.images[:3], noise(3, seed=0)) and np.array_equal(train.images[3:], noise(3, seed=1))


def test_a_relative_folder_counts_from_the_data_folder_or_from_here(tmp_path, monkeypatch):
    write_folder(tmp_path / "pets" / "train")
    assert len(load_dataset("pets", "train", tmp_path)) == 10
    monkeypatch.chdir(tmp_path)
    assert len(load_dataset("pets", "train")) == 10


def test_a_folder_without_splits_is_always_split_the_same_way(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    write_folder(tmp_path / "set", 10, ("cat", "dog", "train"))  # a class may be called train
    train, test = (load_dataset(str(tmp_path / "set"), split) for split in ("train", "test"))
    assert np.bincount(train.labels).tolist() == [8, 8, 8] and np.bincount(test.labels).tolist() == [2, 2, 2]
    assert "a fifth of every class is for testing" in caplog.text
    every = {image.tobytes() for image in train.images} | {image.tobytes() for image in test.images}
    assert len(every) == 30  # nothing in both
    shutil.copytree(tmp_path / "set", tmp_path / "copy")
    assert load_dataset(str(tmp_path / "copy"), "test").fingerprint == test.fingerprint


def test_folders_that_are_no_dataset(tmp_path):
    (tmp_path / "train").mkdir()
    Image.fromarray(noise(1)[0]).save(tmp_path / "train" / "a.png")
    for folder in (tmp_path, tmp_path / "train"):  # images without class folders
        with pytest.raises(UserError, match=r"holds no dataset.*FOLDER/train/CLASS"):
            load_dataset(str(folder), "train")


def test_a_folder_with_splits_in_capitals(tmp_path):
    write_folder(tmp_path / "Train", 3, ("cat", "dog"))
    write_folder(tmp_path / "Test", 2, ("cat", "dog"))
    train, test = (load_dataset(str(tmp_path), split) for split in ("train", "test"))
    assert train.classes == ("cat", "dog") and (len(train), len(test)) == (6, 4)


def test_one_class_is_no_dataset(tmp_path):
    """A level too much, as in FOLDER/images/CLASS/*, is one class with everything in it: always right, of no use."""
    write_folder(tmp_path / "images" / "cat", 3, ("tabby", "siamese"))
    with pytest.raises(UserError, match="holds one class, 'images': needed are two or more"):
        load_dataset(str(tmp_path), "train")
    write_folder(tmp_path / "images" / "dog", 3)
    with pytest.raises(UserError, match=r"or is .*/images the dataset\?"):
        load_dataset(str(tmp_path), "train")


def test_an_empty_class_folder(tmp_path):
    write_folder(tmp_path / "train")
    (tmp_path / "train" / "fish").mkdir()
    with pytest.raises(UserError, match="fish holds no images"):
        load_dataset(str(tmp_path), "train")


def test_a_folder_of_trainings_is_no_class_and_a_class_with_a_training_in_it_stays_one(tmp_path):
    write_folder(tmp_path, classes=("cat", "dog", "fish"))
    for run in (tmp_path / "runs" / "pets" / "seed0", tmp_path / "fish"):
        run.mkdir(parents=True, exist_ok=True)
        (run / "args.json").write_text("{}")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".lock").write_text("")
    assert load_files(str(tmp_path), "train").classes == ("cat", "dog", "fish")
    with pytest.raises(UserError, match="runs holds no dataset"):
        load_files(str(tmp_path / "runs"), "train")
    for image in (tmp_path / "fish").glob("*.png"):
        image.unlink()
    (tmp_path / "fish" / "args.json").unlink()
    with pytest.raises(UserError, match="fish holds no images"):
        load_files(str(tmp_path), "train")


def test_a_class_of_one_image_can_t_be_split(tmp_path):
    write_folder(tmp_path, 1)
    with pytest.raises(UserError, match="cat holds one image"):
        load_dataset(str(tmp_path), "train")


def test_a_test_class_that_train_lacks(tmp_path):
    write_folder(tmp_path / "train")
    write_folder(tmp_path / "test", 1, ("cat", "fish"))
    with pytest.raises(UserError, match="fish has no counterpart"):
        load_dataset(str(tmp_path), "test")


def test_a_folder_without_a_test_split(tmp_path):
    write_folder(tmp_path / "train")
    with pytest.raises(UserError, match="has no test split, only train"):
        load_dataset(str(tmp_path), "test")


@pytest.mark.parametrize("train, test", [
    ("Training", "Testing"), ("TRAIN", "Validation"), ("train", "valid"), ("Train", "dev"), ("training", "eval"),
])
def test_the_usual_names_of_splits(tmp_path, train, test):
    write_folder(tmp_path / train, 3)
    write_folder(tmp_path / test, 2)
    found = [load_dataset(str(tmp_path), split) for split in ("train", "test")]
    assert [len(split) for split in found] == [6, 4] and {split.classes for split in found} == {("cat", "dog")}


def test_a_test_split_comes_before_a_validation_split(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    for number, name in enumerate(("train", "Test", "testing", "val"), start=1):
        write_folder(tmp_path / name, number)
    assert len(load_dataset(str(tmp_path), "test")) == 4
    assert "Test is taken for test, not testing" in caplog.text


@pytest.mark.parametrize("names", [("check", "learn"), ("Testing", "fold1"), ("fold1", "fold2", "fold3")])
def test_splits_of_unknown_names_are_no_classes(tmp_path, names):
    for name in names:
        write_folder(tmp_path / name, 3)
    with pytest.raises(UserError, match=rf"{names[0]}, .* hold the same folders \(cat, dog\).*rename them to train"):
        load_dataset(str(tmp_path), "train")


def test_classes_may_have_folders_of_their_own(tmp_path):
    write_folder(tmp_path / "cat", 3, ("images", "more"))
    write_folder(tmp_path / "dog", 3, ("images", "others"))
    assert load_dataset(str(tmp_path), "train").classes == ("cat", "dog")


def test_what_hides_in_a_class_folder_is_no_image(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    write_folder(tmp_path / "train", 3)
    for hidden in (".ipynb_checkpoints", "__MACOSX", ".thumbnails/large"):
        for place in (tmp_path / "train" / "cat" / hidden, tmp_path / "train" / hidden):
            place.mkdir(parents=True)
            Image.fromarray(noise(1)[0]).save(place / "0-checkpoint.png")
    for name in ("._0.png", ".DS_Store"):
        (tmp_path / "train" / "cat" / name).write_bytes(b"junk")
    train = load_dataset(str(tmp_path), "train")
    assert len(train) == 6 and train.classes == ("cat", "dog")
    assert "are no images" not in caplog.text


def test_files_of_other_formats_are_counted(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    write_folder(tmp_path / "train", 3)
    for number, suffix in enumerate([".txt", ".txt", ".HEIC", ""]):
        (tmp_path / "train" / "dog" / f"{number}{suffix}").write_bytes(b"x")
    assert len(load_dataset(str(tmp_path), "train")) == 6
    assert f"4 of 10 files in {tmp_path / 'train'} are no images: .txt 2, .heic 1, no suffix 1" in caplog.text


def test_a_class_of_other_formats_says_which(tmp_path):
    write_folder(tmp_path / "train")
    (tmp_path / "train" / "fish").mkdir()
    (tmp_path / "train" / "fish" / "1.HEIC").write_bytes(b"x")
    with pytest.raises(UserError, match=r"fish holds no images \(.*\), only \.heic 1: add some"):
        load_dataset(str(tmp_path), "train")


def test_a_split_of_an_unknown_name_beside_train(tmp_path):
    for name in ("train", "holdout"):
        write_folder(tmp_path / name)
    with pytest.raises(UserError, match="has no test split, only holdout, train; hold out"):
        load_dataset(str(tmp_path), "test")


@pytest.mark.parametrize("inside, said", [
    ("0.png", r"test holds images without class folders, so without labels: sort them into test/CLASS/\*.*--held-out"),
    (None, "test holds no class folders"),
])
def test_a_test_folder_without_labels(tmp_path, inside, said):
    write_folder(tmp_path / "train", 3)
    (tmp_path / "test").mkdir()
    if inside:
        Image.fromarray(noise(1)[0]).save(tmp_path / "test" / inside)
    with pytest.raises(UserError, match=said):
        load_dataset(str(tmp_path), "test")
    assert len(load_dataset(str(tmp_path), "train")) == 6


def test_classes_that_the_test_split_lacks_are_named(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    write_folder(tmp_path / "train", 1)
    write_folder(tmp_path / "test", 1, ("dog",))
    load_dataset(str(tmp_path), "test")
    assert "has no images of 1 of 2 classes: cat" in caplog.text


def test_file_names_of_other_encodings(tmp_path):
    write_folder(tmp_path / "set", 4)
    os.rename(tmp_path / "set" / "cat" / "0.png", os.fsencode(tmp_path / "set" / "cat") + b"/caf\xe9.png")
    assert len(load_dataset(str(tmp_path / "set"), "train")) + len(load_dataset(str(tmp_path / "set"), "test")) == 8
    Path(os.fsdecode(os.fsencode(tmp_path / "set" / "cat") + b"/caf\xe9.png")).write_bytes(b"x")
    with pytest.raises(UserError, match=r"caf\\xe9\.png can't be decoded"):
        [load_dataset(str(tmp_path / "set"), split) for split in ("train", "test")]
    os.rename(tmp_path / "set" / "cat", os.fsencode(tmp_path / "set") + b"/caf\xe9")
    with pytest.raises(UserError, match=r"caf\\xe9: the folder's name isn't text in UTF-8.*rename it"):
        load_dataset(str(tmp_path / "set"), "train")


@pytest.mark.parametrize("content", [b"", b"not an image", png(noise(1)[0])[:200]])
def test_an_image_that_doesn_t_decode_is_named(tmp_path, content):
    write_folder(tmp_path / "train")
    (tmp_path / "train" / "dog" / "bad.png").write_bytes(content)
    with pytest.raises(UserError, match=r"train/dog/bad\.png can't be decoded"):
        load_dataset(str(tmp_path), "train")
    assert not cache_folder().exists()


# pixels

def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_images_of_other_modes_become_rgb():
    pixels = noise(1, 8, 6)[0]
    rgb, gray = Image.fromarray(pixels), pixels[:, :, 0]
    assert np.array_equal(decode(encoded(rgb), ""), pixels)
    assert np.array_equal(decode(encoded(rgb, "BMP"), ""), pixels)
    assert np.array_equal(decode(encoded(Image.fromarray(gray)), ""), np.stack([gray] * 3, axis=2))
    alpha = Image.fromarray(np.dstack([pixels, gray]))
    assert np.array_equal(decode(encoded(alpha), ""), pixels)
    deep = Image.fromarray(gray.astype(np.uint16) * 256 + 77)  # 16 bits
    assert np.array_equal(decode(encoded(deep), ""), np.stack([gray] * 3, axis=2))
    for most in (65535, 1023):  # a PGM file says what white is
        values = (gray.astype(np.uint32) * most // 255).astype(">u2")
        found = decode(b"P5 6 8 %d\n" % most + values.tobytes(), "")
        assert np.array_equal(found, np.stack([values.astype(np.uint32) * 65535 // most >> 8] * 3, axis=2))
    palette = rgb.quantize(16)
    assert np.array_equal(decode(encoded(palette), ""), np.asarray(palette.convert("RGB")))
    assert np.array_equal(decode(encoded(palette, transparency=0), ""), np.asarray(palette.convert("RGB")))
    bilevel = Image.fromarray(gray > 127)
    assert np.array_equal(decode(encoded(bilevel), "")[:, :, 2], np.where(gray > 127, 255, 0))


def test_cmyk_and_exif():
    red = Image.new("RGB", (16, 8), (255, 0, 0))
    decoded = decode(encoded(red.convert("CMYK"), "JPEG", quality=95), "")
    assert decoded.shape == (8, 16, 3) and np.abs(decoded.astype(int) - (255, 0, 0)).max() < 8
    upright = noise(1, 8, 6)[0]
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned by a quarter to the left
    turned = encoded(Image.fromarray(np.ascontiguousarray(np.rot90(upright))), "PNG", exif=exif)
    assert np.array_equal(decode(turned, ""), upright)


def test_pixels_without_a_known_range():
    with pytest.raises(UserError, match="mode F have no known range"):
        decode(encoded(Image.new("F", (4, 4)), "TIFF"), "x.tif")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "PPM"])
def test_an_image_of_any_bytes_is_decoded_or_refused_in_one_line(kind):
    content, draw = encoded(Image.fromarray(noise(1, 24, 24)[0]), kind), np.random.default_rng(0)
    for length in draw.integers(0, len(content), 20):
        place = draw.integers(0, 60)
        for spoilt in (content[:length], content[:place] + bytes([draw.integers(256)]) + content[place + 1 :]):
            try:
                assert decode(spoilt, "dog.img").dtype == np.uint8
            except UserError as error:
                assert str(error).startswith("dog.img can't be decoded (") and "\n" not in str(error)


def header(width, height):
    """A PNG that says it is so large, and holds nothing."""
    def chunk(kind, data):
        return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)

    size = width.to_bytes(4) + height.to_bytes(4)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size + bytes([8, 2, 0, 0, 0])) + chunk(b"IDAT", zlib.compress(b""))


@pytest.mark.parametrize("content, said", [
    (header(20_000, 20_000), r"bomb\.png can't be decoded \(Image size \(400000000 pixels\) exceeds limit"),
    (header(2**31 - 1, 2**31 - 1), r"bomb\.png can't be decoded"),
    (header(170_000_000, 1), r"bomb\.png can't be decoded \(170000000x1 pixels are 1000 times as long as wide"),
    (header(1, 100_000), r"bomb\.png can't be decoded \(1x100000 pixels"),
])
@pytest.mark.filterwarnings("error")
def test_an_image_that_would_fill_the_memory(content, said):
    with pytest.raises(UserError, match=said) as caught:
        decode(content, "bomb.png")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("height, width", [(50, 41), (41, 50), (32, 45), (20, 31), (1, 9), (64, 64)])
def test_resizing_is_torchvision_s(height, width):
    pixels = noise(1, height, width)[0]
    reference = v2.Compose([v2.Resize(32, v2.InterpolationMode.BICUBIC), v2.CenterCrop(32)])(Image.fromarray(pixels))
    assert np.array_equal(resize_and_crop(pixels, 32), np.asarray(reference))


def test_images_of_the_right_size_stay_as_they_are():
    assert np.array_equal(resize_and_crop(noise(1)[0], 32), noise(1)[0])


def test_images_of_several_sizes_need_a_size(tmp_path):
    write_folder(tmp_path / "train", 2, ("cat",), (30, 40))
    write_folder(tmp_path / "train", 2, ("dog",), (32, 32))
    with pytest.raises(UserError, match=r"30x40 and 32x32 among them.*--image-size"):
        load_dataset(str(tmp_path), "train")
    train = load_dataset(str(tmp_path), "train", size=32)
    assert train.images.shape == (4, 32, 32, 3)
    assert np.array_equal(train.images[2:], noise(2))  # these had the size already


# the cache

def test_decoded_once_and_memory_mapped_after(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    folder = write_folder(tmp_path / "set" / "train").parent
    first, second = (load_dataset(str(folder), "train") for _ in range(2))
    assert isinstance(second.images, np.memmap) and not second.images.flags.writeable
    assert second.fingerprint == first.fingerprint and caplog.text.count("decoded 10 images") == 1
    load_dataset(str(folder), "train", size=16)  # another size is another entry
    Image.fromarray(noise(1, seed=9)[0]).save(folder / "train" / "cat" / "0.png")  # and so is another content
    assert np.array_equal(load_dataset(str(folder), "train").images[0], noise(1, seed=9)[0])
    assert caplog.text.count("decoded 10 images") == 3


def flipped(content, place):
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def saved(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue() + bytes(32)


@pytest.mark.parametrize("damage", [
    pytest.param(lambda content: content[:-1], id="cut by a byte"),
    pytest.param(lambda content: content[:-32], id="without its checksum"),
    pytest.param(lambda content: content[:20], id="cut in the header"),
    pytest.param(lambda content: content + b"x", id="longer"),
    pytest.param(lambda content: b"", id="empty"),
    pytest.param(lambda content: b"junk", id="junk"),
    pytest.param(lambda content: flipped(content, 128), id="the first pixel"),
    pytest.param(lambda content: flipped(content, 20_000), id="a pixel"),
    pytest.param(lambda content: flipped(content, -33), id="the last pixel"),
    pytest.param(lambda content: flipped(content, -5), id="the checksum"),
    pytest.param(lambda content: content.replace(b"(10, 32, 32, 3)", b"(10, 16, 64, 3)"), id="another shape"),
    pytest.param(lambda content: content.replace(b"(10, 32, 32, 3)", b"(10, 32, 32, 4)"), id="more channels"),
    pytest.param(lambda content: content.replace(b"(10, 32, 32, 3)", b"(10, 2**99, 2, 3)"), id="no shape"),
    pytest.param(lambda content: content.replace(b"'fortran_order': False", b"'fortran_order': True "), id="order"),
    pytest.param(lambda content: content.replace(b"|u1", b"|i1"), id="another type"),
    pytest.param(lambda content: content.replace(b"|u1", b"|O "), id="objects"),
    pytest.param(lambda content: saved(noise(10, 8, 8)), id="other images"),
    pytest.param(lambda content: saved(np.zeros(7)), id="another array"),
    pytest.param(lambda content: saved(np.uint8(7)), id="a number"),
])
def test_a_damaged_entry_is_made_again(tmp_path, damage, caplog):
    caplog.set_level(logging.INFO)
    folder = write_folder(tmp_path / "set" / "train").parent
    whole = load_dataset(str(folder), "train").fingerprint
    (entry,) = cache_folder().iterdir()
    content = entry.read_bytes()
    assert damage(content) != content
    entry.write_bytes(damage(content))
    assert load_dataset(str(folder), "train").fingerprint == whole
    assert "is damaged; decoding again" in caplog.text
    assert load_dataset(str(folder), "train").fingerprint == whole
    assert caplog.text.count("decoded 10 images") == 2


def test_an_entry_under_another_s_name_is_made_again(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    for name, seed in (("a", 1), ("b", 2)):
        write_folder(tmp_path / name / "train", classes=(f"{seed}", "x"))
        Image.fromarray(noise(1, seed=seed)[0]).save(tmp_path / name / "train" / f"{seed}" / "0.png")
    load_dataset(str(tmp_path / "a"), "train")
    (first,) = cache_folder().iterdir()
    load_dataset(str(tmp_path / "b"), "train")
    (second,) = set(cache_folder().iterdir()) - {first}
    shutil.copy(first, second)
    assert np.array_equal(load_dataset(str(tmp_path / "b"), "train").images[0], noise(1, seed=2)[0])
    assert f"{second.name} is damaged" in caplog.text


def test_a_header_of_any_bytes_is_no_reason_to_fail(tmp_path):
    source = tmp_path / "source"
    source.write_text("x")
    images = noise(2, 4, 4)
    kept = cached("x", [source], "", 2, 4, lambda: images)
    (entry,) = cache_folder().iterdir()
    content = entry.read_bytes()
    for place in range(0, 128, 3):
        entry.write_bytes(content[:place] + bytes([(place * 37) % 256]) + content[place + 1 :])
        assert np.array_equal(cached("x", [source], "", 2, 4, lambda: images), images)
    assert np.array_equal(kept, images)


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    source = tmp_path / "source"
    source.write_text("x")

    def interrupted(*_):
        assert list(cache_folder().glob(".writing-*/*.npy"))  # it was on its way
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cached("x", [source], "", 2, None, lambda: noise(2))
    assert not list(cache_folder().iterdir())


def in_processes(*targets):
    """Run functions in forked processes at once; their exit codes."""
    processes = [multiprocessing.get_context("fork").Process(target=target) for target in targets]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def test_a_process_killed_while_it_writes(tmp_path, monkeypatch):
    folder = write_folder(tmp_path / "set" / "train").parent
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: os.kill(os.getpid(), signal.SIGKILL))
        assert in_processes(lambda: load_dataset(str(folder), "train")) == [-signal.SIGKILL]
    assert not list(cache_folder().glob("*.npy"))
    assert isinstance(load_dataset(str(folder), "train").images, np.memmap)


def test_two_processes_at_once(tmp_path, monkeypatch):
    folder = write_folder(tmp_path / "set" / "train").parent
    both_are_writing = multiprocessing.get_context("fork").Barrier(2)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: both_are_writing.wait(60))

        def load():
            assert np.array_equal(load_dataset(str(folder), "train").images[:5], noise(5))

        assert in_processes(load, load) == [0, 0]
    assert len(list(cache_folder().iterdir())) == 1


def test_a_cache_that_can_t_be_written(tmp_path, monkeypatch, caplog):
    folder = write_folder(tmp_path / "set" / "train").parent
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("WRN_HUB_CACHE", str(tmp_path / "file"))
    train = load_dataset(str(folder), "train")
    assert np.array_equal(train.images[:5], noise(5)) and not isinstance(train.images, np.memmap)
    assert [record.levelname for record in caplog.records] == ["WARNING"] and "stay in memory" in caplog.text


def test_a_full_disk(tmp_path, caplog):
    folder = write_folder(tmp_path / "set" / "train").parent
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))  # as good as full: no file grows beyond it
    try:
        train = load_dataset(str(folder), "train")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert np.array_equal(train.images[:5], noise(5)) and caplog.text.count("stay in memory") == 1
    assert not list(cache_folder().iterdir())


def test_where_the_cache_is(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "cache" / "datasets"
    monkeypatch.delenv("WRN_HUB_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder() == Path("/xdg/wrn_hub/datasets")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path("~/.cache/wrn_hub/datasets").expanduser()


# the sample

def test_the_sample():
    train, test = (load_dataset("sample", split) for split in ("train", "test"))
    assert train.images.shape == (2000, 32, 32, 3) and test.images.shape == (1000, 32, 32, 3)
    assert np.bincount(train.labels).tolist() == [100] * 20 and np.bincount(test.labels).tolist() == [50] * 20
    assert train.classes == test.classes and train.classes[-1] == "vehicles_2"
    assert train.fingerprint.startswith("c1d7b7b9996f") and test.fingerprint.startswith("445f65200d44")
    assert 110 < train.images.mean() < 130  # photographs, not noise


def test_the_sample_is_a_dataset_to_the_datasets_library():
    import datasets

    splits = datasets.load_dataset(str(sample.SAMPLE))
    assert {name: len(split) for name, split in splits.items()} == {"train": 2000, "test": 1000}
    assert tuple(splits["train"].features["label"].names) == load_dataset("sample", "train").classes
    assert splits["test"][0]["img"].size == (32, 32)


def test_the_sample_is_drawn_the_same_way_again(tmp_path, monkeypatch):
    monkeypatch.setattr(sample, "PER_CLASS", {"train": 2, "test": 1})
    source = tmp_path / FOLDERS["cifar100"]
    images, labels = write_official(source, "cifar100", 300)
    (source / "meta").write_bytes(pickle.dumps({"coarse_label_names": [f"super{i}" for i in range(20)]}, protocol=2))
    drawn = []
    for folder in (tmp_path / "once", tmp_path / "again"):
        folder.mkdir()
        drawn.append([path.read_bytes() for path in sample.draw_sample(source, folder)])
    assert drawn[0] == drawn[1]
    train = load_dataset(str(tmp_path / "once"), "train")
    fine = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    found = [fine[image.tobytes()] for image in train.images]  # pixel for pixel one of the training split
    assert np.bincount(found).tolist() == [2] * 100 and [label // 5 for label in found] == train.labels.tolist()
    assert train.classes[19] == "super19"


# names

@pytest.mark.parametrize("name, split, options, said", [
    ("cifra10", "train", {}, "dataset 'cifra10' is neither a folder nor known.*Did you mean 'cifar10'"),
    ("cifar10", "dev", {}, "split 'dev': allowed are train and test"),
    ("cifar10", "train", {"size": 0}, "size 0"),
    ("sample", "train", {"size": 10**9}, "size 1000000000: allowed is 1 to 10000 pixels"),
    ("cifar10", "train", {"data_dir": "/no/such"}, "data folder /no/such"),
    ("cifar10", "train", {"data_dir": "."}, "holds no cifar10: needed is cifar-10-batches-py/"),
    ("svhn", "train", {"data_dir": "."}, "holds no svhn: needed is ufldl-stanford/svhn/"),
    ("org/name", "train", {"data_dir": "."}, "holds no org/name"),
    ("cifar10", "train", {"data_dir": "~nosuch/x"}, "~nosuch/x: Could not determine home directory"),
    ("~nosuch/x", "train", {}, "~nosuch/x: Could not determine home directory"),
])
def test_bad_names_and_options(tmp_path, monkeypatch, name, split, options, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=said) as caught:
        load_dataset(name, split, **options)
    assert "\n" not in str(caught.value)


# images that stay in their files

def kinds_of_sources(tmp_path):
    """The same ten images as a folder, as two parquet files of several groups of rows, and as two tars."""
    import pyarrow.parquet as pq

    images, labels = noise(10, 32), [0] * 5 + [1] * 5
    for number, pixels in enumerate(images):
        path = tmp_path / "folder" / "train" / f"class{number // 5}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(pixels))
    write_parquet(tmp_path / "parquet" / "train-00000-of-00002.parquet", images[:3], labels[:3])
    write_parquet(tmp_path / "parquet" / "train-00001-of-00002.parquet", images[3:], labels[3:])
    for path in (tmp_path / "parquet").iterdir():
        table = pq.read_table(path)
        pq.write_table(table, path, row_group_size=2)
    for part, start, stop in ((0, 0, 3), (1, 3, 10)):
        write_tar(tmp_path / "tars" / f"pets-train-000{part}.tar", images[start:stop], labels[start:stop], start)
    return images, labels


def test_parquet_of_large_groups_is_copied_once_for_reading_in_any_order(tmp_path, monkeypatch, caplog):
    """What is read of the files doesn't grow with their groups, and each image is decoded once an epoch."""
    import pyarrow.parquet as pq

    caplog.set_level(logging.INFO)
    images = noise(40)
    for number in range(2):
        write_parquet(tmp_path / f"train-{number}.parquet", images[20 * number :][:20], [0, 1] * 10)  # groups of 20
    files = load_files(str(tmp_path), "train")
    copied = replace(files, images=files.images.in_any_order())
    assert copied.fingerprint == files.fingerprint and caplog.text.count("are copied to") == 1
    assert [copied.images[place] for place in (39, 0, 21)] == [files.images[place] for place in (39, 0, 21)]
    held, _ = files.held_out(8)
    assert isinstance(held.images.in_any_order().images, CopiedImages)

    reads, read = [], pq.ParquetFile.read_row_group
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", lambda *args, **how: reads.append(1) or read(*args, **how))
    decoded, usual = [], file_loader.decoded
    monkeypatch.setattr(
        file_loader, "decoded", lambda data, name, upright: decoded.append(name) or usual(data, name, upright))
    made = [
        list(FileTrainLoader(split, 8, (0.5,) * 3, (0.2,) * 3, torch.device("cpu"), 32).epoch(0))
        for split in (copied, files)]
    assert sorted(decoded[:40]) == sorted(map(files.images.name, range(40))) and decoded[40:] == decoded[:40]
    assert 10 < len(reads) <= 40  # all of them of the original
    assert all(torch.equal(one, other) for (one, _), (other, _) in zip(*made, strict=True))

    table = pq.read_table(tmp_path / "train-0.parquet")
    pq.write_table(table, tmp_path / "train-0.parquet", row_group_size=4)
    (tmp_path / "train-1.parquet").unlink()
    small = load_files(str(tmp_path), "train").images
    assert small.in_any_order() is small


def test_where_no_copy_can_be_made_the_original_is_read(tmp_path, monkeypatch, caplog):
    write_parquet(tmp_path / "train.parquet", noise(12), [0, 1] * 6)
    (tmp_path / "cache").write_text("a file where the caches' folder should be")
    images = load_files(str(tmp_path), "train").images
    assert images.in_any_order() is images and "no copy could be made (" in caplog.text


def write_tar(path, images, labels, start=0, left_out=()):
    """WebDataset's layout: of each sample an image, its label, and JSON that nobody asks for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for number, (pixels, label) in enumerate(zip(images, labels, strict=True), start):
            for kind, content in (("cls", str(label).encode()), ("json", b"{}"), ("png", png(pixels))):
                if (number, kind) not in left_out:
                    member = tarfile.TarInfo(f"{number:05d}.{kind}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("kind", ["folder", "parquet", "tars"])
def test_images_in_files_are_read_one_by_one_by_whoever_has_them(tmp_path, kind):
    images, labels = kinds_of_sources(tmp_path)
    files = load_files(str(tmp_path / kind), "train")
    assert len(files) == 10 and files.labels.tolist() == labels
    for place in [7, 0, 9, 3, 3, 2]:
        where, data = files.images[place]
        assert np.array_equal(decode(data, where), images[place])
    worker = pickle.loads(pickle.dumps(files))
    assert [data for _, data in worker.images] == [files.images[place][1] for place in range(10)]
    assert worker.fingerprint == files.fingerprint
    assert np.array_equal(load_dataset(str(tmp_path / kind), "train").images, images)

    some = files.subset(np.array([8, 1, 5])).subset(np.array([2, 0]))
    assert [data for _, data in some.images] == [files.images[place][1] for place in (5, 8)]
    assert some.labels.tolist() == [1, 1] and some.fingerprint != files.fingerprint
    rest, held = files.held_out(4, seed=3)
    same = load_dataset(str(tmp_path / kind), "train").held_out(4, seed=3)
    assert [decode(data, where).tolist() for where, data in held.images] == same[1].images.tolist()
    assert len(rest) == 6 and held.labels.tolist() == [0, 0, 1, 1]


def test_tars_are_listed_once_and_their_classes_are_numbers_or_a_known_datasets(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    write_tar(tmp_path / "imagenet1k-train-0000.tar", noise(4), [7, 985, 10, 9])
    write_tar(tmp_path / "imagenet1k-validation-00.tar", noise(2, seed=1), [10, 9])
    train, test = (load_files(str(tmp_path), split) for split in ("train", "test"))
    assert train.classes == test.classes == ("7", "9", "10", "985") and test.labels.tolist() == [2, 1]
    assert test.images.name(1) == f"{tmp_path / 'imagenet1k-validation-00.tar'}: 00001.png"
    assert caplog.text.count("listing the members of 1 tars") == 2
    monkeypatch.setattr(tarfile, "open", None)
    known = load_files("imagenet-1k", "test", tmp_path)
    assert known.classes == wordnet_ids() and known.labels.tolist() == [10, 9]
    assert load_files("timm/imagenet-1k-wds", "train", tmp_path).labels.tolist() == [7, 985, 10, 9]
    assert split_to_measure(str(tmp_path)) == "test"
    write_folder(tmp_path / "train", 1, ["a", "b"])  # unpacked, the folders count
    assert load_files(str(tmp_path), "train").classes == ("a", "b")


def test_what_is_wrong_with_a_tar_is_said_in_one_line(tmp_path):
    path = write_tar(tmp_path / "train.tar", noise(2), [0, 1], left_out=[(1, "cls")])
    with pytest.raises(UserError, match=r"train\.tar: 00001 has an image and no label \(\.cls\)"):
        load_files(str(tmp_path), "train")
    write_tar(path, noise(2), [0, 1], left_out=[(0, "png")])
    with pytest.raises(UserError, match=r"train\.tar: 00000 has a label and no image"):
        load_files(str(tmp_path), "train")
    write_tar(path, noise(2), [0, 1])
    with pytest.raises(UserError, match="has no test split, only train; hold out"):
        load_files(str(tmp_path), "test")
    with pytest.raises(UserError, match="holds no table, so no columns"):
        load_files(str(tmp_path), "train", label_column="cls")
    for damage in (path.read_bytes()[:3000], b"no tar at all" * 100):
        path.write_bytes(damage)
        with pytest.raises(UserError, match=r"train\.tar can't be read \(.*download it again"):
            load_files(str(tmp_path), "train")


def test_official_files_are_images_too(tmp_path):
    images, labels = write_official(tmp_path / FOLDERS["cifar10"])
    files = load_files("cifar10", "train", tmp_path)
    assert np.array_equal(decode(files.images[7][1], ""), images[7]) and files.labels.tolist() == labels


def test_the_fingerprint_of_files_is_that_of_their_names_sizes_and_labels(tmp_path):
    kinds_of_sources(tmp_path)
    shutil.copytree(tmp_path / "folder", tmp_path / "copy")
    first, copy = (load_files(str(tmp_path / name), "train").fingerprint for name in ("folder", "copy"))
    assert first == copy
    (tmp_path / "copy" / "train" / "class0" / "0.png").write_bytes(b"another size")
    assert load_files(str(tmp_path / "copy"), "train").fingerprint != first
    (tmp_path / "folder" / "train" / "class0" / "0.png").rename(tmp_path / "folder" / "train" / "class1" / "0.png")
    assert load_files(str(tmp_path / "folder"), "train").fingerprint != first


def test_an_image_that_is_gone_is_named(tmp_path):
    kinds_of_sources(tmp_path)
    files = load_files(str(tmp_path / "folder"), "train")
    (tmp_path / "folder" / "train" / "class1" / "6.png").unlink()
    with pytest.raises(UserError, match=r"class1/6\.png: No such file"):
        files.images[6]


# what a split is, and what its classes are called

def test_folders_called_by_numbers_are_classes_in_their_order(tmp_path):
    write_folder(tmp_path / "set" / "train", 1, [str(number) for number in range(12)])
    write_folder(tmp_path / "set" / "val", 1, ["2", "10"])
    test = load_files(str(tmp_path / "set"), "test")
    assert test.classes == tuple(map(str, range(12))) and test.labels.tolist() == [2, 10]


def test_a_folder_without_splits_is_taken_whole_where_it_is_measured(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    whole, split = write_folder(tmp_path / "whole"), write_folder(tmp_path / "split" / "val").parent
    assert split_to_measure(str(whole)) == "all" and split_to_measure(str(split)) == "test"
    assert len(load_files(str(whole), "all")) == 10 and "it is taken whole" in caplog.text
    assert len(load_files(str(whole), "test")) == 2
    assert len(load_files(str(split), "test")) == 10  # a validation split alone
    with pytest.raises(UserError, match="it has splits, so 'all' is none of them"):
        load_files(str(split), "all")
    with pytest.raises(UserError, match="no train split, only val"):
        load_files(str(split), "train")


def test_a_test_split_without_labels_gives_way_to_validation(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    write_parquet(tmp_path / "train.parquet", noise(2), [0, 1])
    write_parquet(tmp_path / "test.parquet", noise(3), [-1, -1, -1])
    with pytest.raises(UserError, match="3 of 3 images have no label"):
        load_files(str(tmp_path), "test")
    write_parquet(tmp_path / "validation.parquet", noise(2, seed=1), [1, 0])
    assert load_files(str(tmp_path), "test").labels.tolist() == [1, 0]
    assert "test has no labels, all are -1; validation is taken instead" in caplog.text


def test_imagenet_is_known_by_its_ids_in_folders_and_by_words_on_the_hub(tmp_path):
    ids = wordnet_ids()
    write_folder(tmp_path / "folders" / "val", 1, [ids[985], ids[7]])
    found = load_files("imagenet-1k", "test", tmp_path / "folders")
    assert found.name == "imagenet-1k" and found.classes == ids and found.labels.tolist() == [7, 985]
    words = [f"word {number}" for number in range(1000)]
    write_parquet(
        tmp_path / "copy" / "data" / "validation-00000-of-00001.parquet", noise(2), [985, 7], names=words,
        image="image")
    copy = load_files("ILSVRC/imagenet-1k", "test", tmp_path / "copy")
    assert copy.classes == ids and copy.labels.tolist() == [985, 7]
    assert readable([ids[0], "cat"]) == ["tench", "cat"]
    write_folder(tmp_path / "other" / "val", 1, [ids[0], "cat"])
    with pytest.raises(UserError, match=r"other classes than ImageNet-1k: .*cat can't be matched"):
        load_files("imagenet-1k", "test", tmp_path / "other")
    with pytest.raises(UserError, match=r"holds no imagenet-1k: needed is .* or train/CLASS/\* and val/CLASS"):
        load_files("imagenet-1k", "test", tmp_path)
