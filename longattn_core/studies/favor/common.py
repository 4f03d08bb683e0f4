"""What the studies of random features share: one head's beginning, its exact output, and the norms of its pairs.

Source: Choromanski et al. 2020, arXiv:2009.14794: x = q/d^¼ and y = k/d^¼ throughout, so that e^{xᵀy} = e^{q·k/√d}.
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
from longattn_core.mechanisms.favor import Favor
from longattn_core.sequences.sources import Source
from longattn_core.studies.base.cache import SingleFlightCache
from longattn_core.studies.base.study import Setting, sequence_of

LONGEST = 1024
"""Tokens of a sequence that a sweep measures: its first ones."""
QUERIES = 256
"""Queries of a sequence that an error is measured on."""

MOST_CELLS = 1 << 21
"""Weights of one map that a moved dial computes: all 256 queries of up to 8,192 tokens."""


def few(most: int, n: int) -> int:
    """How many queries are looked at: fewer where a row is so long that a moved dial would have to wait."""
    return max(16, min(most, MOST_CELLS // n))


def favor_of(setting: Setting) -> Favor:
    """The mechanism of a setting. Raises: ValueError when it is another than FAVOR+."""
    built = setting.build()
    if not isinstance(built, Favor):
        raise ValueError(f"This study reads random features, the mechanism 'favor'; found {setting.key!r}.")
    return built


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """One head, cut to at most `LONGEST` tokens, and what exact attention and the control give its sampled queries."""

    sequence: Sequence
    queries: Int[Tensor, "r"]
    exact: Float[Tensor, "h r e"]
    control: float

    def error(self, output: Float[Tensor, "h n e"]) -> float:
        """‖Ô − O‖/‖O‖ of an output over the sampled queries."""
        return float(relative_error(output[:, self.queries], self.exact)[0])


def measured(sequence: Sequence, head: int, longest: int = LONGEST) -> Measured:
    """Prepare one head for many measurements. Cost: exact rows of 256 queries."""
    alone = sequence.select_heads(min(head, sequence.h - 1)).prefix(min(sequence.n, longest))
    if not bool(alone.real.any()):
        # A prefix that is padding only says nothing; the whole sequence has a real token.
        alone = sequence.select_heads(min(head, sequence.h - 1))
    queries = torch.tensor(sample_queries(alone, QUERIES).queries)
    weights = log_rows(alone, 0, queries)[0].exp()
    exact = (weights @ alone.v[0].double())[None]
    control = float(relative_error(mean_of_visible(alone)[:, queries], exact)[0])
    return Measured(sequence=alone, queries=queries, exact=exact, control=control)


_measured: SingleFlightCache[Measured] = SingleFlightCache(size=24)


def measured_at(source: Source, head: int, sharpness: float | None = None) -> Measured:
    """The same for a source, kept; `sharpness` takes the place of the source's own β."""

    def make() -> Measured:
        sequence = sequence_of(source)
        if sharpness is not None and sharpness != sequence.sharpness:
            sequence = sequence.sharpened(sharpness / sequence.sharpness)
        return measured(sequence, head)

    return _measured.get(f"{head} {sharpness} {source.model_dump_json()}", make)


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
