"""A sequence as a tree: paragraphs, sentences, words and tokens, or equal groups where no sentences are known.

Source: ours. Sentences and paragraphs are those of the mechanism itself, so that a picture's groups are what it chooses
among. A word is a token with the tokens behind it that begin without a space. Scripts that put no spaces between words
(Chinese, say) are cut into characters instead; the model reads most of those byte by byte, so several tokens share one.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from collections.abc import Sequence as Many
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from longattn_core.contracts.sequence import Sequence
from longattn_core.mechanisms.hierarchical import Hierarchical
from longattn_core.numerics.tiles.groups import numbered
from longattn_core.sequences.sources import Source
from longattn_core.studies.base.cache import SingleFlightCache
from longattn_core.studies.base.query import tokens_of
from longattn_core.studies.base.study import sequence_of

LABEL = 44
"""Characters that a group's label keeps of its beginning."""
BYTEWISE = 0.25
"""From this share of tokens that are parts of characters on, words are characters and tokens bytes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Level:
    """One level of the tree: `of [n]` is the group of each token; `first`, `last` its ends; `labels` what it begins with.

    `name` is one word for a group of this level ("paragraph"), `plural` the word for several.
    """

    name: str
    plural: str
    of: Int[Tensor, "n"]
    first: Int[Tensor, "G"]
    last: Int[Tensor, "G"]
    labels: tuple[str, ...]

    @property
    def count(self) -> int:
        """How many groups there are."""
        return len(self.first)

    def sums(self, rows: Float[Tensor, "*b n"]) -> Float[Tensor, "*b G"]:
        """The mass that rows of weights put on each group."""
        out = rows.new_zeros(*rows.shape[:-1], self.count)
        return out.index_add(-1, self.of, rows)


def tree_of(source: Source, mechanism: Hierarchical) -> tuple[Level, ...]:
    """The levels of a source's sequence under a mechanism's groups, coarsest first, tokens last; the last few are kept.

    The words are left out where every token is one. Cost: linear in n.
    """
    name = f"{source.model_dump_json()} {mechanism.groups} {mechanism.fanout}"
    return _trees.get(name, lambda: _tree(source, mechanism))


_trees: SingleFlightCache[tuple[Level, ...]] = SingleFlightCache(size=4)


def _tree(source: Source, mechanism: Hierarchical) -> tuple[Level, ...]:
    sequence = sequence_of(source)
    text = source.content() if source.kind == "text" else None
    outer, names = mechanism.with_dials(variant="product", levels=3).membership(sequence)
    groups = [numbered(of) for of in outer]
    tokens, spell = tokens_of(sequence), speller(source)
    levels = [
        _level(name, f"{name}s" if "group" not in name else name.replace("group", "groups"), of, _beginnings(of, spell, name))
        for of, name in zip(reversed(groups), reversed(names[1:]), strict=True)
    ]
    shared = _shared(sequence)
    bytewise = bool(shared.mean() > BYTEWISE)
    words = words_of(sequence, text, groups[0])
    everyone = torch.arange(sequence.n, device=words.device)
    if int(words[-1]) + 1 < sequence.n:
        name = "character" if bytewise else "word"
        levels.append(_level(name, f"{name}s", words, [spell(*ends) for ends in _ends(words)]))
    name = "byte" if bytewise else "token"
    labels = [f"byte {token.replace(chr(92) + 'x', ' ').strip()}" if part else token for token, part in zip(tokens, shared)]
    levels.append(_level(name, f"{name}s", everyone, labels))
    return tuple(levels)


def words_of(sequence: Sequence, text: str | None, group: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
    """The word of each token: a new one at a space, at a wide character, and where the finest `group` changes.

    Tokens that share a character never part. Without a text every token is a word. Cost: linear in n.
    """
    n = sequence.n
    if sequence.offsets is None or text is None:
        return torch.arange(n, device=group.device)
    begins = np.ones(n, dtype=bool)
    places, tokens, of = sequence.offsets, tokens_of(sequence), group.tolist()
    for i in range(1, n):
        (start, _end), (_before, end) = places[i], places[i - 1]
        if start < end:
            begins[i] = False
        elif of[i] == of[i - 1]:
            spaced = tokens[i][:1].isspace() or tokens[i - 1][-1:].isspace()
            begins[i] = spaced or _wide(text[start : start + 1]) or _wide(text[end - 1 : end])
    return torch.from_numpy(begins.cumsum() - 1).to(group.device)


def _wide(character: str) -> bool:
    """Whether a character is one of a script that is written without spaces (or an emoji)."""
    return character != "" and unicodedata.east_asian_width(character) in "WF"


def _shared(sequence: Sequence) -> np.ndarray:
    """True for a token that is only a part of a character's bytes."""
    shared = np.zeros(sequence.n, dtype=bool)
    if sequence.offsets is not None and sequence.n > 1:
        places = np.array(sequence.offsets)
        overlap = places[1:, 0] < places[:-1, 1]
        shared[1:] |= overlap
        shared[:-1] |= overlap
    return shared


def _level(name: str, plural: str, of: Int[Tensor, "n"], labels: Many[str]) -> Level:
    everyone = torch.arange(int(of[-1]) + 1, device=of.device)
    return Level(
        name=name,
        plural=plural,
        of=of,
        first=torch.searchsorted(of, everyone),
        last=torch.searchsorted(of, everyone, right=True) - 1,
        labels=tuple(labels),
    )


def speller(source: Source) -> Callable[[int, int], str]:
    """What the tokens `first` … `last` spell: the text itself where there is one, so that no character is cut in bytes."""
    sequence = sequence_of(source)
    tokens, places = tokens_of(sequence), sequence.offsets
    text = source.content() if source.kind == "text" else None

    def spell(first: int, last: int) -> str:
        if text is None or places is None:
            return " ".join(tokens[first : last + 1])
        return text[places[first][0] : places[last][1]]

    return spell


def _beginnings(of: Int[Tensor, "n"], spell: Callable[[int, int], str], name: str) -> list[str]:
    """The group's number, counted from 1, and the first words in it; an equal group by its tokens' numbers."""
    labels = []
    for number, (first, last) in enumerate(_ends(of), start=1):
        if name not in ("sentence", "paragraph"):
            labels.append(f"tokens {first} to {last}")
            continue
        begin = " ".join(spell(first, min(last, first + 24)).split())
        whole = len(begin) <= LABEL and last <= first + 24
        labels.append(f"{number} · {begin if whole else begin[: LABEL - 1].rstrip() + '…'}")
    return labels


def _ends(of: Int[Tensor, "n"]) -> list[tuple[int, int]]:
    """The first and the last token of each group."""
    first = torch.searchsorted(of, torch.arange(int(of[-1]) + 2, device=of.device)).tolist()
    return [(start, stop - 1) for start, stop in pairwise(first)]
