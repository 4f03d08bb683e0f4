"""The map of a running state that fades: φ(q)·φ(k), times what the state has kept, over the query's normaliser.

Source: as in `fading`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from longattn_core.contracts.mechanism import Explanation
from longattn_core.mechanisms.memory.gates import Fading, feature, pair_weights
from longattn_core.mechanisms.memory.reasons import MemoryReason
from longattn_core.mechanisms.memory.states import Block, StateMap

STEADY = 40.0
"""The largest sum of gates' logarithms over a block whose exponential single precision still splits into two factors."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FadingTrace:
    """The draw, the gates, and some of the states.

    `log_gates [h n c]` is the logarithm of the share of itself that the state keeps when a token is written: one number (c = 1)
    or one for each channel (c = d). `projection [d d]` and `bias` give the gates from the keys (None without gates).
    `normaliser [h n]` divides each query's weights; `states [h p d e]` and `sums [h p d]` are the state after token `ends[p]`
    (without a mask, the one state of all tokens).
    """

    log_gates: Float[Tensor, "h n c"]
    projection: Float[Tensor, "d d"] | None
    bias: float | None
    normaliser: Float[Tensor, "h n"]
    ends: Int[Tensor, "p"]
    states: Float[Tensor, "h p d e"]
    sums: Float[Tensor, "h p d"]


@dataclass(frozen=True, kw_only=True, eq=False)
class FadingMap(StateMap):
    """φ(q)·φ(k), times the share that the state has kept since the key, over the query's normaliser."""

    fading: Fading

    def _reading(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g r d"]:
        # A padded query's normaliser may be zero; its reading must be zero all the same.
        scale: Tensor = self.trace.normaliser[heads[:, None], queries]
        scale = scale.masked_fill(~self.sequence.real[queries], math.inf)
        return feature(self.sequence.q[heads[:, None], queries]) / scale[..., None]

    def _writes(self, block: Block, heads: Int[Tensor, "g"]) -> tuple[Float[Tensor, "g b d"], Float[Tensor, "g b c"]]:
        """φ of the block's keys, zero for padding, and the running sums of its gates' logarithms."""
        tokens = slice(block.start, block.stop)
        keys = feature(self.sequence.k[heads, tokens]) * self.sequence.real[tokens, None]
        return keys, self.trace.log_gates[heads, tokens].cumsum(1)

    def _inside(
        self, reading: Float[Tensor, "g r d"], queries: Int[Tensor, "r"], block: Block, heads: Int[Tensor, "g"]
    ) -> tuple[Float[Tensor, "g r b"], Float[Tensor, "g r d"]]:
        keys, key_logs = self._writes(block, heads)
        past = torch.arange(block.start, block.stop, device=queries.device) <= queries[:, None]
        query_logs = key_logs[:, queries - block.start]
        left = reading * query_logs.exp()
        range_of_logs = key_logs.amax(1, keepdim=True) - key_logs.amin(1, keepdim=True)
        if key_logs.shape[-1] > 1 and float(range_of_logs.max()) < STEADY:
            # A state that fades little over a block needs no exponential for each pair: queries and keys take a part each.
            middle = key_logs.amin(1, keepdim=True) + range_of_logs / 2
            products = (reading * (query_logs - middle).exp()) @ (keys * (middle - key_logs).exp()).mT
            return products.masked_fill(~past, 0.0), left
        return pair_weights(reading, keys, query_logs, key_logs, past), left

    def _through(
        self, reading: Float[Tensor, "g r d"], block: Block, heads: Int[Tensor, "g"]
    ) -> tuple[Float[Tensor, "g r b"], Float[Tensor, "g r d"]]:
        keys, key_logs = self._writes(block, heads)
        last = key_logs[:, -1:]
        return reading @ (keys * (last - key_logs).exp()).mT, reading * last.exp()

    def survival(self, lags: Int[Tensor, "k"], samples: int = 128) -> Float[Tensor, "h k"]:
        """See `StateMap.survival`. Cost: samples·d a head and lag, after one pass over the gates."""
        total = self.trace.log_gates.double().cumsum(1)
        out = total.new_full((self.sequence.h, len(lags)), math.nan)
        for index, lag in enumerate(lags.tolist()):
            tokens = self.tokens_before(lag, samples)
            if len(tokens):
                squares = feature(self.sequence.k[:, tokens]).double().square()
                kept = (total[:, tokens + lag] - total[:, tokens]).exp()
                out[:, index] = ((squares * kept).sum(-1) / squares.sum(-1)).mean(1)
        survived: Tensor = out.to(self.output.dtype)
        return survived

    def _explained(self, head: int, query: int, key: int, kept: bool, exact: float, weight: float) -> Explanation:
        sequence, trace = self.sequence, self.trace
        pair = (feature(sequence.q[head, query]) * feature(sequence.k[head, key])).double()
        similarity, normaliser = float(pair.sum()), float(trace.normaliser[head, query])
        share = 1.0
        if sequence.causal:
            log_kept = trace.log_gates[head, key + 1 : query + 1].double().sum(0)
            share = float((pair * log_kept.exp()).sum()) / similarity
        facts = {
            "lag": query - key,
            "similarity": similarity,
            "kept": share,
            "normaliser": normaliser,
            "visible": int(sequence.allowed(query).sum()),
        }
        answer = f"gives it {weight:.3g} where exact attention gives {exact:.3g}"
        if self.fading == "state" or query == key:
            reason = MemoryReason.KEPT
            text = (
                f"The state still holds this key whole and finds it by φ(q)·φ(k) = {similarity:.3g} of "
                f"{normaliser:.3g} in all, which {answer}."
            )
        else:
            reason = MemoryReason.FADED
            text = (
                f"The state was written {query - key} tokens ago and has kept {share:.3g} of it; "
                f"times φ(q)·φ(k) = {similarity:.3g}, of {normaliser:.3g} in all, this {answer}."
            )
        return Explanation(kept=kept, exact=exact, weight=weight, reason=reason, facts=facts, text=text)
