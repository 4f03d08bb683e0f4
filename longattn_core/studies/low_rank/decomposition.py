"""The singular value decomposition of one head's exact map, the uniform map's singular values, and how a rank is counted.

Source: Eckart & Young 1936 (Psychometrika 1). Every map is compared with the uniform map, which gives all visible tokens
the same weight. Its singular values follow from a tridiagonal matrix, because its inverse has only two diagonals (ours).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from scipy.linalg import eigvalsh_tridiagonal
from torch import Tensor

from longattn_core.contracts.sequence import Sequence, exact_rows
from longattn_core.measures.spread import Sinks, energy_rank, find_sinks, sink_mask
from longattn_core.sequences.sources import Source
from longattn_core.studies.base.cache import SingleFlightCache
from longattn_core.studies.base.run import read_prefix

LONGEST = 1024
"""Tokens of a sequence whose map is decomposed, which costs n³; of a longer sequence these are its first tokens."""
SHARE = 0.99
"""The rank of a map is the least k whose directions hold this share of Σσ²: an error of 10 % of the map's size."""
CELLS = 512
"""Cells of a picture's side at most."""

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Decomposition:
    """One head's exact map `[n n]` and its factors: `u [n n]`, falling `values [n]` (float64), `vh [n n]`."""

    sequence: Sequence
    sinks: Sinks
    exact: Float[Tensor, "n n"]
    u: Float[Tensor, "n n"]
    values: Float[Tensor, "n"]
    vh: Float[Tensor, "n n"]

    def truncated(self, k: int) -> Float[Tensor, "n n"]:
        """The best map of rank k: the sum of the k strongest directions. Cost n²·k."""
        return (self.u[:, :k] * self.values[:k].float()) @ self.vh[:k]


# The two orthogonal factors of 1,024 tokens are 8 MB.
_decompositions: SingleFlightCache[Decomposition] = SingleFlightCache(size=6)


def decomposition(source: Source, head: int = 0, *, without_sinks: bool = False, causal: bool | None = None) -> Decomposition:
    """The singular value decomposition of a head's exact map, made once and kept for every rank.

    `without_sinks` sets the sinks' columns to 0 first; `causal` replaces the source's mask. Cost n³: at 512 tokens about
    0.2 s, at 1,024 about 1.5 s.
    """
    name = f"{source.model_dump_json()} {head} {without_sinks} {causal}"

    def make() -> Decomposition:
        sequence = read_prefix(source, head, LONGEST, causal=causal)
        sinks = find_sinks(sequence)
        exact = exact_map(sequence, without=sinks if without_sinks else None)
        u, values, vh = torch.linalg.svd(exact)
        return Decomposition(sequence=sequence, sinks=sinks, exact=exact.float(), u=u.float(), values=values, vh=vh.float())

    return _decompositions.get(name, make)


def exact_map(sequence: Sequence, *, without: Sinks | None = None) -> Float[Tensor, "n n"]:
    """The exact map of the sequence's first head in float64; the columns of the sinks in `without` are set to 0."""
    exact: Tensor = exact_rows(sequence)[0].double()
    return exact if without is None else exact.masked_fill(sink_mask(without, sequence.n)[0], 0.0)


def uniform_values(n: int, *, causal: bool) -> Numbers:
    """Falling singular values `[n]` of the map that gives every visible token the same weight. Cost n².

    Without a mask the map has rank 1. Under a causal mask row i is 1/(i + 1) up to column i. The inverse of that map has
    (i + 1) on its diagonal and −i beside it, so 1/σ² are the eigenvalues of a tridiagonal matrix.
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
