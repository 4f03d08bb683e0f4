"""One sequence under one scheme of positions: its scores pair by pair, and its output in stretches of rows.

Source: Shaw et al. 2018, arXiv:1803.02155, section 3.2; Huang et al. 2018, arXiv:1809.04281, section 3.4; Dai et al. 2019,
arXiv:1901.02860, section 3.3; Raffel et al. 2019, arXiv:1910.10683, section 2.1; Press et al. 2021, arXiv:2108.12409,
section 3; Su et al. 2021, arXiv:2104.09864, section 3.4; Vaswani et al. 2017, arXiv:1706.03762, section 3.5.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from longattn_core.contracts.indexing import row_chunks
from longattn_core.contracts.sequence import Sequence
from longattn_core.mechanisms.relative.distances import skew
from longattn_core.numerics.maps.listed import inverse_root
from longattn_core.numerics.softmax import masked_softmax


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoding:
    """The scores of one scheme: `(q·k + asked·table[δ])/√d + curve[δ] + key_bias[j]` with δ the query's position less the key's.

    `content_q`, `content_k` are queries and keys with no position in them; `q` and `k` those of the product, turned or
    moved where the scheme does that. `table [t d]` holds a vector for each distance, `asked` the queries that meet it,
    `curve [h t]` a number for each distance; the row of distance δ is `δ + reach`, δ clipped to ±reach. `values [t e]` are
    what Shaw's scheme adds to the values. `slopes [h]` are ALiBi's, for which no table is long enough.
    """

    sequence: Sequence
    content_q: Float[Tensor, "h n d"]
    content_k: Float[Tensor, "h n d"]
    q: Float[Tensor, "h n d"]
    k: Float[Tensor, "h n d"]
    reach: int = 0
    asked: Float[Tensor, "h n d"] | None = None
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
        if self.table is not None and self.asked is not None:
            logits = self.asked[heads][:, queries] @ self.table.mT * inverse_root(self.sequence.d)
            scores = scores + logits.gather(2, self._row(queries, keys).expand_as(scores))
        return scores + self._by_distance(queries, keys, heads) + self._by_key(heads)

    def content(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g r n"]:
        """The scores by content alone, q·k/√d before any position."""
        return self.content_q[heads][:, queries] @ self.content_k[heads].mT * inverse_root(self.sequence.d)

    def attend(self) -> tuple[Float[Tensor, "h n e"], Float[Tensor, "h n e"] | None]:
        """The output, and the part of it that value vectors bring (None without them).

        Cost n²·(d + e) per head, and n²·d more where the skew meets a long table; a few stretches of rows at a time.
        """
        sequence = self.sequence
        # Written in place: small results kept between the large scores would keep the memory of those from being used again.
        output = torch.empty_like(sequence.v)
        offset = None if self.values is None else torch.empty_like(sequence.v)
        for rows in row_chunks(sequence.n, 2 * sequence.h * sequence.n):
            seen = rows.stop if sequence.causal else sequence.n
            queries = torch.arange(rows.start, rows.stop, device=self.q.device)
            mask = sequence.allowed(queries)[:, :seen]
            scores = self._stretch(rows, seen)
            weights = masked_softmax(scores, mask.expand_as(scores))
            output[:, rows] = weights @ sequence.v[:, :seen]
            if offset is not None and self.values is not None:
                index = self._row(queries, torch.arange(seen, device=queries.device)).expand_as(weights)
                mass = weights.new_zeros(*weights.shape[:2], len(self.values)).scatter_add(2, index, weights)
                offset[:, rows] = mass @ self.values
        return (output, None) if offset is None else (output + offset, offset)

    def _stretch(self, rows: slice, seen: int) -> Float[Tensor, "h r s"]:
        """Scores of consecutive queries over the first keys; the skew in place of a look-up where the table is long."""
        device = self.q.device
        queries, keys = torch.arange(rows.start, rows.stop, device=device), torch.arange(seen, device=device)
        root = inverse_root(self.sequence.d)
        scores = self.q[:, rows] @ self.k[:, :seen].mT * root
        if self.table is not None and self.asked is not None:
            if self.skewed:
                lags = rows.stop - 1 - torch.arange(seen + len(queries) - 1, device=device)
                vectors = self.table[lags.clamp(-self.reach, self.reach) + self.reach]
                scores = scores + skew(self.asked[:, rows] @ vectors.mT * root, seen)
            else:
                logits = self.asked[:, rows] @ self.table.mT * root
                scores = scores + logits.gather(2, self._row(queries, keys).expand_as(scores))
        every = torch.arange(self.sequence.h, device=device)
        return scores + self._by_distance(queries, keys, every) + self._by_key(every)[..., :seen]

    def _lag(self, queries: Int[Tensor, "r"], keys: Int[Tensor, "s"]) -> Int[Tensor, "r s"]:
        positions = self.sequence.token_positions
        return positions[queries, None] - positions[None, keys]

    def _row(self, queries: Int[Tensor, "r"], keys: Int[Tensor, "s"]) -> Int[Tensor, "r s"]:
        return self._lag(queries, keys).clamp(-self.reach, self.reach) + self.reach

    def _by_distance(
        self, queries: Int[Tensor, "r"], keys: Int[Tensor, "s"], heads: Int[Tensor, "g"]
    ) -> Float[Tensor, "#g #r #s"]:
        if self.curve is not None:
            return self.curve[self._row(queries, keys)][None]
        if self.slopes is not None:
            return -self.slopes[heads, None, None] * self._lag(queries, keys).abs()
        return self.q.new_zeros(1, 1, 1)

    def _by_key(self, heads: Int[Tensor, "g"]) -> Float[Tensor, "#g 1 #n"]:
        return self.q.new_zeros(1, 1, 1) if self.key_bias is None else self.key_bias[heads, None]
