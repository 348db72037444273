"""wrn-hub export: the file computes what the net computes, and says how it is to be fed."""
import io
import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import timm
import torch
from torch import nn

from wrn_hub.errors import UserError
from wrn_hub.evaluation import exported as exporting
from wrn_hub.evaluation.exported import export_source
from wrn_hub.models.export import save_model
from wrn_hub.models.onnx import exported
from wrn_hub.weights import file_sha256

NAMES = ("blue", "green", "red")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A net of three named classes in a folder, as training leaves it."""
    torch.manual_seed(0)
    net = timm.create_model("wrn_10_2", num_classes=3)
    return save_model(net, tmp_path_factory.mktemp("nets") / "mine", classes=NAMES)


def noise(count: int) -> torch.Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def logits(model: Path, images: torch.Tensor) -> torch.Tensor:
    net = timm.create_model(f"local-dir:{model}", pretrained=True).eval()
    with torch.inference_mode():
        return net(images)


def test_an_onnx_file_computes_what_the_net_computes_and_says_how_it_is_fed(model, tmp_path):
    done = export_source(str(model), tmp_path / "net.onnx", image_size=8)
    session = onnxruntime.InferenceSession(done.path)
    for count in (1, 4):
        images = noise(count)
        (found,) = session.run(["logits"], {"images": images.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), logits(model, images), rtol=1e-4, atol=1e-4)
    said = session.get_modelmeta().custom_metadata_map
    cfg = timm.get_pretrained_cfg("wrn_10_2")
    assert {key: json.loads(said[key]) for key in ("classes", "mean", "std", "size", "crop_pct")} == {
        "classes": list(NAMES), "mean": list(cfg.mean), "std": list(cfg.std), "size": 8, "crop_pct": 1.0}
    assert (said["model"], said["interpolation"]) == ("mine", cfg.interpolation)
    assert said["weights_sha256"] == file_sha256(model / "model.safetensors")
    assert done.bytes == done.path.stat().st_size and done.difference < 1e-4 < done.largest


def test_arguments_of_the_net_are_exported_with_it(model, tmp_path):
    done = export_source(str(model), tmp_path / "net.onnx", image_size=8, model_kwargs=["act_layer=silu"])
    (found,) = onnxruntime.InferenceSession(done.path).run(["logits"], {"images": noise(2).numpy()})
    net = timm.create_model(f"local-dir:{model}", pretrained=True, act_layer="silu").eval()
    with torch.inference_mode():
        torch.testing.assert_close(torch.from_numpy(found), net(noise(2)), rtol=1e-4, atol=1e-4)


def test_int8_is_calibrated_on_images_and_says_what_it_costs(model, colours, tmp_path):
    done = export_source(
        str(model), tmp_path / "net.onnx", int8=True, dataset=str(colours), image_size=8, calibration_images=30)
    whole = export_source(str(model), tmp_path / "whole.onnx", image_size=8)
    assert done.bytes < whole.bytes / 2
    session = onnxruntime.InferenceSession(done.path)
    images = noise(4)
    (found,) = session.run(["logits"], {"images": images.numpy()})
    expected = logits(model, images).numpy()
    assert np.abs(found - expected).max() < 0.2 * np.abs(expected).max()
    changed = done.quantization
    assert changed.calibrated_on.startswith("30 training images of colours")
    assert changed.images.startswith("21 test images of colours") and changed.agreement > 0.6
    assert changed.top1 is not None and min(changed.top1) > 0
    assert session.get_modelmeta().custom_metadata_map["quantization"].endswith(changed.calibrated_on)
    assert any("before" in line and "after" in line for line in done.lines())


def test_images_of_other_classes_calibrate_but_measure_no_accuracy(colours, tmp_path):
    net = timm.create_model("wrn_10_2", num_classes=3)
    named = save_model(net, tmp_path / "pets", classes=("cat", "dog", "bird"))
    done = export_source(
        str(named), tmp_path / "net.onnx", int8=True, dataset=str(colours), image_size=8, calibration_images=9)
    assert done.quantization.top1 is None and "not measured" in list(done.lines())[-1]


def test_pt2_loads_with_torch_alone(model, tmp_path):
    done = export_source(str(model), tmp_path / "net.pt2", "pt2", image_size=8)
    extra = {"metadata.json": ""}
    program = torch.export.load(io.BytesIO(done.path.read_bytes()), extra_files=extra).module()
    images = noise(3)
    torch.testing.assert_close(program(images), logits(model, images))
    assert json.loads(json.loads(extra["metadata.json"])["classes"]) == list(NAMES)


def test_a_file_that_computes_something_else_is_not_written(model, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "exported", lambda net, size: exported(wrong(net), size))
    (tmp_path / "net.pt2").write_text("before")

    def wrong(net: nn.Module) -> nn.Module:
        other = timm.create_model("wrn_10_2", num_classes=net.num_classes).eval()
        other.pretrained_cfg = net.pretrained_cfg
        return other

    with pytest.raises(UserError, match=r"differ by up to .* nothing was written"):
        export_source(str(model), tmp_path / "net.pt2", "pt2", image_size=8)
    assert [path.name for path in tmp_path.iterdir()] == ["net.pt2"] and (tmp_path / "net.pt2").read_text() == "before"


class Choosy(nn.Module):
    def forward(self, images):
        return images if images.sum() > 0 else -images


def test_a_net_that_decides_by_its_data_is_refused_in_one_line():
    with pytest.raises(UserError, match=r"^Choosy can't be exported: [^\n]*$"):
        exported(Choosy(), 8)


@pytest.mark.parametrize("arguments, says", [
    ({"form": "pt2", "int8": True}, "leave --format pt2 or --int8 away"),
    ({"int8": True, "calibration_images": 0}, "calibration images 0"),
    ({"image_size": 0}, "image size 0"),
    ({"image_size": 10**12}, "image size 1000000000000: allowed is 1 to 10000 pixels"),
    ({"output": Path("nowhere/net.onnx")}, "output nowhere/net.onnx: name a file"),
    ({"output": Path(".")}, "output .: name a file"),
    ({"int8": True, "dataset": "cifar11", "image_size": 8}, "Did you mean 'cifar10'"),
    ({"model_kwargs": ["wings=2"]}, "takes no argument 'wings'"),
    ({"model_kwargs": ["act_layer=nonsense"]}, "can't be built with act_layer='nonsense': there is no 'nonsense'"),
    ({"model_kwargs": ["kernels=(3,)"]}, "model.safetensors has stages"),
    ({"model_kwargs": ["num_classes=2"]}, "'num_classes=2' among the arguments of the model"),
])
def test_bad_input_is_refused(model, tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        export_source(str(model), **arguments)
    assert says in str(caught.value) and not list(tmp_path.iterdir())
