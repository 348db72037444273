"""Files of weights, read without running anything in them: PyTorch's old and new format, safetensors, NumPy's .npz.

A file of another kind is named as what it is.
"""
import io
import math
import re
import sys
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors.torch import load

from ...errors import UserError, first_line
from ...files import read_tensors
from ...pickles import StandIn, as_key, unpickle
from ..folder import verify_archive

__all__ = ["load_checkpoint", "odd", "pickled_array"]

_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of a file that torch.save wrote before PyTorch 1.6
_DTYPES = {str(dtype): dtype for dtype in vars(torch).values() if isinstance(dtype, torch.dtype)}
_STORAGES = {f"torch.{name}Storage": dtype for name, dtype in {
    "Double": torch.float64, "Float": torch.float32, "Half": torch.float16, "BFloat16": torch.bfloat16,
    "Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8,
    "Bool": torch.bool, "ComplexFloat": torch.complex64, "ComplexDouble": torch.complex128}.items()}
_STORAGES |= {"torch.storage.UntypedStorage": torch.uint8, "torch.UntypedStorage": torch.uint8}

# what a file is, and what to do
_ONNX = ("an ONNX model", "convert the checkpoint that it was exported from")
_TENSORFLOW = ("a TensorFlow model", "save its weights as .npz under PyTorch's names")
_KERAS = ("an HDF5 file, as Keras writes them", "save the weights as .npz under PyTorch's names")
# and what it begins with then; first match first
_OTHERS: tuple[tuple[bytes, str, str], ...] = (
    (rb"\s*<", "a web page", "download the file in a browser and see what the page asks"),
    (rb"version https://git-lfs", "the pointer of Git LFS to a file that wasn't fetched", "run git lfs pull"),
    (rb"\x89HDF\r\n", *_KERAS),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|Rar!|.{257}ustar", "a compressed archive", "unpack it first"),
    (rb"\x93NUMPY", "a single NumPy array", "save all of the weights as .npz, under their names"),
    (rb".{4}TFL3", "a TensorFlow Lite model", "its weights are not converted"),
    (rb"GGUF|ggml", "a GGML model", "its weights are not converted"),
    (rb"\x08[\x02-\x7f](?=.{,500}(?:pytorch|onnx|ONNX|main_graph))", *_ONNX),
    (rb"\x08\x01\x12", *_TENSORFLOW),
    (rb"\x04\0\0\0\x01\0\0\0", "a file of Lua's Torch7", "save the weights with PyTorch"),
)
# where the beginning says nothing
_SUFFIXES = {".onnx": _ONNX, ".pb": _TENSORFLOW, ".index": _TENSORFLOW, ".h5": _KERAS}
_ODD = {
    "_rebuild_sparse_tensor": "is a sparse tensor: save it after to_dense()",
    "_rebuild_sparse_csr_tensor": "is a sparse tensor: save it after to_dense()",
    "_rebuild_qtensor": "is quantized: save it after dequantize()",
    "_rebuild_meta_tensor_no_storage": "has a shape but no values: it was saved from the meta device",
}


def load_checkpoint(path: str | Path) -> Any:
    """What a file holds: containers, numbers, texts, tensors on the CPU, and stand-ins for everything else.

    Raises:
        UserError: there is no such file, it is damaged or of a kind that isn't read; says which.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    with path.open("rb") as file:
        return _load(file, str(path), path.suffix)


def odd(value: object) -> str | None:
    """Why something that stands for a tensor is none, in the words of a message; None for anything else."""
    if isinstance(value, StandIn) and value.name.startswith("torch._utils._rebuild"):
        kind = value.name.rpartition(".")[2]
        return _ODD.get(kind, f"is a tensor of a kind that isn't read ({kind})")
    return None


def _load(file: BinaryIO, source: str, suffix: str, packed: bool = False) -> Any:
    start = file.read(1000)
    file.seek(0)
    if not start:
        raise UserError(f"{source} is empty")
    try:
        if start.startswith(b"PK\x03\x04"):
            return _load_zip(file, source, packed)
        if start.startswith(b"\x80"):
            return _load_pickle(file)
    except (UserError, OSError):
        raise
    except Exception as error:  # a damaged file can make a reader fail with anything
        reason = first_line(error).partition(". ")[0]
        raise UserError(f"{source} can't be read ({reason[:200]}); it may be damaged") from error
    kind = next((tuple(rest) for pattern, *rest in _OTHERS if re.match(pattern, start, re.DOTALL)), None)
    if start[8:9] == b"{" and not kind:
        if not packed:
            return read_tensors(source)
        try:
            return load(file.read())
        except Exception as error:
            raise UserError(f"{source}: damaged, or not a safetensors file ({first_line(error)})") from None
    if kind := kind or _SUFFIXES.get(suffix):
        raise UserError(f"{source} is {kind[0]}, not a checkpoint: {kind[1]}")
    raise UserError(f"{source} is no checkpoint: it begins with {start[:16]!r}")


def _load_zip(file: BinaryIO, source: str, packed: bool) -> Any:
    verify_archive(file, source)
    archive = zipfile.ZipFile(file)
    names = [name for name in archive.namelist() if not name.endswith("/") and "__MACOSX/" not in name]
    inner = {name.rpartition("/")[2] for name in names}
    if "constants.pkl" in inner:
        raise UserError(
            f"{source} is a TorchScript archive, a program with weights: load it with torch.jit.load and save its "
            "state_dict()")
    if inner & {"serialized_exported_program.json", "archive_format"}:
        raise UserError(
            f"{source} is a program of torch.export: load it with torch.export.load and save its state_dict")
    if any(name.endswith(".weights.h5") for name in names):
        raise UserError(f"{source} is a Keras model: save its weights as .npz under PyTorch's names")
    if "data.pkl" in inner:
        return _load_archive(archive, next(name for name in names if name.rpartition("/")[2] == "data.pkl"))
    if names and all(name.endswith(".npy") for name in names):
        return {name.removesuffix(".npy"): _array(archive.read(name)) for name in names}
    found = [name for name in names if re.search(r"\.(pth|pt|bin|ckpt|tar|safetensors|npz|pkl|pickle)$", name)] or names
    if len(found) == 1 and not packed:
        with io.BytesIO(archive.read(found[0])) as member:
            return _load(member, f"{source} ({found[0]} in it)", Path(found[0]).suffix, packed=True)
    raise UserError(
        f"{source} is a zip archive of {len(names)} files ({', '.join(found[:3])}): unpack it and name the checkpoint")


def _array(content: bytes) -> Any:
    """The tensor in a .npy file; a stand-in for an array of anything but numbers."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.kind not in "fiubc":
        return StandIn("a NumPy array of objects" if dtype.hasobject else f"a NumPy array of {dtype}")
    return _from_bytes(content[file.tell() :], dtype, shape, fortran)


def _from_bytes(content: bytes | bytearray, dtype: np.dtype, shape: tuple, fortran: bool) -> torch.Tensor:
    if math.prod(shape) * dtype.itemsize != len(content):
        raise ValueError(f"an array of shape {shape} has {len(content)} bytes")
    array = np.frombuffer(content, dtype).astype(dtype.newbyteorder("="))
    return torch.from_numpy(array.reshape(shape, order="F" if fortran else "C").copy())


def pickled_array(value: StandIn) -> Any:
    """The tensor of a pickled NumPy array of numbers; the stand-in itself where it is none."""
    match value.name.rpartition(".")[2], value.args, value.state:
        case "_reconstruct", _, (_, tuple(shape), StandIn() as dtype, bool(fortran), bytes() | bytearray() as content):
            pass
        case "_frombuffer", (bytes() | bytearray() as content, StandIn() as dtype, tuple(shape), order), _:
            fortran = order == "F"
        case _:
            return value
    kind = dtype.args[0] if dtype.args else ""
    order = dtype.state[1] if isinstance(dtype.state, tuple) and len(dtype.state) > 1 else "<"
    if not re.fullmatch(r"[<>|][fiu][1248]", f"{order}{kind}"):  # nothing else of a file gets to np.dtype
        return value
    return _from_bytes(content, np.dtype(f"{order}{kind}"), shape, fortran)


def _storage(key: Any) -> tuple[torch.dtype | None, str, int]:
    """(dtype, key, elements) that a tensor names as its storage; the dtype is None for a kind that isn't read."""
    kind, name, number = key[1], key[2], key[4]
    if not (isinstance(kind, StandIn) and isinstance(name, str | int) and isinstance(number, int) and number >= 0):
        raise ValueError("a storage has no type, no name or no size")
    return _STORAGES.get(kind.name), str(name), number


def _make(name: str, args: tuple) -> Any:
    """What stands for a call in a checkpoint: the tensor or the dictionary that it makes."""
    module, _, function = name.rpartition(".")
    if name in ("collections.OrderedDict", "collections.defaultdict", "builtins.dict", "__builtin__.dict"):
        made = args[-1] if args else {}
        pairs = made.items() if isinstance(made, dict) else made if isinstance(made, list) else ()
        return {as_key(key): value for key, value in pairs}
    if name in ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state",
                "torch.nn.parameter.Parameter") and args:
        return args[0]
    if name == "torch._tensor._rebuild_from_type_v2":  # of a subclass, which is left away
        return _make(args[0].name, args[2])
    if name == "_codecs.encode":  # bytes in a pickle of Python 2's protocol
        return args[0].encode("latin-1")
    if module == "torch._utils" and function in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3"):
        flat, offset, size, stride, *more = args
        if not isinstance(flat, torch.Tensor):
            return StandIn("torch._utils._rebuild_qtensor", args) if flat is None else StandIn(name, args)
        if function.endswith("v3"):
            flat = flat.view(_DTYPES[more[2].name])
        if math.prod(size) > flat.numel():
            return StandIn("torch._utils._rebuild_expanded", args)  # more elements than the file holds
        return flat.as_strided(size, stride, offset)  # which refuses what lies outside
    return StandIn(name, args)


def _load_archive(archive: zipfile.ZipFile, index: str) -> Any:
    """What torch.save has written since PyTorch 1.6: a pickle, and a file beside it for each storage."""
    root = index.removesuffix("data.pkl")
    if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != sys.byteorder.encode():
        raise ValueError("it was written by a machine of another byte order")
    read: dict[tuple, torch.Tensor | None] = {}

    def persistent(key: Any) -> torch.Tensor | None:
        dtype, name, number = _storage(key)
        if (dtype, name) not in read:
            content = bytearray(archive.read(f"{root}data/{name}"))
            if dtype and number * dtype.itemsize > len(content):
                raise ValueError(f"a storage of {number} elements has {len(content)} bytes")
            read[dtype, name] = None if dtype is None else _flat(content, dtype, number)
        return read[dtype, name]

    return unpickle(io.BytesIO(archive.read(index)), _make, persistent)


def _flat(content: bytearray, dtype: torch.dtype, number: int) -> torch.Tensor:
    return torch.frombuffer(content, dtype=dtype, count=number) if number else torch.empty(0, dtype=dtype)


def _load_pickle(file: BinaryIO) -> Any:
    """What torch.save wrote before PyTorch 1.6, five pickles and the bytes of the storages; or a plain pickle."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    contents: dict[str, tuple[bytearray, int]] = {}
    made: dict[tuple, torch.Tensor | None] = {}

    def persistent(key: Any) -> Any:
        if key[0] == "module":  # (class, its source): of a net that was pickled whole
            return key[1]
        dtype, name, number = _storage(key)
        width = dtype.itemsize if dtype else 1
        if name not in contents:
            if number * width + sum(len(content) for content, _ in contents.values()) > size:
                raise ValueError(f"its storages are larger than the file of {size} bytes")
            contents[name] = bytearray(number * width), width
        if (dtype, name) not in made:
            made[dtype, name] = None if dtype is None else _flat(contents[name][0], dtype, number)
        flat, view = made[dtype, name], key[5] if len(key) > 5 else None
        return flat[view[1] : view[1] + view[2]] if view and flat is not None else flat

    first = unpickle(file, _make, persistent)
    if first != _MAGIC:
        return first
    _, system, value, keys = (unpickle(file, _make, persistent) for _ in range(4))
    if not system.get("little_endian", True):
        raise ValueError("it was written by a machine of another byte order")
    for key in keys:
        content, width = contents[str(key)]
        number = int.from_bytes(file.read(8), "little")
        if number * width != len(content) or file.readinto(content) != len(content):  # type: ignore[attr-defined]
            raise ValueError("its end is missing")
    return value
