"""Linformer: mix the n keys and values into k, and attend to those.

Source: Wang et al. 2020, arXiv:2006.04768, equation 7. E and F are Gaussian with variance 1/k, which preserves norms on
average; or means of consecutive tokens; or fitted (ours): E takes means, and F is the least-squares solution for the exact
rows of a sample of queries.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from longattn_core.contracts.indexing import row_chunks
from longattn_core.contracts.sequence import Sequence
from longattn_core.mechanisms.low_rank.map import LowRankMap
from longattn_core.mechanisms.low_rank.pieces import Groups, attend_some, consecutive_groups, read_through, softmax_over
from longattn_core.numerics.draws import normal

BLOCK = 1024
"""Columns of a Gaussian projection that are drawn at once; the draw of a block does not depend on n."""

SAMPLE = 4
"""Queries that a fit reads for each column."""


class Projection(ABC):
    """A matrix `[k n]` that mixes n tokens into k and is never stored whole; its columns at padding are zero."""

    @abstractmethod
    def mixed(self, x: Float[Tensor, "h n w"]) -> Float[Tensor, "h k w"]:
        """The matrix times x."""

    @abstractmethod
    def columns(self, tokens: Int[Tensor, "c"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g c k"]:
        """The columns of the chosen tokens, as rows."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Means(Projection):
    """Means of consecutive tokens, the same for all heads."""

    groups: Groups
    dtype: torch.dtype

    def mixed(self, x: Float[Tensor, "h n w"]) -> Float[Tensor, "h k w"]:
        """The mean of each group. Cost h·n·w."""
        return torch.stack([self.groups.means(head) for head in x])

    def columns(self, tokens: Int[Tensor, "c"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g c k"]:
        """1/size in the column of the token's group, 0 elsewhere."""
        group = self.groups.group[tokens]
        share = (group[:, None] == torch.arange(len(self.groups.size), device=group.device)).to(self.dtype)
        return (share / self.groups.size).expand(len(heads), -1, -1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Gaussian(Projection):
    """Independent N(0, 1/k), the same for all heads, drawn anew from the seed whenever they are used."""

    seed: int
    name: str
    k: int
    real: Tensor
    like: Tensor

    def mixed(self, x: Float[Tensor, "h n w"]) -> Float[Tensor, "h k w"]:
        """Cost h·n·k·w; memory 1024·k."""
        sums = [x.new_zeros(self.k, x.shape[-1]) for _ in x]
        for rows in row_chunks(x.shape[1], 1, BLOCK):
            block = self._block(rows.start // BLOCK)[: rows.stop - rows.start] * self.real[rows, None]
            sums = [sum_of_head + block.mT @ head[rows] for sum_of_head, head in zip(sums, x, strict=True)]
        return torch.stack(sums)

    def columns(self, tokens: Int[Tensor, "c"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g c k"]:
        """The columns, from the blocks that hold the tokens."""
        out = self.like.new_zeros(len(tokens), self.k)
        for block in sorted(set((tokens // BLOCK).tolist())):
            inside = tokens // BLOCK == block
            out[inside] = self._block(block)[tokens[inside] % BLOCK]
        return (out * self.real[tokens, None]).expand(len(heads), -1, -1)

    def _block(self, block: int) -> Float[Tensor, "block k"]:
        return normal(self.seed, f"low_rank {self.name} {block}", BLOCK, self.k, like=self.like) / math.sqrt(self.k)


@dataclass(frozen=True, kw_only=True, eq=False)
class Fitted(Projection):
    """F = P⁺ A, from `queries [h s d]` of a sample: P⁺ `solver [h k s]`, A their exact rows with `lse [h s]`, in float64."""

    queries: Float[Tensor, "h s d"]
    lse: Float[Tensor, "h s"]
    solver: Float[Tensor, "h k s"]
    sequence: Sequence

    def mixed(self, x: Float[Tensor, "h n w"]) -> Float[Tensor, "h k w"]:
        """P⁺ times the sample's exact attention over x, in float64. Cost h·s·n·(d + w)."""
        real = self.sequence.real
        # One head after the other, because its keys and values are held in float64.
        parts = [
            solver @ attend_some(q[None], k[None, real].double(), head[None, real].double())[0][0]
            for solver, q, k, head in zip(self.solver, self.queries, self.sequence.k, x, strict=True)
        ]
        return torch.stack(parts)

    def columns(self, tokens: Int[Tensor, "c"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g c k"]:
        """Cost g·c·s·(d + k)."""
        q, k = self.queries[heads], self.sequence.k[heads][:, tokens].double()
        rows = (q @ k.mT / math.sqrt(self.sequence.d) - self.lse[heads][:, :, None]).exp()
        return (self.solver[heads] @ rows).mT * self.sequence.real[tokens, None]


@dataclass(frozen=True, kw_only=True, eq=False)
class LinformerTrace:
    """The two projections, the tokens `[n]`, and how many queries a fit has read (0 without a fit).

    `e` and `f` are the projections as matrices: `[k n]`, or `[h k n]` where they are fitted to each head.
    """

    keys: Projection
    values: Projection
    tokens: Int[Tensor, "n"]
    sampled: int

    @property
    def e(self) -> Float[Tensor, "*h k n"]:
        """The projection of the keys. Memory k·n."""
        return self._matrix(self.keys)

    @property
    def f(self) -> Float[Tensor, "*h k n"]:
        """The projection of the values. Memory k·n, for each head where it is fitted."""
        return self._matrix(self.values)

    def _matrix(self, projection: Projection) -> Float[Tensor, "*h k n"]:
        heads = torch.arange(len(projection.queries) if isinstance(projection, Fitted) else 1, device=self.tokens.device)
        matrix = projection.columns(self.tokens, heads).mT
        return matrix if isinstance(projection, Fitted) else matrix[0]


@dataclass(frozen=True, kw_only=True, eq=False)
class LinformerMap(LowRankMap):
    """softmax(Q(EK)ᵀ/√d) times F, with EK in `mixed_keys [h k d]`."""

    mixed_keys: Float[Tensor, "h k d"]

    def _left(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g r k"]:
        keys = self.mixed_keys[heads]
        return softmax_over(self.sequence.q[heads][:, queries].to(keys.dtype), keys) * self.sequence.real[queries, None]

    def _right(self, keys: Int[Tensor, "c"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g c k"]:
        trace: LinformerTrace = self.trace
        return trace.values.columns(keys, heads)

    def _story(self, head: int, query: int, key: int) -> tuple[Mapping[str, float | int | str | bool], str]:
        trace: LinformerTrace = self.trace
        if isinstance(trace.keys, Gaussian):
            count = int(self.sequence.real.sum())
            return {"keys": count}, f"All {count} keys are mixed with random factors into {self.rank}"
        assert isinstance(trace.keys, Means)
        group = int(trace.keys.groups.group[key])
        members = trace.keys.groups.members(group)
        first, last = int(members[0]), int(members[-1])
        facts = {"group": group, "first": first, "last": last, "size": len(members)}
        if len(members) == 1:
            shared = "The key is not mixed with any other"
        else:
            shared = f"The keys of tokens {first} to {last} are one mean of {len(members)}"
        if not isinstance(trace.values, Fitted):
            return facts, shared if len(members) == 1 else f"{shared}, and share its weight equally"
        fitted = f"{shared}, and its weight is handed out as fitted on {trace.sampled} queries"
        return {**facts, "sampled": trace.sampled}, fitted


def gaussian_projections(sequence: Sequence, rank: int, seed: int) -> tuple[Projection, Projection]:
    """E and F, drawn independently of each other."""
    k = min(rank, int(sequence.real.sum()))
    like = sequence.q.detach()
    e, f = (Gaussian(seed=seed, name=name, k=k, real=sequence.real, like=like) for name in "ef")
    return e, f


def mean_projections(sequence: Sequence, rank: int) -> tuple[Means, Means]:
    """E = F, means of consecutive tokens."""
    means = Means(groups=consecutive_groups(sequence, rank), dtype=sequence.q.dtype)
    return means, means


def fitted_projections(sequence: Sequence, rank: int) -> tuple[Means, Fitted]:
    """E takes means; F minimises ‖P F − A‖ over a sample of 4·k real queries, evenly spaced, in float64.

    With P = softmax(Q(EK)ᵀ/√d) the solution is P⁺A, of which only P⁺ is stored. Cost 4·k·n·d + 40·k³ a head.
    """
    means, _ = mean_projections(sequence, rank)
    tokens = sequence.real.nonzero().squeeze(-1)
    count = min(len(tokens), SAMPLE * len(means.groups.size))
    chosen = tokens[torch.arange(count, device=tokens.device) * len(tokens) // count]
    queries, keys = sequence.q[:, chosen].double(), means.mixed(sequence.k.double())
    solver = torch.stack([torch.linalg.pinv(softmax_over(q, k)) for q, k in zip(queries, keys, strict=True)])
    lse = [
        attend_some(q[None], k[None], k.new_zeros(1, len(k), 1))[1][0]
        for q, k in zip(queries, sequence.k[:, tokens].double(), strict=True)
    ]
    return means, Fitted(queries=queries, lse=torch.stack(lse), solver=solver, sequence=sequence)


def linformer(sequence: Sequence, e: Projection, f: Projection) -> tuple[Float[Tensor, "h n e"], Float[Tensor, "h k d"]]:
    """The output, and EK. Cost n·k·(d + e) a head above the projections; memory about 32 MB."""
    values = f.mixed(sequence.v)
    keys = e.mixed(sequence.k.to(values.dtype))
    output = read_through(sequence.q.to(keys.dtype), keys, values).to(sequence.q.dtype)
    return output if sequence.padding is None else output * sequence.real[:, None], keys
