"""How many numbers a map holds: its singular values, its factors at rank k, and the sentence that they decide.

Source: Eckart & Young 1936 (Psychometrika 1). The map that does nothing but average what is visible stands beside every
other; its singular values follow from a tridiagonal matrix, because its inverse has only two diagonals (ours).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from jaxtyping import Float
from pydantic import Field
from scipy.linalg import eigvalsh_tridiagonal
from torch import Tensor

from longattn_core.contracts.sequence import Sequence, exact_rows
from longattn_core.measures.spread import Sinks, energy_rank, find_sinks, sink_mask
from longattn_core.measures.theory.rank import truncation_error
from longattn_core.sequences.sources import Source
from longattn_core.studies.base.cache import SingleFlightCache
from longattn_core.studies.base.head_study import HeadStudy
from longattn_core.studies.base.pooling import pooled_by_size
from longattn_core.studies.base.query import tokens_of
from longattn_core.studies.base.run import read_prefix
from longattn_core.studies.base.study import Progress, Result

LONGEST = 1024
"""Singular values cost n³: a longer sequence is cut to its first tokens here."""
SHARE = 0.99
"""The rank of a map is the least k whose directions hold this share of Σσ²: an error of 10 % of the map's size."""
CELLS = 512
FEWEST = 4
"""Below this many tokens there is nothing to say about a rank."""
SAME = 1e-3
"""Singular values within this part of the largest count as equal."""
DISGUISE = 3.0
"""A rank that grows so many times when the sinks' columns are taken out was the sinks' doing."""

Numbers = npt.NDArray[np.float64]
Kind = Literal["single", "uniform", "flat", "disguise", "low", "middle", "high"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Decomposition:
    """One head's exact map `[n n]` and its factors: `u [n n]`, falling `values [n]` (float64), `vh [n n]`."""

    sequence: Sequence
    sinks: Sinks
    exact: Float[Tensor, "n n"]
    u: Float[Tensor, "n n"]
    values: Float[Tensor, "n"]
    vh: Float[Tensor, "n n"]


# The two orthogonal factors of 1,024 tokens are 8 MB.
_decompositions: SingleFlightCache[Decomposition] = SingleFlightCache(size=6)


def decomposition(source: Source, head: int = 0, *, without_sinks: bool = False, causal: bool | None = None) -> Decomposition:
    """The singular value decomposition of a head's exact map, made once and kept; n³, whatever rank is then looked at.

    `without_sinks` sets the sinks' columns to 0 first. Cost at 512 tokens about 0.2 s, at 1,024 about 1.5 s.
    """
    name = f"{source.model_dump_json()} {head} {without_sinks} {causal}"

    def make() -> Decomposition:
        sequence = read_prefix(source, head, LONGEST, causal=causal)
        sinks = find_sinks(sequence)
        exact = _map(sequence, sinks if without_sinks else None)
        u, values, vh = torch.linalg.svd(exact)
        return Decomposition(sequence=sequence, sinks=sinks, exact=exact.float(), u=u.float(), values=values, vh=vh.float())

    return _decompositions.get(name, make)


def _map(sequence: Sequence, sinks: Sinks | None) -> Float[Tensor, "n n"]:
    exact: Tensor = exact_rows(sequence)[0].double()
    return exact if sinks is None else exact.masked_fill(sink_mask(sinks, sequence.n)[0], 0.0)


def uniform_values(n: int, *, causal: bool) -> Numbers:
    """Falling singular values `[n]` of the map that gives every visible token the same weight. Cost n².

    Without a mask the map has rank 1. Under a causal one row i is 1/(i + 1) up to i, whose inverse has (i + 1) on the
    diagonal and −i beside it; so 1/σ² are the eigenvalues of a tridiagonal matrix.
    """
    if not causal:
        return np.concatenate([np.ones(1), np.zeros(n - 1)])
    place = np.arange(n, dtype=np.float64)
    eigenvalues = eigvalsh_tridiagonal((place + 1) ** 2 + place**2, -(place[1:] ** 2))
    return np.asarray(1 / np.sqrt(eigenvalues))


def rank_of(values: npt.ArrayLike, share: float = SHARE) -> int:
    """The least k whose largest k singular values hold `share` of Σσ²."""
    # A copy, because the arrays of a result cannot be written, which torch warns of.
    return int(energy_rank(torch.from_numpy(np.array(values, dtype=np.float64)), share))


class Spectrum(HeadStudy):
    """Singular values of one head's exact map: whole, without its sinks' columns, and of the uniform map beside it.

    Arrays: `values`, `without sinks`, `uniform` `[n]`; `exact [cells cells]` (the largest weight of each cell); `tokens`;
    `sinks`; `n` read of `of` tokens. Table `spectrum`: a row a direction and map, with the energy held up to it and the
    relative error ‖A − A_k‖/‖A‖ of stopping there.
    """

    key: ClassVar[str] = "low_rank.spectrum"

    def _run(self, progress: Progress) -> Result:
        progress(0.1, "singular values")
        whole = decomposition(self.source, self.head)
        sequence, sinks = whole.sequence, whole.sinks
        values = whole.values.numpy()
        progress(0.6, "without sinks")
        without = torch.linalg.svdvals(_map(sequence, sinks)).numpy() if any(sinks) else values
        uniform = uniform_values(sequence.n, causal=sequence.causal)
        maps = {"this map": values, "uniform map": uniform}
        if any(sinks):
            maps = {"this map": values, "without its sinks": without, "uniform map": uniform}
        table = pd.concat([_spectrum(name, of) for name, of in maps.items()], ignore_index=True)
        table.attrs["units"] = {"direction": "number", "value": "σ", "energy": "share", "error": "relative"}
        arrays = {
            "values": values.copy(),
            "without sinks": without.copy(),
            "uniform": uniform,
            "exact": pooled_by_size(whole.exact.numpy(), CELLS),
            "tokens": np.array(tokens_of(sequence), dtype=np.str_),
            "sinks": np.array(sinks[0], dtype=np.int64),
            "n": np.array(sequence.n),
            "of": np.array(self.sequence().n),
            "causal": np.array(sequence.causal),
        }
        return Result(study=self, arrays=arrays, tables={"spectrum": table}, words={"origin": sequence.origin})


def _spectrum(name: str, values: Numbers) -> pd.DataFrame:
    squares = values**2
    held = squares.cumsum() / squares.sum()
    error = np.sqrt(np.clip(squares[::-1].cumsum()[::-1] - squares, 0, None) / squares.sum())
    return pd.DataFrame(
        {"map": name, "direction": np.arange(1, len(values) + 1), "value": values, "energy": held, "error": error}
    )


class Factors(HeadStudy):
    """The map at rank k: two thin factors, what they rebuild, and what is left over.

    Arrays: `left [n k]` = U√Σ and `right [k n]` = √ΣVᵀ, whose product is the rebuilt map; `rebuilt`, and `difference` =
    rebuilt − exact (the remainder with its sign turned, as on every page), `[cells cells]`, of each cell the number of the
    largest size; `kept` (share of Σσ²), `error` (‖difference‖/‖map‖ as measured), `eckart_young` (the same from the
    singular values alone), `ahead` (the share of the rebuilt map's energy that lies in the future, where the exact map is
    0), `negative` (the part of its visible entries below zero).
    """

    key: ClassVar[str] = "low_rank.factors"
    rank: int = Field(64, ge=1, le=65536)
    without_sinks: bool = False

    def _run(self, progress: Progress) -> Result:
        whole = decomposition(self.source, self.head, without_sinks=self.without_sinks)
        k = min(self.rank, len(whole.values))
        root = whole.values[:k].sqrt().float()
        left, right = whole.u[:, :k] * root, root[:, None] * whole.vh[:k]
        rebuilt = left @ right
        difference = rebuilt - whole.exact
        size, energy = rebuilt.square().sum(), whole.values.square()
        ahead = rebuilt.triu(1).square().sum() / size if whole.sequence.causal else torch.zeros(())
        visible = rebuilt[torch.ones_like(rebuilt).tril().bool()] if whole.sequence.causal else rebuilt.flatten()
        arrays = {
            "left": left.numpy(),
            "right": right.numpy(),
            "rebuilt": pooled_by_size(rebuilt.numpy(), CELLS),
            "difference": pooled_by_size(difference.numpy(), CELLS),
            "rank": np.array(k),
            "kept": np.array(float(energy[:k].sum() / energy.sum())),
            "error": np.array(float(difference.norm() / whole.exact.norm())),
            "eckart_young": np.array(float(truncation_error(whole.values.numpy(), k))),
            "ahead": np.array(float(ahead)),
            # Rounding leaves tiny negatives everywhere; a thousandth of a thousandth is no weight.
            "negative": np.array(float((visible < -1e-6).float().mean())),
        }
        return Result(study=self, arrays=arrays, words={"origin": whole.sequence.origin})


class Rebuilt(HeadStudy):
    """The error of the rebuilt map at k = 1, 2, 4 … n, measured number by number, beside Eckart and Young's.

    Table `errors`: k, measured, formula. Cost n² k a row.
    """

    key: ClassVar[str] = "low_rank.rebuilt"

    def _run(self, progress: Progress) -> Result:
        whole = decomposition(self.source, self.head)
        records = []
        n = len(whole.values)
        for k in [*(2**i for i in range(11) if 2**i < n), n]:
            rebuilt = (whole.u[:, :k] * whole.values[:k].float()) @ whole.vh[:k]
            error = (rebuilt - whole.exact).norm() / whole.exact.norm()
            formula = float(truncation_error(whole.values.numpy(), k))
            records.append({"k": k, "measured": float(error), "formula": formula})
        table = pd.DataFrame.from_records(records)
        table.attrs["units"] = {"k": "directions", "measured": "relative", "formula": "relative"}
        return Result(study=self, tables={"errors": table}, words={"origin": whole.sequence.origin})


@dataclass(frozen=True, kw_only=True)
class RankFinding:
    """What a spectrum says of a map. `rank`, `without` and `uniform` count the directions that hold 99 % of the energy.

    `numbers` is what the factors of that rank hold, rank·(2n + 1); `held` what the map itself does, its visible pairs.
    """

    kind: Kind
    n: int
    rank: int
    without: int
    uniform: int
    sinks: int
    numbers: int
    held: int
    causal: bool


def rank_finding(result: Result) -> RankFinding:
    """Read a `Spectrum` result."""
    arrays = result.arrays
    n, causal = int(arrays["n"]), bool(arrays["causal"])
    values, uniform = arrays["values"], arrays["uniform"]
    rank, without, plain = (rank_of(x) for x in (values, arrays["without sinks"], uniform))
    held = n * (n + 1) // 2 if causal else n * n
    numbers = rank * (2 * n + 1)
    kind: Kind = "middle"
    if n < FEWEST:
        kind = "single"
    elif float(np.abs(values - uniform).max()) <= SAME * float(uniform[0]):
        kind = "uniform" if causal else "flat"
    elif len(arrays["sinks"]) and without >= DISGUISE * rank:
        kind = "disguise"
    elif numbers <= held:
        kind = "low"
    elif 2 * rank >= n:
        kind = "high"
    return RankFinding(
        kind=kind,
        n=n,
        rank=rank,
        without=without,
        uniform=plain,
        sinks=len(arrays["sinks"]),
        numbers=numbers,
        held=held,
        causal=causal,
    )
