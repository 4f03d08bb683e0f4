"""How far back a token can learn of others after several layers, for each pattern of attention.

Source: Dai et al. 2019, arXiv:1901.02860, section 3.2, for memory, exact when segments do not divide it; the rest is ours.
A pattern here is causal and lets token t see all of [earliest(t), t] in one layer; after L layers a token reaches
what L steps of `earliest` lead to, because `earliest` never falls when t grows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Sequence as Collection
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool
from torch import Tensor

from longattn_core.contracts.indexing import row_chunks
from longattn_core.contracts.mechanism import Attended

__all__ = ["Frontier", "Integration", "frontier", "memory_reach", "memory_reach_closed", "segment_reach", "window_reach"]

Integration = Literal["none", "summaries", "second", "overlap", "shifted"]
"""What crosses the cuts: nothing, a summary of every other segment, one integrated summary, an overlap, shifted cuts."""


def window_reach(position: int, width: int, layers: int, *, dilation: int = 1) -> int:
    """How many tokens back a window of `width` reaches: layers·(w − 1)·dilation, or to the start of the sequence."""
    _positive({"width": width, "dilation": dilation})
    return _back(position, layers, lambda at, layer: at - (width - 1) * dilation)


def memory_reach(position: int, segment: int, memory: int, layers: int) -> int:
    """How many tokens back a cache of `memory` states before each segment reaches: t ← ⌊t/L⌋·L − M, iterated."""
    _positive({"segment": segment})
    return _back(position, layers, lambda at, layer: at // segment * segment - memory)


def memory_reach_closed(position: int, segment: int, memory: int, layers: int) -> int:
    """(p mod L) + layers·M, or to the start: the closed form of `memory_reach`.

    Raises: ValueError when the segment does not divide the memory; the form is wrong there.
    """
    _positive({"segment": segment})
    if memory % segment:
        raise ValueError(f"the closed form needs a memory that is a multiple of the segment, found {memory} and {segment}")
    return min(position, position % segment + layers * memory) if layers else 0


def segment_reach(position: int, width: int, layers: int, integration: Integration = "none", *, overlap: int = 0) -> int:
    """How many tokens back segments of `width` reach under each integration.

    None: to the segment's start, however many layers. Summaries and an integrated summary: to the first token at once,
    though blurred. An overlap of o: to o tokens before the segment in each layer. Shifted: in every other layer, the
    topmost not among them, the first segment holds half a width, so that cuts stand in the middle of the others'.
    """
    _positive({"width": width})
    half = max(1, width // 2)
    steps: dict[Integration, Callable[[int, int], int]] = {
        "none": lambda at, layer: at // width * width,
        "summaries": lambda at, layer: 0,
        "second": lambda at, layer: 0,
        "overlap": lambda at, layer: at // width * width - overlap,
        "shifted": lambda at, layer: at // width * width if layer % 2 == 0 else max(0, (at - half) // width * width + half),
    }
    return _back(position, layers, steps[integration])


def _back(position: int, layers: int, earliest: Callable[[int, int], int]) -> int:
    """Iterate from the topmost layer, number 0, downwards."""
    if position < 0 or layers < 0:
        raise ValueError(f"a position and a number of layers must not be negative, found {position} and {layers}")
    at = position
    for layer in range(layers):
        at = max(0, earliest(at, layer))
    return position - at


@dataclass(frozen=True, kw_only=True, eq=False)
class Frontier:
    """What one query can have learnt of: `reached [layers, n]` after 1, 2, … layers."""

    query: int
    reached: Bool[Tensor, "layers n"]

    @property
    def counts(self) -> tuple[int, ...]:
        """How many tokens, after each layer."""
        return tuple(self.reached.sum(-1).tolist())

    @property
    def furthest(self) -> tuple[int, ...]:
        """The distance to the furthest token reached, after each layer."""
        places = torch.arange(self.reached.shape[1], device=self.reached.device)
        return tuple(int((places[row] - self.query).abs().max()) if bool(row.any()) else 0 for row in self.reached)


def frontier(attended: Attended | Collection[Attended], query: int, layers: int, *, head: int = 0) -> Frontier:
    """Iterate what a mechanism looked at: a token is reached if it was looked at by one that is reached.

    Several settings stand for layers that differ, from the topmost down, in turn. Works for any pattern, also one that
    depends on content; the same pairs are taken for every layer, which a real model's layers would not do.
    Cost: layers·n rows of `kept` at most. Raises: ValueError when nothing is given, or the query lies outside.
    """
    maps = [attended] if isinstance(attended, Attended) else list(attended)
    if not maps or layers < 1:
        raise ValueError(f"a frontier needs a map and a layer, found {len(maps)} and {layers}")
    n, device = maps[0].sequence.n, maps[0].output.device
    if not 0 <= query < n:
        raise ValueError(f"query must lie in 0 … {n - 1}, found {query}")
    now = torch.zeros(n, dtype=torch.bool, device=device)
    now[query] = True
    steps = []
    for layer in range(layers):
        now = _step(maps[layer % len(maps)], now, head)
        steps.append(now)
    return Frontier(query=query, reached=torch.stack(steps))


def _step(attended: Attended, now: Bool[Tensor, "n"], head: int) -> Bool[Tensor, "n"]:
    queries = now.nonzero().squeeze(-1)
    # What a token knows it keeps: the residual stream carries it past a layer that does not look at it.
    reached = now.clone()
    for rows in row_chunks(len(queries), len(now)):
        reached |= attended.kept(queries[rows], None, head)[0].any(0)
    return reached


def _positive(sizes: Mapping[str, int]) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, found {size}")
