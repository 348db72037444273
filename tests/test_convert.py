"""Checkpoints of other Wide ResNets: the same logits after conversion, and a reason where there is none.

The foreign nets below are written from the names and the order of operations of the code named beside each; the
names of a block's layers come as (norm1, conv1, norm2, conv2, shortcut).
"""
import json
import pickle
import re
import runpy
import sys
from collections import OrderedDict
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

import wrn_hub  # noqa: F401
from wrn_hub.errors import UserError
from wrn_hub.facts import DATASETS
from wrn_hub.models.build import class_names
from wrn_hub.models.convert import convert, convert_file, read_checkpoint

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "convert.py"


class Foreign:
    """A net of the paper under somebody's names: random weights for it, and its forward pass on them."""

    def __init__(self, stem, block, norm, head):
        self.stem, self.block, self.norm, self.head = stem, block, norm, head

    def weights(self, blocks=2, width=2, classes=10) -> OrderedDict:
        random = torch.Generator().manual_seed(3)
        state = OrderedDict()

        def conv(name, chs_in, chs_out, kernel):
            scale = (2 / chs_in / kernel ** 2) ** 0.5
            state[name] = scale * torch.randn(chs_out, chs_in, kernel, kernel, generator=random)

        def norm(name, chs):
            for kind, low, high in (("weight", .5, 1.5), ("bias", -.5, .5), ("running_mean", -1, 1),
                                    ("running_var", .5, 2)):
                state[f"{name}.{kind}"] = low + (high - low) * torch.rand(chs, generator=random)

        conv(self.stem, 3, 16, 3)
        chs = 16
        for stage in range(3):
            for number in range(blocks):
                norm1, conv1, norm2, conv2, shortcut = self.block(stage, number)
                wide = 16 * width * 2 ** stage
                norm(norm1, chs)
                conv(conv1, chs, wide, 3)
                norm(norm2, wide)
                conv(conv2, wide, wide, 3)
                if chs != wide:
                    conv(shortcut, chs, wide, 1)
                chs = wide
        norm(self.norm, chs)
        state[f"{self.head}.weight"] = torch.randn(classes, chs, generator=random) / 8
        state[f"{self.head}.bias"] = torch.randn(classes, generator=random)
        return state

    def logits(self, state, images, blocks=2) -> torch.Tensor:
        state = {key: value.double() for key, value in state.items()}

        def active(name, x):
            mean, var, weight, bias = (
                state[f"{name}.{kind}"][:, None, None] for kind in ("running_mean", "running_var", "weight", "bias"))
            return F.relu((x - mean) / (var + 1e-5).sqrt() * weight + bias)

        x = F.conv2d(images.double(), state[self.stem], padding=1)
        for stage in range(3):
            for number in range(blocks):
                norm1, conv1, norm2, conv2, shortcut = self.block(stage, number)
                stride = 2 if stage > 0 and number == 0 else 1
                activated = active(norm1, x)
                branch = F.conv2d(activated, state[conv1], stride=stride, padding=1)
                branch = F.conv2d(active(norm2, branch), state[conv2], padding=1)
                x = branch + (F.conv2d(activated, state[shortcut], stride=stride) if shortcut in state else x)
        return F.linear(active(self.norm, x).mean((2, 3)), state[f"{self.head}.weight"], state[f"{self.head}.bias"])


def _author(stage, number):  # pytorch/resnet.py of szagoruyko/wide-residual-networks
    return tuple(f"group{stage}.block{number}.{name}" for name in ("bn0", "conv0", "bn1", "conv1", "convdim"))


def _author_of_modules(stage, number):
    return tuple(f"group{stage}.block{number}.{name}"
                 for name in ("bn0", "conv0.weight", "bn1", "conv1.weight", "convdim.weight"))


def _xternalz(stage, number):  # wideresnet.py of xternalz/WideResNet-pytorch, and of TRADES and RobustBench
    return tuple(f"block{stage + 1}.layer.{number}.{name}"
                 for name in ("bn1", "conv1.weight", "bn2", "conv2.weight", "convShortcut.weight"))


def _augmix(stage, number):  # third_party/WideResNet_pytorch of google-research/augmix
    return tuple(name.replace("convShortcut", "conv_shortcut") for name in _xternalz(stage, number))


def _sam(stage, number):  # example/model/wide_res_net.py of davda54/sam
    names = ("norm_act.0_normalization", "block.0_convolution.weight", "block.1_normalization",
             "block.4_convolution.weight", "downsample.weight")
    if number > 0:
        names = ("block.0_normalization", "block.2_convolution.weight", "block.3_normalization",
                 "block.6_convolution.weight", "")
    return tuple(f"f.{stage + 1}_block.block.{number}.{name}" for name in names)


XTERNALZ = Foreign("conv1.weight", _xternalz, "bn1", "fc")
NETS = {
    "szagoruyko/wide-residual-networks": Foreign("conv0", _author, "bn", "fc"),
    "szagoruyko/wide-residual-networks, .weight": Foreign("conv0.weight", _author_of_modules, "bn", "fc"),
    "xternalz": XTERNALZ,
    "xternalz, AugMix": Foreign("conv1.weight", _augmix, "bn1", "fc"),
    "davda54/sam": Foreign("f.0_convolution.weight", _sam, "f.4_normalization", "f.8_classification"),
}


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def _randomise(net: torch.nn.Module) -> torch.nn.Module:
    for key, value in net.state_dict().items():
        if value.ndim == 1:
            value.copy_(torch.rand_like(value) + (0.5 if key.endswith(("weight", "running_var")) else -0.5))
    return net.eval()


def _assert_same(net: torch.nn.Module, logits: torch.Tensor, images: torch.Tensor) -> None:
    with torch.no_grad():
        torch.testing.assert_close(net.double()(images.double()), logits.double(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NETS)
def test_logits_stay(name, images):
    state = NETS[name].weights()
    converted = convert(state, "wrn_16_2")
    assert converted.net == "WRN-16-2 with 10 classes"
    assert converted.layout.name.startswith(name.split(",")[0])
    _assert_same(converted.model, NETS[name].logits(state, images), images)


def test_logits_stay_where_the_first_stage_has_no_projection(images):
    state = XTERNALZ.weights(width=1, classes=7)
    assert "block1.layer.0.convShortcut.weight" not in state
    _assert_same(convert(state, "wrn_16_1").model, XTERNALZ.logits(state, images), images)


@torch.no_grad()
@pytest.mark.parametrize("width", (1, 2))
def test_logits_of_pytorchcv_stay(width, images):
    get_wrn_cifar = pytest.importorskip("pytorchcv.models.wrn_cifar").get_wrn_cifar
    net = _randomise(get_wrn_cifar(num_classes=10, blocks=16, width_factor=width))
    _assert_same(convert(net.state_dict(), f"wrn_16_{width}").model, net.double()(images.double()), images)


@torch.no_grad()
def test_logits_of_torchvision_stay(images):
    models = pytest.importorskip("torchvision.models")
    with torch.device("meta"):
        net = models.wide_resnet50_2()
    net.load_state_dict(  # weights drawn once: initialising 69 million twice takes longer than the rest
        {k: torch.empty(v.shape).uniform_(0.5, 1) if v.ndim < 2 else torch.empty(v.shape).uniform_(-0.02, 0.02)
         for k, v in net.state_dict().items() if "num_batches" not in k}, strict=False, assign=True)
    state = {k: torch.zeros((), dtype=torch.long) if v.is_meta else v for k, v in net.state_dict().items()}
    net.load_state_dict(state, assign=True)
    converted = convert(state, "wrn_50_2", tag="tv_in1k")
    assert converted.net == "WRN-50-2 for ImageNet with 1000 classes"
    torch.testing.assert_close(converted.model(images[:1]), net.eval()(images[:1]), rtol=1e-5, atol=1e-5)


def test_our_own_names_pass_unchanged(images):
    net = _randomise(timm.create_model("wrn_16_1", num_classes=4))
    converted = convert({f"_orig_mod.{k}": v for k, v in net.state_dict().items()}, "wrn_16_1")
    with torch.no_grad():
        assert torch.equal(converted.model(images), net(images))


def test_what_the_forward_pass_never_reads_is_left_out(images):
    state = XTERNALZ.weights()
    logits = XTERNALZ.logits(state, images)
    state |= {f"sub_{k}": torch.rand_like(v) for k, v in state.items() if k.startswith("block1.")}  # TRADES
    state |= {k: torch.zeros_like(v) for k, v in ((k.replace("weight", "bias"), v[:, 0, 0, 0])
                                                  for k, v in list(state.items()) if v.ndim == 4)}
    state["n_averaged"] = torch.tensor(3)
    _assert_same(convert(state, "wrn_16_2").model, logits, images)


WRAPPERS = {
    "the weights alone": lambda state: state,
    "in state_dict, of DataParallel": lambda state: {
        "epoch": 3, "optimizer": {"state": {0: {"momentum_buffer": torch.rand(3, 3, 3, 3)}}},
        "state_dict": {f"module.{k}": v for k, v in state.items()}},
    "in model": lambda state: {"model": state, "best": 0.5},
    "params and stats, as the author's": lambda state: {
        "params": {k: v for k, v in state.items() if "running" not in k},
        "stats": {k: v for k, v in state.items() if "running" in k}},
    "behind a layer that normalises": lambda state: {
        "0.mean": torch.tensor([.1, .2, .3]), "0.std": torch.tensor([.4, .5, .6])} | {
        f"1.{k}": v for k, v in state.items()},
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_wrappers_are_seen_through(wrapper, tmp_path):
    net = NETS["szagoruyko/wide-residual-networks"]
    state = net.weights(blocks=1)
    torch.save(WRAPPERS[wrapper](state), tmp_path / "net.pt",
               _use_new_zipfile_serialization=wrapper != "in model")
    converted = convert(read_checkpoint(tmp_path / "net.pt"), "wrn_10_2")
    assert torch.equal(converted.model.head.fc.weight, state["fc.weight"])
    if "normalises" in wrapper:
        assert converted.model.pretrained_cfg["mean"] == (.1, .2, .3)
        assert converted.model.pretrained_cfg["std"] == (.4, .5, .6)


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Run the script in this process; returns (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["convert.py", *map(str, arguments)])
        code = 0
        try:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        except SystemExit as stop:
            code = int(stop.code or 0)
        output = capsys.readouterr()
        return code, output.out, output.err

    return run


def test_the_folder_is_one_that_timm_loads(run, images):
    state = XTERNALZ.weights(blocks=1)
    save_file(state, "net.safetensors")
    Path("out").mkdir()
    code, out, err = run("net.safetensors", "out", "--model", "wrn_10_2", "--tag", "svhn")
    assert code == 0, err
    assert "WRN-10-2 with 10 classes" in out and "xternalz" in out
    assert "assumed: ReLU" in out and re.search(r"assumed: .* of wrn_10_2\.svhn, mean \(0\.4377.*--mean", out)
    net = timm.create_model("local-dir:out", pretrained=True).eval()
    assert tuple(net.pretrained_cfg["mean"]) == DATASETS["svhn"].mean
    assert class_names(net) == list(DATASETS["svhn"].classes)
    _assert_same(net, XTERNALZ.logits(state, images, blocks=1), images)
    config = json.loads(Path("out/config.json").read_text())
    assert config["pretrained_cfg"]["tag"] == "svhn" and "license" not in config["pretrained_cfg"]


def test_a_net_of_unknown_data_keeps_no_names_of_classes(run):
    torch.save(XTERNALZ.weights(blocks=1, classes=100), "net.pt")
    code, out, err = run("net.pt", "one", "--model", "wrn_10_2")
    assert code == 0 and "wrn_10_2.cifar100" in out, err  # the likeliest for 100 classes, and said so
    code, out, err = run(
        "net.pt", "two", "--model", "wrn_10_2", "--mean", 0.5, 0.5, 0.5, "--std", 0.2, 0.2, 0.25)
    assert code == 0 and "preprocessing" not in out, err
    net = timm.create_model("local-dir:two", pretrained=True)
    assert net.pretrained_cfg["std"] == [0.2, 0.2, 0.25]
    assert net.num_classes == 100 and class_names(net)[:2] == ["0", "1"]
    assert "tag" not in json.loads(Path("two/config.json").read_text())["pretrained_cfg"]


class Malicious:
    def __reduce__(self):
        return open, ("it_ran", "w")


def _renamed(state, **names):
    for old, new in names.items():
        state = {key.replace(old, new): value for key, value in state.items()}
    return state


def _meliketoy() -> dict[str, torch.Tensor]:
    """networks/wide_resnet.py of meliketoy, later bmsookim: torchdistill's names but for the head, and biases."""
    state = _renamed(_torchdistill(), fc="linear")
    return state | {k.replace("weight", "bias"): torch.ones(len(v)) for k, v in state.items() if v.ndim == 4}


def _torchdistill() -> dict[str, torch.Tensor]:
    """models/classification/wide_resnet.py of torchdistill; its shortcut reads the block's raw input."""
    return _renamed(
        XTERNALZ.weights(blocks=1), **{"block": "layer", ".layer.": ".", "convShortcut": "shortcut.0"})


def _fixmatch() -> dict[str, torch.Tensor]:
    """models/wideresnet.py of kekmodel/FixMatch-pytorch: two norms that are in the file but not in the net."""
    state = XTERNALZ.weights(blocks=1)
    for stage in (2, 3):
        state[f"block{stage}.layer.0.bn1.weight"].fill_(0.97)
        state[f"block{stage}.layer.0.bn1.bias"].zero_()
    return state


def _saved(make):
    return lambda: torch.save(make(), "net.pt")


def _written(content: bytes):
    return lambda: Path("net.pt").write_bytes(content)


def _state(**more):
    return XTERNALZ.weights(blocks=1) | more


def _without(key):
    state = XTERNALZ.weights(blocks=1)
    del state[key]
    return state


REFUSED = {
    "a pickle that runs something": (
        _saved(lambda: {"state_dict": Malicious()}),
        "holds no weights of a convolutional net; what it holds else was not run: io.open"),
    "the same without PyTorch's wrapping": (_written(pickle.dumps(Malicious())), "else was not run: io.open"),
    "a module pickled whole": (
        _saved(lambda: torch.nn.Conv2d(3, 3, 3)), r"holds no weights of a convolutional net; .* torch\.nn\.\S*Conv2d"),
    "no file": (lambda: None, "net.pt: no such file"),
    "a web page": (_written(b"\n<!DOCTYPE html><html>"), "is a web page"),
    "no checkpoint": (_written(b"version https://git-lfs"), "is the pointer of Git LFS .*run git lfs pull"),
    "a damaged file": (_written(b"PK\x03\x04 and then nothing"), "is damaged .*File is not a zip file"),
    "no weights": (_saved(lambda: {"epoch": 3}), "holds no weights"),
    "two sets of weights": (
        _saved(lambda: {"state_dict": _state(), "ema_state_dict": _state()}),
        "holds weights in state_dict, ema_state_dict: .*--entry"),
    "another size": (
        _saved(lambda: XTERNALZ.weights(blocks=2, width=1, classes=100)),
        r"is a WRN-16-1 with 100 classes, not wrn_10_2: try --model wrn_16_1$"),
    "a size that no model has": (
        _saved(lambda: XTERNALZ.weights(blocks=1, width=1)), "a WRN-10-1 .*: no model of this size"),
    "a key missing": (_saved(lambda: _without("bn1.running_var")), r"WRN-10-2 .* lacks norm\.running_var$"),
    "a key left over": (_saved(lambda: _state(**{"extra.weight": torch.ones(2)})), r"which has no extra\.weight$"),
    "a block's key left over": (
        _saved(lambda: _state(**{"block1.layer.0.gate.weight": torch.ones(2)})), r"no block1\.layer\.0\.gate\.weight"),
    "gray images": (
        _saved(lambda: _state(**{"conv1.weight": torch.ones(16, 1, 3, 3)})), r"stem.conv.weight is \(16, 1, 3, 3\)"),
    "two nets": (_saved(lambda: {f"{p}.{k}": v for p in ("model", "module") for k, v in _state().items()}),
                 "more than one net"),
    "no known layout": (
        _saved(lambda: {"embed.weight": torch.ones(4, 3, 2, 2)}), "keys such as embed.weight; known are: wrn_hub; "),
    "biases": (
        _saved(lambda: _state(**{"conv1.bias": torch.ones(16)})), "differs from ours: its convolutions have biases"),
    "FixMatch": (_saved(_fixmatch), "never trained, as in MixMatch and FixMatch, .*leaky ReLU"),
    "torchdistill": (_saved(_torchdistill), "layout of torchdistill .*read the block's raw input"),
    "meliketoy": (_saved(_meliketoy), "layout of meliketoy .*raw input.* second convolution .* biases"),
    "a folded net": (
        _saved(lambda: {"group3.block0.conv0.weight": torch.ones(4, 4, 1, 1)}), "BatchNorm is folded"),
    "DeepMind's": (
        _saved(lambda: {"init_conv.weight": torch.ones(4, 3, 3, 3),
                        "layer.0.block.0.batchnorm_0.weight": torch.ones(4)}), "padded at the right"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_converted_is_refused_in_one_line(case, run, tmp_path):
    make, says = REFUSED[case]
    make()
    before = sorted(tmp_path.iterdir())
    code, out, err = run("net.pt", "out", "--model", "wrn_10_2")
    assert code == 2 and out == "" and len(err.splitlines()) == 1, err
    assert err.startswith("convert.py: net.pt") and re.search(says, err.strip()), err
    assert sorted(tmp_path.iterdir()) == before, "something was left behind, or run"


OPTIONS = {
    "no such model": (["--model", "wrn_10_20"], "no model of this name. Did you mean"),
    "no such tag": (["--model", "wrn_10_2", "--tag", "cifar1000"], "it has cifar10"),
    "a tag of other classes": (["--model", "wrn_10_2", "--tag", "cifar100"], "has 10 classes, cifar100 has 100"),
    "a folder for a model": (["--model", "local-dir:out"], "out is not the folder of a model"),
    "no such entry": (["--model", "wrn_10_2", "--entry", "ema"], "no entry 'ema'.*leave --entry out"),
    "a mean of 255ths": (
        ["--model", "wrn_10_2", "--mean", "125.3", "123.0", "113.9"], r"mean = \(125\.3, .*from 0 to 1.*divide by 255"),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_wrong_options_are_named(case, run):
    options, says = OPTIONS[case]
    torch.save(_state(), "net.pt")
    code, _, err = run("net.pt", "out", *options)
    assert code == 2 and re.search(says, err.strip().splitlines()[-1]), err
    assert not Path("out").exists()


def test_an_entry_is_chosen_and_a_full_folder_kept(tmp_path):
    torch.save({"state_dict": _state(), "ema_state_dict": _state(**{"fc.bias": torch.ones(10)})}, tmp_path / "net.pt")
    converted = convert_file(tmp_path / "net.pt", tmp_path / "out", "wrn_10_2", entry="ema_state_dict")
    assert torch.equal(converted.model.head.fc.bias, torch.ones(10))
    for occupied in (tmp_path / "out", tmp_path / "net.pt"):
        with pytest.raises(UserError, match="exists already"):
            convert_file(tmp_path / "net.pt", occupied, "wrn_10_2", entry="state_dict")
