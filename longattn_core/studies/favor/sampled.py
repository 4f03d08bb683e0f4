"""What the studies of random features share: the beginning of one head, its exact output, and the norms of its pairs.

Source: Choromanski et al. 2020, arXiv:2009.14794. Throughout x = q/d^¼ and y = k/d^¼, so that e^{xᵀy} = e^{q·k/√d}.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from longattn_core.contracts.sequence import Sequence
from longattn_core.measures.fidelity import mean_of_visible, relative_error
from longattn_core.measures.sampling import sample_queries
from longattn_core.sequences.sources import Source
from longattn_core.studies.base.cache import SingleFlightCache
from longattn_core.studies.base.study import sequence_of

LONGEST = 1024
"""Tokens of a sequence that a sweep measures: its first ones."""
QUERIES = 256
"""Queries of a sequence that an error is measured on."""
MOST_CELLS = 1 << 21
"""Weights of one map that are computed when a dial moves: those of all 256 queries of up to 8,192 tokens."""


def query_count(most: int, n: int) -> int:
    """How many queries are read: `most`, or fewer (at least 16) where n tokens a row make more than `MOST_CELLS` weights."""
    return max(16, min(most, MOST_CELLS // n))


@dataclass(frozen=True, kw_only=True, eq=False)
class SampledHead:
    """One head, cut to at most `LONGEST` tokens: the exact outputs of its sampled queries, and the control's error on them."""

    sequence: Sequence
    queries: Int[Tensor, "r"]
    exact: Float[Tensor, "h r e"]
    control: float

    def error(self, output: Float[Tensor, "h n e"]) -> float:
        """‖Ô − O‖/‖O‖ of an output over the sampled queries."""
        return float(relative_error(output[:, self.queries], self.exact)[0])


_sampled: SingleFlightCache[SampledHead] = SingleFlightCache(size=24)


def sampled_head(source: Source, head: int, sharpness: float | None = None) -> SampledHead:
    """Prepare one head of a source for many measurements, once, and keep it. Cost: exact rows of 256 queries.

    `sharpness` replaces the source's own β.
    """

    def make() -> SampledHead:
        sequence = sequence_of(source)
        if sharpness is not None and sharpness != sequence.sharpness:
            sequence = sequence.sharpened(sharpness / sequence.sharpness)
        return _sample(sequence.select_heads(min(head, sequence.h - 1)))

    return _sampled.get(f"{head} {sharpness} {source.model_dump_json()}", make)


def _sample(whole: Sequence) -> SampledHead:
    sequence = whole.prefix(min(whole.n, LONGEST))
    if not bool(sequence.real.any()):
        # A prefix of padding alone says nothing; the whole sequence has a real token.
        sequence = whole
    queries = torch.tensor(sample_queries(sequence, QUERIES).queries)
    weights = log_rows(sequence, 0, queries)[0].exp()
    exact = (weights @ sequence.v[0].double())[None]
    control = float(relative_error(mean_of_visible(sequence)[:, queries], exact)[0])
    return SampledHead(sequence=sequence, queries=queries, exact=exact, control=control)


def log_rows(
    sequence: Sequence, head: int, queries: Int[Tensor, "r"]
) -> tuple[Float[Tensor, "r n"], Float[Tensor, "r n"], Bool[Tensor, "r n"]]:
    """Logarithms, in float64, of exact weights and of the kernel e^{q·k/√d}, −∞ outside of the mask; and the mask."""
    allowed = sequence.allowed(queries)
    scores = sequence.q[head, queries].double() @ sequence.k[head].double().mT / math.sqrt(sequence.d)
    scores = scores.masked_fill(~allowed, -math.inf)
    return scores.log_softmax(-1), scores, allowed


def norms(sequence: Sequence, head: int, queries: Int[Tensor, "r"]) -> tuple[Float[Tensor, "r n"], Float[Tensor, "r n"]]:
    """‖x + y‖² and ‖x − y‖² of every pair of these queries with any key."""
    scale = sequence.d**-0.25
    x, y = sequence.q[head, queries].double() * scale, sequence.k[head].double() * scale
    squares = x.square().sum(-1)[:, None] + y.square().sum(-1)[None, :]
    products = x @ y.mT
    return (squares + 2 * products).clamp_min(0), (squares - 2 * products).clamp_min(0)
