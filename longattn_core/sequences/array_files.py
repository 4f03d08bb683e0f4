"""The arrays inside a .safetensors or .npz file: headers first, numbers on demand; a pickle is never opened.

Source: formats as documented by safetensors and by NumPy (NEP 1).
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import safetensors
import torch
from torch import Tensor

__all__ = ["FileArray", "arrays_of"]

_TORCH_TYPES = {
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "BOOL": torch.bool,
    "I8": torch.int8,
    "U8": torch.uint8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
}
_HEADER_BYTES = 1_000_000
_MAX_MEMBERS = 64


class _Refusal(ValueError):  # noqa: N818
    """A refusal with a sentence of ours, to distinguish it from the errors of a parser."""


@dataclass(frozen=True, kw_only=True)
class FileArray:
    """One array as its header describes it; `read()` returns its numbers, and is called after the header has been checked."""

    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    read: Callable[[], Any]


def arrays_of(data: bytes) -> Mapping[str, FileArray]:
    """The arrays of a file by name, without their numbers.

    Raises: ValueError, the end of a sentence that begins with the file's name; whatever a parser raises becomes one.
    """
    if data[:2] == b"PK":
        kind, parse = ".npz", _npz
    elif data[8:9] == b"{":
        kind, parse = ".safetensors", _safetensors
    elif data[:6] == b"\x93NUMPY":
        raise ValueError("it is a single .npy array; save q, k and v together with numpy.savez")
    elif data[:1] == b"\x80":
        raise ValueError("it looks like a pickle, which is never opened; allowed are .safetensors and .npz")
    else:
        raise ValueError(f"its {len(data):,} bytes are neither .safetensors nor .npz, which are all that is allowed")
    try:
        return parse(data)
    except _Refusal:
        raise
    except Exception as error:
        raise ValueError(f"it is no whole {kind} file ({error})") from error


def _safetensors(data: bytes) -> Mapping[str, FileArray]:
    header = int.from_bytes(data[:8], "little")
    if header > _HEADER_BYTES:
        raise _Refusal(f"its .safetensors header claims {header:,} bytes; at most {_HEADER_BYTES:,} are allowed")
    found = {}
    for name, tensor in safetensors.deserialize(data):  # type: ignore[no-untyped-call]
        buffer, shape = tensor["data"], tuple(tensor["shape"])
        dtype = _TORCH_TYPES.get(tensor["dtype"])
        found[name] = FileArray(
            dtype=str(tensor["dtype"]) if dtype is None else str(dtype).removeprefix("torch."),
            shape=shape,
            nbytes=len(buffer),
            read=partial(_tensor, buffer, str(tensor["dtype"]), shape),
        )
    return found


def _tensor(buffer: bytearray, code: str, shape: tuple[int, ...]) -> Tensor:
    return torch.frombuffer(buffer, dtype=_TORCH_TYPES[code]).view(shape)


def _npz(data: bytes) -> Mapping[str, FileArray]:
    archive = zipfile.ZipFile(io.BytesIO(data))
    members = archive.infolist()
    if any(member.filename.endswith(".pkl") for member in members):
        raise _Refusal("it is a PyTorch checkpoint, a pickle, which is never opened; use .safetensors or .npz")
    if len(members) > _MAX_MEMBERS:
        raise _Refusal(f"it holds {len(members)} members; at most {_MAX_MEMBERS} are allowed")
    found: dict[str, FileArray] = {}
    for member in members:
        name = member.filename.removesuffix(".npy")
        if name == member.filename or name in found:
            raise _Refusal(f"its member {member.filename[:40]!r} is no .npy array, or is there twice")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or member.flag_bits & 1:
            raise _Refusal(f"its array {name[:40]!r} is encrypted, or packed in a way that numpy.savez does not use")
        with archive.open(member) as stream:
            shape, dtype = _npy_header(stream, name)
        found[name] = FileArray(
            dtype="text" if dtype.kind == "U" else dtype.name,
            shape=shape,
            nbytes=int(np.prod([float(size) for size in (*shape, dtype.itemsize)])),
            read=partial(_npy, archive, member),
        )
    return found


def _npy_header(stream: Any, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        version = np.lib.format.read_magic(stream)
        shape, _, dtype = readers[version](stream)
    except Exception as error:
        raise _Refusal(f"its array {name[:40]!r} has no readable .npy header of version 1.0 or 2.0 ({error})") from error
    if dtype.hasobject:
        raise _Refusal(
            f"its array {name[:40]!r} holds Python objects, which only a pickle can store, and pickles are never opened; "
            "save plain numbers"
        )
    return shape, dtype


def _npy(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Any:
    with archive.open(member) as stream:
        array = np.lib.format.read_array(stream, allow_pickle=False)
    if array.dtype.kind == "U":
        return array
    return torch.from_numpy(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")))
