"""Which sentence and which paragraph each token of a text stands in.

Source: sentences by the `sentencex` library (Wikimedia; rules for some 300 languages, no network), asked one paragraph
at a time, so that none crosses a blank line; it counts a quotation as part of the sentence that it stands in.
Deviation: a piece without a letter or a digit joins its neighbour.
"""

import re
from bisect import bisect_right
from collections.abc import Sequence as Many

import sentencex
import torch

from longattn_core.contracts.sequence import Levels

__all__ = ["paragraph_starts", "sentence_starts", "text_levels"]

# Atomic groups: a single "\r\n" must not be taken for the two line ends of a blank line.
_BLANK_LINES = re.compile(r"(?>\r\n?|\n)(?:[^\S\r\n]*+(?>\r\n?|\n))+")


def paragraph_starts(text: str) -> list[int]:
    """Character at which each paragraph begins; blank lines belong to the paragraph before them, or to the first."""
    starts = [0]
    for blank in _BLANK_LINES.finditer(text):
        if text[starts[-1] : blank.start()].strip() and text[blank.end() :].strip():
            starts.append(blank.end())
    return starts


def sentence_starts(text: str, *, language: str = "en") -> list[int]:
    """Character at which each sentence begins; every paragraph begins with one."""
    paragraphs = paragraph_starts(text)
    starts = []
    for start, end in zip(paragraphs, [*paragraphs[1:], len(text)], strict=True):
        starts.append(start)
        worded = False
        for piece in sentencex.get_sentence_boundaries(language, text[start:end]):
            if any(map(str.isalnum, piece["text"])):
                if worded:
                    starts.append(start + piece["start_index"])
                worded = True
    return starts


def text_levels(text: str, offsets: Many[tuple[int, int]], *, language: str = "en") -> Levels:
    """Sentence and paragraph of each token, counted from 0 without gaps.

    `offsets` are the tokens' `(start, end)` characters. A token stands where its first character that is no space
    stands: a leading space is part of the word that follows it, and not of the sentence before.
    """
    places = [start + len(text[start:end]) - len(text[start:end].lstrip()) for start, end in offsets]
    # A token of spaces alone stands where it begins.
    places = [start if place == end else place for place, (start, end) in zip(places, offsets, strict=True)]
    numbered = []
    for starts in (sentence_starts(text, language=language), paragraph_starts(text)):
        groups = torch.tensor([bisect_right(starts, place) - 1 for place in places], dtype=torch.int64)
        # A group in which no token begins leaves a gap, which this closes.
        numbered.append(torch.unique_consecutive(groups, return_inverse=True)[1])
    return Levels(sentence=numbered[0], paragraph=numbered[1])
