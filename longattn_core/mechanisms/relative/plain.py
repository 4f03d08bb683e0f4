"""The output of a scheme of positions in a few stretches of rows, for every dtype, gradient, padding and position.

Source: as in `encoding`. The skew is Huang et al. 2018, arXiv:1809.04281, section 3.4.1. `fast` computes the same in single
precision by torch's kernel.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from longattn_core.contracts.indexing import row_chunks
from longattn_core.mechanisms.relative.distances import skew
from longattn_core.mechanisms.relative.encoding import Encoding
from longattn_core.numerics.maps.listed import inverse_root
from longattn_core.numerics.softmax import masked_softmax


def attend_plainly(encoding: Encoding) -> tuple[Float[Tensor, "h n e"], Float[Tensor, "h n e"] | None]:
    """The output, and the part of it that value vectors add (None without them).

    Cost n²·(d + e) per head, and n²·d more where the skew is used; memory above the output a few times 4 M scores.
    """
    sequence = encoding.sequence
    # Written in place: small results kept between the large scores would keep the memory of those from being used again.
    output = torch.empty_like(sequence.v)
    offset = None if encoding.values is None else torch.empty_like(sequence.v)
    for rows in row_chunks(sequence.n, 2 * sequence.h * sequence.n):
        count = rows.stop if sequence.causal else sequence.n
        queries = torch.arange(rows.start, rows.stop, device=encoding.q.device)
        mask = sequence.allowed(queries)[:, :count]
        scores = _scores_of_rows(encoding, rows, count)
        weights = masked_softmax(scores, mask.expand_as(scores))
        output[:, rows] = weights @ sequence.v[:, :count]
        if offset is not None and encoding.values is not None:
            index = encoding.table_row(queries, torch.arange(count, device=queries.device)).expand_as(weights)
            by_distance = weights.new_zeros(*weights.shape[:2], len(encoding.values)).scatter_add(2, index, weights)
            offset[:, rows] = by_distance @ encoding.values
    return (output, None) if offset is None else (output + offset, offset)


def _scores_of_rows(encoding: Encoding, rows: slice, count: int) -> Float[Tensor, "h r s"]:
    """Scores of consecutive queries over the first `count` keys; the skew in place of a look-up where the table is long."""
    device = encoding.q.device
    queries, keys = torch.arange(rows.start, rows.stop, device=device), torch.arange(count, device=device)
    root = inverse_root(encoding.sequence.d)
    scores = encoding.q[:, rows] @ encoding.k[:, :count].mT * root
    if encoding.table is not None and encoding.table_q is not None:
        if encoding.skewed:
            lags = rows.stop - 1 - torch.arange(count + len(queries) - 1, device=device)
            vectors = encoding.table[lags.clamp(-encoding.reach, encoding.reach) + encoding.reach]
            scores = scores + skew(encoding.table_q[:, rows] @ vectors.mT * root, count)
        else:
            by_distance = encoding.table_q[:, rows] @ encoding.table.mT * root
            scores = scores + by_distance.gather(2, encoding.table_row(queries, keys).expand_as(scores))
    heads = torch.arange(encoding.sequence.h, device=device)
    return scores + encoding.distance_bias(queries, keys, heads) + encoding.bias_of_keys(heads)[..., :count]
