"""A fact planted at the start of a text, a filler, and the question at the end: does the answer keep its weight?

Source: ours, after the "needle in a haystack" tests of long contexts. Each fact is a paragraph of a sample story whose
last words repeat the fact's sentence up to the word that answers it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Literal

import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from longattn_core.contracts.sequence import Sequence
from longattn_core.language_model.model import load_language_model, repeat_groups
from longattn_core.language_model.tokenizer import load_tokenizer
from longattn_core.measures.sampling import sample_queries
from longattn_core.measures.spread import find_sinks
from longattn_core.sequences.samples import sample_text
from longattn_core.sequences.sources import TextSource
from longattn_core.studies.base.cache import SingleFlightCache
from longattn_core.studies.base.sweep import Point, Row, Sweep
from longattn_core.studies.dilution.weight_shares import UNITS, Look, row_of

__all__ = ["CONTRASTS", "LENGTHS", "Planted", "PlantedGrowth", "PlantedText", "planted_look"]

LENGTHS = (256, 512, 1024, 2048, 4096, 8192)
CONTRASTS = ((0, 0), (11, 1))
"""Heads that stand beside the chosen one: a diffuse one and a local one, which never look for the fact."""
SINK_QUERIES = 128
"""Queries of a planted text by which its sinks are found."""

FactName = Literal["clock", "violin"]
Filler = Literal["own", "others"]

_FACTS: dict[FactName, tuple[str, str]] = {
    "clock": ("story.txt", "The spare key to the lamp room hangs behind the green"),
    "violin": ("long_story.txt", "The deed to the orchard is folded inside the broken"),
}
_OTHERS = ("long_story.txt", "encyclopedia.txt", "topics.txt", "dialogue.txt", "story.txt")


@dataclass(frozen=True, kw_only=True)
class Planted:
    """The tokens of a planted text: `needle` is the place of the answer's token, the last token is the question's."""

    ids: tuple[int, ...]
    tokens: tuple[str, ...]
    needle: int
    fact: int
    """How many tokens the fact's paragraph has; the filler begins behind them."""
    question: int
    """How many tokens the question has at the end, with the blank line before it."""


class PlantedText(BaseModel):
    """Which fact, which filler, how many tokens in all; `build` makes the text.

    The filler "own" is the story's other paragraphs without its last, over and over; "others" are the other English
    prose samples one after the other, in which nothing returns before all have been read.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fact: FactName = "clock"
    filler: Filler = "own"
    n: int = Field(512, ge=192, le=8192)

    def build(self) -> Planted:
        """Fact, filler, question: exactly n tokens. The filler is cut where it has to be, in the middle of a word if so."""
        (head, needle), filler, tail = _pieces(self.fact, self.filler)
        room = self.n - len(head) - len(tail)
        ids = (*head, *(filler * (room // len(filler) + 1))[:room], *tail)
        tokens = tuple(load_tokenizer().decode([index]) for index in ids)
        return Planted(ids=ids, tokens=tokens, needle=needle, fact=len(head), question=len(tail))


@cache
def _pieces(fact: FactName, filler: Filler) -> tuple[tuple[tuple[int, ...], int], tuple[int, ...], tuple[int, ...]]:
    """The fact's tokens with the place of its answer, one round of the filler, and the question's tokens."""
    sample, question = _FACTS[fact]
    tokenizer, text = load_tokenizer(), sample_text(sample)
    paragraphs = text.split("\n\n")
    start = next(paragraph for paragraph in paragraphs if question in paragraph)
    head = tokenizer.encode(f"{start}\n\n")
    answer = start.index(question) + len(question) + 1
    needle = next(i for i, (_, stop) in enumerate(head.offsets) if stop > answer)
    if filler == "own":
        # The last paragraph asks the question: it is no filler.
        body = "\n\n".join(one for one in paragraphs[:-1] if one != start)
    else:
        body = "\n\n".join(_without(sample_text(name), name) for name in _OTHERS if name != sample)
    return (head.ids, needle), tokenizer.encode(f"{body}\n\n").ids, tokenizer.encode(f"\n\n{question}").ids


def _without(text: str, name: str) -> str:
    """A text without the fact that it plants itself: another fact's question must not be asked in the filler."""
    planted = [question for sample, question in _FACTS.values() if sample == name]
    return "\n\n".join(p for p in text.split("\n\n") if not any(question in p for question in planted))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Reading:
    """The last query's scores over all keys, and the sinks, of one head."""

    scores: Tensor
    sinks: tuple[int, ...]


_readings: SingleFlightCache[dict[tuple[int, int], _Reading]] = SingleFlightCache(size=48)


def planted_look(
    text: PlantedText, layer: int, head: int, *, rotary: bool = True, sharpness: float = 1.0, with_layer: int | None = None
) -> Look:
    """The last token of a planted text looking for the answer. The sinks are those of the head as the model has it.

    A contrast's look is taken from the reading that was made for `with_layer`, if one is named.
    Cost: the model's blocks below the layer (or below layer 11, for the contrasts), about 15 s at 8,192 tokens; the
    scores of all heads of the layer and of the contrasts are kept.
    """
    made_for = layer if with_layer is None or (layer, head) not in CONTRASTS else with_layer
    name = f"{text.model_dump_json()} {made_for} {rotary}"
    reading = _readings.get(name, lambda: _read(text, made_for, rotary))[layer, head]
    needle = text.build().needle
    return Look(scores=reading.scores[None] * sharpness, needle=needle, sinks=reading.sinks)


def _read(text: PlantedText, layer: int, rotary: bool) -> dict[tuple[int, int], _Reading]:
    model = load_language_model()
    layers = {layer, *(contrast for contrast, _ in CONTRASTS)}
    captured = model.capture(text.build().ids, layers, rotary=rotary)
    readings = {}
    for number, one in captured.items():
        k, v = (repeat_groups(shared, model.config.group_size) for shared in (one.k, one.v))
        sequence = Sequence(q=one.q, k=k, v=v, causal=True)
        sinks = find_sinks(sequence, sample_queries(sequence, min(SINK_QUERIES, sequence.n)))
        scores = (one.q[:, -1:] @ k.mT / sequence.d**0.5).squeeze(1)
        for head in range(len(scores)):
            readings[number, head] = _Reading(scores=scores[head].clone(), sinks=sinks[head])
    return readings


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
    """The shares of needle, sinks and rest in the last query's look, as the filler grows to `longest` tokens.

    Table `points`: a row a length and head; the columns of `row_of`, `head` ("L17 H3"), the sinks' number
    and what the heaviest key of the rest is. The source gives layer, head, rotary positions and sharpness; its own text is not
    read. A mask changes nothing here: the last token sees everything under either.
    """

    key: ClassVar[str] = "dilution.planted"
    fact: FactName = "clock"
    filler: Filler = "own"
    longest: int = Field(4096, ge=256, le=8192)
    contrasts: bool = True
    reference: int = Field(LENGTHS[0], ge=2, le=8192)
    temperature: float = Field(0.67, gt=0.05, le=10)

    def points(self) -> tuple[PlantedPoint, ...]:
        """Short texts first: they cost least, and say most at once."""
        source = self.source
        if not isinstance(source, TextSource):
            raise ValueError("A planted fact is a text: it needs the language model's heads.")
        own = (source.layer, source.heads[0])
        heads = (own, *(one for one in CONTRASTS if self.contrasts and one != own))
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
        assert isinstance(self.source, TextSource)
        # One reading of the text holds the chosen head and the contrasts.
        look = planted_look(
            point.text, point.layer, point.head, rotary=point.rotary, sharpness=point.sharpness, with_layer=self.source.layer
        )
        planted = point.text.build()
        rest = look.scores[0].clone()
        rest[[planted.needle, *look.sinks]] = -torch.inf
        heaviest = int(rest.argmax())
        weights = look.scores[0].double().softmax(-1)
        return {
            "head": f"L{point.layer} H{point.head}",
            **row_of(look, reference=point.reference, temperature=point.temperature),
            "sink count": len(look.sinks),
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
        planted: Any = PlantedText(fact=self.fact, filler=self.filler, n=256).build()
        return {"needle": planted.tokens[planted.needle], "question": planted.tokens[-1]}
