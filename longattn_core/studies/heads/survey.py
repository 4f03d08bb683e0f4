"""What every head does on one text, measured: near mass, the token before, the same word, what followed it, sinks, rank.

Source: ours; induction heads after Olsson et al. 2022, arXiv:2209.11895. A head of a causal model is measured under
the causal mask; other sequences under the mask that they come with.
"""

from __future__ import annotations

import hashlib
import math
from typing import ClassVar

import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from longattn_core.contracts.sequence import Sequence, exact_rows
from longattn_core.language_model.model import load_language_model, repeat_groups
from longattn_core.language_model.tokenizer import load_tokenizer
from longattn_core.measures.sampling import sample_queries
from longattn_core.measures.spread import effective_tokens, find_sinks, keys_for_mass, sink_mask
from longattn_core.sequences.sources import Source, TextSource, UploadedSource
from longattn_core.studies.base.cache import SingleFlightCache
from longattn_core.studies.base.study import sequence_of
from longattn_core.studies.base.sweep import Point, Row, Sweep
from longattn_core.studies.heads.roles import name_heads

__all__ = ["LONGEST", "UNITS", "HeadPoint", "HeadSurvey", "measured_head"]

LONGEST = 512
"""Tokens on which heads are surveyed: rank costs n³ a head, and there are 270."""
NEAR = 8
RANKED = 0.99
"""A head's rank is the number of singular values that hold this share of Σσ²."""
FIRST = 32
"""Queries before this one see too few keys to tell heads apart; they are left out where there are later ones."""


class HeadPoint(Point):
    """One head on one text, which is named by a hash of all that makes its queries and keys."""

    content: str
    layer: int
    head: int
    n: int


class HeadSurvey(Sweep[HeadPoint]):
    """Every head of the language model on the first `longest` tokens of a text; of another source, all its heads.

    Table `points`: a row a head with the columns of `measured_head`; table `heads` names each (see `roles`). Same-word and
    induction masses are NaN where the sequence has no words that return. Cost: one pass of the model, then n³ a head.
    """

    key: ClassVar[str] = "heads.survey"
    longest: int = Field(LONGEST, ge=1, le=1024)

    def points(self) -> tuple[HeadPoint, ...]:
        """The layer of the source first, then the others from the input upwards."""
        source = self.source
        if isinstance(source, TextSource):
            config = load_language_model().config
            ids = _ids(source, self.longest)
            name = _hashed(source.content(), source.rotary, source.sharpness, source.causal)
            layers = (source.layer, *(layer for layer in range(config.layers) if layer != source.layer))
            places = [(layer, head) for layer in layers for head in range(config.heads)]
            return tuple(HeadPoint(content=name, layer=layer, head=head, n=len(ids)) for layer, head in places)
        sequence = sequence_of(all_heads(source))
        name = _hashed(all_heads(source).model_dump_json())
        n = min(sequence.n, self.longest)
        return tuple(HeadPoint(content=name, layer=0, head=head, n=n) for head in range(sequence.h))

    def measure(self, point: HeadPoint) -> Row:
        """One head."""
        if isinstance(self.source, TextSource):
            layer = _layers(self.source, point.content, self.longest)[point.layer]
        else:
            layer = sequence_of(all_heads(self.source)).prefix(point.n)
        return {"layer": point.layer, **measured_head(layer.select_heads(point.head))}

    def name_of(self, point: HeadPoint) -> str:
        """Which layer is measured."""
        return f"layer {point.layer}, {point.n:,} tokens"

    @property
    def units(self) -> dict[str, str]:
        """The columns' units."""
        return UNITS

    def _tables(self, rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
        named = name_heads(rows).sort_values(["layer", "head"], ignore_index=True)
        named.attrs["units"] = UNITS
        return {"heads": named}


def all_heads(source: Source) -> Source:
    """The same source with every head that it has: the nine of a text's layer, those of a file, a synthetic one's own."""
    if isinstance(source, TextSource):
        return source.model_copy(update={"heads": tuple(range(load_language_model().config.heads))})
    if isinstance(source, UploadedSource):
        return source.model_copy(update={"head": None})
    return source


def _ids(source: TextSource, longest: int) -> tuple[int, ...]:
    ids = load_tokenizer().encode(source.content()).ids
    if not ids:
        raise ValueError("The text is empty; write at least one word.")
    return ids[: min(longest, source.length or longest)]


def _hashed(*facts: object) -> str:
    return hashlib.sha256(repr(facts).encode("utf-8", "replace")).hexdigest()[:32]


_captured: SingleFlightCache[dict[int, Sequence]] = SingleFlightCache(size=2)


def _layers(source: TextSource, name: str, longest: int) -> dict[int, Sequence]:
    """All layers of the model on one text, with all their heads. Cost: one pass; 60 MB at 512 tokens."""

    def capture() -> dict[int, Sequence]:
        model = load_language_model()
        ids = _ids(source, longest)
        captured = model.capture(ids, range(model.config.layers), rotary=source.rotary)
        tokens = tuple(str(index) for index in ids)
        size = model.config.group_size
        return {
            layer: Sequence(
                q=heads.q, k=repeat_groups(heads.k, size), v=repeat_groups(heads.v, size), causal=source.causal, tokens=tokens
            ).sharpened(source.sharpness)
            for layer, heads in captured.items()
        }

    return _captured.get(f"{name} {len(_ids(source, longest))}", capture)


def measured_head(head: Sequence) -> dict[str, float | int]:
    """What a sequence of one head does: means over the queries from token 32 on (over all, where there are none).

    Shares of weight: `near` (within 8 tokens, itself among them), `previous`, `itself`, `same word` (earlier places of
    the query's own token) and `induction` (the tokens that followed those), both over the queries whose token stood before;
    `sinks`. `… without sinks`: the share of the weight outside the sinks, all queries together. `first is previous`: the
    share of queries whose heaviest key without sinks is the token before. `possible`: the mean number of visible keys.
    `effective` tokens; `rank` and `rank without sinks`, singular values for 99 % of Σσ². Cost: n² and n³.
    """
    n = head.n
    sinks = sink_mask(find_sinks(head, sample_queries(head)), n)[0]
    weights = exact_rows(head)[0].double()
    late = head.real & (torch.arange(n) >= FIRST)
    queries = (late if bool(late.any()) else head.real).nonzero().squeeze(-1)
    rows, rest = weights[queries], weights[queries].masked_fill(sinks, 0.0)
    ahead = torch.arange(n) - queries[:, None]
    earlier, followed = _returns(head, queries)
    row: dict[str, float | int] = {
        "head": head.head_numbers[0],
        "n": n,
        "sinks": float((rows * sinks).sum(-1).mean()),
        "sink count": int(sinks.sum()),
        "effective": float(effective_tokens(rows).mean()),
        "effective without sinks": _effective(rest),
        "possible": float(head.allowed(queries).sum(-1).double().mean()),
        "first is previous": _mean((rest.argmax(-1) == queries - 1)[queries > 0].double()),
    }
    places = {"near": ahead.abs() < NEAR, "previous": ahead == -1, "itself": ahead == 0}
    for name, where in (places | {"same word": earlier, "induction": followed}).items():
        has_place = where.any(-1)
        row[name] = _mean((rows * where).sum(-1)[has_place])
        outside = float(rest[has_place].sum())
        row[f"{name} without sinks"] = float((rest * where)[has_place].sum()) / outside if outside > 0 else math.nan
    rank = _rank(weights)
    # Without sinks both ranks are the same, and the second is not computed.
    without = _rank(weights.masked_fill(sinks, 0.0)) if bool(sinks.any()) else rank
    return {**row, "rank": rank, "rank without sinks": without}


def _returns(head: Sequence, queries: Int[Tensor, "r"]) -> tuple[Bool[Tensor, "r n"], Bool[Tensor, "r n"]]:
    """Where each query's token stood earlier, and the places after those; all False where the sequence has no tokens."""
    places = torch.arange(head.n)
    if head.tokens is None:
        nothing = torch.zeros(len(queries), head.n, dtype=torch.bool)
        return nothing, nothing
    numbers = {token: index for index, token in enumerate(dict.fromkeys(head.tokens))}
    words = torch.tensor([numbers[token] for token in head.tokens])
    same = (words[queries, None] == words) & head.real
    earlier = same & (places < queries[:, None])
    followed = torch.zeros_like(earlier)
    # Where a token follows itself at once, the place after it is the query itself, which does not count.
    followed[:, 1:] = earlier[:, :-1] & (places[1:] < queries[:, None]) & head.real[1:]
    return earlier, followed


def _mean(values: Float[Tensor, "r"]) -> float:
    return float(values.mean()) if len(values) else math.nan


def _effective(rest: Float[Tensor, "r n"]) -> float:
    """The mean of e^H over the rows with any weight, normalised to sum 1; 0 where there are none."""
    total = rest.sum(-1, keepdim=True)
    shares = rest[total.squeeze(-1) > 0] / total[total > 0][:, None]
    return float(effective_tokens(shares).mean()) if len(shares) else 0.0


def _rank(weights: Float[Tensor, "n n"]) -> int:
    """The squares of the singular values are the eigenvalues of W·Wᵀ, which cost a tenth of the decomposition."""
    energies = torch.linalg.eigvalsh(weights @ weights.mT).clamp_min(0).flip(-1)
    return int(keys_for_mass(energies, RANKED))


UNITS = {
    **dict.fromkeys(
        (
            "near",
            "previous",
            "itself",
            "same word",
            "induction",
            "sinks",
            "near without sinks",
            "previous without sinks",
            "itself without sinks",
            "same word without sinks",
            "induction without sinks",
        ),
        "share of weight",
    ),
    "effective": "tokens",
    "effective without sinks": "tokens",
    "possible": "tokens",
    "first is previous": "share of queries",
    "rank": "singular values",
    "rank without sinks": "singular values",
    "sink count": "keys",
    "n": "tokens",
}
