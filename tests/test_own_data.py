"""Data of one's own, as people have it: photos, a CSV, columns, gray images, saved datasets; tries on a part of it."""
import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pytest
import timm
from conftest import COLOURS
from PIL import Image

from wrn_hub.__main__ import main
from wrn_hub.cards.user_card import user_card
from wrn_hub.data import load_dataset, load_files
from wrn_hub.data.columns import in_order
from wrn_hub.data.sources import split_to_measure
from wrn_hub.errors import UserError
from wrn_hub.models.build import class_names
from wrn_hub.training.trainer import train

TINY = ["--model", "wrn_10_2", "--no-pretrained", "--image-size", "8", "--crop-padding", "1", "--epochs", "2",
        "--batch-size", "12", "--lr", "0.05", "--precision", "fp32"]


@pytest.fixture
def finetune(tmp_path, monkeypatch):
    """``wrn-hub finetune`` in a tiny form; returns the names of the classes of the net that it leaves."""
    def finetune(*arguments: object) -> list[str]:
        output = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
        monkeypatch.setattr("sys.argv", ["wrn-hub", "finetune", *TINY, "--output", str(output), *map(str, arguments)])
        main()
        return class_names(timm.create_model(f"local-dir:{output}/model", pretrained=True))

    return finetune


@pytest.fixture
def table(colours, tmp_path) -> Path:
    """A folder of gray and colour images in no order, and a metadata.csv that names them and what they are."""
    folder = tmp_path / "table"
    folder.mkdir()
    rows = []
    for number, path in enumerate(sorted(colours.glob("train/*/*.png"))):
        image = Image.open(path)
        (image.convert("L") if number % 2 else image).save(folder / f"{number}.png")
        rows.append({"file_name": f"{number}.png", "label": path.parent.name, "shade": number % 2})
    with open(folder / "metadata.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


@pytest.fixture
def photos(colours, tmp_path) -> Path:
    """A folder of images of one's own, to write beside them."""
    return shutil.copytree(colours, tmp_path / "photos")


def paths(photos: Path, split: str = "train") -> datasets.Dataset:
    """What its images are, and where within it."""
    return datasets.Dataset.from_list([
        {"photo": path.relative_to(photos).as_posix(), "kind": path.parent.name}
        for path in sorted(photos.glob(f"{split}/*/*.png"))])


def as_datasets(folder: Path) -> datasets.DatasetDict:
    """The class folders as the datasets library has them, with integer labels and another image and label column."""
    loaded = datasets.load_dataset("imagefolder", data_dir=str(folder))
    features = datasets.Features(
        {**loaded["train"].features, "number": datasets.Value("int32"), "thumbnail": datasets.Image()})
    return datasets.DatasetDict({
        split: datasets.Dataset.from_dict({
            "image": images["image"], "label": images["label"], "number": images["label"],
            "thumbnail": images["image"]}, features)
        for split, images in loaded.items()})


# the tasks, each by one command

def test_photos_in_folders_are_fine_tuned_on(finetune, colours):
    assert finetune("--dataset", colours) == sorted(COLOURS)


def test_a_csv_of_file_names_and_labels_gray_images_too(finetune, table):
    assert finetune("--dataset", table) == sorted(COLOURS)


def test_another_column_of_a_csv_holds_the_labels(finetune, table):
    assert finetune("--dataset", table, "--label-column", "shade") == ["0", "1"]


def test_saved_datasets_with_columns_of_their_own(finetune, colours, tmp_path):
    as_datasets(colours).save_to_disk(tmp_path / "saved")
    columns = ["--image-column", "thumbnail", "--label-column"]
    assert finetune("--dataset", tmp_path / "saved", *columns, "label") == sorted(COLOURS)
    assert finetune("--dataset", tmp_path / "saved", *columns, "number") == ["0", "1", "2"]


def test_a_table_of_paths_of_any_name(finetune, photos):
    """The paths count from the table's folder."""
    paths(photos).to_csv(photos / "labels.csv")
    columns = ["--image-column", "photo", "--label-column", "kind"]
    assert finetune("--dataset", photos / "labels.csv", *columns) == sorted(COLOURS)


def test_a_saved_dataset_without_splits(finetune, colours, tmp_path):
    as_datasets(colours)["train"].remove_columns("thumbnail").save_to_disk(tmp_path / "saved")
    assert finetune("--dataset", tmp_path / "saved") == sorted(COLOURS)


# what is read

def assert_same(found, expected) -> None:
    assert sorted(map(bytes, found.images)) == sorted(map(bytes, expected.images))
    assert sorted(found.labels) == sorted(expected.labels)


def test_a_table_a_saved_dataset_and_parquet_hold_what_the_folders_hold(colours, tmp_path):
    loaded = as_datasets(colours).remove_columns("thumbnail")
    loaded.save_to_disk(tmp_path / "saved")
    for split, images in loaded.items():
        (tmp_path / "lines" / split).mkdir(parents=True)
        with open(tmp_path / "lines" / split / "metadata.jsonl", "w") as file:
            for number, row in enumerate(images):
                row["image"].save(tmp_path / "lines" / split / f"{number}.png")
                file.write(json.dumps({"file_name": f"{number}.png", "label": row["label"]}) + "\n")
        (tmp_path / "parquet").mkdir(exist_ok=True)
        images.to_parquet(tmp_path / "parquet" / f"{split}.parquet")
    for split in ("train", "test"):
        expected = load_dataset(str(colours), split, size=8)
        for form in ("lines", "saved", "parquet"):
            found = load_dataset(str(tmp_path / form), split, size=8)
            assert_same(found, expected)
            assert found.classes == (("0", "1", "2") if form == "lines" else expected.classes)
        by_number = load_dataset(str(tmp_path / "parquet"), split, label_column="number", size=8)
        assert by_number.classes == ("0", "1", "2") and by_number.labels.tolist() == expected.labels.tolist()


def test_without_splits_a_fifth_of_every_class_is_for_testing_and_always_the_same(table):
    training, test = (load_files(str(table), split) for split in ("train", "test"))
    assert np.bincount(training.labels).tolist() == [19, 19, 19] and np.bincount(test.labels).tolist() == [5, 5, 5]
    files = [{name for name, _ in images.images} for images in (training, test)]
    assert not files[0] & files[1] and len(files[0] | files[1]) == 72
    content = (table / "metadata.csv").read_text().splitlines()
    (table / "metadata.csv").write_text("\n".join([content[0], *reversed(content[1:])]) + "\n")
    assert {name for name, _ in load_files(str(table), "test").images} == files[1]
    assert load_files(str(table), "test").fingerprint != test.fingerprint  # in another order


def test_of_a_saved_dataset_without_splits_a_fifth_is_for_testing_and_always_the_same(colours, tmp_path, caplog):
    whole = as_datasets(colours)["train"].remove_columns("thumbnail")
    whole.save_to_disk(tmp_path / "saved")
    with caplog.at_level("INFO"):
        training, test = (load_files(str(tmp_path / "saved"), split) for split in ("train", "test"))
    assert "saved has no train and test splits: a fifth of every class is for testing" in caplog.text
    assert np.bincount(training.labels).tolist() == [19, 19, 19] and np.bincount(test.labels).tolist() == [5, 5, 5]
    pixels = [{data for _, data in images.images} for images in (training, test)]
    assert not pixels[0] & pixels[1]
    assert load_files(str(tmp_path / "saved"), "test").fingerprint == test.fingerprint != training.fingerprint


def test_tables_and_saved_datasets_of_paths_hold_what_the_folders_hold(colours, photos):
    named = {"image_column": "photo", "label_column": "kind"}
    for split in ("train", "test"):
        rows = paths(photos, split)
        rows.to_csv(photos / f"{split}.csv")
        rows.to_json(photos / f"{split}.jsonl")
        rows.to_parquet(photos / f"{split}.parquet")
    for split in ("train", "test"):
        expected = load_dataset(str(colours), split, size=8)
        for kind in ("csv", "jsonl", "parquet"):
            assert_same(load_dataset(f"train.{kind}", split, photos, size=8, **named), expected)
    rows.map(lambda row: {"photo": str(photos / row["photo"])}).save_to_disk(photos / "saved")  # one split, whole paths
    assert len(load_files(str(photos / "saved"), "train", **named)) == 21 - 3
    assert len(load_files(str(photos / "train.csv"), "test", **named)) == 21


def test_a_table_without_splits_is_taken_whole_where_it_is_measured(photos, caplog):
    caplog.set_level("INFO")
    named = {"image_column": "photo", "label_column": "kind"}
    for name in ("labels.csv", "train.csv"):  # where no table of another split lies beside it
        paths(photos).to_csv(photos / name)
        whole = str(photos / name)
        assert split_to_measure(whole) == "all" and len(load_files(whole, "all", **named)) == 72
        assert [len(load_files(whole, split, **named)) for split in ("train", "test")] == [57, 15]
        (photos / name).unlink()
    assert "labels.csv has no train and test splits: it is taken whole" in caplog.text


def test_a_table_of_a_split_is_measured_itself_and_has_its_classes_from_the_training_table_beside_it(photos):
    named = {"image_column": "photo", "label_column": "kind"}
    paths(photos).to_csv(photos / "train.csv")
    paths(photos, "test").to_csv(photos / "test.csv")
    red = paths(photos, "test").filter(lambda row: row["kind"] == "red")
    red.to_csv(photos / "val.csv")
    for name, count in (("train.csv", 21), ("test.csv", 21), ("val.csv", 7)):
        assert split_to_measure(name, photos) == "test"
        test = load_files(name, "test", photos, **named)
        assert (len(test), test.classes) == (count, tuple(sorted(COLOURS)))
        assert len(load_files(name, "train", photos, **named)) == 72
    with pytest.raises(UserError, match=r"test\.csv \(all\): it has splits, so 'all' is none of them; choose train or"):
        load_files("test.csv", "all", photos, **named)
    (photos / "train.csv").unlink()
    assert len(load_files("test.csv", "test", photos, **named)) == 21
    with pytest.raises(UserError, match="has no train split, only test"):
        load_files("test.csv", "train", photos, **named)


def test_what_was_saved_without_splits_is_taken_whole_too(colours, table, tmp_path):
    loaded = as_datasets(colours).remove_columns("thumbnail")
    loaded.save_to_disk(tmp_path / "splits")
    loaded["train"].save_to_disk(tmp_path / "saved")
    assert split_to_measure(str(tmp_path / "splits")) == "test"
    for whole in (table, tmp_path / "saved"):
        assert split_to_measure(str(whole)) == "all" and len(load_files(str(whole), "all")) == 72
    (table / "metadata.csv").unlink()
    (table / "metadata.jsonl").write_text(
        "".join(json.dumps({"file_name": f"{number}.png", "label": number % 2}) + "\n" for number in range(10)))
    assert split_to_measure(str(table)) == "all" and len(load_files(str(table), "all")) == 10


def write_csv(folder: Path, name: str, labels: list[str], head: str = "file_name,label") -> str:
    """A table of as many images, and what it is as a dataset."""
    folder.mkdir(exist_ok=True)
    for number in range(len(labels)):
        Image.new("RGB", (8, 8)).save(folder / f"{number}.png")
    rows = [f"{number}.png,{label}" for number, label in enumerate(labels)]
    (folder / name).write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    return str(folder if name == "metadata.csv" else folder / name)


@pytest.mark.parametrize("name", ["metadata.csv", "labels.csv"])
def test_labels_of_a_csv_are_the_texts_that_stand_there(tmp_path, name):
    for number, labels in enumerate((["NA", "None", "cat", "null", "true"], ["007", "7", "08"], ["1", "1.0", "1.50"])):
        found = load_files(write_csv(tmp_path / str(number), name, labels[::-1]), "all")
        assert [found.classes[label] for label in found.labels] == labels[::-1]
        assert found.classes == tuple(in_order(labels))


@pytest.mark.parametrize("name", ["metadata.csv", "labels.csv"])
def test_numbers_in_a_csv_are_in_their_order_and_who_has_no_label_is_noticed(tmp_path, name):
    byte_order_mark = "\ufefffile_name,label"  # as Excel writes it
    numbers = load_files(write_csv(tmp_path / "a", name, ["10", "9", "0", "-3"], byte_order_mark), "all")
    assert numbers.classes == ("-3", "0", "9", "10") and numbers.labels.tolist() == [3, 2, 1, 0]
    with pytest.raises(UserError, match=r"1 of 3 images have no label \(-1\)"):
        load_files(write_csv(tmp_path / "b", name, ["0", "1", "-1"]), "all")
    for labels in (["cat", "", "dog"], ["1", "", "2"]):
        with pytest.raises(UserError, match="1 of 3 images have no label; measure on another split"):
            load_files(write_csv(tmp_path / "c", name, labels), "all")
    with pytest.raises(UserError, match="2 of 2 images have no label; measure on another split"):
        load_files(write_csv(tmp_path / "d", name, ["", ""]), "all")
    with pytest.raises(UserError, match=rf"{name}: a table without rows: the first line names its columns"):
        load_files(write_csv(tmp_path / "e", name, []), "all")


def test_a_metadata_csv_of_images_in_folders_of_splits(photos):
    """One in each of these folders, whatever they are called, or one above them."""
    def write(folder: Path, images: str) -> None:
        rows = [f"{path.relative_to(folder).as_posix()},{path.parent.name}" for path in folder.glob(images)]
        (folder / "metadata.csv").write_text("\n".join(["file_name,label", *rows]) + "\n")

    def check() -> None:
        assert split_to_measure(str(photos)) == "test"
        for split, count in (("train", 72), ("test", 21)):
            found = load_files(str(photos), split)
            assert (len(found), found.classes) == (count, tuple(sorted(COLOURS)))

    (photos / "train").rename(photos / "Training")
    write(photos, "*/*/*.png")
    check()
    (photos / "metadata.csv").unlink()
    for name in ("Training", "test"):
        write(photos / name, "*/*.png")
    check()


def test_what_is_wrong_with_a_table_of_paths_is_said_in_one_line(photos):
    (photos / "labels.csv").write_text("path,label\ntest/red/none.png,red\n")
    with pytest.raises(UserError, match=r"its table names .*/none\.png, and there is no such file"):
        load_dataset(str(photos / "labels.csv"), "train", size=8)
    with pytest.raises(UserError, match="no column 'photo', only path, label"):
        load_dataset("labels.csv", "test", photos, size=8, image_column="photo")
    (photos / "labels.csv").write_text("here,label\ntest/red/0.png,red\n")
    with pytest.raises(UserError, match="no Image column among here, label: choose one with --image-column"):
        load_dataset(str(photos / "labels.csv"), "train", size=8)
    (photos / "labels.parquet").write_text("path,label\n")
    with pytest.raises(UserError, match=r"labels.parquet \(train\) can't be loaded through the datasets library: "):
        load_dataset(str(photos / "labels.parquet"), "train", size=8)


def test_a_folder_without_classes_hints_at_its_table(tmp_path):
    (tmp_path / "pets" / "images").mkdir(parents=True)
    for name in "ab":
        Image.new("RGB", (8, 8)).save(tmp_path / "pets" / "images" / f"{name}.png")
    (tmp_path / "pets" / "labels.csv").write_text("image,label\nimages/a.png,cat\n")
    with pytest.raises(UserError, match=r"holds one class, 'images'.*; or is .*/labels\.csv, its table of images and"):
        load_dataset(str(tmp_path / "pets"), "train", size=8)


def test_classes_without_an_order_are_sorted_by_number_where_they_are_numbers():
    assert in_order(["10", "9", "-1"]) == ["-1", "9", "10"]
    assert in_order(["b10", "b9", "a"]) == ["a", "b10", "b9"]


@pytest.mark.parametrize("arguments, says", [
    ({"image_column": "image", "label_column": "colour"},
     r"has no column 'colour', only image, label, number, thumbnail\."),
    ({"image_column": "thumbnails"}, "no column 'thumbnails'.* Did you mean 'thumbnail'"),
    ({}, r"has several Image columns \(image, thumbnail\): choose one with --image-column"),
    ({"image_column": "image", "label_column": "thumbnail"}, "labels are of type struct.*, not integers or texts"),
    ({"image_column": "number"}, "number: images are of type int32, not a struct of bytes and path"),
])
def test_columns_that_are_not_there_or_not_what_they_should_be(colours, tmp_path, arguments, says):
    as_datasets(colours).save_to_disk(tmp_path / "saved")
    with pytest.raises(UserError, match=says):
        load_dataset(str(tmp_path / "saved"), "train", size=8, **arguments)


def test_what_is_wrong_with_a_table_is_said_in_one_line(table, colours, tmp_path):
    with pytest.raises(UserError, match="holds no table, so no columns: leave out --image-column and --label-column"):
        load_dataset(str(colours), "train", label_column="label")
    content = (table / "metadata.csv").read_text()
    (table / "metadata.csv").write_text(content + "missing.png,red,0\n")
    with pytest.raises(UserError, match=r"its table names .*/missing\.png, and there is no such file") as error:
        load_dataset(str(table), "train", size=8)
    assert "\n" not in str(error.value)
    (table / "metadata.csv").write_text(content.replace(",red,", ",,"))
    with pytest.raises(UserError, match="24 of 72 images have no label"):
        load_dataset(str(table), "train", size=8)
    as_datasets(colours)["train"].save_to_disk(tmp_path / "saved")
    (tmp_path / "saved" / "dataset_info.json").write_text("{")
    with pytest.raises(UserError, match="can't be loaded through the datasets library: "):
        load_dataset(str(tmp_path / "saved"), "train", size=8, image_column="image")


def test_there_is_no_training_on_one_class_whatever_the_images_come_from(options, table, colours, tmp_path):
    rows = (table / "metadata.csv").read_text().splitlines()
    content = [f"{row},{'camera' if number else 'source'}" for number, row in enumerate(rows)]
    (table / "metadata.csv").write_text("\n".join(content) + "\n")
    reds = as_datasets(colours).filter(lambda row: row["label"] == 2).remove_columns("thumbnail")
    reds.save_to_disk(tmp_path / "saved")  # with the names of three classes
    for dataset, column, said in (
            (table, "source", "all 58 images are of one class, 'camera', by column 'source'"),
            (tmp_path / "saved", None, "all 24 images are of one class, 'red'")):
        with pytest.raises(UserError, match=rf"\(train\): {said}: needed are two.* another column \(--label-column\)"):
            train(replace(options, dataset=str(dataset), label_column=column))
    assert not Path(options.output).exists()
    assert len(load_files(str(table), "all", label_column="source").classes) == 1  # to measure a net of more on
    assert len(load_files(str(tmp_path / "saved"), "test")) == 7


def test_who_trains_within_a_folder_of_classes_may_do_so_again(options, photos, monkeypatch, caplog):
    """What the trainings leave there is no class."""
    caplog.set_level("INFO")
    monkeypatch.chdir(photos / "train")
    once = replace(options, dataset=".", epochs=1)
    for output, place in ((None, "runs/wrn_10_2.train.1"), ("seed0", "seed0"), (None, "runs/wrn_10_2.train.2")):
        caplog.clear()
        run = train(replace(once, output=output)).folder
        assert run == Path(place)
        settings = json.loads((run / "args.json").read_text())
        assert settings["images"] == 57 and class_names(timm.create_model(
            f"local-dir:{run}/model", pretrained=True)) == sorted(COLOURS)
        assert caplog.text.count("a fifth of every class is for testing") == 1
        assert f"{run.parts[0]} holds no images but trainings: it is no class" in caplog.text


def test_a_class_that_only_the_test_split_has_is_refused(table, tmp_path):
    (tmp_path / "split").mkdir()
    for split, label in (("train", "red"), ("test", "pink")):
        (tmp_path / "split" / split).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / "split" / split / "a.png")
        (tmp_path / "split" / split / "metadata.csv").write_text(f"file_name,label\na.png,{label}\n")
    with pytest.raises(UserError, match=r"other classes than .*training split: pink there, red here"):
        load_dataset(str(tmp_path / "split"), "test", size=8)


def test_another_column_of_a_known_dataset_makes_it_another_dataset(tmp_path):
    features = datasets.Features({
        "img": datasets.Image(), "fine_label": datasets.ClassLabel(num_classes=100),
        "coarse_label": datasets.ClassLabel(names=["fish", "trees"])})
    rows = {"img": [Image.new("RGB", (32, 32))] * 2, "fine_label": [1, 2], "coarse_label": [0, 1]}
    (tmp_path / "uoft-cs" / "cifar100").mkdir(parents=True)
    datasets.Dataset.from_dict(rows, features).to_parquet(tmp_path / "uoft-cs" / "cifar100" / "train.parquet")
    coarse = load_dataset("cifar100", "train", tmp_path, label_column="coarse_label")
    assert (coarse.name, coarse.classes, coarse.labels.tolist()) == ("uoft-cs/cifar100", ("fish", "trees"), [0, 1])


# parts of a dataset

@pytest.mark.parametrize("count", [20, 40, 250])
def test_labelled_images_are_drawn_evenly_by_the_seed_and_the_others_are_left(count):
    sample = load_dataset("sample", "train")
    few, others = sample.labelled(count)
    assert len(few) == count and len(others) == len(sample) - count
    counts = np.bincount(few.labels, minlength=20)
    assert counts.max() - counts.min() <= 1 and counts.min() >= 1
    drawn = {bytes(image) for image in few.images}
    assert not drawn & {bytes(image) for image in others.images}
    assert sample.labelled(count)[0].fingerprint == few.fingerprint == sample.balanced(count).fingerprint
    assert sample.labelled(count, seed=1)[0].fingerprint != few.fingerprint
    assert sample.held_out(count)[1].fingerprint == few.fingerprint
    assert load_files("sample", "train").labelled(count)[0].labels.tolist() == few.labels.tolist()


def test_all_images_may_be_drawn_but_not_labelled():
    sample = load_dataset("sample", "test")
    assert sample.balanced(1000).fingerprint == sample.fingerprint
    for part, what in ((sample.labelled, "label 1000"), (sample.held_out, "hold out 1000")):
        with pytest.raises(UserError, match=f"can't {what} of 1000 images of 20 classes: allowed are 20 to 999"):
            part(1000)
    with pytest.raises(UserError, match="can't draw 19 of"):
        sample.balanced(19)


def test_a_quick_try_on_a_part_is_on_record_and_is_never_taken_for_the_whole(options, caplog):
    options = replace(options, train_images=24, test_images=9, epochs=2)
    with caplog.at_level("INFO"):
        result = train(options)
    assert "24 of" in caplog.text and "measured on 9 drawn from the test split" in caplog.text
    assert " on 9 images drawn from the test split in " in result.summary()
    settings = json.loads((result.folder / "args.json").read_text())
    assert (settings["train_images"], settings["test_images"], settings["images"]) == (24, 9, 24)
    card = user_card(result.folder, "ada/colours")
    assert "top-1 accuracy on 9 images drawn from the test split" in card
    assert "--train-images 24 --test-images 9" in card and "on the test split" not in card
    with pytest.raises(UserError, match=r"train_images = 36 \(was 24\)"):
        train(replace(options, train_images=36, resume=True))
    other = train(replace(options, seed=1, output=options.output + "-1"))
    theirs = json.loads((other.folder / "args.json").read_text())
    assert theirs["train_fingerprint"] != settings["train_fingerprint"]
    assert theirs["test_fingerprint"] == settings["test_fingerprint"]  # so that the two can be compared
    with pytest.raises(UserError, match="test_images = 9: with held_out = 9 no image of the test split is measured on"):
        replace(options, held_out=9)
