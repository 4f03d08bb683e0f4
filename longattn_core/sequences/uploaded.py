"""A person's own q, k and v, from a .safetensors or .npz file; a pickle is never opened.

Source: formats as documented by safetensors and by NumPy (NEP 1). Names, types and shapes are read and checked first,
numbers only afterwards, so that a small file that unpacks to a large one is refused before it does.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from jaxtyping import Float
from torch import Tensor

from longattn_core.contracts.sequence import Sequence
from longattn_core.sequences.limits import MAX_TOKENS, check_size

__all__ = ["MAX_BYTES", "MAX_HEADS", "MAX_SIZE", "MAX_WIDTH", "uploaded_sequence"]

MAX_BYTES = 200_000_000
"""Of the file, and of its arrays once unpacked."""
MAX_HEADS = 64
MAX_WIDTH = 512
MAX_SIZE = 1e6
"""Of one number in q, k or v: far beyond any head, and far below where products overflow in float32."""

_REQUIRED = ("q", "k", "v")
_OPTIONAL = ("padding", "positions", "tokens")
_FLOATS = ("float16", "bfloat16", "float32", "float64")
_INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64")
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
    """A sentence of ours, to tell it from what a parser says."""


@dataclass(frozen=True, kw_only=True)
class _Array:
    """What the file says of one array, and how to read its numbers once that has been checked."""

    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    read: Callable[[], Any]


@dataclass(frozen=True, kw_only=True)
class _Sizes:
    """Query heads, key/value heads, tokens and widths, as found and allowed."""

    h: int
    shared: int
    n: int
    d: int
    e: int


def uploaded_sequence(
    file: bytes | Path, *, name: str = "the file", causal: bool = True, sharpness: float = 1.0, length: int | None = None
) -> Sequence:
    """Read a sequence from a file's bytes or its path; `length` keeps the first tokens only.

    Arrays: `q [h n d]` or `[n d]`, `k` and `v` with as many heads or with a number that divides h (then repeated, so
    that neighbouring query heads share one); optional `padding [n]` (true or 1 for a real token), `positions [n]`
    (whole numbers) and, in .npz only, `tokens [n]` (text). Halves become float32; one float64 array makes all of them
    float64.

    Raises: ValueError, one sentence that says what was found and what is allowed, whatever the bytes.
    """
    try:
        data = _bytes(file)
        arrays = _arrays(data)
        sizes = _check(arrays)
        q, k, v = (_heads(name, arrays[name]) for name in _REQUIRED)
        dtype = torch.float64 if torch.float64 in (q.dtype, k.dtype, v.dtype) else torch.float32
        groups = sizes.h // sizes.shared
        sequence = Sequence(
            q=q.to(dtype),
            k=k.to(dtype).repeat_interleave(groups, dim=0),
            v=v.to(dtype).repeat_interleave(groups, dim=0),
            causal=causal,
            padding=_padding(arrays),
            positions=_positions(arrays),
            key_value_groups=groups,
            tokens=_tokens(arrays),
            origin=f"Uploaded: {name}.",
        )
    except ValueError as error:
        raise ValueError(_printable(f"{name} cannot be read: {str(error).rstrip('.')}.")) from error
    if length is not None and length < sequence.n:
        sequence = sequence.prefix(length)
    return sequence.sharpened(sharpness)


def _bytes(file: bytes | Path) -> bytes:
    size = len(file) if isinstance(file, bytes) else _size(file)
    if size > MAX_BYTES:
        raise ValueError(f"it holds {size:,} bytes; at most {MAX_BYTES:,} are allowed")
    return file if isinstance(file, bytes) else file.read_bytes()


def _size(path: Path) -> int:
    if not path.is_file():
        raise ValueError(f"there is no file {path.name!r}")
    return path.stat().st_size


def _arrays(data: bytes) -> Mapping[str, _Array]:
    """Headers by name. Hostile bytes can raise anything in a parser; a person gets one sentence."""
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


def _safetensors(data: bytes) -> Mapping[str, _Array]:
    header = int.from_bytes(data[:8], "little")
    if header > _HEADER_BYTES:
        raise _Refusal(f"its .safetensors header claims {header:,} bytes; at most {_HEADER_BYTES:,} are allowed")
    found = {}
    for name, tensor in safetensors.deserialize(data):  # type: ignore[no-untyped-call]
        buffer, shape = tensor["data"], tuple(tensor["shape"])
        dtype = _TORCH_TYPES.get(tensor["dtype"])
        found[name] = _Array(
            dtype=str(tensor["dtype"]) if dtype is None else str(dtype).removeprefix("torch."),
            shape=shape,
            nbytes=len(buffer),
            read=partial(_tensor, buffer, str(tensor["dtype"]), shape),
        )
    return found


def _tensor(buffer: bytearray, code: str, shape: tuple[int, ...]) -> Tensor:
    return torch.frombuffer(buffer, dtype=_TORCH_TYPES[code]).view(shape)


def _npz(data: bytes) -> Mapping[str, _Array]:
    archive = zipfile.ZipFile(io.BytesIO(data))
    members = archive.infolist()
    if any(member.filename.endswith(".pkl") for member in members):
        raise _Refusal("it is a PyTorch checkpoint, a pickle, which is never opened; use .safetensors or .npz")
    if len(members) > _MAX_MEMBERS:
        raise _Refusal(f"it holds {len(members)} members; at most {_MAX_MEMBERS} are allowed")
    found: dict[str, _Array] = {}
    for member in members:
        name = member.filename.removesuffix(".npy")
        if name == member.filename or name in found:
            raise _Refusal(f"its member {member.filename[:40]!r} is no .npy array, or is there twice")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or member.flag_bits & 1:
            raise _Refusal(f"its array {name[:40]!r} is encrypted, or packed in a way that numpy.savez does not use")
        with archive.open(member) as stream:
            shape, dtype = _npy_header(stream, name)
        found[name] = _Array(
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


def _check(arrays: Mapping[str, _Array]) -> _Sizes:
    """Everything that the headers alone can tell."""
    if missing := [name for name in _REQUIRED if name not in arrays]:
        raise ValueError(f"it holds {_listed(arrays)} and lacks {_listed(missing)}; q, k and v are needed")
    if unknown := [name for name in arrays if name not in (*_REQUIRED, *_OPTIONAL)]:
        raise ValueError(f"it holds {_listed(unknown)} besides; allowed are {', '.join((*_REQUIRED, *_OPTIONAL))}")
    if (total := sum(array.nbytes for array in arrays.values())) > MAX_BYTES:
        raise ValueError(f"its arrays unpack to {total:,} bytes; at most {MAX_BYTES:,} are allowed")
    shapes = {name: _head_shape(name, arrays[name]) for name in _REQUIRED}
    (h, n, d), (shared, _, _), (_, _, e) = shapes["q"], shapes["k"], shapes["v"]
    if shapes["k"] != (shared, n, d):
        raise ValueError(f"k must have the tokens and width of q, {[n, d]}, found {list(shapes['k'][1:])}")
    if shapes["v"] != (shared, n, e):
        raise ValueError(f"v must have the heads and tokens of k, {[shared, n]}, found {list(shapes['v'][:2])}")
    if h % shared:
        raise ValueError(f"the heads of k and v, {shared}, must divide those of q, {h}")
    for what, size, most in (("heads", h, MAX_HEADS), ("tokens", n, MAX_TOKENS), ("channels", max(d, e), MAX_WIDTH)):
        if size > most:
            raise ValueError(f"it has {size:,} {what}; at most {most:,} are allowed")
    check_size(h, n, d, e)
    for name, allowed in (("padding", ("bool", *_INTEGERS)), ("positions", _INTEGERS), ("tokens", ("text",))):
        if name in arrays:
            _check_side(name, arrays[name], n, allowed)
    return _Sizes(h=h, shared=shared, n=n, d=d, e=e)


def _head_shape(name: str, array: _Array) -> tuple[int, int, int]:
    if array.dtype not in _FLOATS:
        hint = "; NumPy has no bfloat16: use .safetensors for it" if array.dtype.startswith("void") else ""
        raise ValueError(f"{name} is {array.dtype}; allowed are {', '.join(_FLOATS)}{hint}")
    if len(array.shape) not in (2, 3):
        raise ValueError(f"{name} must have the shape [n d] or [h n d], found {list(array.shape)}")
    if min(array.shape) < 1:
        raise ValueError(f"{name} is empty: its shape is {list(array.shape)}")
    heads, n, width = (1, *array.shape) if len(array.shape) == 2 else array.shape
    return heads, n, width


def _check_side(name: str, array: _Array, n: int, allowed: tuple[str, ...]) -> None:
    if array.dtype not in allowed:
        raise ValueError(f"{name} is {array.dtype}; allowed are {', '.join(allowed)}")
    if array.shape != (n,):
        raise ValueError(f"{name} must have one entry a token, the shape [{n}], found {list(array.shape)}")


def _read(name: str, array: _Array) -> Any:
    try:
        return array.read()
    except Exception as error:
        raise ValueError(f"its array {name!r} cannot be unpacked ({error})") from error


def _heads(name: str, array: _Array) -> Float[Tensor, "h n w"]:
    numbers: Tensor = _read(name, array)
    numbers = numbers if numbers.dtype == torch.float64 else numbers.float()
    wrong = int((~torch.isfinite(numbers)).sum())
    if wrong:
        raise ValueError(f"{name} holds {wrong:,} values that are infinite or not numbers; all must be finite")
    if (largest := float(numbers.abs().max())) > MAX_SIZE:
        raise ValueError(f"{name} holds {largest:.3g}; at most {MAX_SIZE:g} in size is allowed")
    return numbers[None] if numbers.ndim == 2 else numbers


def _padding(arrays: Mapping[str, _Array]) -> Tensor | None:
    if "padding" not in arrays:
        return None
    marks: Tensor = _read("padding", arrays["padding"])
    if marks.dtype != torch.bool and not bool(((marks == 0) | (marks == 1)).all()):
        raise ValueError("padding must hold true or 1 for a real token and false or 0 for padding, and nothing else")
    return marks.to(torch.bool)


def _positions(arrays: Mapping[str, _Array]) -> Tensor | None:
    if "positions" not in arrays:
        return None
    positions: Tensor = _read("positions", arrays["positions"]).to(torch.int64)
    if bool(((positions < 0) | (positions >= 2**31)).any()):
        low, high = int(positions.min()), int(positions.max())
        raise ValueError(f"positions must lie in 0 … {2**31 - 1}, found {low} … {high}")
    return positions


def _tokens(arrays: Mapping[str, _Array]) -> tuple[str, ...] | None:
    if "tokens" not in arrays:
        return None
    # An array of text may hold half a character, which no page and no file could be written with.
    return tuple(str(token).encode("utf-8", "replace").decode() for token in _read("tokens", arrays["tokens"]))


def _printable(text: str) -> str:
    """On one line: names inside a file, and what a parser says of hostile bytes, may hold anything."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in " ".join(text.split()))


def _listed(names: Mapping[str, Any] | list[str]) -> str:
    shown = sorted(names)[:8]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return (", ".join(name[:40] for name in shown) or "no array") + more
