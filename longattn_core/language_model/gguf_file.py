"""What the packaged GGUF file holds, in our names: the model's sizes, its tensors in float32, and its tokenizer."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from longattn_core.language_model.config import ModelConfig

if TYPE_CHECKING:
    from gguf import GGUFReader

__all__ = ["BLOCK_TENSORS", "config_of", "licence_of", "tensors_of", "tokenizer_json"]

BLOCK_TENSORS = {
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
"""Our names of a block's tensors, and the file's."""


def _field(reader: "GGUFReader", name: str) -> Any:
    return reader.fields[name].contents()


def licence_of(reader: "GGUFReader") -> str:
    """The licence of the weights."""
    return str(_field(reader, "general.license"))


def config_of(reader: "GGUFReader") -> ModelConfig:
    """The sizes of the model."""
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


def tensors_of(reader: "GGUFReader", config: ModelConfig) -> dict[str, Tensor]:
    """Every tensor of `config.shapes()`, dequantised to float32. Cost: some seconds."""
    from gguf.quants import dequantize

    packed = {tensor.name: tensor for tensor in reader.tensors}
    tensors = {}
    for name in config.shapes():
        stem, _, part = name.rpartition(".")
        inner = {"embedding": "token_embd", "final_norm": "output_norm"}.get(part, BLOCK_TENSORS.get(part))
        tensor = packed[f"{stem.replace('blocks', 'blk')}.{inner}.weight".lstrip(".")]
        # A copy, because a tensor that is not quantised comes back as a read-only view of the file.
        tensors[name] = torch.from_numpy(np.array(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32))
    return tensors


def tokenizer_json(reader: "GGUFReader") -> str:
    """The tokenizer, as the `tokenizers` library writes it."""
    from tokenizers import Tokenizer
    from tokenizers.decoders import ByteLevel as ByteLevelDecoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    pieces: list[str] = _field(reader, "tokenizer.ggml.tokens")
    merges: list[str] = _field(reader, "tokenizer.ggml.merges")
    pairs = [(left, right) for left, right in (merge.split(" ") for merge in merges)]
    tokenizer = Tokenizer(BPE(vocab={piece: index for index, piece in enumerate(pieces)}, merges=pairs))
    # The file does not contain this rule: each digit is a token of its own.
    tokenizer.pre_tokenizer = Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = ByteLevelDecoder()
    # Special tokens are deliberately not registered: when somebody types one, it must stay plain text.
    return str(tokenizer.to_str())
