"""Reading somebody's checkpoint: the weights, whatever lies beside them, or one line that says why not."""
import argparse
import datetime
import io
import pickle
import random
import re
import sys
import zipfile
from collections import OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

import wrn_hub  # noqa: F401
from wrn_hub.errors import UserError
from wrn_hub.models.convert import convert, read_checkpoint
from wrn_hub.pickles import unpickle


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("wrn_10_2", num_classes=3).eval()


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "net.pth"


def assert_read(path: Path, net: nn.Module, entry: str | None = None) -> None:
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(convert(read_checkpoint(path, entry), "wrn_10_2").model(images), net(images))


def refusal(path: Path) -> str:
    """What is said of a file, which is one line that begins with its path."""
    with pytest.raises(UserError) as error:
        convert(read_checkpoint(path), "wrn_10_2", source=path)
    assert str(error.value).startswith(str(path)) and len(str(error.value).splitlines()) == 1, error.value
    return str(error.value)


# What lies beside the weights


class Settings(dict):
    pass


class Average:
    def __init__(self, net):
        self.decay, self.weights = 0.99, net.state_dict()


class Wrapped(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net
        self.activation = torch.relu


class Subclass(torch.Tensor):
    pass


def _timm(net):
    """What timm's train.py writes as last.pth.tar."""
    optimizer = torch.optim.Adam(net.parameters())
    net.train()(torch.randn(2, 3, 8, 8)).sum().backward()
    net.zero_grad(set_to_none=False)
    optimizer.step()
    net.eval()
    return {
        "epoch": 3, "arch": "wrn", "state_dict": net.state_dict(), "optimizer": optimizer.state_dict(), "version": 2,
        "args": argparse.Namespace(lr=0.1, output=Path("out"), betas=(0.9, 0.999)), "metric": np.float64(93.2)}


def _torchvision(net):
    """What torchvision's references/classification/train.py writes."""
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    return {
        "model": {f"module.{key}": value for key, value in net.state_dict().items()},
        "optimizer": optimizer.state_dict(), "lr_scheduler": scheduler.state_dict(), "epoch": 9,
        "args": argparse.Namespace(device="cuda", world_size=8), "scaler": {"scale": 65536.0}}


BESIDE = {
    "timm's last.pth.tar": _timm,
    "torchvision's references": _torchvision,
    "numpy scalars, paths, dates": lambda net: {
        "state_dict": net.state_dict(), "best": np.float32(0.9), "where": Path("/home"), "curve": np.arange(4.0),
        "when": datetime.datetime(2020, 1, 2), "by": defaultdict(list, a=[1]), "set": {1, 2}, "seen": frozenset("ab")},
    "settings of a class of their own": lambda net: {
        "hyper_parameters": Settings(lr=1), "state_dict": {f"model.{k}": v for k, v in net.state_dict().items()}},
    "a wrapper in a wrapper": lambda net: {"model": {"state_dict": net.state_dict(), "epoch": 3}, "lr": 0.1},
    "a pair": lambda net: (net.state_dict(), {"epoch": 3}),
    "a list in a list": lambda net: {"nets": [{"weights": net.state_dict()}]},
    "prefixes of any name": lambda net: {f"student.trunk.{key}": value for key, value in net.state_dict().items()},
    "a net pickled whole": lambda net: Wrapped(net),
    "in an object": lambda net: {"ema": Average(net)},
    "parameters": lambda net: OrderedDict(net.named_parameters()) | dict(net.named_buffers()),
    "a subclass of tensors": lambda net: {key: value.as_subclass(Subclass) for key, value in net.state_dict().items()},
    "NumPy arrays": lambda net: {"model": {key: value.numpy() for key, value in net.state_dict().items()}},
    "storages that are shared": lambda net: {
        "optimizer": [value[..., :1] for value in net.state_dict().values() if value.ndim], "net": net.state_dict()},
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("case", BESIDE)
def test_what_lies_beside_the_weights_does_no_harm(case, legacy, net, path):
    torch.save(BESIDE[case](net), path, _use_new_zipfile_serialization=not legacy)
    assert_read(path, net)


@pytest.mark.parametrize("protocol", range(2, 6))
def test_every_protocol_of_pickle_is_read(protocol, net, path):
    held = {
        "state_dict": {key: value.numpy() for key, value in net.state_dict().items()}, "set": {1.5, "a", b"b", None},
        "numbers": [True, -1, 300, 70_000, 2**40, -(2**70), 1e300], "text": ["", "é" * 300], "settings": Settings(a=1)}
    held["itself"] = held
    path.write_bytes(pickle.dumps(held, protocol))
    assert_read(path, net)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.float8_e5m2])
def test_weights_of_another_precision(dtype, net, path):
    state = {key: value.to(dtype) if value.is_floating_point() else value for key, value in net.state_dict().items()}
    torch.save(state, path)
    converted = convert(read_checkpoint(path), "wrn_10_2").model
    assert torch.equal(converted.norm.weight, net.norm.weight.to(dtype).float())
    assert converted.stem.conv.weight.dtype == torch.float32


def test_several_sets_are_named_by_what_leads_to_them(net, path):
    state = net.state_dict()
    torch.save({"model": {"now": state, "average": {f"module.{k}": v for k, v in state.items()}}, "epoch": 1}, path)
    assert "holds weights in model.now, model.average: name the one" in refusal(path)
    assert_read(path, net, "model.average")


def test_files_of_other_programs(net, tmp_path):
    state = net.state_dict()
    np.savez(tmp_path / "net.npz", notes=np.array([{"a": 1}], object), **{k: v.numpy() for k, v in state.items()})
    np.savez_compressed(tmp_path / "small.npz", **{k: v.numpy() for k, v in state.items()})
    save_file(state, tmp_path / "net.safetensors")
    torch.save({"state_dict": state}, tmp_path / "net.pth")
    for inner in ("net.npz", "net.safetensors", "net.pth"):
        with zipfile.ZipFile(tmp_path / f"{inner}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(tmp_path / inner, f"weights/{inner}")
            archive.writestr("__MACOSX/weights/._net.pth", "")
            archive.writestr("README.txt", "weights")
    with zipfile.ZipFile(tmp_path / "net.pth") as archive:
        archive.extractall(tmp_path / "unpacked")
    with zipfile.ZipFile(tmp_path / "again.zip", "w", zipfile.ZIP_DEFLATED) as archive:  # as Finder packs it again
        for member in (tmp_path / "unpacked").rglob("*"):
            archive.write(member, member.relative_to(tmp_path / "unpacked"))
    for file in [*tmp_path.glob("*.npz"), *tmp_path.glob("*.zip"), tmp_path / "net.safetensors"]:
        assert_read(file, net)


def test_a_shortcut_may_have_any_name(net, path):
    """A layer that is the only unknown one of its block, and projects its channels, is the projection."""
    names = {"residual.conv1": "conv1", "norm1": "bn1", "residual.norm2": "bn2", "residual.conv2": "conv2",
             "shortcut": "my_projection"}
    state = {}
    for key, value in net.state_dict().items():
        for ours, theirs in names.items():
            key = key.replace(f".0.{ours}.", f".layer.0.{theirs}.")
        for stage in range(3):
            key = key.replace(f"stages.{stage}.", f"block{stage + 1}.")
        outside = {"stem.conv.": "conv1.", "norm.": "bn1.", "head.fc.": "fc."}
        state[next((theirs + key[len(o):] for o, theirs in outside.items() if key.startswith(o)), key)] = value
    torch.save(state, path)
    assert_read(path, net)
    assert "block1.layer.0.my_projection" in convert(state, "wrn_10_2").assumed[1]
    for more in (torch.ones(32, 16, 1, 1), torch.ones(32, 32, 1, 1)):  # two of them: nobody knows which
        torch.save(state | {"block1.layer.0.another.weight": more}, path)
        assert "which has no block1.layer.0.another.weight, block1.layer.0.my_projection.weight" in refusal(path)


# Nothing is imported, nothing is called


def test_no_module_is_imported(net, path, tmp_path, monkeypatch):
    (tmp_path / "theirs.py").write_text(
        f"import pathlib\npathlib.Path({str(tmp_path / 'it_ran')!r}).touch()\nclass Config:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    import theirs
    torch.save({"state_dict": net.state_dict(), "config": theirs.Config()}, path)
    (tmp_path / "it_ran").unlink()
    del sys.modules["theirs"]
    assert_read(path, net)
    assert "theirs" not in sys.modules and not (tmp_path / "it_ran").exists()


PROGRAMS = {
    "a call": b"\x80\x02cos\nsystem\nX\x0b\x00\x00\x00touch it_ran\x85R.",
    "an object": b"\x80\x02(cos\nsystem\nX\x0b\x00\x00\x00touch it_rano.",
    "an instance": b"\x80\x02(X\x0b\x00\x00\x00touch it_ranios\nsystem\n.",
    "a name from the stack": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0ctouch it_ran\x85R.",
    "attributes of a call": b"\x80\x02cbuiltins\ngetattr\ncos\nsystem\nX\x05\x00\x00\x00__doc\x86R}b.",
    "a call of what a call gave": b"\x80\x02cbuiltins\neval\nX\x01\x00\x00\x001\x85R)R.",
    "a structured dtype": b"\x80\x02cnumpy\ndtype\nX\x02\x00\x00\x00O8\x85R(K\x03X\x01\x00\x00\x00|NNNJ\xff\xff\xff\xff"
                          b"J\xff\xff\xff\xffK?tb.",
    "an extension": b"\x80\x02\x82\x01.",
    "a buffer from outside": b"\x80\x05\x97.",
    "an id": b"\x80\x02X\x01\x00\x00\x00aQ.",
    "a call without a name": b"\x80\x02K\x01)R.",
    "nothing": b"\x80\x02.",
    "no end": b"\x80\x02]",
    "a mark too few": b"\x80\x02t.",
    "a memo that isn't": b"\x80\x02h\x07.",
    "a list for a key": b"\x80\x02}]K\x01s.",
    "an odd number of entries": b"\x80\x02}(K\x01u.",
    "a huge text": b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
    "a huge number": b"\x80\x02\x8b\xff\xff\xff\x7fabc.",
    "a list in itself": b"\x80\x02]q\x00h\x00a.",
    "a key as deep as a stack": b"\x80\x02})" + 1_000_000 * b"\x85" + b"K\x01s.",
    "a key whose hash takes for ever": b"\x80\x02})" + 100 * b"q\x00h\x00\x86" + b"K\x01s.",
    "the same in a set": b"\x80\x04\x8f()" + 100 * b"q\x00h\x00\x86" + b"\x90.",
    "the same in what becomes a dict": b"\x80\x02ccollections\nOrderedDict\n])" + 100 * b"q\x00h\x00\x86"
                                       + b"K\x01\x86a\x85R.",
    "the same as a module's name": b"\x80\x04)" + 100 * b"q\x00h\x00\x86" + b"\x8c\x01a\x93.",
}


@pytest.mark.parametrize("case", PROGRAMS)
def test_a_pickle_is_no_program_here(case, path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path.write_bytes(PROGRAMS[case])
    refusal(path)
    assert [file.name for file in tmp_path.iterdir()] == ["net.pth"]


def test_a_pickle_has_an_end():
    assert unpickle(io.BytesIO(b"\x80\x02" + 7 * b"]" + b"."), most=10) == []
    with pytest.raises(ValueError, match="more than 10 opcodes"):
        unpickle(io.BytesIO(b"\x80\x02" + 9 * b"]" + b"."), most=10)


# Tensors that are none


class Fake:
    """A tensor as a pickle has it, of whatever sizes."""

    def __init__(self, elements, size, stride, offset=0, kind=torch.FloatStorage):
        self.key, self.layout = ("storage", kind, "0", "cpu", elements), (offset, size, stride)


def _fake(path: Path, fake: Fake) -> None:
    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return value.key if isinstance(value, Fake) else None

        def reducer_override(self, value):
            if isinstance(value, argparse.Namespace):
                return torch._utils._rebuild_tensor_v2, (value.fake, *fake.layout, False, OrderedDict())
            return NotImplemented

    content = io.BytesIO()
    Pickler(content, 2).dump({"stem.conv.weight": argparse.Namespace(fake=fake)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", content.getvalue())
        archive.writestr("net/data/0", bytes(64))


def test_a_tensor_of_a_hand_made_archive_is_one(path):
    _fake(path, Fake(16, (1, 1, 4, 4), (16, 16, 4, 1)))
    assert torch.equal(read_checkpoint(path)["stem.conv.weight"], torch.zeros(1, 1, 4, 4))


SIZES = {
    "more elements than bytes": Fake(10**12, (10**12,), (1,)),
    "fewer elements than none": Fake(-1, (1, 1, 1, 1), (1, 1, 1, 1)),
    "larger than its storage": Fake(16, (1, 1, 4, 5), (20, 20, 5, 1)),
    "outside of its storage": Fake(16, (1, 1, 2, 2), (16, 16, 4, 1), offset=14),
    "before its storage": Fake(16, (1, 1, 2, 2), (16, 16, 4, 1), offset=-1),
    "strides backwards": Fake(16, (1, 1, 2, 2), (16, 16, -4, 1)),
    "a size below 0": Fake(16, (1, 1, -2, 2), (16, 16, 4, 1)),
    "expanded": Fake(1, (10**6, 1, 10**4, 10**4), (0, 0, 0, 0)),
    "a size beyond all numbers": Fake(16, (10**30, 1, 1, 1), (1, 1, 1, 1)),
    "a size of texts": Fake(16, ("1", "1", "4", "4"), (16, 16, 4, 1)),
    "quantized": Fake(16, (1, 1, 4, 4), (16, 16, 4, 1), kind=torch.QInt8Storage),
}


@pytest.mark.filterwarnings("ignore:TypedStorage:UserWarning")
@pytest.mark.parametrize("case", SIZES)
def test_sizes_that_no_file_holds_are_refused(case, path):
    _fake(path, SIZES[case])
    refusal(path)


def _quantized(weight):
    return torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8)


ODD = {
    "sparse": (lambda weight: weight.to_sparse(), "head.fc.weight is a sparse tensor: save it after to_dense"),
    "sparse rows": (lambda weight: weight.to_sparse_csr(), "head.fc.weight is a "),
    "quantized": (_quantized, "head.fc.weight is quantized: save it after dequantize"),
    "complex": (lambda weight: weight * 1j, "head.fc.weight is of torch.complex64"),
    "meta": (lambda weight: weight.to("meta"), "head.fc.weight has a shape but no values"),
    "whole numbers": (lambda weight: weight.long(), "head.fc.weight is of torch.int64"),
    "truths": (lambda weight: weight > 0, "head.fc.weight is of torch.bool"),
    "no dimension": (lambda weight: weight.sum(), "head.fc.weight is (), where 2 dimensions are needed"),
    "no element": (lambda weight: weight[:, :0], "head.fc.weight has no elements"),
    "another shape": (lambda weight: weight[:, :5], "is a WRN-10-0.078125 with 3 classes, not wrn_10_2"),
    "NaN": (lambda weight: weight / 0 * 0, "head.fc.weight holds NaN"),
    "infinite": (lambda weight: weight.abs() / 0, "head.fc.weight holds infinite values"),
}


@pytest.mark.filterwarnings("ignore")  # of torch, of sparse rows and of quantization
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("case", ODD)
def test_an_odd_tensor_is_named(case, legacy, net, path):
    make, says = ODD[case]
    torch.save({**net.state_dict(), "head.fc.weight": make(net.head.fc.weight.detach())}, path,
               _use_new_zipfile_serialization=not legacy)
    assert says in refusal(path)


# Files of other kinds


def _zip(*members: str, content: bytes = b"content", compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for member in members:
            archive.writestr(member, content)
    return file.getvalue()


def _npz(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def _script() -> bytes:
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(nn.Conv2d(3, 3, 3)), file)
    return file.getvalue()


def _program() -> bytes:
    file = io.BytesIO()
    torch.export.save(torch.export.export(nn.Conv2d(3, 3, 3), (torch.ones(1, 3, 8, 8),)), file)
    return file.getvalue()


KINDS = {
    "TorchScript": (_script, "is a TorchScript archive, .* torch.jit.load and save its state_dict"),
    "torch.export": (_program, "is a program of torch.export"),
    "Keras": (lambda: _zip("config.json", "metadata.json", "model.weights.h5"), "is a Keras model"),
    "HDF5": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(99), "is an HDF5 file, as Keras writes them"),
    "ONNX": (lambda: b"\x08\x0a\x12\x07pytorch\x1a\x052.1.0", "is an ONNX model"),
    "TensorFlow": (lambda: b"\x08\x01\x12\x9a\x01\x0a", "is a TensorFlow model"),
    "TensorFlow Lite": (lambda: b"\x1c\0\0\0TFL3" + bytes(99), "is a TensorFlow Lite model"),
    "a page of a drive": (lambda: b"<!DOCTYPE html><html><title>Google Drive - Virus scan", "is a web page.*browser"),
    "Git LFS": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:", "is the pointer of Git LFS"),
    "gzip": (lambda: b"\x1f\x8b\x08" + bytes(20), "is a compressed archive.*unpack"),
    "tar": (lambda: b"sys_info".ljust(257, b"\0") + b"ustar\x0000" + bytes(300), "is a compressed archive.*unpack"),
    "an array": (lambda: b"\x93NUMPY\x01\0", "is a single NumPy array"),
    "arrays of objects": (lambda: _npz(a=np.array([{}], object)), "no weights.*a NumPy array of objects"),
    "arrays of no net": (lambda: _npz(a=np.ones(3)), "holds no weights"),
    "several checkpoints": (lambda: _zip("a.pth", "b.pth"), r"a zip archive of 2 files \(a.pth, b.pth\): unpack it"),
    "no checkpoint": (lambda: _zip("a.jpg", "b.jpg"), r"a zip archive of 2 files \(a.jpg, b.jpg\)"),
    "a zip in a zip": (lambda: _zip("a.pth", content=_zip("b.pth", content=_zip("c.pth"))), "unpack it and name"),
    "an empty zip": (lambda: _zip(), "can't be read|is no checkpoint|zip archive of 0"),
    "a bomb": (lambda: _zip("a.pth", content=bytes(10**8), compression=zipfile.ZIP_DEFLATED), "a hundred times"),
    "nothing": (lambda: b"", "is empty"),
    "a text": (lambda: b"weights\n", "is no checkpoint: it begins with b'weights"),
}


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("case", KINDS)
def test_a_file_of_another_kind_is_named_as_what_it_is(case, path):
    make, says = KINDS[case]
    path.write_bytes(make())
    assert re.search(says, refusal(path)), refusal(path)


@pytest.mark.parametrize("form", ["zip", "legacy", "npz", "safetensors", "pickle"])
def test_a_damaged_file_never_ends_in_a_traceback(form, path):
    """... nor, where the format has check sums, in other weights."""
    state = {"stem.conv.weight": torch.randn(2, 3, 1, 1), "norm.bias": torch.randn(3)}
    if form == "npz":
        path.write_bytes(_npz(**{key: value.numpy() for key, value in state.items()}))
    elif form == "safetensors":
        save_file(state, path)
    elif form == "pickle":
        path.write_bytes(pickle.dumps({key: value.numpy() for key, value in state.items()}))
    else:
        torch.save({"state_dict": state, "args": argparse.Namespace(a=1)}, path,
                   _use_new_zipfile_serialization=form == "zip")
    whole, chance, refused = path.read_bytes(), random.Random(0), 0
    for attempt in range(300):
        content = bytearray(whole)
        if attempt % 5:
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        else:
            del content[chance.randrange(len(content)):]
        path.write_bytes(content)
        try:
            read = read_checkpoint(path)
        except UserError as error:
            refused += 1
            assert len(str(error).splitlines()) == 1
        else:
            assert form not in ("zip", "npz") or all(torch.equal(read[key], state[key]) for key in read)
    assert refused > 60
