"""The map of a router: the paths' maps, each row mixed with its query's shares, and which paths carry a pair."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from longattn_core.contracts.mechanism import Attended, Explanation, Reduce
from longattn_core.numerics.entries import Entries
from longattn_core.numerics.maps.listed import SparseMap


class RouterReason(StrEnum):
    """Which of a router's paths carry a pair."""

    CARRIED = "carried"
    NOT_TAKEN = "path not taken"
    """A path keeps the pair, but the query does not take that path."""
    NO_PATH = "no path"


@dataclass(frozen=True, kw_only=True, eq=False)
class RouterTrace:
    """Every step, for p paths.

    `router [h d p]` is W_r, float64. `probabilities [h n p]` is the share of each path in each query, zero for padding and for
    paths outside the top k; `paths` are the paths' names and `attended` their results. `load [h p]` is the mean share of a
    path, `chosen [h p]` the share of queries in which it is the largest, `balance [h]` p·Σ load·chosen, 1 when even.
    `sample [s]` are the queries that W_r is fitted on, and `errors [h s p]` each path's relative error there (both None for a
    drawn W_r). `calibration` says what it is fitted on. Queries before `start` do not use W_r and take all paths alike.
    """

    router: Float[Tensor, "h d p"]
    probabilities: Float[Tensor, "h n p"]
    paths: tuple[str, ...]
    attended: tuple[Attended, ...]
    load: Float[Tensor, "h p"]
    chosen: Float[Tensor, "h p"]
    balance: Float[Tensor, "h"]
    sample: Int[Tensor, "s"] | None
    errors: Float[Tensor, "h s p"] | None
    calibration: str
    start: int

    @property
    def centroids(self) -> Float[Tensor, "h c d"] | None:
        """The centroids of the clusters path; None when it is not among the paths."""
        centroids: Tensor | None = next((a.trace.centroids for a in self.attended if hasattr(a.trace, "centroids")), None)
        return centroids


@dataclass(frozen=True, kw_only=True, eq=False)
class RouterMap(Attended):
    """The paths' maps, each row mixed with its query's shares."""

    def _rows(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g r n"]:
        return self._mixed(queries, heads, [a._rows(queries, heads) for a in self.trace.attended])

    def _kept(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Bool[Tensor, "g r n"]:
        return self._kept_by_paths(queries, heads, [a._kept(queries, heads) for a in self.trace.attended])

    def _rows_and_kept(
        self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]
    ) -> tuple[Float[Tensor, "g r n"], Bool[Tensor, "g r n"]]:
        rows, kept = zip(*(a._rows_and_kept(queries, heads) for a in self.trace.attended), strict=True)
        return self._mixed(queries, heads, list(rows)), self._kept_by_paths(queries, heads, list(kept))

    def _mixed(
        self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"], parts: list[Float[Tensor, "g r n"]]
    ) -> Float[Tensor, "g r n"]:
        shares = self.trace.probabilities[heads][:, queries]
        return torch.stack([part * shares[..., p, None] for p, part in enumerate(parts)]).sum(0)

    def _kept_by_paths(
        self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"], parts: list[Bool[Tensor, "g r n"]]
    ) -> Bool[Tensor, "g r n"]:
        """The pairs that any path keeps which the query takes."""
        takes_path = self.trace.probabilities[heads][:, queries] > 0
        return torch.stack([part & takes_path[..., p, None] for p, part in enumerate(parts)]).any(0)

    def _explained(self, head: int, query: int, key: int, kept: bool, exact: float, weight: float) -> Explanation:
        trace = self.trace
        facts: dict[str, float | int | str | bool] = {"start": trace.start}
        carrying: list[str] = []
        idle: list[str] = []
        for p, (name, attended) in enumerate(zip(trace.paths, trace.attended, strict=True)):
            share = float(trace.probabilities[head, query, p])
            sees = bool(attended.kept(query, key, head))
            facts |= {f"{name}_share": share, f"{name}_sees": sees}
            facts[f"{name}_weight"] = share * float(attended.rows(query, key, head)) if sees else 0.0
            if sees:
                (carrying if share > 0 else idle).append(name)
        if carrying:
            shares = ", ".join(f"{name} ({facts[f'{name}_share']:.0%} of this query)" for name in carrying)
            reason, text = (RouterReason.CARRIED, f"Carried by {'the path' if len(carrying) == 1 else 'the paths'} {shares}.")
        elif idle:
            reason = RouterReason.NOT_TAKEN
            text = f"The key could be seen by {' and '.join(idle)}, but the router does not send this query there."
        else:
            reason = RouterReason.NO_PATH
            text = f"None of the paths ({', '.join(trace.paths)}) sees this key from this query."
        return Explanation(kept=kept, exact=exact, weight=weight, reason=reason, facts=facts, text=text)


@dataclass(frozen=True, kw_only=True, eq=False)
class SparseRouterMap(RouterMap, SparseMap):
    """The same where every path lists its keys; the mixture then lists its keys too."""

    @property
    def _slots(self) -> int:
        return sum(a._slots for a in self._sparse())

    def _sparse(self) -> tuple[SparseMap, ...]:
        return tuple(a for a in self.trace.attended if isinstance(a, SparseMap))

    def _entries(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Entries:
        shares = self.trace.probabilities[heads][:, queries]
        keys, weights = [], []
        for p, attended in enumerate(self._sparse()):
            entries = attended._entries(queries, heads)
            keys.append(torch.where(shares[..., p, None] > 0, entries.keys, -1))
            weights.append(entries.weights * shares[..., p, None])
        return _joined(torch.cat(keys, dim=-1), torch.cat(weights, dim=-1))

    def _cells(
        self,
        rows: list[int],
        columns: list[int],
        reduce: Reduce,
        heads: Int[Tensor, "g"],
        shares: Float[Tensor, "g n"] | None = None,
    ) -> Float[Tensor, "g H W"]:
        """Sums path by path; for the largest weights, the pairs that several paths carry must be added first."""
        if reduce == "max":
            return super()._cells(rows, columns, reduce, heads, shares)
        of_paths = self.trace.probabilities[heads].to(self.output.dtype)
        of_paths = of_paths if shares is None else of_paths * shares[..., None]
        parts = [a._cells(rows, columns, reduce, heads, of_paths[..., p]) for p, a in enumerate(self._sparse())]
        return torch.stack(parts).sum(0)


def _joined(keys: Int[Tensor, "g r c"], weights: Float[Tensor, "g r c"]) -> Entries:
    """Each key once, with the sum of its weights."""
    keys, by_key = keys.sort(dim=-1, stable=True)
    new = torch.ones_like(keys, dtype=torch.bool)
    new[..., 1:] = keys[..., 1:] != keys[..., :-1]
    slot = new.cumsum(-1) - 1
    summed = torch.zeros_like(weights).scatter_add(-1, slot, weights.gather(-1, by_key))
    once = torch.full_like(keys, -1).scatter(-1, slot, keys)
    return Entries(keys=once, weights=torch.where(once >= 0, summed, torch.zeros_like(summed)))
