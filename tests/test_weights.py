"""Weights: found, checked before they are read, and written as a folder that timm, and the Hub, know."""
import importlib
import json
import os
import re
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from hub_server import Fault
from huggingface_hub import constants
from safetensors import safe_open
from timm.models import generate_default_cfgs, register_model
from torch import nn

import wrn_hub
from wrn_hub import weights
from wrn_hub.facts import DATASETS
from wrn_hub.models.build import ModelSource
from wrn_hub.models.export import save_model
from wrn_hub.weights import WeightsError, file_sha256, local_file, verified_cfg

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
models = importlib.import_module("wrn_hub.models.wide_resnet")


def random_net(name: str = "wrn_16_2", seed: int = 0, **kwargs) -> nn.Module:
    """A net with random weights, among them running statistics, as training leaves them."""
    torch.manual_seed(seed)
    model = timm.create_model(name, **kwargs)
    with torch.no_grad():
        model.train()(torch.randn(8, model.in_chans, 32, 32))
    return model.eval()


@torch.no_grad()
def assert_same_logits(model: nn.Module, other: nn.Module, images: torch.Tensor = IMAGES, **tolerance) -> None:
    torch.testing.assert_close(model.eval()(images), other.eval()(images), **tolerance)


def register() -> None:
    """What importing wrn_hub does for wrn_16_2: register it with the weights that are to be had at that moment."""
    models.default_cfgs.update(generate_default_cfgs(models._cfgs("wrn_16_2")))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # timm says that the name is taken
        register_model(models.wrn_16_2)


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """``stage(model, "wrn_16_2.cifar10")`` puts weights into a folder of WRN_HUB_WEIGHTS and into the manifest,
    which are both empty before, and returns their file; the weights that come with the package are out of sight."""
    monkeypatch.setenv("WRN_HUB_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(weights, "_PACKAGE", tmp_path / "installed" / "wrn_hub")
    monkeypatch.setattr(weights, "MANIFEST", {})
    register()

    def stage(model, name, **kwargs):
        file = save_model(model, tmp_path / name, tag=name.partition(".")[2], **kwargs) / "model.safetensors"
        weights.MANIFEST[name] = dict(sha256=file_sha256(file), bytes=file.stat().st_size, published=None)
        register()
        return file

    yield stage
    monkeypatch.undo()
    register()


# Finding weights


def test_pretrained_weights_are_those_of_the_file(stage):
    trained = random_net()
    stage(trained, "wrn_16_2.cifar10")
    assert_same_logits(timm.create_model("wrn_16_2", pretrained=True), trained, rtol=0, atol=0)
    assert_same_logits(timm.create_model("wrn_16_2.cifar10", pretrained=True), trained, rtol=0, atol=0)


def test_pretrained_weights_for_another_task(stage):
    trained = random_net()
    stage(trained, "wrn_16_2.cifar10")
    other = timm.create_model("wrn_16_2", pretrained=True, num_classes=5)
    maps = timm.create_model("wrn_16_2", pretrained=True, features_only=True)
    gray = timm.create_model("wrn_16_2", pretrained=True, in_chans=1)
    with torch.no_grad():
        assert other.eval()(IMAGES).shape == (2, 5)
        torch.testing.assert_close(other.forward_features(IMAGES), trained.forward_features(IMAGES))
        torch.testing.assert_close(maps.eval()(IMAGES), trained.forward_intermediates(IMAGES)[1])
        one = IMAGES[:, :1]  # a gray image is one whose three channels are equal
        torch.testing.assert_close(gray.eval()(one), trained(one.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("tags", [(), ("cifar100",), ("cifar100", "svhn"), ("cifar10", "cifar100")])
def test_a_tag_is_pretrained_where_its_weights_are_to_be_had(stage, tags):
    """... and the bare name is the CIFAR-10 net, whichever they are."""
    for tag in tags:
        stage(random_net(f"wrn_16_2.{tag}"), f"wrn_16_2.{tag}")
    names = [f"wrn_16_2.{tag}" for tag in tags]
    assert timm.list_pretrained("wrn_16_2*") == names
    bare = timm.create_model("wrn_16_2")
    assert bare.num_classes == 10 and bare.pretrained_cfg["label_names"] == DATASETS["cifar10"].classes
    for name in names:
        classes = DATASETS[name.partition(".")[2]].classes
        model = timm.create_model(name, pretrained=True)
        assert model.num_classes == len(classes) and model.pretrained_cfg["label_names"] == classes


def test_missing_weights_say_where_to_get_them(stage):
    stage(random_net("wrn_16_2.cifar100"), "wrn_16_2.cifar100")
    with pytest.raises(WeightsError) as error:
        timm.create_model("wrn_16_2", pretrained=True)
    for hint in ("wrn_16_2.cifar10 ", "to be had are: wrn_16_2.cifar100.", "train.py", "pretrained=False"):
        assert hint in str(error.value)


def test_weights_that_are_listed_but_lie_elsewhere_say_where(stage):
    """As those of wrn_28_10 in a wheel, which are too large to ride in it."""
    def row():
        (found,) = (row for row in wrn_hub.table() if (row["model"], row["dataset"]) == ("wrn_16_2", "cifar10"))
        return found["weights"]

    file = stage(random_net(), "wrn_16_2.cifar10")
    assert row() == "here"
    file.unlink()
    register()
    with pytest.raises(WeightsError, match=r"model_cards/wrn_16_2.cifar10 of a clone of https://.*WRN_HUB_WEIGHTS"):
        timm.create_model("wrn_16_2", pretrained=True)
    assert row() == "clone"
    weights.MANIFEST["wrn_16_2.cifar10"]["published"] = f"org/wrn_16_2.cifar10@{'0' * 40}"
    assert row() == "hub"


def test_no_weights_at_all(stage):
    with pytest.raises(WeightsError, match="to be had are: none yet"):
        timm.create_model("wrn_16_2", pretrained=True)


def test_only_weights_of_the_manifest_are_looked_for(stage):
    file = stage(random_net(), "wrn_16_2.cifar10")
    assert local_file("wrn_16_2.cifar10") == str(file)
    weights.MANIFEST.clear()
    assert local_file("wrn_16_2.cifar10") is None


def test_the_first_folder_that_has_them_counts(stage, tmp_path, monkeypatch):
    file = stage(random_net(), "wrn_16_2.cifar10")
    (tmp_path / "empty").mkdir()
    save_model(random_net(seed=1), tmp_path / "later" / "wrn_16_2.cifar10")
    folders = [tmp_path / "empty", tmp_path, tmp_path / "later"]
    monkeypatch.setenv("WRN_HUB_WEIGHTS", os.pathsep.join(map(str, folders)))
    assert local_file("wrn_16_2.cifar10") == str(file)


def test_published_weights_are_named_with_their_commit(stage):
    published = "someone/wrn_16_2.cifar100@0123456789abcdef0123456789abcdef01234567"
    weights.MANIFEST["wrn_16_2.cifar100"] = dict(sha256="", bytes=0, published=published)
    register()
    assert timm.list_pretrained("wrn_16_2*") == ["wrn_16_2.cifar100"]
    assert timm.get_pretrained_cfg("wrn_16_2.cifar100").hf_hub_id == published


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"wrn_16_2.cifar10": {"sha256": 1}}'])
def test_a_damaged_manifest_takes_the_weights_away_but_not_the_models(stage, tmp_path, monkeypatch, content):
    file = tmp_path / "weights.json"
    file.write_bytes(content)
    with pytest.warns(UserWarning, match="weights.json: .*; until then there are no pretrained weights"):
        found, problem = weights._own_manifest(file)
    assert found == {}
    monkeypatch.setattr(weights, "_PROBLEM", problem)
    assert timm.create_model("wrn_16_2").num_classes == 10
    with pytest.raises(WeightsError, match=r"no weights of wrn_16_2.cifar10: .*weights.json: ") as error:
        timm.create_model("wrn_16_2", pretrained=True)
    assert "\n" not in str(error.value)


# Checking weights


def bit_flipped(data: bytes) -> bytes:
    return data[:-1000] + bytes([data[-1000] ^ 1]) + data[-999:]


@pytest.mark.parametrize("damage", [
    bit_flipped,
    lambda data: data[:len(data) // 2],
    lambda data: b"",
    lambda data: bytes(len(data)),
    lambda data: b"<!DOCTYPE html><html><title>Sign in to continue</title></html>",
], ids=["a bit flipped", "truncated", "empty", "zeros", "an HTML page"])
def test_a_damaged_file_never_becomes_a_model(stage, damage):
    file = stage(random_net(), "wrn_16_2.cifar10")
    expected = file_sha256(file)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(WeightsError) as error:
        timm.create_model("wrn_16_2", pretrained=True)
    for fact in (str(file), "wrn_16_2.cifar10", expected, file_sha256(file)):
        assert fact in str(error.value)


def test_a_damaged_file_is_refused_wherever_weights_are_looked_for_by_now(stage, tmp_path, monkeypatch):
    file = stage(random_net(), "wrn_16_2.cifar10")
    file.write_bytes(bit_flipped(file.read_bytes()))
    monkeypatch.setenv("WRN_HUB_WEIGHTS", str(tmp_path / "elsewhere"))
    with pytest.raises(WeightsError, match="is damaged"):
        timm.create_model("wrn_16_2", pretrained=True)


@pytest.mark.parametrize("other", [dict(seed=1), dict(name="wrn_16_1")], ids=["of other training", "of another net"])
def test_other_weights_under_the_name_are_refused(stage, tmp_path, other):
    file = stage(random_net(), "wrn_16_2.cifar10")
    (save_model(random_net(**other), tmp_path / "other") / "model.safetensors").replace(file)
    with pytest.raises(WeightsError, match=re.escape(file_sha256(file))):
        timm.create_model("wrn_16_2", pretrained=True)


def test_a_damaged_file_does_no_harm_where_it_is_not_asked_for(stage):
    stage(random_net(), "wrn_16_2.cifar10").write_bytes(b"")
    assert timm.create_model("wrn_16_2").num_classes == 10
    with pytest.raises(WeightsError):
        timm.create_model("wrn_16_2", pretrained=True, features_only=True)


def test_a_file_of_ones_own(stage, tmp_path):
    """An overlay names a file; it is not held against our sums, whether or not we have weights of the name."""
    mine = random_net(seed=1)
    file = save_model(mine, tmp_path / "mine") / "model.safetensors"
    for _ in ("without weights of ours", "beside them"):
        loaded = timm.create_model("wrn_16_2", pretrained=True, pretrained_cfg_overlay=dict(file=str(file)))
        assert_same_logits(loaded, mine, rtol=0, atol=0)
        stage(random_net(), "wrn_16_2.cifar10")


def test_a_hub_repository_of_ones_own(stage):
    """An overlay that names a repository means it, although timm would take a file first."""
    stage(random_net(), "wrn_16_2.cifar10")
    cfg = verified_cfg("wrn_16_2", None, dict(hf_hub_id="someone/their-net"))
    assert cfg["hf_hub_id"] == "someone/their-net" and cfg["file"] is None


# Downloading what is published


@pytest.fixture
def publish(stage, hub):
    """``publish(model)`` puts weights into a repository, and into the manifest as published there, but leaves none on
    this machine; returns "repository@commit"."""

    def publish(model, name="wrn_16_2.cifar100"):
        folder = stage(model, name).parent
        hub.store.create("models", f"wrn-hub/{name}")
        files = {path.name: hub.store.keep(path.read_bytes()) for path in folder.iterdir()}
        published = f"wrn-hub/{name}@{hub.store.commit('models', f'wrn-hub/{name}', 'main', files)}"
        shutil.rmtree(folder)
        weights.MANIFEST[name]["published"] = published
        register()
        return published

    return publish


def test_published_weights_are_downloaded_once(publish, hub, caplog):
    trained = random_net("wrn_16_2.cifar100")
    publish(trained)
    caplog.set_level("INFO", "wrn_hub")
    assert_same_logits(timm.create_model("wrn_16_2.cifar100", pretrained=True), trained, rtol=0, atol=0)
    asked = len(hub.requests)
    assert_same_logits(timm.create_model("wrn_16_2.cifar100", pretrained=True), trained, rtol=0, atol=0)
    assert len(hub.requests) == asked
    assert caplog.messages == [f"asking the Hub at {constants.ENDPOINT} for the weights of wrn_16_2.cifar100"]
    assert timm.create_model("wrn_16_2.cifar100", pretrained=True, num_classes=3).num_classes == 3
    file = ModelSource.parse("wrn_16_2.cifar100").weights_file  # what a measurement is recorded with
    assert file_sha256(file) == weights.MANIFEST["wrn_16_2.cifar100"]["sha256"]


def test_published_weights_go_where_timm_is_told_to_keep_them(publish, tmp_path):
    publish(random_net("wrn_16_2.cifar100"))
    timm.create_model("wrn_16_2.cifar100", pretrained=True, cache_dir=tmp_path / "mine")
    assert list((tmp_path / "mine").rglob("model.safetensors"))


@pytest.mark.parametrize("name", ["wrn_16_2.cifar100", "hf-hub:{published}"])
def test_a_damaged_download_never_becomes_a_model_and_does_not_stay(publish, hub, name):
    trained = random_net("wrn_16_2.cifar100")
    published = publish(trained)
    name = name.format(published=published)
    hub.faults.append(Fault("GET .*model.safetensors", kind="garble"))
    with pytest.raises(WeightsError) as error:
        timm.create_model(name, pretrained=True)
    sums = re.findall(r"\b[0-9a-f]{64}\b", str(error.value).partition("damaged")[2])
    assert published in str(error.value) and len(set(sums)) == 2
    assert weights.MANIFEST["wrn_16_2.cifar100"]["sha256"] in sums
    assert "removed from the cache; try again" in str(error.value)
    assert_same_logits(timm.create_model(name, pretrained=True), trained, rtol=0, atol=0)


def test_a_file_that_rots_in_the_cache_is_noticed(publish):
    trained = random_net("wrn_16_2.cifar100")
    publish(trained)
    cached = Path(weights.download("wrn_16_2.cifar100")).resolve()
    cached.write_bytes(bit_flipped(cached.read_bytes()))
    with pytest.raises(WeightsError, match="removed from the cache"):
        timm.create_model("wrn_16_2.cifar100", pretrained=True)
    assert_same_logits(timm.create_model("wrn_16_2.cifar100", pretrained=True), trained, rtol=0, atol=0)


@pytest.mark.parametrize("fault", [
    Fault("HEAD", 404, times=100), Fault("GET", 503, times=100), Fault(".*", kind="drop", times=100),
    Fault("GET .*model.safetensors", kind="truncate", times=100)], ids=lambda fault: f"{fault.kind}{fault.status}")
def test_a_download_that_fails_says_what_to_do(publish, hub, fault):
    published = publish(random_net("wrn_16_2.cifar100"))
    hub.faults.append(replace(fault))
    with pytest.raises(WeightsError, match="can't be had from") as error:
        timm.create_model("wrn_16_2.cifar100", pretrained=True)
    assert published in str(error.value) and "WRN_HUB_WEIGHTS" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("endpoint", ["", "nonsense", "ftp://hub"])
def test_an_endpoint_that_is_no_address_is_named(publish, monkeypatch, endpoint):
    publish(random_net("wrn_16_2.cifar100"))
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    with pytest.raises(WeightsError, match=f"HF_ENDPOINT is '{endpoint}', which is no address"):
        timm.create_model("wrn_16_2.cifar100", pretrained=True)


def test_a_server_in_trouble_is_said_once(publish, hub, caplog):
    publish(random_net("wrn_16_2.cifar100"))
    hub.faults.append(Fault(".*", 503, times=100))
    with pytest.raises(WeightsError, match="can't be had from"):
        timm.create_model("wrn_16_2.cifar100", pretrained=True)
    assert len(hub.requests) > 3  # each try again of which the client would log in two lines
    assert not [record for record in caplog.records if record.name.startswith("huggingface_hub")]


def test_somebody_elses_repository_is_not_held_against_our_sums(publish, hub, tmp_path):
    """Not even one that was fine-tuned from ours and still bears our tag."""
    publish(random_net("wrn_16_2.cifar100"))
    theirs = timm.create_model("wrn_16_2.cifar100", pretrained=True)
    nn.init.normal_(theirs.head.fc.bias)
    hub.store.create("models", "ada/tuned")
    hub.store.commit("models", "ada/tuned", "main", {
        path.name: hub.store.keep(path.read_bytes())
        for path in save_model(theirs, tmp_path / "tuned", tag="cifar100").iterdir()})
    assert_same_logits(timm.create_model("hf-hub:ada/tuned", pretrained=True), theirs, rtol=0, atol=0)
    overlaid = timm.create_model(
        "wrn_16_2.cifar100", pretrained=True, pretrained_cfg_overlay=dict(hf_hub_id="ada/tuned"))
    assert_same_logits(overlaid, theirs, rtol=0, atol=0)


# Writing a folder


@pytest.mark.parametrize("kwargs", [
    dict(), dict(num_classes=5), dict(preact=False, act_layer="silu"), dict(in_chans=1), dict(global_pool="max"),
    dict(block_drop_rate=0.3, drop_path_rate=0.1)])
def test_a_folder_gives_back_the_net(tmp_path, kwargs):
    model = random_net(**kwargs)
    folder = save_model(model, tmp_path / "net")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["config.json", "model.safetensors", "net"]
    images = IMAGES[:, :model.in_chans]
    assert_same_logits(timm.create_model(f"local-dir:{folder}", pretrained=True), model, images, rtol=0, atol=0)


def test_a_net_fine_tuned_from_ours_is_not_held_against_our_sums(stage, tmp_path):
    stage(random_net(), "wrn_16_2.cifar10")
    model = timm.create_model("wrn_16_2", pretrained=True)
    nn.init.normal_(model.head.fc.bias)
    folder = save_model(model, tmp_path / "tuned")
    assert_same_logits(timm.create_model(f"local-dir:{folder}", pretrained=True), model, rtol=0, atol=0)


def test_a_net_fine_tuned_for_other_classes(stage, tmp_path):
    stage(random_net(), "wrn_16_2.cifar10")
    model = timm.create_model("wrn_16_2", pretrained=True, num_classes=3)
    folder = save_model(model, tmp_path / "tuned", tag="pets", classes=("cat", "dog", "hamster"))
    again = timm.create_model(f"local-dir:{folder}", pretrained=True)
    assert_same_logits(again, model, rtol=0, atol=0)
    cfg = again.pretrained_cfg
    assert (cfg["num_classes"], cfg["tag"], list(cfg["label_names"])) == (3, "pets", ["cat", "dog", "hamster"])


def test_config(tmp_path):
    folder = save_model(random_net(num_classes=3), tmp_path / "net", tag="pets", classes=("cat", "dog", "hamster"))
    config = json.loads((folder / "config.json").read_text())
    assert (config["architecture"], config["num_classes"], config["dtype"]) == ("wrn_16_2", 3, "float32")
    assert config["label_names"] == ["cat", "dog", "hamster"]
    cfg = config["pretrained_cfg"]
    assert (cfg["tag"], cfg["mean"]) == ("pets", list(DATASETS["cifar10"].mean))
    assert "num_classes" not in config.get("model_args", {})
    assert "file" not in cfg and str(tmp_path) not in json.dumps(config)
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_half_precision(stage):
    """Half the bytes, the same net: float32 where it counts, and a float32 net once loaded."""
    model = random_net()
    file = stage(model, "wrn_16_2.cifar10", half=True)
    assert file.stat().st_size < 0.53 * sum(value.nbytes for value in model.state_dict().values())
    with safe_open(file, "pt") as tensors:
        half = {key for key in tensors.keys() if tensors.get_tensor(key).dtype == torch.float16}  # noqa: SIM118
    norms = {key for key in model.state_dict() if "norm" in key}
    assert half == model.state_dict().keys() - norms
    again = timm.create_model("wrn_16_2", pretrained=True)
    assert {parameter.dtype for parameter in again.parameters()} == {torch.float32}
    assert_same_logits(again, model, rtol=5e-3, atol=5e-3)


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    model = random_net()
    folder = save_model(model, tmp_path / "net")
    with pytest.raises(ValueError, match="act_layer"):  # a class can't be written into a config
        save_model(random_net(act_layer=nn.SiLU), folder)
    assert [path.name for path in tmp_path.iterdir()] == ["net"]
    assert_same_logits(timm.create_model(f"local-dir:{folder}", pretrained=True), model, rtol=0, atol=0)
    other = random_net(seed=1)
    save_model(other, folder)
    assert_same_logits(timm.create_model(f"local-dir:{folder}", pretrained=True), other, rtol=0, atol=0)
