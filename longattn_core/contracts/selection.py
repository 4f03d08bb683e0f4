"""Which queries, keys and heads a caller chose."""

from __future__ import annotations

from collections.abc import Sequence as Collection
from typing import TypeAlias

import torch
from jaxtyping import Int
from torch import Tensor

Index: TypeAlias = int | slice | Collection[int] | Tensor | None
"""Which queries, keys or heads: one, a slice, a list, a 1-d tensor, or None for all."""


def resolve(index: Index, size: int, name: str, device: torch.device) -> Int[Tensor, "r"]:
    """Turn an index into a 1-d tensor of numbers in 0 … size − 1. Raises: ValueError, with the first number outside."""
    if index is None:
        return torch.arange(size, device=device)
    if isinstance(index, slice):
        return torch.arange(size, device=device)[index]
    chosen = torch.as_tensor(index, device=device)
    if chosen.dtype == torch.bool:
        chosen = chosen.nonzero().squeeze(-1)
    chosen = chosen.reshape(-1).to(torch.int64)
    outside = chosen[(chosen < 0) | (chosen >= size)]
    if len(outside):
        raise ValueError(f"{name} must lie in 0 … {size - 1}, found {int(outside[0])}")
    return chosen
