"""A folder of a model: written whole, read only where it is one, and refused in one line where it isn't."""
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from conftest import COLOURS
from safetensors.torch import load_file, save_file
from timm.models import _registry as registry
from torch import nn

from wrn_hub.errors import UserError
from wrn_hub.evaluation.evaluate import evaluate_source
from wrn_hub.evaluation.options import EvaluateOptions
from wrn_hub.files import locked
from wrn_hub.models.build import ModelSource, class_names
from wrn_hub.models.export import save_model
from wrn_hub.weights import file_sha256

CLASSES = ("cat", "dog", "bird")


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("wrn_10_2", num_classes=3).eval()


@pytest.fixture(scope="module")
def saved(net, tmp_path_factory) -> Path:
    return save_model(net, tmp_path_factory.mktemp("saved") / "model", classes=CLASSES)


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


def load(folder: Path, **kwargs) -> nn.Module:
    return ModelSource.parse(str(folder)).create(pretrained=True, **kwargs)


def refusal(folder: Path, **kwargs) -> str:
    """What is said of a folder, which is one line."""
    with pytest.raises(UserError) as error:
        load(folder, **kwargs)
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


def change(folder: Path, edit) -> None:
    state = load_file(folder / "model.safetensors")
    edit(state)
    save_file(state, folder / "model.safetensors")


# Weights


def test_a_net_for_other_classes_keeps_every_weight_but_the_classifiers(folder, net):
    tuned = load(folder, num_classes=7)
    own = net.state_dict()
    assert all(torch.equal(value, own[key]) for key, value in tuned.state_dict().items() if "head.fc" not in key)
    assert tuned.num_classes == 7 and load(folder, num_classes=0).num_classes == 0
    gray = load(folder, in_chans=1, num_classes=7)
    assert gray.stem.conv.weight.shape[1] == 1


def test_a_classifier_may_lack_only_where_another_is_asked_for(folder):
    change(folder, lambda state: [state.pop(key) for key in ("head.fc.weight", "head.fc.bias")])
    assert load(folder, num_classes=7).num_classes == 7
    assert "model.safetensors lacks head.fc.weight, head.fc.bias" in refusal(folder)
    assert "lacks head.fc" in refusal(folder, num_classes=3)
    assert "lacks head.fc" in refusal(folder, in_chans=1)


def _drop(part: str):
    return lambda state: [state.pop(key) for key in list(state) if part in key]


def _set(key: str, value: float):
    return lambda state: state[key].view(-1)[:1].fill_(value)


def _replace(key: str, tensor: torch.Tensor):
    return lambda state: state.update({key: tensor})


DAMAGE = {
    "a stage is missing": (_drop("stages.2"), r"lacks stages\.2\.0\.norm1\.weight.* and \d+ more"),
    "it is empty": (_drop(""), r"lacks stem\.conv\.weight.* and \d+ more"),
    "one tensor is missing": (_drop("stages.1.0.norm1.bias"), r"lacks stages\.1\.0\.norm1\.bias$"),
    "a tensor too many": (_replace("more.weight", torch.ones(3)), "has more.weight, which wrn_10_2 has not"),
    "another shape": (_replace("norm.weight", torch.ones(3)), r"norm\.weight of shape \(3,\), .* needs \(128,\)"),
    "another net": (lambda state: (state.clear(), state.update({"fc.weight": torch.ones(3, 2)})), "lacks stem"),
    "NaN": (_set("stages.0.0.residual.conv1.weight", float("nan")), r"stages\.0\.0\.residual\.conv1\.weight holds NaN"),
    "inf": (_set("norm.bias", float("-inf")), r"norm\.bias holds infinite values"),
    "NaN in the classifier": (_set("head.fc.bias", float("nan")), r"head\.fc\.bias holds NaN"),
    "a variance below 0": (_set("norm.running_var", -1.0), r"norm\.running_var holds a variance below 0"),
    "whole numbers": (_replace("norm.weight", torch.ones(128, dtype=torch.int32)), r"norm\.weight is of torch\.int32"),
    "complex numbers": (_replace("norm.weight", torch.ones(128) * 1j), r"norm\.weight is of torch\.complex64"),
}


@pytest.mark.parametrize("classes", [None, 7])
@pytest.mark.parametrize("case", DAMAGE)
def test_weights_of_no_net_are_refused(case, classes, folder):
    edit, says = DAMAGE[case]
    change(folder, edit)
    line = refusal(folder, num_classes=classes)
    assert line.startswith(str(folder / "model.safetensors"))
    assert re.search(says, line), line


@pytest.mark.parametrize("kwargs", [{"num_classes": 7}, {"features_only": True}], ids=["classes", "features"])
@pytest.mark.parametrize("case", [case for case in DAMAGE if case != "another shape"])  # which torch refuses
def test_timm_alone_makes_no_net_of_them_either(case, kwargs, folder):
    """By itself it would load what there is, and leave the rest at random."""
    edit, says = DAMAGE[case]
    timm.create_model(f"local-dir:{folder}", pretrained=True, **kwargs)
    change(folder, edit)
    with pytest.raises(UserError, match=f"^{re.escape(str(folder / 'model.safetensors'))}.*{says}"):
        timm.create_model(f"local-dir:{folder}", pretrained=True, **kwargs)


def test_weights_of_an_imagenet_net_are_whole_or_none():
    small = dict(channels=(8, 8, 8, 8), num_classes=3)
    state = timm.create_model("wrn_18_2", **small).state_dict()

    def load(state: dict, **kwargs) -> nn.Module:
        overlay = dict(state_dict=state, num_classes=3)
        return timm.create_model("wrn_18_2", pretrained=True, pretrained_cfg_overlay=overlay, **{**small, **kwargs})

    assert torch.equal(load(dict(state), num_classes=5).layer4[1].conv2.weight, state["layer4.1.conv2.weight"])
    del state["layer3.0.conv1.weight"]
    with pytest.raises(UserError, match=r"what wrn_18_2 is given lacks layer3\.0\.conv1\.weight"):
        load(state, num_classes=5)


def test_a_config_cannot_have_layers_passed_over(folder):
    """timm drops what a config.json calls the classifier, whatever layer that is."""
    config = json.loads((folder / "config.json").read_text())
    config["pretrained_cfg"]["classifier"] = ["head.fc", "stages.2.0.residual.conv2"]
    (folder / "config.json").write_text(json.dumps(config))
    assert "stages.2.0.residual.conv2.weight, which timm passed over" in refusal(folder, num_classes=7)


@pytest.mark.parametrize("classes", [None, 7])
@pytest.mark.parametrize("content", [b"", b"\x08\0\0\0\0\0\0\0{}", b"no tensors at all", "cut"])
def test_a_damaged_safetensors_file_is_named(content, classes, folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-9] if content == "cut" else content)
    assert str(file) in refusal(folder, num_classes=classes)


def test_the_seed_decides_as_before(folder):
    """Looking at the weights draws no number of the generator that the new classifier is drawn from."""
    torch.manual_seed(3)
    plain = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=7)
    torch.manual_seed(3)
    assert torch.equal(load(folder, num_classes=7).head.fc.weight, plain.head.fc.weight)


@pytest.mark.parametrize("legacy", [False, True])
def test_weights_may_be_a_file_of_pytorch(legacy, folder, net):
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save({"state_dict": state}, folder / "pytorch_model.bin", _use_new_zipfile_serialization=not legacy)
    source = ModelSource.parse(str(folder))
    assert source.weights_file == folder / "pytorch_model.bin"
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(source.create(pretrained=True).eval()(images), net(images))


def test_weights_in_a_file_of_pytorch_are_measured_too(net, colours, tmp_path):
    folder = save_model(net, tmp_path / "net", classes=tuple(COLOURS))
    file = folder / "pytorch_model.bin"
    torch.save(load_file(folder / "model.safetensors"), file)
    (folder / "model.safetensors").unlink()
    results = evaluate_source(EvaluateOptions(str(folder), str(colours), image_size=8, corruption_images=0))
    assert results.weights_sha256 == file_sha256(file)


def test_a_flipped_bit_in_an_archive_is_found(folder):
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    file = folder / "pytorch_model.bin"
    torch.save(state, file)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert f"{file} is damaged: " in refusal(folder)
    file.write_bytes(content[: len(content) // 2])
    assert f"{file} is damaged" in refusal(folder, num_classes=7)
    file.unlink()
    assert "holds no weights" in refusal(folder)


def test_a_pickle_that_would_run_something_is_refused(folder):
    class Malicious:
        def __reduce__(self):
            return open, (str(folder / "it_ran"), "w")

    (folder / "model.safetensors").unlink()
    torch.save({"state_dict": Malicious()}, folder / "pytorch_model.bin")
    assert "not a file of weights" in refusal(folder)
    assert not (folder / "it_ran").exists()


@pytest.mark.parametrize("arch", ["resnet18", "vit_tiny_patch16_224"])
def test_nets_of_timm_come_back_too(arch, tmp_path):
    """Also where timm brings weights to another shape: position embeddings to another size of images."""
    folder = save_model(timm.create_model(arch, num_classes=3), tmp_path / "net")
    assert load(folder).num_classes == 3
    tuned = load(folder, num_classes=5, img_size=64 if "vit" in arch else None)
    assert tuned.num_classes == 5
    change(folder, _drop("blocks.3" if "vit" in arch else "layer3"))
    assert "lacks " in refusal(folder, num_classes=5)


@pytest.fixture
def upload(hub):
    """Put the files of a folder on the Hub as ada/net."""
    hub.store.create("models", "ada/net")

    def upload(folder: Path) -> ModelSource:
        hub.store.commit("models", "ada/net", "main", {
            path.name: hub.store.keep(path.read_bytes()) for path in folder.iterdir()})
        return ModelSource.parse("hf-hub:ada/net")

    return upload


def test_a_repository_of_the_hub_is_held_against_the_same(upload, folder, net):
    source = upload(folder)
    assert torch.equal(source.create(pretrained=True).head.fc.weight, net.head.fc.weight)
    assert source.weights_file.read_bytes() == (folder / "model.safetensors").read_bytes()
    change(folder, _drop("stages.2"))
    with pytest.raises(UserError, match=r"model.safetensors lacks stages\.2"):
        upload(folder).create(pretrained=True, num_classes=7)
    (folder / "model.safetensors").write_bytes(b"cut short")
    with pytest.raises(UserError, match=r"model\.safetensors: damaged"):
        upload(folder).create(pretrained=True)
    (folder / "config.json").write_text('{"architecture": 3}')
    with pytest.raises(UserError, match=r"config\.json: architecture is 3"):
        upload(folder)


def test_a_repository_may_hold_a_file_of_pytorch(upload, folder, net):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    source = upload(folder)
    assert torch.equal(source.create(pretrained=True).head.fc.weight, net.head.fc.weight)
    assert source.weights_file.name == "pytorch_model.bin"


def test_a_repository_without_weights_is_named(upload, folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="hf-hub:ada/net: it holds no weights"):
        upload(folder).create(pretrained=True)


@pytest.mark.parametrize("arch", ["wrn_10_2.cifar10", "resnet10t.c3_in1k"])
def test_weights_that_timm_finds_by_name_are_looked_at_too(arch, tmp_path, monkeypatch):
    folder = save_model(timm.create_model(arch, num_classes=3), tmp_path / "model")
    change(folder, _set("norm.bias" if arch.startswith("wrn") else "layer1.0.bn1.bias", float("nan")))
    cfg = replace(timm.get_pretrained_cfg(arch), file=str(folder / "model.safetensors"), num_classes=3)
    monkeypatch.setitem(registry._model_pretrained_cfgs, arch, cfg)
    with pytest.raises(UserError, match=r"(model\.safetensors|model resnet10t\.c3_in1k): .*\.bias holds NaN"):
        ModelSource.parse(arch).create(pretrained=True, num_classes=7)
    (folder / "model.safetensors").write_bytes(b"cut short")
    with pytest.raises(UserError, match=f"model {arch}: "):
        ModelSource.parse(arch).create(pretrained=True)


# config.json


def _with(**entries):
    return lambda config: config.update(entries)


def _cfg(**entries):
    return lambda config: config["pretrained_cfg"].update(entries)


CONFIGS = {
    "no architecture": (lambda config: config.pop("architecture"), "architecture is None"),
    "an unknown architecture": (_with(architecture="wrn_28_100"), "no model of this name. Did you mean 'wrn_28_10'"),
    "a number for an architecture": (_with(architecture=28), "architecture is 28"),
    "a list for an architecture": (_with(architecture=["wrn_10_2"]), r"architecture is \['wrn_10_2'\]"),
    "fewer classes than none": (_with(num_classes=-3), "num_classes is -3; it has to be a whole number from 0"),
    "classes as a text": (_with(num_classes="3"), "num_classes is '3'"),
    "classes as a fraction": (_with(num_classes=3.0), "num_classes is 3.0"),
    "classes as a truth": (_with(num_classes=True), "num_classes is True"),
    "no number of classes": (_with(num_classes=None), "num_classes is None"),
    "a huge number of classes": (_with(num_classes=10**30), "num_classes is 1000"),
    "other classes than the weights": (_with(num_classes=4, label_names=list("abcd")), r"head\.fc\.\S+ of shape"),
    "a size of two numbers": (_cfg(input_size=[32, 32]), r"input_size is \[32, 32\]"),
    "a size as a number": (_cfg(input_size=32), "input_size is 32"),
    "a size of texts": (_cfg(input_size=["3", "32", "32"]), "input_size is"),
    "a huge size": (_cfg(input_size=[3, 10**9, 10**9]), "input_size is"),
    "two means": (_cfg(mean=[0.5, 0.5]), r"mean is \[0.5, 0.5\]; it has to be a list of 3 numbers"),
    "a mean of texts": (_cfg(mean=["a", "b", "c"]), "mean is"),
    "no mean": (_cfg(mean=None), "mean is None"),
    "a mean that is no number": (_cfg(mean=[float("nan"), 0, 0]), "mean is"),
    "a std of 0": (_cfg(std=[0, 1, 1]), "std is .*above 0"),
    "a name of classes": (_with(label_names="cat"), "label_names is 'cat'"),
    "too few names of classes": (_with(label_names=["cat"]), "label_names has 1 names, num_classes is 3"),
    "names that are numbers": (_with(label_names=[1, 2, 3]), "label_names is"),
    "a list for a cfg": (_with(pretrained_cfg=[]), r"pretrained_cfg is \[\]; it has to be an object"),
    "an entry that timm doesn't know": (_cfg(widht=3), "pretrained_cfg has widht"),
    "a crop of nothing": (_cfg(crop_pct=0), "crop_pct is 0"),
    "an unknown interpolation": (_cfg(interpolation="best"), "interpolation is 'best'; it has to be one of nearest"),
    "arguments as a list": (_with(model_args=[1]), r"model_args is \[1\]"),
    "channels as a text": (_with(model_args={"in_chans": "3"}), "in_chans is '3'"),
    "an argument that the net doesn't take": (_with(model_args={"widht": 3}), "widht"),
    "an argument of another type": (_with(model_args={"act_layer": 3}), "model local-dir:"),
    "a first layer that isn't": (_cfg(first_conv=3), "first_conv is 3"),
    "a classifier that isn't": (_cfg(classifier={"a": 1}), "classifier is"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_wrong_config_is_refused(case, folder):
    edit, says = CONFIGS[case]
    config = json.loads((folder / "config.json").read_text())
    edit(config)
    (folder / "config.json").write_text(json.dumps(config))
    line = refusal(folder)
    assert str(folder) in line and re.search(says, line), line


def test_names_of_some_classes_only(folder):
    config = json.loads((folder / "config.json").read_text())
    config["label_names"] = {"0": "cat", "2": "bird"}
    (folder / "config.json").write_text(json.dumps(config))
    assert class_names(load(folder)) == ["cat", "1", "bird"]


@pytest.mark.parametrize("text", ["", "[]", "3", "null", "{", '{"a": ' * 10**5, "\xff"])
def test_a_config_that_is_no_object_is_refused(text, folder):
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    assert str(folder / "config.json") in refusal(folder)


# Writing a folder


class Killed(BaseException):
    """What a process doesn't live to handle."""


def _kill_at(step: int, monkeypatch) -> None:
    """Let the process die before its rename number ``step``, without a chance to clean up."""
    steps = iter(range(10))
    rename, rmtree = Path.rename, shutil.rmtree
    dead = []

    def renamed(self, target):
        if dead or next(steps) == step:
            dead.append(True)
            raise Killed
        return rename(self, target)

    def removed(*arguments, **kwargs):
        if dead:
            raise Killed
        return rmtree(*arguments, **kwargs)

    monkeypatch.setattr(Path, "rename", renamed)
    monkeypatch.setattr(shutil, "rmtree", removed)


@pytest.mark.parametrize("step, survives", [(0, "old"), (1, "old"), (2, "new")])
@pytest.mark.parametrize("next_call", ["read", "write"])
def test_a_kill_leaves_the_old_folder_or_the_new_one(step, survives, next_call, folder, net, monkeypatch):
    other = timm.create_model("wrn_10_2", num_classes=3).eval()
    with monkeypatch.context() as patch:
        _kill_at(step, patch)
        with pytest.raises(Killed):
            save_model(other, folder)
    assert len(list(folder.parent.iterdir())) == 2, "nothing was left, so that nothing is tested"
    if next_call == "write":
        save_model(other, folder.parent / "another")
        save_model(net, folder)
        assert sorted(path.name for path in folder.parent.iterdir()) == ["another", "model"]
        survives = "old"
    expected = net if survives == "old" else other
    assert torch.equal(load(folder).head.fc.weight, expected.head.fc.weight)


def test_ctrl_c_leaves_one_folder_and_no_more(folder, net, monkeypatch):
    other = timm.create_model("wrn_10_2", num_classes=3)
    for step, expected in enumerate((net, net, other)):
        steps = iter(range(10))

        def interrupted(self, target, rename=Path.rename, steps=steps, step=step):
            if next(steps) == step:
                raise KeyboardInterrupt
            return rename(self, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", interrupted)
            with pytest.raises(KeyboardInterrupt):
                save_model(other, folder)
        assert [path.name for path in folder.parent.iterdir()] == ["model"]
        assert torch.equal(load(folder).head.fc.weight, expected.head.fc.weight)


def test_a_process_killed_while_it_writes_leaves_nothing_that_stays(folder, net):
    left = folder.with_name(".model.new.abc")
    left.mkdir()
    (left / "model.safetensors").write_bytes(b"half of i")
    save_model(net, folder)
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_what_another_process_is_writing_is_left_alone(folder, net):
    theirs = folder.with_name(".model.new.abc")
    theirs.mkdir()
    with locked(theirs / ".lock"):
        save_model(net, folder)
        assert theirs.is_dir()


@pytest.mark.parametrize("held", ["notes.txt", "config.json", "model.safetensors", "a folder", "a folder of a model"])
def test_a_folder_of_something_else_is_not_replaced(held, folder, net, tmp_path):
    place = tmp_path / "mine"
    if held == "a folder of a model":
        shutil.copytree(folder, place)
        (place / "src").mkdir()
    elif held == "a folder":
        (place / "inside").mkdir(parents=True)
    else:
        place.mkdir()
        (place / held).write_text("{}")
    before = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))
    with pytest.raises(UserError, match="mine holds something else than a model and isn't replaced"):
        save_model(net, place)
    assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*")) == before


def test_a_file_and_the_working_directory_are_not_replaced(net, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="file is a file"):
        save_model(net, tmp_path / "file")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(UserError, match="working directory"):
        save_model(net, ".")


def test_an_empty_folder_and_a_link_to_a_model_take_it(net, folder, tmp_path):
    (tmp_path / "empty").mkdir()
    save_model(net, tmp_path / "empty")
    (tmp_path / "link").symlink_to(folder)
    save_model(net, tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and not list(tmp_path.glob(".*"))
    assert load(tmp_path / "link").num_classes == load(tmp_path / "empty").num_classes == 3
