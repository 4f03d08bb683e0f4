"""Captured queries, keys and values of the sample texts, stored on disk beside the weights for the next start.

Without them a server would run the model on the same samples before its first picture. Only sample texts are stored: what a
visitor types or uploads is never written to disk.
"""

import os
import sys
from collections.abc import Mapping
from collections.abc import Sequence as Many
from contextlib import suppress
from functools import cache
from hashlib import blake2b
from inspect import getsource
from pathlib import Path
from zlib import crc32

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from longattn_core.language_model.model import Captured, load_language_model
from longattn_core.language_model.weights import cache_folder, converted_weights, replacing
from longattn_core.numerics import rotary as rotary_positions

__all__ = ["captured"]

MOST_BYTES = 512 << 20
"""The largest size of the folder: some two hundred captures of 512 tokens. The oldest are deleted first."""
NAMES = ("q", "k", "v")


def captured(ids: Many[int], layer: int, *, rotary: bool = True, keep: bool = False) -> Captured:
    """Queries, keys and values of one layer, as by `LanguageModel.capture`; with `keep` they are stored on disk and reused.

    A stored capture is reused only for the same weights, code, release of torch and processor instructions, so that it holds
    exactly the numbers that the model would compute. If one of these has changed, or the file is damaged, the model runs again.

    Raises: as `LanguageModel.capture` and `load_language_model`.
    """
    model = load_language_model()
    if not keep:
        return model.capture(ids, layer, rotary=rotary)[layer]
    path = cache_folder() / "captures" / f"{_name(ids, layer, rotary)}.safetensors"
    if (found := _read(path)) is not None:
        return found
    made = model.capture(ids, layer, rotary=rotary)[layer]
    # Without a writable folder everything works too, only the next start is slower.
    with suppress(OSError, SafetensorError):
        _write(path, made)
    return made


def _name(ids: Many[int], layer: int, rotary: bool) -> str:
    weights = converted_weights()
    digest = blake2b(f"{_maker()} {weights.checksum} {weights.config} {layer} {rotary}".encode(), digest_size=20)
    digest.update(torch.tensor(ids, dtype=torch.int64).numpy().tobytes())
    return digest.hexdigest()


@cache
def _maker() -> str:
    """What determines the numbers: the code, the release of torch, and the processor's instructions."""
    code = "".join(getsource(module) for module in (sys.modules[Captured.__module__], rotary_positions))
    return f"{code} {torch.__version__} {torch.backends.cpu.get_cpu_capability()}"


def _read(path: Path) -> Captured | None:
    """A stored capture; None if there is none, or if it is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in NAMES}
            checksum = (file.metadata() or {}).get("checksum")
    except (OSError, SafetensorError):
        return None
    return Captured(**tensors) if checksum == _checksum(tensors) else None


def _write(path: Path, made: Captured) -> None:
    tensors = {name: getattr(made, name).contiguous() for name in NAMES}
    path.parent.mkdir(parents=True, exist_ok=True)
    _make_room(path.parent)
    with replacing(path) as part:
        save_file(tensors, part, metadata={"checksum": _checksum(tensors)})


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    checksum = 0
    for name in NAMES:
        checksum = crc32(tensors[name].contiguous().numpy().tobytes(), checksum)
    return f"{checksum:08x}"


def _make_room(folder: Path) -> None:
    """Delete the oldest captures until the folder holds at most `MOST_BYTES`."""
    files = sorted(
        ((entry.stat().st_mtime, entry.stat().st_size, entry.path) for entry in os.scandir(folder) if entry.is_file()),
        reverse=True,
    )
    held = 0
    for _made, size, path in files:
        held += size
        if held > MOST_BYTES:
            with suppress(OSError):
                os.unlink(path)
