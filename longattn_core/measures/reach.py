"""How many tokens back information can travel through several layers, for each pattern of attention: the receptive field.

Source: Dai et al. 2019, arXiv:1901.02860, section 3.2, for a memory; here also exact where the segment does not divide the
memory. The rest is ours. A pattern is causal: in one layer token t sees all of [earliest(t), t]. After L layers it reaches the
token that L steps of `earliest` lead to, because `earliest` never decreases with t.
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
"""What crosses segment boundaries: nothing, a summary of each other segment, one integrated summary, an overlap, shifted cuts."""


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

    Raises: ValueError when the segment does not divide the memory, where the form does not hold.
    """
    _positive({"segment": segment})
    if memory % segment:
        raise ValueError(f"the closed form needs a memory that is a multiple of the segment, found {memory} and {segment}")
    return min(position, position % segment + layers * memory) if layers else 0


def segment_reach(position: int, width: int, layers: int, integration: Integration = "none", *, overlap: int = 0) -> int:
    """How many tokens back segments of `width` reach under each integration.

    - none: to the start of the segment, for any number of layers;
    - summaries, second: to the first token in one layer, as a mean over tokens;
    - overlap: to `overlap` tokens before the segment, in each layer;
    - shifted: in every second layer below the topmost, all boundaries are shifted by half a width.
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
    """Apply `earliest` once for each layer, from the topmost (number 0) downwards."""
    if position < 0 or layers < 0:
        raise ValueError(f"a position and a number of layers must not be negative, found {position} and {layers}")
    at = position
    for layer in range(layers):
        at = max(0, earliest(at, layer))
    return position - at


@dataclass(frozen=True, kw_only=True, eq=False)
class Frontier:
    """The tokens whose information can reach one query: `reached [layers, n]` after 1, 2, … layers."""

    query: int
    reached: Bool[Tensor, "layers n"]

    @property
    def counts(self) -> tuple[int, ...]:
        """How many tokens are reached after each layer."""
        return tuple(self.reached.sum(-1).tolist())

    @property
    def furthest(self) -> tuple[int, ...]:
        """The distance to the furthest token that is reached after each layer."""
        places = torch.arange(self.reached.shape[1], device=self.reached.device)
        return tuple(int((places[row] - self.query).abs().max()) if bool(row.any()) else 0 for row in self.reached)


def frontier(attended: Attended | Collection[Attended], query: int, layers: int, *, head: int = 0) -> Frontier:
    """Follow the pairs that a mechanism keeps: a token is reached if a reached token attends to it.

    Several maps are used for the layers in turn, from the topmost down. This works for any pattern, also one that depends on
    content; but a map's pairs are then the same in each of its layers, which they would not be in a real model.
    Cost: at most layers·n rows of `kept`. Raises: ValueError without a map or a layer, or for a query outside the sequence.
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
    # A token keeps what it knows: the residual stream carries it past a layer that does not attend to it.
    reached = now.clone()
    for rows in row_chunks(len(queries), len(now)):
        reached |= attended.kept(queries[rows], None, head)[0].any(0)
    return reached


def _positive(sizes: Mapping[str, int]) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, found {size}")
