"""The masks: what each hides, the sequence under one, and why a pair is hidden."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from pydantic import Field

from longattn_core.contracts.sequence import Sequence
from longattn_core.sequences.sources import Source
from longattn_core.studies.base.study import Study, sequence_of
from longattn_core.studies.heads.survey import all_heads

__all__ = [
    "FUTURE",
    "PADDED",
    "MaskName",
    "MaskSetting",
    "Side",
    "hidden_cells",
    "masked",
    "small_mask",
    "source_mask",
    "visible_share",
]

MaskName = Literal["none", "padding", "look_ahead", "both"]
Side = Literal["end", "start"]

FUTURE, PADDED = 1, 2
"""Codes of a hidden cell, and why it is hidden: the key lies ahead, or the query or key is padding."""


class MaskSetting(Study):
    """A study under a mask: which mask, the share of the tokens that is padding, and on which side."""

    mask: MaskName = "look_ahead"
    padding: float = Field(0.25, ge=0, le=0.9)
    side: Side = "end"

    def masked(self) -> Sequence:
        """All heads of the source's layer (or file) under this mask."""
        return masked(sequence_of(all_heads(self.source)), self.mask, self.padding, self.side)


def masked(sequence: Sequence, mask: MaskName, share: float, side: Side) -> Sequence:
    """The sequence under a mask. Padding marks a share of its tokens, at the end or the start, and leaves at least one."""
    causal = mask in ("look_ahead", "both")
    padding = sequence.padding
    if mask in ("padding", "both"):
        count = min(round(share * sequence.n), sequence.n - 1)
        places = torch.arange(sequence.n, device=sequence.q.device)
        marked = sequence.real & (places >= count if side == "start" else places < sequence.n - count)
        # Where this would leave no real token of a file, only the file's own padding stays.
        padding = marked if bool(marked.any()) else sequence.padding
    return replace(sequence, causal=causal, padding=padding)


def small_mask(mask: MaskName, share: float, side: Side, n: int = 12) -> np.ndarray:
    """The mask of a text of n tokens as a picture `[n, n]`: 0 where a query may look, else why not."""
    zeros = torch.zeros(1, n, 2)
    return hidden_cells(masked(Sequence(q=zeros, k=zeros, v=zeros), mask, share, side), list(range(n + 1)))


def hidden_cells(sequence: Sequence, edges: list[int]) -> np.ndarray:
    """Why each cell between the edges is hidden `[c, c]`; 0 for a cell with a visible pair.

    A causal mask hides a cell whose first key lies behind its last query.
    """
    starts, lasts = torch.tensor(edges[:-1]), torch.tensor(edges[1:]) - 1
    padded = torch.stack([~sequence.real[start:stop].any() for start, stop in pairwise(edges)])
    code = torch.zeros(len(starts), len(starts), dtype=torch.int64)
    if sequence.causal:
        code[starts[None, :] > lasts[:, None]] = FUTURE
    code[padded[:, None] | padded[None, :]] = PADDED
    return code.numpy()


def visible_share(sequence: Sequence) -> float:
    """The share of all pairs that the mask leaves visible."""
    real = int(sequence.real.sum())
    return (real * (real + 1) / 2 if sequence.causal else real * real) / sequence.n**2


def source_mask(source: Source) -> MaskName:
    """The mask that the source comes with."""
    settings = source.settings if source.kind == "synthetic" else source
    return "look_ahead" if settings.causal else "none"
