"""The sentence and the paragraph of each token of a text.

Source: sentences by the `sentencex` library (Wikimedia; rules for some 300 languages, no network), applied to one paragraph at
a time, so that no sentence crosses a blank line. It counts a quotation as part of the sentence around it. Deviation: a piece
without a letter or a digit joins its neighbour.
"""

import re
from bisect import bisect_right
from collections.abc import Sequence as Many

import sentencex
import torch

from longattn_core.contracts.sequence import Levels

__all__ = ["paragraph_starts", "sentence_starts", "text_levels"]

# Atomic groups: a single "\r\n" must not match as the two line ends of a blank line.
_BLANK_LINES = re.compile(r"(?>\r\n?|\n)(?:[^\S\r\n]*+(?>\r\n?|\n))+")


def paragraph_starts(text: str) -> list[int]:
    """The character at which each paragraph begins. Blank lines belong to the paragraph before them, or to the first one."""
    starts = [0]
    for blank in _BLANK_LINES.finditer(text):
        if text[starts[-1] : blank.start()].strip() and text[blank.end() :].strip():
            starts.append(blank.end())
    return starts


def sentence_starts(text: str, *, language: str = "en") -> list[int]:
    """The character at which each sentence begins; every paragraph begins with a sentence."""
    paragraphs = paragraph_starts(text)
    starts = []
    for start, end in zip(paragraphs, [*paragraphs[1:], len(text)], strict=True):
        starts.append(start)
        has_words = False
        for piece in sentencex.get_sentence_boundaries(language, text[start:end]):
            if any(map(str.isalnum, piece["text"])):
                if has_words:
                    starts.append(start + piece["start_index"])
                has_words = True
    return starts


def text_levels(text: str, offsets: Many[tuple[int, int]], *, language: str = "en") -> Levels:
    """Sentence and paragraph of each token, counted from 0 without gaps.

    `offsets` are the tokens' `(start, end)` characters. A token belongs where its first character that is not a space is:
    a leading space belongs to the word after it, not to the sentence before it.
    """
    places = [start + len(text[start:end]) - len(text[start:end].lstrip()) for start, end in offsets]
    # A token of spaces alone belongs where it begins.
    places = [start if place == end else place for place, (start, end) in zip(places, offsets, strict=True)]
    numbered = []
    for starts in (sentence_starts(text, language=language), paragraph_starts(text)):
        groups = torch.tensor([bisect_right(starts, place) - 1 for place in places], dtype=torch.int64)
        # A group in which no token begins would leave a gap in the numbers; this closes it.
        numbered.append(torch.unique_consecutive(groups, return_inverse=True)[1])
    return Levels(sentence=numbered[0], paragraph=numbered[1])
