"""The map of a scheme of positions, what it adds to each score, and the sentence for each pair."""

import math
from dataclasses import dataclass
from enum import StrEnum

import torch
from jaxtyping import Float, Int
from torch import Tensor

from longattn_core.contracts.mechanism import Explanation
from longattn_core.contracts.selection import Index, resolve
from longattn_core.mechanisms.relative.encoding import Encoding
from longattn_core.numerics.maps.listed import ScoredMap
from longattn_core.numerics.softmax import masked_softmax


class RelativeReason(StrEnum):
    """What the positions do to a pair's share."""

    RAISED = "raised"
    LOWERED = "lowered"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, kw_only=True, eq=False)
class RelativeTrace:
    """What a scheme adds by distance. δ is the query's position less the key's: positive for an earlier key.

    `bias [h 2n−1]`: what distance δ adds to a score, at δ + n − 1. ALiBi and T5: to every score. Shaw, Music Transformer,
    Transformer-XL: to the score of the mean query. RoPE: to that of the mean query with the mean key. Sinusoidal: only
    the product of the two position vectors, which is all that depends on the distance alone.

    Draws and tables, None where the scheme has none: `embeddings [t d]`, a vector a distance, that of δ at δ + (t − 1)/2;
    `values [t e]`, what Shaw's scheme adds to values; `projection [d d]`, `u [d]`, `v [d]` of Transformer-XL (`embeddings`
    are its projected sinusoids); `scalars [b]` and `buckets [2n−1]` of T5; `slopes [h]` of ALiBi; `frequencies [d/2]`
    (radians a position) and `temperature` (the factor on scores) of RoPE.
    """

    bias: Float[Tensor, "h m"]
    embeddings: Float[Tensor, "t d"] | None = None
    values: Float[Tensor, "t e"] | None = None
    projection: Float[Tensor, "p d"] | None = None
    u: Float[Tensor, "d"] | None = None
    v: Float[Tensor, "d"] | None = None
    scalars: Float[Tensor, "b"] | None = None
    buckets: Int[Tensor, "m"] | None = None
    slopes: Float[Tensor, "h"] | None = None
    frequencies: Float[Tensor, "half"] | None = None
    temperature: float = 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class RelativeMap(ScoredMap):
    """A softmax over scores that depend on the distance. `scheme` is the scheme's name in sentences."""

    trace: RelativeTrace
    encoding: Encoding
    scheme: str

    def _scores(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g r n"]:
        return self.encoding.scores(queries, heads)

    def added(self, queries: Index = None, keys: Index = None, heads: Index = None) -> Float[Tensor, "g r c"]:
        """What the scheme adds to each pair's content score q·k/√d: S_rel, as a matrix. Cost r·n·d; memory r·n.

        The mask is not applied: hidden pairs have their numbers too.
        """
        rows, chosen = self._indices(queries, heads)
        added = self.encoding.scores(rows, chosen) - self.encoding.content(rows, chosen)
        return added if keys is None else added[..., resolve(keys, self.sequence.n, "keys", added.device)]

    def _explained(self, head: int, query: int, key: int, kept: bool, exact: float, weight: float) -> Explanation:
        row, heads = (torch.tensor([x], device=self.output.device) for x in (query, head))
        scores = self.encoding.content(row, heads)
        content = float(scores[0, 0, key])
        added = float(self._scores(row, heads)[0, 0, key]) - content
        before = float(masked_softmax(scores, self.sequence.allowed(row)[None])[0, 0, key])
        positions = self.sequence.token_positions
        distance = int(positions[query] - positions[key])
        facts = {"distance": distance, "bias": added, "content": content, "before": before, "after": weight}
        if math.isclose(before, weight, rel_tol=1e-6):
            reason, change = RelativeReason.UNCHANGED, f"its share stays at {weight:.3g}"
        elif weight > before:
            reason, change = RelativeReason.RAISED, f"its share rises from {before:.3g} to {weight:.3g}"
        else:
            reason, change = RelativeReason.LOWERED, f"its share falls from {before:.3g} to {weight:.3g}"
        place = f"{abs(distance)} tokens {'back' if distance > 0 else 'ahead'}" if distance else "where the query does"
        score = f"{added:+.3g} is added to its content score of {content:.3g}"
        text = f"The key stands {place}; under {self.scheme} {score}, and {change}."
        return Explanation(kept=kept, exact=exact, weight=weight, reason=reason, facts=facts, text=text)
