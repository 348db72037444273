"""How a model is found on the hub's pages: names as people type them."""
import pytest

from wrn_hub.cards.costs import variant_names
from wrn_hub.hub.rows import Row, rows
from wrn_hub.hub.search import dataset_key, matching, near, plain, terms
from wrn_hub.hub.store import FolderStore
from wrn_hub.weights import search_path


@pytest.fixture(scope="module")
def everything() -> list[Row]:
    """The rows of the start page of this package's own models."""
    return rows(FolderStore(next(folder for folder in search_path() if folder.name == "model_cards")))


def found(query: str, everything: list[Row]) -> set[tuple[str, str | None]]:
    hits = matching(query, [row.terms for row in everything])
    return {(row.name.partition(".")[0], row.dataset) for row, hit in zip(everything, hits, strict=True) if hit}


@pytest.mark.parametrize("query", [
    "28_10 cifar100", "28-10 cifar100", "WRN-28-10 CIFAR-100", "cifar100 wrn_28_10", "wide-resnet28-10 cifar_100",
    "WRN28-10 cifar100", "wrn_28_10.cifar100", "  28-10   cifar-100 "])
def test_a_net_is_found_however_its_name_is_written(query, everything):
    assert found(query, everything) == {("wrn_28_10", "cifar100")}


@pytest.mark.parametrize("query, names", [
    ("wide_resnet50_2", {"wrn_50_2"}), ("wide_resnet101_2", {"wrn_101_2"}), ("timm racm", {"wrn_50_2"}),
    ("tv2_in1k", {"wrn_50_2", "wrn_101_2"}), ("preresnet", {"preresnet_164", "preresnet_1001"}),
    ("16-1", {"wrn_16_1"}), ("34_1p5", {"wrn_34_1p5"}), ("1001", {"preresnet_1001"})])
def test_other_names_and_parts_of_names_find_it_too(query, names, everything):
    assert {name for name, _ in found(query, everything)} == names


@pytest.mark.parametrize("query, dataset", [
    ("imagenet", "imagenet"), ("ImageNet-1k", "imagenet"), ("in1k", "imagenet"), ("svhn", "svhn"),
    ("cifar10", "cifar10"), ("CIFAR-10", "cifar10"), ("cifar 100", "cifar100")])
def test_a_dataset_finds_its_nets_and_no_others(query, dataset, everything):
    assert found(query, everything) == {
        (row.name.partition(".")[0], row.dataset) for row in everything if row.dataset == dataset}


def test_what_is_typed_in_part_finds_what_begins_with_it(everything):
    assert {dataset for _, dataset in found("cifa", everything)} == {"cifar10", "cifar100"}
    assert found("", everything) == found(" - ", everything) == found("wrn_ preres", everything) | {
        (row.name.partition(".")[0], row.dataset) for row in everything}
    assert found("xyzzy", everything) == set() == found("28-10 svhn", everything)
    assert found("(.*)+$[", everything) == found("", everything)  # signs are between names, and no pattern


def test_a_labs_models_are_found_by_their_folders_nets_datasets_and_tags():
    words = terms("cats_wrn-28-10_run3", "wrn_28_10", "pets", ["image-classification", "our:own"])
    for query in ("cats", "28-10", "run3", "pets", "our-own", "WRN28-10", "cats pets"):
        assert matching(query, [words]) == [True], query
    assert matching("dogs", [words]) == [False]


@pytest.mark.parametrize("text, said", [
    ("WRN-28-10", "wrn-28-10"), ("28_10", "28-10"), ("__ü", ""), ("a  b.c", "a-b-c")])
def test_a_plain_name_has_letters_digits_and_dashes(text, said):
    assert plain(text) == said


@pytest.mark.parametrize("name, key", [
    ("CIFAR-10", "cifar10"), ("cifar10", "cifar10"), ("SVHN", "svhn"), ("imagenet-1k", "imagenet"), ("pets", "pets")])
def test_datasets_go_by_the_name_that_the_package_has_for_them(name, key):
    assert dataset_key(name) == key


@pytest.mark.parametrize("name, nearest", [
    ("wrn_28_1", "wrn_28_10"), ("wrn_16_3", "wrn_16_4"), ("WRN-40-22", "wrn_40_2"), ("preresnet164", "preresnet_164"),
    ("28-11", "wrn_28_10")])
def test_near_names_are_suggested(name, nearest):
    assert nearest in near(name, variant_names())
    assert near("something else altogether", ["wrn_16_4"]) == []
