"""The sample texts that come with the laboratory, read from `assets/texts`.

Source: written for this project; `index.json` says what each is.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter

__all__ = ["DEFAULT_SAMPLE", "Sample", "sample_language", "sample_text", "samples"]

DEFAULT_SAMPLE = "story.txt"
_FOLDER = Path(__file__).resolve().parents[2] / "assets" / "texts"


class Sample(BaseModel):
    """One sample text: its file, its title, what it is, and its number of tokens for the language model."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    file: str
    title: str
    kind: str
    language: str
    tokens: int
    description: str


@cache
def samples() -> tuple[Sample, ...]:
    """All sample texts, in the order in which they are offered."""
    content = json.loads((_FOLDER / "index.json").read_text(encoding="utf-8"))
    return TypeAdapter(tuple[Sample, ...]).validate_python(content)


def sample_text(file: str) -> str:
    """The text of one sample. Raises: ValueError naming the samples there are."""
    # Only listed names are opened. The line end at the end of the file is removed, so that the story's last word is the last
    # token.
    return (_FOLDER / _sample(file).file).read_text(encoding="utf-8").removesuffix("\n")


def sample_language(file: str) -> str:
    """The language of one sample, a code such as "en". Raises: ValueError naming the samples there are."""
    return _sample(file).language


def _sample(file: str) -> Sample:
    known = {sample.file: sample for sample in samples()}
    if file not in known:
        raise ValueError(f"There is no sample text {file[:80]!r}; there are {', '.join(known)}.")
    return known[file]
