"""Memory for large results in huge pages of 2 MB.

The system needs a microsecond or two at the first access to each page of 4 kB: for the output of a cheap mechanism this is a
tenth of its time. For huge pages it needs hardly more than the time that filling them with zeros takes.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence

import torch
from torch import Tensor

LEAST = 1 << 23
"""Smallest result, in bytes, that gets huge pages: for smaller ones the allocator mostly has memory at hand."""


def empty_like(x: Tensor) -> Tensor:
    """As `torch.empty_like`, but contiguous, and in huge pages where the system has them. The contents are undefined."""
    return empty(x, *x.shape)


def empty(like: Tensor, *shape: int) -> Tensor:
    """As `like.new_empty(shape)`, in huge pages where the system has them."""
    mapped = _mapped(like, shape)
    return like.new_empty(shape) if mapped is None else mapped


def zeros(like: Tensor, *shape: int) -> Tensor:
    """As `like.new_zeros(shape)`, in huge pages where the system has them; the system fills these with zeros."""
    mapped = _mapped(like, shape)
    return like.new_zeros(shape) if mapped is None else mapped


def _mapped(like: Tensor, shape: Sequence[int]) -> Tensor | None:
    """Zeros of this shape in a memory mapping of their own; None where they are too few, or the system has no huge pages."""
    size = like.element_size() * math.prod(shape)
    if like.device.type != "cpu" or size < LEAST or not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    try:
        memory.madvise(mmap.MADV_HUGEPAGE)
    except OSError:  # a kernel built without huge pages
        return None
    # The tensor keeps the mapping alive, and releases it.
    return torch.frombuffer(memory, dtype=like.dtype).view(*shape)
