"""How queries are cut into tiles, and how the results of tiles are put together again."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Int
from torch import Tensor

TILE = 128
"""A tile has at most this many queries."""


def cut_tiles(starts: Int[Tensor, "B"], n: int) -> tuple[Int[Tensor, "t"], Int[Tensor, "t"]]:
    """Tiles [first, stop) of at most TILE queries; no tile crosses one of the given starts, of which the first is 0.

    starts   |0              |300        |400          n = 420
    tiles    [0,128) [128,256) [256,300) [300,400) [400,420)
    """
    stops = torch.cat([starts[1:], starts.new_tensor([n])])
    pieces = (stops - starts + TILE - 1) // TILE
    owner = torch.repeat_interleave(torch.arange(len(starts), device=starts.device), pieces)
    place = torch.arange(len(owner), device=starts.device) - (pieces.cumsum(0) - pieces)[owner]
    first = starts[owner] + place * TILE
    return first, torch.minimum(first + TILE, stops[owner])


def spans(first: Int[Tensor, "b"], stop: Int[Tensor, "b"]) -> Int[Tensor, "b C"]:
    """The numbers first … stop − 1 in each row, then −1 up to the longest row's length.

    first = [0, 4], stop = [3, 9]   ->   [[0, 1, 2, -1, -1],
                                          [4, 5, 6,  7,  8]]
    """
    width = int((stop - first).max().clamp_min(0))
    numbers = first[:, None] + torch.arange(width, device=first.device)
    return torch.where(numbers < stop[:, None], numbers, -1)


def laid_out(pieces: Iterable[tuple[Tensor, ...]], total: int) -> tuple[Tensor, ...]:
    """Join pieces along the last axis but one, on which they have `total` places together.

    Each item of `pieces` holds one piece of each result. Results are written into place as they come, unless a gradient is
    asked for: many small results, kept between large buffers, would leave the allocator with gaps too small for the next one.
    """
    whole: tuple[Tensor, ...] = ()
    kept: list[tuple[Tensor, ...]] = []
    at = 0
    for piece in pieces:
        if any(x.requires_grad for x in piece):
            kept.append(piece)
            continue
        whole = whole or tuple(x.new_empty(*x.shape[:-2], total, x.shape[-1]) for x in piece)
        for target, part in zip(whole, piece, strict=True):
            target[..., at : at + part.shape[-2], :] = part
        at += piece[0].shape[-2]
    return tuple(torch.cat(x, dim=-2) for x in zip(*kept, strict=True)) if kept else whole
