"""The delta rule: before a token writes its value, a share of what the state holds under its key is removed.

Source: Schlag et al. 2021, arXiv:2102.11174, section 4.2; Yang et al. 2024, arXiv:2406.06484, section 3 (in chunks):
S_t = (I − β k kᵀ) S_{t−1} + β k vᵀ. In a chunk, the net writes U of the tokens solve (I + β·strictly lower KKᵀ) U = β (V − K S).
Our deviations: β is one dial where the paper learns it for each token; queries and keys are scaled to length 1 and
have no SiLU, which needs training; padding neither writes nor removes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from longattn_core.contracts.mechanism import Cost, Explanation, Mechanism
from longattn_core.contracts.sequence import Sequence
from longattn_core.mechanisms.memory.reasons import MemoryReason
from longattn_core.mechanisms.memory.states import SNAPSHOTS, Block, StateMap

CHUNK = 64
"""Tokens of a chunk, and the step in which views walk back."""


@dataclass(frozen=True, kw_only=True, eq=False)
class DeltaTrace:
    """`strength [n]` is β, zero for padding; `states [h p d e]` is the state after token `ends[p]`."""

    strength: Float[Tensor, "n"]
    ends: Int[Tensor, "p"]
    states: Float[Tensor, "h p d e"]


def _corrections(keys: Float[Tensor, "g b d"], strength: Float[Tensor, "b"]) -> Float[Tensor, "g b b"]:
    """I + β·strictly lower KKᵀ: row t says how much of each earlier write token t removes."""
    eye = torch.eye(keys.shape[1], dtype=keys.dtype, device=keys.device)
    return eye + strength[:, None] * (keys @ keys.mT).tril(-1)


@dataclass(frozen=True, kw_only=True, eq=False)
class DeltaMap(StateMap):
    """The weight β·q·k, with q first multiplied by (I − β k kᵀ) of every later token."""

    def _reading(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g r d"]:
        return normalize(self.sequence.q[heads[:, None], queries], dim=-1) * self.sequence.real[queries, None]

    def _inside(
        self, reading: Float[Tensor, "g r d"], queries: Int[Tensor, "r"], block: Block, heads: Int[Tensor, "g"]
    ) -> tuple[Float[Tensor, "g r b"], Float[Tensor, "g r d"]]:
        past = torch.arange(block.start, block.stop, device=queries.device) <= queries[:, None]
        return self._back(reading, past, block, heads)

    def _through(
        self, reading: Float[Tensor, "g r d"], block: Block, heads: Int[Tensor, "g"]
    ) -> tuple[Float[Tensor, "g r b"], Float[Tensor, "g r d"]]:
        past = torch.ones(1, block.stop - block.start, dtype=torch.bool, device=reading.device)
        return self._back(reading, past, block, heads)

    def _back(
        self, reading: Float[Tensor, "g r d"], past: Bool[Tensor, "s b"], block: Block, heads: Int[Tensor, "g"]
    ) -> tuple[Float[Tensor, "g r b"], Float[Tensor, "g r d"]]:
        """Solve w_j = β_j (r·k_j − Σ_{l>j} w_l k_l·k_j) for the whole block; r becomes r − Σ w_j k_j. Cost r·b·(d + b)."""
        tokens = slice(block.start, block.stop)
        keys, strength = normalize(self.sequence.k[heads, tokens], dim=-1), self.trace.strength[tokens]
        # Solved for w_j / β_j, so that the equations have a solution where β is zero.
        products = (reading @ keys.mT) * past
        solved = torch.linalg.solve_triangular(
            _corrections(keys, strength), products, upper=False, unitriangular=True, left=False
        )
        weights = solved * strength
        return weights, reading - weights @ keys

    def survival(self, lags: Int[Tensor, "k"], samples: int = 128) -> Float[Tensor, "h k"]:
        """See `StateMap.survival`. Cost: lag·d a sample and head for each lag."""
        keys = normalize(self.sequence.k, dim=-1)
        out = keys.new_full((self.sequence.h, len(lags)), math.nan)
        for index, lag in enumerate(lags.tolist()):
            tokens = self.tokens_before(lag, samples)
            if len(tokens):
                own = keys[:, tokens]
                left = own
                for step in range(1, lag + 1):
                    later = keys[:, tokens + step]
                    removed = (left * later).sum(-1) * self.trace.strength[tokens + step]
                    left = left - removed[..., None] * later
                out[:, index] = (left * own).sum(-1).mean(1)
        return out

    def _explained(self, head: int, query: int, key: int, kept: bool, exact: float, weight: float) -> Explanation:
        sequence, device = self.sequence, self.output.device
        strength = self.trace.strength
        heads, queries = torch.tensor([head], device=device), torch.tensor([query], device=device)
        tokens = slice(key, query + 1)
        keys = normalize(sequence.k[head, tokens], dim=-1)
        similarity = float(keys[0] @ self._reading(queries, heads)[0, 0])
        written = float(strength[key]) * similarity
        facts: dict[str, float | int | str | bool] = {
            "lag": query - key,
            "similarity": similarity,
            "strength": float(strength[key]),
            "written": written,
            "changed": weight - written if query > key else 0.0,
        }
        if query == key:
            text = (
                f"The state was written just now with strength {facts['strength']:.3g}; "
                f"times the similarity of query and key, {similarity:.3g}, this gives {weight:.3g}."
            )
            return Explanation(kept=kept, exact=exact, weight=weight, reason=MemoryReason.KEPT, facts=facts, text=text)
        changes = -strength[key] * self._rows(queries, heads)[0, 0, key + 1 : query + 1] * (keys[1:] @ keys[0])
        strongest = int(changes.abs().argmax())
        facts |= {"changed_most_by": key + 1 + strongest, "largest_change": float(changes[strongest])}
        less = abs(weight) < abs(written)
        text = (
            f"Just after it was written this key would have given {written:.3g}; the {query - key} tokens since, token "
            f"{key + 1 + strongest} most of all, {'took back' if less else 'changed'} what the state held there, "
            f"and it gives {weight:.3g}."
        )
        reason = MemoryReason.OVERWRITTEN if less else MemoryReason.KEPT
        return Explanation(kept=kept, exact=exact, weight=weight, reason=reason, facts=facts, text=text)


def attend_delta(mechanism: Mechanism, sequence: Sequence, *, beta: float) -> DeltaMap:
    """Cost for each token and head: about 3·d·e + chunk·(2·d + 1.5·e); memory above the output: one state and one chunk."""
    strength = sequence.real.to(sequence.q.dtype) * beta
    state = sequence.q.new_zeros(sequence.h, sequence.d, sequence.e)
    parts, ends, snapshots = [], [], []
    stride = CHUNK * math.ceil(sequence.n / CHUNK / SNAPSHOTS)
    for start in range(0, sequence.n, CHUNK):
        tokens = slice(start, min(start + CHUNK, sequence.n))
        q, k = normalize(sequence.q[:, tokens], dim=-1), normalize(sequence.k[:, tokens], dim=-1)
        corrections = _corrections(k, strength[tokens])
        differences = strength[tokens, None] * (sequence.v[:, tokens] - k @ state)
        writes = torch.linalg.solve_triangular(corrections, differences, upper=False, unitriangular=True)
        out = q @ state + (q @ k.mT).tril() @ writes
        parts.append(out * sequence.real[tokens, None])
        state = state + k.mT @ writes
        if (start + CHUNK) % stride == 0 or tokens.stop == sequence.n:
            ends.append(tokens.stop - 1)
            snapshots.append(state.detach())
    return DeltaMap(
        mechanism=mechanism,
        sequence=sequence,
        output=torch.cat(parts, dim=1),
        trace=DeltaTrace(strength=strength, ends=torch.tensor(ends), states=torch.stack(snapshots, dim=1)),
        cost=_cost(sequence),
        block=CHUNK,
    )


def _cost(sequence: Sequence) -> Cost:
    h, n, d, e, size = sequence.h, sequence.n, sequence.d, sequence.e, sequence.q.element_size()
    full, rest = divmod(n, CHUNK)
    pairs, halves = full * CHUNK**2 + rest**2, (full * CHUNK * (CHUNK - 1) + rest * (rest - 1)) // 2
    chunks = full + (rest > 0)
    return Cost(
        multiply_adds=h * (3 * n * d * e + pairs * (2 * d + e) + halves * e + 2 * n * d),
        bytes_moved=size * h * (2 * n * (d + e) + 4 * pairs + 3 * chunks * d * e),
        bytes_peak=size * h * (n * e + CHUNK * (3 * CHUNK + 2 * d + 3 * e) + (SNAPSHOTS + 2) * d * e),
    )
