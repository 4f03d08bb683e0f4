"""Hash queries and keys so that those which point the same way are likely to share a bucket.

Source: the cross-polytope is Andoni et al. 2015, arXiv:1509.02897, in the form of Kitaev et al. 2020,
arXiv:2001.04451, section 2: a Gaussian matrix stands for the rotation. Hyperplanes are Charikar 2002 (SimHash). Our
deviation: queries and keys may differ, and are then hashed by one draw; their means may be taken off before.
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
    """Independent N(0, 1) numbers in float64: b/2 columns a round for the cross-polytope, log2 b for hyperplanes."""
    columns = buckets // 2 if hashing == "cross_polytope" else (buckets - 1).bit_length()
    return torch.randn(rounds, d, columns, generator=generator(seed, "rotations"), dtype=torch.float64)


def hash_vectors(
    x: Float[Tensor, "h n d"], centre: Float[Tensor, "h c d"] | None, rotations: Float[Tensor, "r d half"], hashing: Hashing
) -> Int[Tensor, "h r n"]:
    """The bucket of each vector in each round. Cost r·n·d·b/2 a head.

    Hashed on the CPU as in float64, head by head: a rounding error must not send a token elsewhere on another device, in
    another dtype or in another batch. Vectors of less than double precision are projected in float32, and those of them
    once more in float64 whose bucket that leaves in doubt.
    """
    rounds, d, columns = rotations.shape
    if columns == 0:
        return torch.zeros(x.shape[0], rounds, x.shape[1], dtype=torch.int64, device=x.device)
    flat = rotations.permute(1, 0, 2).reshape(d, -1)
    coarse = None if x.dtype == torch.float64 else _Coarse(table=flat.float(), longest=float(flat.norm(dim=0).max()))
    out = torch.empty(x.shape[0], rounds, x.shape[1], dtype=torch.int64)
    for head, vectors in enumerate(x.detach().cpu()):
        middle = None if centre is None else centre[head].expand(len(vectors), -1)
        for rows in row_chunks(len(vectors), flat.shape[1], PRODUCT_CELLS):
            moved = vectors[rows] if middle is None else vectors[rows].double() - middle[rows]
            if coarse is None:
                out[head, :, rows] = _buckets((moved @ flat).unflatten(1, (rounds, columns)), hashing).mT
                continue
            found, sure = coarse.buckets(moved.float(), rounds, hashing)
            unsure = (~sure).nonzero().squeeze(-1)
            if len(unsure):
                again = (moved[unsure].double() @ flat).unflatten(1, (rounds, columns))
                found[unsure] = _buckets(again, hashing)
            out[head, :, rows] = found.mT
    return out.to(x.device)


def _buckets(projected: Float[Tensor, "s r c"], hashing: Hashing) -> Int[Tensor, "s r"]:
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
        """Each vector's buckets, and whether double precision must find the same in every round."""
        projected = (x @ self.table).view(len(x), rounds, -1)
        # By the largest component: squares of short vectors would underflow, and with them the bound.
        length = x.abs().amax(-1, keepdim=True) * math.sqrt(x.shape[1])
        off = length * (rounding(x.shape[1]) * self.longest) + FAINT
        if hashing == "hyperplane":
            return _buckets(projected, hashing), (projected.abs().amin(-1) > off).all(-1)
        axis, _, sure = certain_argmax(projected.abs(), 2 * off)
        behind = projected.gather(-1, axis[..., None]).squeeze(-1) < 0
        # What leads by so much, a single axis over nothing too, stands on its side of 0 without doubt.
        return axis + projected.shape[-1] * behind, sure.all(-1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Centres:
    """What is subtracted before hashing: one mean a head `[h 1 d]`, or one a token `[h n d]`; None for nothing."""

    queries: Float[Tensor, "h c d"] | None
    keys: Float[Tensor, "h c d"] | None
    calibration: str


def centres_of(sequence: Sequence, *, centred: bool, shared: bool) -> Centres:
    """The means of queries and of keys that hashing may use: under a causal mask none knows a later token. Cost n·d."""
    if not centred:
        return Centres(queries=None, keys=None, calibration="none: hashed as they are")
    if not sequence.causal:
        read, running, name = sequence, False, "this sequence (no mask hides any of it)"
    elif sequence.calibration is not None:
        read, running, name = sequence.calibration, False, f"calibration sequence: {sequence.calibration.origin}"
    else:
        read, running, name = sequence, True, "the past alone: a running mean up to each token"
    queries = _mean(read.q, read.real, running)
    keys = queries if shared else _mean(read.k, read.real, running)
    return Centres(queries=queries, keys=keys, calibration=name)


def _mean(x: Float[Tensor, "h n d"], real: Bool[Tensor, "n"], running: bool) -> Float[Tensor, "h c d"]:
    kept = real.cpu()[:, None].to(torch.float64)
    x = x.detach().to("cpu", torch.float64) * kept
    if running:
        return x.cumsum(1) / kept.cumsum(0).clamp_min(1)
    return x.sum(1, keepdim=True) / kept.sum()


def chunk_stretches(
    placed: Bucketed, chunk: int, real: Bool[Tensor, "n"], *, causal: bool, skip_self: bool
) -> tuple[SortedLists, ...]:
    """Reformer's pattern: cut the sorted order into chunks, look at the own chunk and the one before, in one's bucket.

    A query stands where its (bucket, position) falls among the sorted keys. The first chunk looks back at the last one
    of its own round: those stretches are lists of their own behind the first r, needed only without a mask.
    """
    last = (int(real.sum()) - 1) // chunk
    number = (placed.before // chunk).clamp_max(last)
    first = torch.maximum(placed.start, (number - 1) * chunk)
    stop = torch.minimum(placed.end, (number + 1) * chunk)
    if causal:
        stop = torch.minimum(stop, placed.before if skip_self else placed.through)
    rank = inverse(placed.order)
    lists = SortedLists(order=placed.order, rank=rank, first=first, stop=stop)
    if causal or last == 0:
        return (lists,)
    wrapped = torch.maximum(placed.start, torch.full_like(first, last * chunk))
    end = torch.where((number == 0) & real, placed.end, wrapped)
    return lists, SortedLists(order=placed.order, rank=rank, first=wrapped, stop=end)


def collision_chance(angle: float, buckets: int) -> float:
    """The chance that one round of hyperplanes puts two vectors `angle` degrees apart into one bucket."""
    return (1 - math.radians(angle) / math.pi) ** (buckets - 1).bit_length()
