"""Uploaded q, k and v from a .safetensors or .npz file.

Source: ours; `array_files.py` reads the formats. Names, types and shapes are checked before any number is read, so that a small
file that unpacks to a very large one is refused before it is unpacked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from longattn_core.contracts.sequence import Sequence
from longattn_core.sequences.array_files import FileArray, arrays_of
from longattn_core.sequences.limits import MAX_TOKENS, check_size

__all__ = ["MAX_BYTES", "MAX_HEADS", "MAX_SIZE", "MAX_WIDTH", "uploaded_sequence"]

MAX_BYTES = 200_000_000
"""Largest size of the file, and of its unpacked arrays."""
MAX_HEADS = 64
MAX_WIDTH = 512
MAX_SIZE = 1e6
"""Largest size of a number in q, k or v: far beyond those of any head, and far below where float32 products overflow."""

_REQUIRED = ("q", "k", "v")
_OPTIONAL = ("padding", "positions", "tokens")
_FLOATS = ("float16", "bfloat16", "float32", "float64")
_INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64")


@dataclass(frozen=True, kw_only=True)
class _Sizes:
    """The sizes of a file whose headers have been checked: query heads, key/value heads, tokens and widths."""

    h: int
    shared: int
    n: int
    d: int
    e: int


def uploaded_sequence(
    file: bytes | Path, *, name: str = "the file", causal: bool = True, sharpness: float = 1.0, length: int | None = None
) -> Sequence:
    """Read a sequence from the bytes or the path of a file; `length` keeps the first tokens only.

    Arrays: `q [h n d]` or `[n d]`; `k` and `v` with h heads, or with a number of heads that divides h (they are then repeated, so
    that neighbouring query heads share one). Optional: `padding [n]` (true or 1 for a real token), `positions [n]` (whole
    numbers) and, in .npz only, `tokens [n]` (text). 16-bit numbers become float32; one float64 array makes all float64.

    Raises: ValueError for any unusable bytes, with one sentence that says what was found and what is allowed.
    """
    try:
        data = _bytes(file)
        arrays = arrays_of(data)
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


def _check(arrays: Mapping[str, FileArray]) -> _Sizes:
    """Check everything that the headers state."""
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


def _head_shape(name: str, array: FileArray) -> tuple[int, int, int]:
    if array.dtype not in _FLOATS:
        hint = "; NumPy has no bfloat16: use .safetensors for it" if array.dtype.startswith("void") else ""
        raise ValueError(f"{name} is {array.dtype}; allowed are {', '.join(_FLOATS)}{hint}")
    if len(array.shape) not in (2, 3):
        raise ValueError(f"{name} must have the shape [n d] or [h n d], found {list(array.shape)}")
    if min(array.shape) < 1:
        raise ValueError(f"{name} is empty: its shape is {list(array.shape)}")
    heads, n, width = (1, *array.shape) if len(array.shape) == 2 else array.shape
    return heads, n, width


def _check_side(name: str, array: FileArray, n: int, allowed: tuple[str, ...]) -> None:
    if array.dtype not in allowed:
        raise ValueError(f"{name} is {array.dtype}; allowed are {', '.join(allowed)}")
    if array.shape != (n,):
        raise ValueError(f"{name} must have one entry a token, the shape [{n}], found {list(array.shape)}")


def _read(name: str, array: FileArray) -> Any:
    try:
        return array.read()
    except Exception as error:
        raise ValueError(f"its array {name!r} cannot be unpacked ({error})") from error


def _heads(name: str, array: FileArray) -> Float[Tensor, "h n w"]:
    numbers: Tensor = _read(name, array)
    numbers = numbers if numbers.dtype == torch.float64 else numbers.float()
    wrong = int((~torch.isfinite(numbers)).sum())
    if wrong:
        raise ValueError(f"{name} holds {wrong:,} values that are infinite or not numbers; all must be finite")
    if (largest := float(numbers.abs().max())) > MAX_SIZE:
        raise ValueError(f"{name} holds {largest:.3g}; at most {MAX_SIZE:g} in size is allowed")
    return numbers[None] if numbers.ndim == 2 else numbers


def _padding(arrays: Mapping[str, FileArray]) -> Tensor | None:
    if "padding" not in arrays:
        return None
    marks: Tensor = _read("padding", arrays["padding"])
    if marks.dtype != torch.bool and not bool(((marks == 0) | (marks == 1)).all()):
        raise ValueError("padding must hold true or 1 for a real token and false or 0 for padding, and nothing else")
    return marks.to(torch.bool)


def _positions(arrays: Mapping[str, FileArray]) -> Tensor | None:
    if "positions" not in arrays:
        return None
    positions: Tensor = _read("positions", arrays["positions"]).to(torch.int64)
    if bool(((positions < 0) | (positions >= 2**31)).any()):
        low, high = int(positions.min()), int(positions.max())
        raise ValueError(f"positions must lie in 0 … {2**31 - 1}, found {low} … {high}")
    return positions


def _tokens(arrays: Mapping[str, FileArray]) -> tuple[str, ...] | None:
    if "tokens" not in arrays:
        return None
    # An array of text may hold half a character (a lone surrogate), which cannot be encoded in a page or a file.
    return tuple(str(token).encode("utf-8", "replace").decode() for token in _read("tokens", arrays["tokens"]))


def _printable(text: str) -> str:
    """The text on one line, without unprintable characters: names in a file and messages of parsers may hold anything."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in " ".join(text.split()))


def _listed(names: Mapping[str, Any] | list[str]) -> str:
    shown = sorted(names)[:8]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return (", ".join(name[:40] for name in shown) or "no array") + more
