"""A fact planted at the start of a text, a filler, and the question at the end: the text itself, to the token.

Source: ours, after the "needle in a haystack" tests of long contexts. Each fact is a paragraph of a sample story whose
last words repeat the fact's sentence up to the word that answers it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from longattn_core.language_model.tokenizer import load_tokenizer
from longattn_core.sequences.samples import sample_text

__all__ = ["FactName", "Filler", "Planted", "PlantedText"]

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
        body = "\n\n".join(paragraph for paragraph in paragraphs[:-1] if paragraph != start)
    else:
        body = "\n\n".join(_without(sample_text(name), name) for name in _OTHERS if name != sample)
    return (head.ids, needle), tokenizer.encode(f"{body}\n\n").ids, tokenizer.encode(f"\n\n{question}").ids


def _without(text: str, name: str) -> str:
    """A text without the fact that it plants itself: another fact's question must not be asked in the filler."""
    planted = [question for sample, question in _FACTS.values() if sample == name]
    return "\n\n".join(p for p in text.split("\n\n") if not any(question in p for question in planted))
