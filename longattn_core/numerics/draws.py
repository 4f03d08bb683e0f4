"""Reproducible random draws: made on the CPU in float64 from a seed and a name, then cast.

The name makes the draws of one mechanism independent of each other, and of draws that are added later. The last small draws
are cached, because a moved dial mostly asks for the same numbers again.
"""

import hashlib
import math
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor


def generator(seed: int, name: str) -> torch.Generator:
    """A CPU generator for this seed and name; torch's global generator is not touched."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


KEPT = 300_000
"""Numbers of the largest draw that is cached: 2.4 MB; 32 draws are."""


def normal(seed: int, name: str, *shape: int, like: Tensor) -> Float[Tensor, "..."]:
    """Independent N(0, 1) numbers in the dtype and on the device of `like`."""
    draw = (_normal if math.prod(shape) <= KEPT else _normal.__wrapped__)(seed, name, shape)
    # Always a copy: nobody may write into a cached draw, and it must not carry inference mode to the caller.
    return draw.to(dtype=like.dtype, device=like.device, copy=True)


@lru_cache(maxsize=32)
def _normal(seed: int, name: str, shape: tuple[int, ...]) -> Tensor:
    return torch.randn(*shape, generator=generator(seed, name), dtype=torch.float64)


def haar_blocks(seed: int, name: str, m: int, d: int) -> Float[Tensor, "m d"]:
    """m rows of length 1, in blocks of d orthogonal rows; each block is a Haar-distributed rotation, in float64. Cost m·d².

    Source: Mezzadri 2007, arXiv:math-ph/0609050: Q of a QR is Haar-distributed only with the signs of R's diagonal moved into it.
    """
    return (_haar_blocks if m * d <= KEPT else _haar_blocks.__wrapped__)(seed, name, m, d).clone()


@lru_cache(maxsize=32)
def _haar_blocks(seed: int, name: str, m: int, d: int) -> Tensor:
    source = generator(seed, name)
    blocks = []
    for _ in range(math.ceil(m / d)):
        q, r = torch.linalg.qr(torch.randn(d, d, generator=source, dtype=torch.float64))
        blocks.append((q * r.diagonal().sign()).mT)
    return torch.cat(blocks)[:m]
