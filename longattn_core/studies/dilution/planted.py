"""A fact planted at the start of a text, more and more filler, and the question at the end: does the answer keep its weight?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pandas as pd
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from longattn_core.contracts.sequence import Sequence
from longattn_core.language_model.model import load_language_model, repeat_groups
from longattn_core.measures.sampling import sample_queries
from longattn_core.measures.spread import find_sinks
from longattn_core.sequences.sources import Source, TextSource
from longattn_core.studies.base.cache import SingleFlightCache
from longattn_core.studies.base.sweep import Point, Row, Sweep
from longattn_core.studies.dilution.planted_text import FactName, Filler, PlantedText
from longattn_core.studies.dilution.weight_shares import UNITS, ScoreRows, table_row

__all__ = ["CONTRASTS", "LENGTHS", "PlantedGrowth", "planted_rows", "text_of"]

LENGTHS = (256, 512, 1024, 2048, 4096, 8192)
CONTRASTS = ((0, 0), (11, 1))
"""Heads that stand beside the chosen one: a diffuse one and a local one, which never look for the fact."""
SINK_QUERIES = 128
"""Queries of a planted text by which its sinks are found."""


def text_of(source: Source) -> TextSource:
    """The source as the text that it must be. Raises: ValueError, one sentence, for a source without the model's heads."""
    if not isinstance(source, TextSource):
        raise ValueError("A planted fact is a text: it needs the language model's heads.")
    return source


@dataclass(frozen=True, kw_only=True, eq=False)
class _LastQuery:
    """The last query's scores over all keys, and the sinks, of one head."""

    scores: Float[Tensor, "n"]
    sinks: tuple[int, ...]


_last_queries: SingleFlightCache[dict[tuple[int, int], _LastQuery]] = SingleFlightCache(size=48)


def planted_rows(
    text: PlantedText, layer: int, head: int, *, rotary: bool = True, sharpness: float = 1.0, with_layer: int | None = None
) -> ScoreRows:
    """The scores of a planted text's last token `[1, n]`. The sinks are those of the head as the model has it.

    A contrast's scores are taken from the pass of the model that was made for `with_layer`, if one is named.
    Cost: the model's blocks below the layer (or below layer 11, for the contrasts), about 15 s at 8,192 tokens; the
    scores of all heads of the layer and of the contrasts are kept.
    """
    captured_layer = layer if with_layer is None or (layer, head) not in CONTRASTS else with_layer
    name = f"{text.model_dump_json()} {captured_layer} {rotary}"
    last = _last_queries.get(name, lambda: _read(text, captured_layer, rotary))[layer, head]
    return ScoreRows(scores=last.scores[None] * sharpness, needle=text.build().needle, sinks=last.sinks)


def _read(text: PlantedText, layer: int, rotary: bool) -> dict[tuple[int, int], _LastQuery]:
    """The last query of every head of the layer and of the contrasts' layers, by layer and head. Cost: a pass of the model."""
    model = load_language_model()
    layers = {layer, *(contrast for contrast, _ in CONTRASTS)}
    captured = model.capture(text.build().ids, layers, rotary=rotary)
    last_queries = {}
    for number, heads in captured.items():
        k, v = (repeat_groups(shared, model.config.group_size) for shared in (heads.k, heads.v))
        sequence = Sequence(q=heads.q, k=k, v=v, causal=True)
        sinks = find_sinks(sequence, sample_queries(sequence, min(SINK_QUERIES, sequence.n)))
        scores = (heads.q[:, -1:] @ k.mT / sequence.d**0.5).squeeze(1)
        for head in range(len(scores)):
            # A copy: a slice would keep the scores of all heads in memory.
            last_queries[number, head] = _LastQuery(scores=scores[head].clone(), sinks=sinks[head])
    return last_queries


class PlantedPoint(Point):
    """One planted text read by one head."""

    text: PlantedText
    layer: int
    head: int
    rotary: bool
    sharpness: float
    reference: int
    temperature: float


class PlantedGrowth(Sweep[PlantedPoint]):
    """The last query's weight on the needle, the sinks and the rest, as the filler grows until the text has `longest` tokens.

    Table `points`: a row a length and head; the columns of `table_row`, `head` ("L17 H3"), the number of sinks, and the
    heaviest key of the rest with its weight. The source gives layer, head, rotary positions and sharpness; its own text is not
    read. The mask changes nothing here: the last token sees all tokens with and without it.
    """

    key: ClassVar[str] = "dilution.planted"
    fact: FactName = "clock"
    filler: Filler = "own"
    longest: int = Field(4096, ge=256, le=8192)
    contrasts: bool = True
    reference: int = Field(LENGTHS[0], ge=2, le=8192)
    temperature: float = Field(0.67, gt=0.05, le=10)

    @property
    def text(self) -> TextSource:
        """The source, whose layer and head are read. Raises: ValueError, one sentence, when it is no text."""
        return text_of(self.source)

    def points(self) -> tuple[PlantedPoint, ...]:
        """Short texts first: they cost least, and say most at once."""
        source = self.text
        own = (source.layer, source.heads[0])
        heads = (own, *(contrast for contrast in CONTRASTS if self.contrasts and contrast != own))
        return tuple(
            PlantedPoint(
                text=PlantedText(fact=self.fact, filler=self.filler, n=n),
                layer=layer,
                head=head,
                rotary=source.rotary,
                sharpness=source.sharpness,
                reference=self.reference,
                temperature=self.temperature,
            )
            for n in LENGTHS
            if n <= self.longest
            for layer, head in heads
        )

    def measure(self, point: PlantedPoint) -> Row:
        """One length, one head."""
        # One pass of the model gives the chosen head and the contrasts.
        last = planted_rows(
            point.text, point.layer, point.head, rotary=point.rotary, sharpness=point.sharpness, with_layer=self.text.layer
        )
        planted = point.text.build()
        rest = last.scores[0].clone()
        rest[[planted.needle, *last.sinks]] = -torch.inf
        heaviest = int(rest.argmax())
        weights = last.scores[0].double().softmax(-1)
        return {
            "head": f"L{point.layer} H{point.head}",
            **table_row(last, reference=point.reference, temperature=point.temperature),
            "sink count": len(last.sinks),
            "first of the rest": planted.tokens[heaviest],
            "weight of it": float(weights[heaviest]),
        }

    def name_of(self, point: PlantedPoint) -> str:
        """What is being read."""
        return f"{point.text.n:,} tokens"

    @property
    def units(self) -> dict[str, str]:
        """The columns' units."""
        return {**UNITS, "sink count": "keys", "weight of it": "share of weight"}

    def _words(self, rows: pd.DataFrame) -> dict[str, str]:
        planted = PlantedText(fact=self.fact, filler=self.filler, n=LENGTHS[0]).build()
        return {"needle": planted.tokens[planted.needle], "question": planted.tokens[-1]}
