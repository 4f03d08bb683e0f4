"""Exact rows of some queries, summed along the keys, so that the mass of any span of keys is one subtraction."""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from longattn_core.contracts.sequence import Sequence, exact_rows


@dataclass(frozen=True, kw_only=True, eq=False)
class CumulatedRows:
    """Rows of exact attention of one head, in float64, with the sinks' columns and without them.

    `exact [r n]` are the rows of `queries [r]`, with sinks. `before [2 r n+1]` is each row's mass on the keys before a
    position, first with the sinks' columns and then without.
    """

    queries: Int[Tensor, "r"]
    exact: Float[Tensor, "r n"]
    before: Float[Tensor, "two r n1"]

    @classmethod
    def of(cls, sequence: Sequence, queries: Many[int], head: int, sinks: Many[int]) -> CumulatedRows:
        """Compute the rows of some queries. Cost: r·n·d."""
        places = torch.tensor(queries, dtype=torch.int64, device=sequence.q.device)
        exact = exact_rows(sequence, places, head)[0].double()
        without = exact.clone()
        without[:, list(sinks)] = 0.0
        both = torch.stack([exact, without]).cumsum(-1)
        zero = both.new_zeros(*both.shape[:2], 1)
        return cls(queries=places, exact=exact, before=torch.cat([zero, both], dim=-1))

    def among(self, queries: Many[int]) -> CumulatedRows:
        """The rows of some of these queries, without computing anything anew; `self.queries` must be sorted."""
        chosen = torch.tensor(queries, dtype=torch.int64, device=self.queries.device)
        places = torch.searchsorted(self.queries, chosen)
        return CumulatedRows(queries=chosen, exact=self.exact[places], before=self.before[:, places])

    def between(self, marks: Int[Tensor, "r m"]) -> Float[Tensor, "two r m_1"]:
        """Each row's mass on the keys from one of its marks up to the next one, with sinks and without."""
        rows = torch.arange(len(self.queries), device=marks.device)
        return self.before[:, rows[:, None], marks].diff(dim=-1)

    def totals(self) -> Float[Tensor, "two"]:
        """The mass of all rows together, with sinks and without; 1 in place of 0, so that it can divide."""
        total = self.before[..., -1].sum(1)
        return torch.where(total > 0, total, 1.0)
