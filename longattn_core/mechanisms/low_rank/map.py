"""The map of a low-rank mechanism: two thin factors, and how their product differs from exact attention."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from jaxtyping import Float
from torch import Tensor

from longattn_core.contracts.mechanism import Explanation, ReadCount
from longattn_core.contracts.selection import Index
from longattn_core.numerics.maps.factored import FactoredMap

CLOSE = 0.1
"""A weight counts as rebuilt if it differs from the exact one by at most this share of the larger, or by `SMALL`."""

SMALL = 1e-3


class LowRankReason(StrEnum):
    """How a pair's weight in a map of a few columns compares with its exact weight."""

    REBUILT = "rebuilt"
    LOST = "lost"
    INVENTED = "invented"
    NEGATIVE = "negative"


@dataclass(frozen=True, kw_only=True, eq=False)
class LowRankMap(FactoredMap):
    """A map of `rank` columns; `unit` says what a column is ("landmarks", "mixed keys", …)."""

    rank: int
    unit: str

    @abstractmethod
    def _story(self, head: int, query: int, key: int) -> tuple[Mapping[str, float | int | str | bool], str]:
        """How the variant treats this pair: facts, and the first half of the sentence, without a full stop."""

    def factors(
        self, queries: Index = None, keys: Index = None, heads: Index = None
    ) -> tuple[Float[Tensor, "g r k"], Float[Tensor, "g c k"]]:
        """The two factors for the chosen tokens; without a mask their product is the map. Memory (r + c)·k a head."""
        rows, chosen = self._indices(queries, heads)
        columns, _ = self._indices(keys, heads)
        return self._left(rows, chosen), self._right(columns, chosen)

    def _read_count(self, head: int, query: int) -> ReadCount:
        return ReadCount(count=self.rank if bool(self.sequence.real[query]) else 0, unit=self.unit)

    def _explained(self, head: int, query: int, key: int, kept: bool, exact: float, weight: float) -> Explanation:
        gap = weight - exact
        if abs(gap) <= max(CLOSE * max(exact, abs(weight)), SMALL):
            reason, end = LowRankReason.REBUILT, "close to"
        elif weight < 0:
            reason, end = LowRankReason.NEGATIVE, "below 0, which is no share, beside"
        elif gap < 0:
            reason, end = LowRankReason.LOST, "less than"
        else:
            reason, end = LowRankReason.INVENTED, "more than"
        facts, story = self._story(head, query, key)
        text = f"{story}: this pair gets {weight:.3g}, {end} the {exact:.3g} of exact attention."
        return Explanation(
            kept=kept, exact=exact, weight=weight, reason=reason, facts={"rank": self.rank, "gap": gap, **facts}, text=text
        )
