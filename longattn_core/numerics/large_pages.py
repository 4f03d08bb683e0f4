"""Memory for large results in large pages: the first touch of each page of 4 kB costs the system a microsecond or two, which
for the output of a cheap mechanism is a tenth of its time; of pages of 2 MB it costs hardly more than filling them with zeros.
"""

from __future__ import annotations

import mmap

import torch
from torch import Tensor

LEAST = 1 << 23
"""Bytes from which it is worth it: below, the allocator has the memory at hand more often than not."""


def empty_like(x: Tensor) -> Tensor:
    """As `torch.empty_like` (what stands in it means nothing), but contiguous, and in large pages where the system has them."""
    if x.device.type != "cpu" or x.nbytes < LEAST or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.empty_like(x, memory_format=torch.contiguous_format)
    memory = mmap.mmap(-1, x.nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    try:
        memory.madvise(mmap.MADV_HUGEPAGE)
    except OSError:  # a system built without them
        return torch.empty_like(x, memory_format=torch.contiguous_format)
    # The tensor holds the mapping, which ends with it.
    return torch.frombuffer(memory, dtype=x.dtype).view(x.shape)
