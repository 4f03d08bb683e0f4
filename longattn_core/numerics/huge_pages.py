"""Memory for large results in large pages: the first touch of each page of 4 kB costs the system a microsecond or two, which
for the output of a cheap mechanism is a tenth of its time; of pages of 2 MB it costs hardly more than filling them with zeros.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence

import torch
from torch import Tensor

LEAST = 1 << 23
"""Bytes from which it is worth it: below, the allocator has the memory at hand more often than not."""


def empty_like(x: Tensor) -> Tensor:
    """As `torch.empty_like` (what stands in it means nothing), but contiguous, and in large pages where the system has them."""
    return empty(x, *x.shape)


def empty(like: Tensor, *shape: int) -> Tensor:
    """As `like.new_empty(shape)`, in large pages where the system has them."""
    found = _mapped(like, shape)
    return like.new_empty(shape) if found is None else found


def zeros(like: Tensor, *shape: int) -> Tensor:
    """As `like.new_zeros(shape)`, in large pages where the system has them, which come filled with zeros."""
    found = _mapped(like, shape)
    return like.new_zeros(shape) if found is None else found


def _mapped(like: Tensor, shape: Sequence[int]) -> Tensor | None:
    """Zeros of this shape in a mapping of its own; None where that is not worth it, or the system has no large pages."""
    size = like.element_size() * math.prod(shape)
    if like.device.type != "cpu" or size < LEAST or not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    try:
        memory.madvise(mmap.MADV_HUGEPAGE)
    except OSError:  # a system built without them
        return None
    # The tensor holds the mapping, which ends with it.
    return torch.frombuffer(memory, dtype=like.dtype).view(*shape)
