"""The libraries beside which ours is timed. Each gets our q, k and v, so that only its attention is timed.

Where a peer projects its input, the projections are replaced by the stored tensors. Everything that ours does not have
(position embeddings, convolutions beside the attention, dropout) is off. What a peer draws is passed to its oracle.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from longattn_core import Sequence

Attend = Callable[[], Tensor]
Draw = Callable[[], Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A peer with its sequence: `attend` is the timed call, `output` turns its result into [h n e].

    After `attend`, `draw` returns what was drawn or fitted, which is an input of the peer's oracle.
    """

    attend: Attend
    output: Callable[[Tensor], Tensor]
    draw: Draw = field(default=dict)


class Stored(nn.Module):
    """Replaces a projection: returns the first rows of the tensor that it holds."""

    def __init__(self, held: Tensor, *, copied: bool = False, axis: int = 0):
        super().__init__()
        self.held, self.copied, self.axis = held, copied, axis

    def forward(self, x: Tensor) -> Tensor:
        """As many rows as x has."""
        rows = self.held.narrow(self.axis, 0, x.shape[self.axis])
        return rows.clone() if self.copied else rows


def merged(x: Tensor) -> Tensor:
    """[h n d] as [1 n h·d]."""
    return x.transpose(0, 1).reshape(1, x.shape[1], -1).contiguous()


def split(h: int) -> Callable[[Tensor], Tensor]:
    """[1 n h·d] as [h n d]."""
    return lambda x: x[0].unflatten(-1, (h, -1)).transpose(0, 1)


def performer_pytorch(sequence: Sequence, *, features: int) -> Peer:
    """`FastAttention`; under a causal mask its path in pure torch, the only one without a CUDA extension."""
    from performer_pytorch.performer_pytorch import FastAttention

    with contextlib.redirect_stdout(io.StringIO()):
        layer = FastAttention(dim_heads=sequence.d, nb_features=features, causal=sequence.causal)
    layer = layer.to(sequence.q.dtype)
    q, k, v = (x[None] for x in (sequence.q, sequence.k, sequence.v))
    return Peer(attend=lambda: layer(q, k, v), output=lambda x: x[0], draw=lambda: {"projection": layer.projection_matrix})


def reformer_pytorch(sequence: Sequence, *, bucket: int, rounds: int) -> Peer:
    """`LSHAttention` with its defaults: shared queries and keys, own chunk and the one before, across buckets."""
    from reformer_pytorch.reformer_pytorch import LSHAttention

    layer = LSHAttention(bucket_size=bucket, n_hashes=rounds, causal=sequence.causal).eval()
    columns = sequence.n // bucket // 2

    def attend() -> Tensor:
        torch.manual_seed(0)
        out: Tensor = layer(sequence.q, sequence.v)[0]
        return out

    def draw() -> dict[str, Any]:
        torch.manual_seed(0)
        rotations = torch.randn(1, sequence.d, rounds, columns, dtype=sequence.q.dtype)
        return {"rotations": rotations.expand(sequence.h, -1, -1, -1)}

    return Peer(attend=attend, output=lambda x: x, draw=draw)


def linformer(sequence: Sequence, *, rank: int) -> Peer:
    """`LinformerSelfAttention` with its dense E and F: it holds them, ours draws them in every call."""
    from linformer.linformer import LinformerSelfAttention

    layer = LinformerSelfAttention(sequence.h * sequence.d, sequence.n, k=rank, heads=sequence.h).to(sequence.q.dtype)
    layer.to_q, layer.to_k, layer.to_v = (Stored(merged(x), axis=1) for x in (sequence.q, sequence.k, sequence.v))
    layer.to_out = nn.Identity()
    return Peer(
        attend=lambda: layer(layer.to_q.held),
        output=split(sequence.h),
        draw=lambda: {"e": layer.proj_k.detach(), "f": layer.proj_v.detach()},
    )


def nystrom_attention(sequence: Sequence, *, landmarks: int) -> Peer:
    """`NystromAttention` with its six iterations, without the convolution that it adds."""
    from nystrom_attention.nystrom_attention import NystromAttention

    layer = NystromAttention(
        sequence.h * sequence.d, dim_head=sequence.d, heads=sequence.h, num_landmarks=landmarks, residual=False
    ).to(sequence.q.dtype)
    both = torch.cat([merged(x) for x in (sequence.q, sequence.k, sequence.v)], dim=-1)
    layer.to_qkv, layer.to_out = Stored(both, axis=1), nn.Identity()
    x = merged(sequence.q)
    return Peer(attend=lambda: layer(x), output=split(sequence.h))


def local_attention(sequence: Sequence, *, window: int) -> Peer:
    """`LocalAttention` with an exact window, without its rotary positions."""
    from local_attention import LocalAttention

    layer = LocalAttention(window, causal=sequence.causal, exact_windowsize=True, use_rotary_pos_emb=False)
    return Peer(attend=lambda: layer(sequence.q, sequence.k, sequence.v), output=lambda x: x)


def flex_attention(sequence: Sequence, *, window: int) -> Peer:
    """torch's `flex_attention`, compiled; the blocks of its mask are computed before the timing."""
    if not sequence.causal:
        raise ValueError("flex_attention is given a causal window; set causal = true")
    q, k, v = (x[None] for x in (sequence.q, sequence.k, sequence.v))
    compiled = _compiled_window(sequence.n, window)
    return Peer(attend=lambda: compiled(q, k, v), output=lambda x: x[0])


@cache
def _compiled_window(n: int, window: int) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Cached, because torch compiles again for every new mask object. Memory n × n while the blocks of the mask are computed.

    Raises: FailOnRecompileLimitHit, where torch would continue without compiling, a hundred times as slow.
    """
    from torch._dynamo import config
    from torch.nn.attention import flex_attention as flex

    # A graph for every length and every number of threads.
    config.recompile_limit, config.fail_on_recompile_limit_hit = 64, True

    def near(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query >= key) & (query - key < window)

    blocks = flex.create_block_mask(near, None, None, n, n, device="cpu")
    return torch.compile(partial(flex.flex_attention, block_mask=blocks), dynamic=False)


def routing_transformer(sequence: Sequence, *, clusters: int, window: int, fitted: bool = True) -> Peer:
    """`KmeansAttention`; with `fitted` its ten passes of k-means are part of every call, as they are in ours."""
    from routing_transformer.routing_transformer import KmeansAttention

    torch.manual_seed(0)
    layer = KmeansAttention(clusters, window, sequence.h, sequence.d, causal=sequence.causal)
    layer = layer.to(sequence.q.dtype).eval()
    q, k, v = (x[None] for x in (sequence.q, sequence.k, sequence.v))

    def attend() -> Tensor:
        torch.manual_seed(0)
        if fitted:
            layer.kmeans.initted.fill_(False)
        out: Tensor = layer(q, k, v)[0]
        return out

    def draw() -> dict[str, Any]:
        drawn = {"means": layer.kmeans.means, "memory_keys": layer.mem_key, "memory_values": layer.mem_value}
        return {name: tensor.detach() for name, tensor in drawn.items()}

    return Peer(attend=attend, output=lambda x: x[0], draw=draw)


def hf_reformer(sequence: Sequence, *, bucket: int, rounds: int) -> Peer:
    """transformers' `LSHSelfAttention`."""
    from transformers import ReformerConfig
    from transformers.models.reformer.modeling_reformer import LSHSelfAttention

    config = ReformerConfig(
        hidden_size=sequence.h * sequence.d,
        num_attention_heads=sequence.h,
        attention_head_size=sequence.d,
        num_hashes=rounds,
        num_buckets=sequence.n // bucket,
        lsh_attn_chunk_length=bucket,
        hash_seed=0,
        is_decoder=sequence.causal,
        lsh_attention_probs_dropout_prob=0.0,
    )
    layer = LSHSelfAttention(config, layer_idx=0).to(sequence.q.dtype).eval()
    layer.query_key, layer.value = Stored(merged(sequence.q), axis=1), Stored(merged(sequence.v), axis=1)
    x = merged(sequence.q)

    def draw() -> dict[str, Any]:
        torch.manual_seed(0)
        shape = (sequence.h, sequence.d, rounds, sequence.n // bucket // 2)
        return {"rotations": torch.randn(shape, dtype=sequence.q.dtype)}

    return Peer(attend=lambda: layer(x).hidden_states, output=split(sequence.h), draw=draw)


def hf_nystromformer(sequence: Sequence, *, landmarks: int) -> Peer:
    """transformers' `NystromformerSelfAttention`, without the convolution that it adds."""
    from transformers import NystromformerConfig
    from transformers.models.nystromformer.modeling_nystromformer import NystromformerSelfAttention

    config = NystromformerConfig(
        hidden_size=sequence.h * sequence.d,
        num_attention_heads=sequence.h,
        num_landmarks=landmarks,
        segment_means_seq_len=sequence.n,
    )
    object.__setattr__(config, "conv_kernel_size", None)  # its validation requires a number, but its code handles None
    layer = NystromformerSelfAttention(config).to(sequence.q.dtype).eval()
    layer.query, layer.key, layer.value = (Stored(merged(x), axis=1) for x in (sequence.q, sequence.k, sequence.v))
    x = merged(sequence.q)
    return Peer(attend=lambda: layer(x)[0], output=split(sequence.h))


def hf_longformer(sequence: Sequence, *, window: int, global_tokens: int) -> Peer:
    """transformers' `LongformerSelfAttention`; its projections for global tokens are the same as those for the others."""
    from transformers import LongformerConfig
    from transformers.models.longformer.modeling_longformer import LongformerSelfAttention

    config = LongformerConfig(attention_window=[window], hidden_size=sequence.h * sequence.d, num_attention_heads=sequence.h)
    layer = LongformerSelfAttention(config, layer_id=0).to(sequence.q.dtype).eval()
    q, k, v = (merged(x).transpose(0, 1).contiguous() for x in (sequence.q, sequence.k, sequence.v))
    # The queries are copied, because it divides them by √d in place.
    layer.query, layer.query_global = Stored(q, copied=True), Stored(q, copied=True)
    layer.key, layer.key_global, layer.value, layer.value_global = Stored(k), Stored(k), Stored(v), Stored(v)
    first = torch.arange(sequence.n)[None] < global_tokens
    hidden, mask = q.transpose(0, 1), first.to(sequence.q.dtype) * 10000.0
    none = torch.zeros_like(first)

    def attend() -> Tensor:
        out: Tensor = layer(hidden, attention_mask=mask, is_index_masked=none, is_index_global_attn=first, is_global_attn=True)[0]
        return out

    return Peer(attend=attend, output=split(sequence.h))


def hf_bigbird(sequence: Sequence, *, block: int, random_blocks: int) -> Peer:
    """transformers' `BigBirdBlockSparseAttention` in evaluation mode."""
    from transformers import BigBirdConfig
    from transformers.models.big_bird.modeling_big_bird import BigBirdBlockSparseAttention, BigBirdModel

    config = BigBirdConfig(
        hidden_size=sequence.h * sequence.d,
        num_attention_heads=sequence.h,
        block_size=block,
        num_random_blocks=random_blocks,
        max_position_embeddings=sequence.n,
    )
    layer = BigBirdBlockSparseAttention(config, seed=0).to(sequence.q.dtype).eval()
    layer.query, layer.key, layer.value = (Stored(merged(x), axis=1) for x in (sequence.q, sequence.k, sequence.v))
    x = merged(sequence.q)
    blocked, band, rows, columns = BigBirdModel.create_masks_for_block_sparse_attn(
        torch.ones(1, sequence.n, dtype=sequence.q.dtype), block
    )

    def attend() -> Tensor:
        out: Tensor = layer(
            x, band_mask=band, from_mask=rows, to_mask=columns, from_blocked_mask=blocked, to_blocked_mask=blocked
        )[0]
        return out

    return Peer(attend=attend, output=split(sequence.h))


PEERS: Mapping[str, Callable[..., Peer]] = {
    build.__name__: build
    for build in (
        performer_pytorch,
        reformer_pytorch,
        linformer,
        nystrom_attention,
        local_attention,
        flex_attention,
        routing_transformer,
        hf_reformer,
        hf_nystromformer,
        hf_longformer,
        hf_bigbird,
    )
}
