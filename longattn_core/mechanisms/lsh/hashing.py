"""Hash queries and keys so that vectors of similar direction are likely to share a bucket.

Source: the cross-polytope is Andoni et al. 2015, arXiv:1509.02897, in the form of Kitaev et al. 2020,
arXiv:2001.04451, section 2, with a Gaussian matrix in place of the rotation. Hyperplanes are Charikar 2002 (SimHash). Our
deviations: queries and keys may differ, and are then hashed by the same draw; their means may be subtracted before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from longattn_core.contracts.indexing import row_chunks
from longattn_core.contracts.sequence import Sequence
from longattn_core.numerics.certain_argmax import FAINT, PRODUCT_CELLS, certain_argmax, rounding
from longattn_core.numerics.draws import generator
from longattn_core.numerics.lists.sorted_lists import Bucketed, SortedLists, inverse

Hashing = Literal["cross_polytope", "hyperplane"]


def draw_rotations(seed: int, hashing: Hashing, rounds: int, d: int, buckets: int) -> Float[Tensor, "r d half"]:
    """Independent N(0, 1) in float64: b/2 columns for each round of the cross-polytope, log2 b for hyperplanes."""
    columns = buckets // 2 if hashing == "cross_polytope" else (buckets - 1).bit_length()
    return torch.randn(rounds, d, columns, generator=generator(seed, "rotations"), dtype=torch.float64)


def hash_vectors(
    x: Float[Tensor, "h n d"], centre: Float[Tensor, "h c d"] | None, rotations: Float[Tensor, "r d half"], hashing: Hashing
) -> Int[Tensor, "h r n"]:
    """The bucket of each vector in each round. Cost r·n·d·b/2 a head.

    The buckets are those of float64 on the CPU, head by head, so that no rounding error gives a token another bucket on
    another device, in another dtype or in another batch. Vectors below double precision are projected in float32 first, and
    again in float64 where the float32 bucket is not certain.
    """
    rounds, d, columns = rotations.shape
    if columns == 0:
        return torch.zeros(x.shape[0], rounds, x.shape[1], dtype=torch.int64, device=x.device)
    flat = rotations.permute(1, 0, 2).reshape(d, -1)
    coarse = None if x.dtype == torch.float64 else _Coarse(table=flat.float(), longest=float(flat.norm(dim=0).max()))
    out = torch.empty(x.shape[0], rounds, x.shape[1], dtype=torch.int64)
    for head, vectors in enumerate(x.detach().cpu()):
        mean = None if centre is None else centre[head].expand(len(vectors), -1)
        for rows in row_chunks(len(vectors), flat.shape[1], PRODUCT_CELLS):
            moved = vectors[rows] if mean is None else vectors[rows].double() - mean[rows]
            if coarse is None:
                out[head, :, rows] = _buckets((moved @ flat).unflatten(1, (rounds, columns)), hashing).mT
                continue
            buckets, certain = coarse.buckets(moved.float(), rounds, hashing)
            uncertain = (~certain).nonzero().squeeze(-1)
            if len(uncertain):
                exact = (moved[uncertain].double() @ flat).unflatten(1, (rounds, columns))
                buckets[uncertain] = _buckets(exact, hashing)
            out[head, :, rows] = buckets.mT
    return out.to(x.device)


def _buckets(projected: Float[Tensor, "s r c"], hashing: Hashing) -> Int[Tensor, "s r"]:
    """Buckets from projections: the bits of the signs, or the axis of the largest component (+c where it is negative)."""
    columns = projected.shape[-1]
    if hashing == "hyperplane":
        return ((projected > 0) * (1 << torch.arange(columns))).sum(-1)
    (high, axis), (low, opposite) = projected.max(-1), projected.min(-1)
    return torch.where(high >= -low, axis, opposite + columns)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Coarse:
    """The rotations in float32, all rounds side by side `[d r·c]`, and the length of their longest column."""

    table: Float[Tensor, "d rc"]
    longest: float

    def buckets(self, x: Float[Tensor, "s d"], rounds: int, hashing: Hashing) -> tuple[Int[Tensor, "s r"], Bool[Tensor, "s"]]:
        """Each vector's buckets, and whether double precision is certain to give the same in every round."""
        projected = (x @ self.table).view(len(x), rounds, -1)
        # Bounded by the largest component: squares of short vectors would underflow, and the bound with them.
        length = x.abs().amax(-1, keepdim=True) * math.sqrt(x.shape[1])
        error = length * (rounding(x.shape[1]) * self.longest) + FAINT
        if hashing == "hyperplane":
            return _buckets(projected, hashing), (projected.abs().amin(-1) > error).all(-1)
        axis, _, certain = certain_argmax(projected.abs(), 2 * error)
        negative = projected.gather(-1, axis[..., None]).squeeze(-1) < 0
        # A component that leads by twice the error, or a single one that exceeds it, has a certain sign too.
        return axis + projected.shape[-1] * negative, certain.all(-1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Centres:
    """What is subtracted before hashing: one mean for each head `[h 1 d]`, or for each token `[h n d]`; None for nothing.

    `calibration` says in words where the means come from.
    """

    queries: Float[Tensor, "h c d"] | None
    keys: Float[Tensor, "h c d"] | None
    calibration: str


def centres_of(sequence: Sequence, *, centred: bool, shared: bool) -> Centres:
    """The means of queries and of keys to subtract; under a causal mask they do not depend on later tokens. Cost n·d."""
    if not centred:
        return Centres(queries=None, keys=None, calibration="none: hashed as they are")
    if not sequence.causal:
        source, running, name = sequence, False, "this sequence (no mask hides any of it)"
    elif sequence.calibration is not None:
        source, running, name = sequence.calibration, False, f"calibration sequence: {sequence.calibration.origin}"
    else:
        source, running, name = sequence, True, "the past alone: a running mean up to each token"
    queries = _mean(source.q, source.real, running)
    keys = queries if shared else _mean(source.k, source.real, running)
    return Centres(queries=queries, keys=keys, calibration=name)


def _mean(x: Float[Tensor, "h n d"], real: Bool[Tensor, "n"], running: bool) -> Float[Tensor, "h c d"]:
    """The mean over real tokens in float64, of all or up to each token."""
    counted = real.cpu()[:, None].to(torch.float64)
    x = x.detach().to("cpu", torch.float64) * counted
    if running:
        return x.cumsum(1) / counted.cumsum(0).clamp_min(1)
    return x.sum(1, keepdim=True) / counted.sum()


def chunk_stretches(
    placed: Bucketed, chunk: int, real: Bool[Tensor, "n"], *, causal: bool, skip_self: bool
) -> tuple[SortedLists, ...]:
    """Reformer's pattern: a query reads the keys of its bucket that lie in its own chunk of the sorted order or the one before.

    A query's place is where its (bucket, position) falls among the sorted keys. The chunk before the first one is the last
    chunk of the same round. Those stretches are r further lists, which only an unmasked sequence needs.
    """
    last = (int(real.sum()) - 1) // chunk
    own = (placed.before // chunk).clamp_max(last)
    first = torch.maximum(placed.start, (own - 1) * chunk)
    stop = torch.minimum(placed.end, (own + 1) * chunk)
    if causal:
        stop = torch.minimum(stop, placed.before if skip_self else placed.through)
    rank = inverse(placed.order)
    lists = SortedLists(order=placed.order, rank=rank, first=first, stop=stop)
    if causal or last == 0:
        return (lists,)
    wrapped = torch.maximum(placed.start, torch.full_like(first, last * chunk))
    end = torch.where((own == 0) & real, placed.end, wrapped)
    return lists, SortedLists(order=placed.order, rank=rank, first=wrapped, stop=end)


def collision_chance(angle: float, buckets: int) -> float:
    """The chance that one round of hyperplanes puts two vectors `angle` degrees apart into one bucket."""
    return (1 - math.radians(angle) / math.pi) ** (buckets - 1).bit_length()
