"""One sequence under one scheme of positions: the scores of any queries, pair by pair.

Source: Shaw et al. 2018, arXiv:1803.02155, section 3.2; Huang et al. 2018, arXiv:1809.04281, section 3.4; Dai et al. 2019,
arXiv:1901.02860, section 3.3; Raffel et al. 2019, arXiv:1910.10683, section 2.1; Press et al. 2021, arXiv:2108.12409,
section 3; Su et al. 2021, arXiv:2104.09864, section 3.4; Vaswani et al. 2017, arXiv:1706.03762, section 3.5.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from longattn_core.contracts.sequence import Sequence
from longattn_core.numerics.maps.listed import inverse_root


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoding:
    """The scores of one scheme: `(q·k + table_q·table[δ])/√d + curve[δ] + key_bias[j]`, δ the query's position less the key's.

    `content_q`, `content_k` are queries and keys without positions; `q` and `k` those of the product, which the scheme may
    have rotated or shifted. `table [t d]` holds a vector for each distance, `table_q` the queries that are multiplied with
    it, `curve [t]` a number for each distance; the row of distance δ is `δ + reach`, δ clipped to ±reach. `values [t e]` are
    what Shaw's scheme adds to the values. `slopes [h]` are ALiBi's, which need no table and so no clipping. `skewed` says
    that the output is computed by the skew and not by one look-up a pair.
    """

    sequence: Sequence
    content_q: Float[Tensor, "h n d"]
    content_k: Float[Tensor, "h n d"]
    q: Float[Tensor, "h n d"]
    k: Float[Tensor, "h n d"]
    reach: int = 0
    table_q: Float[Tensor, "h n d"] | None = None
    table: Float[Tensor, "t d"] | None = None
    values: Float[Tensor, "t e"] | None = None
    curve: Float[Tensor, "t"] | None = None
    slopes: Float[Tensor, "h"] | None = None
    key_bias: Float[Tensor, "h n"] | None = None
    skewed: bool = False

    def scores(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g r n"]:
        """Scores of any queries over all keys, every distance looked up pair by pair. Cost r·n·d and r·t·d."""
        keys = torch.arange(self.sequence.n, device=queries.device)
        scores = self.q[heads][:, queries] @ self.k[heads].mT * inverse_root(self.sequence.d)
        if self.table is not None and self.table_q is not None:
            by_distance = self.table_q[heads][:, queries] @ self.table.mT * inverse_root(self.sequence.d)
            scores = scores + by_distance.gather(2, self.table_row(queries, keys).expand_as(scores))
        return scores + self.distance_bias(queries, keys, heads) + self.bias_of_keys(heads)

    def content(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g r n"]:
        """The scores by content alone, q·k/√d before any position."""
        return self.content_q[heads][:, queries] @ self.content_k[heads].mT * inverse_root(self.sequence.d)

    def table_row(self, queries: Int[Tensor, "r"], keys: Int[Tensor, "s"]) -> Int[Tensor, "r s"]:
        """The row of `table`, `curve` and `values` that belongs to each pair's distance."""
        return self._lag(queries, keys).clamp(-self.reach, self.reach) + self.reach

    def distance_bias(
        self, queries: Int[Tensor, "r"], keys: Int[Tensor, "s"], heads: Int[Tensor, "g"]
    ) -> Float[Tensor, "#g #r #s"]:
        """The number that the distance alone adds to each pair's score; zero for a scheme without one."""
        if self.curve is not None:
            return self.curve[self.table_row(queries, keys)][None]
        if self.slopes is not None:
            return -self.slopes[heads, None, None] * self._lag(queries, keys).abs()
        return self.q.new_zeros(1, 1, 1)

    def bias_of_keys(self, heads: Int[Tensor, "g"]) -> Float[Tensor, "#g 1 #n"]:
        """The number that each key adds to its scores whatever the query; zero for a scheme without one."""
        return self.q.new_zeros(1, 1, 1) if self.key_bias is None else self.key_bias[heads, None]

    def _lag(self, queries: Int[Tensor, "r"], keys: Int[Tensor, "s"]) -> Int[Tensor, "r s"]:
        positions = self.sequence.token_positions
        return positions[queries, None] - positions[None, keys]
