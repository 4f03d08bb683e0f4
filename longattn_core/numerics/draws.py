"""Random draws that repeat: made on the CPU in float64 from a seed and a name, then cast.

A name keeps two draws of one mechanism independent, and keeps each the same when another draw is added. The last few
small ones are kept: a moved dial asks again for the same numbers.
"""

import hashlib
import math
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor


def generator(seed: int, name: str) -> torch.Generator:
    """A CPU generator of its own for this seed and name; the global one is not touched."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


KEPT = 300_000
"""Numbers of the largest draw that is kept: 2.4 MB, and 32 of them."""


def normal(seed: int, name: str, *shape: int, like: Tensor) -> Float[Tensor, "..."]:
    """Independent N(0, 1) numbers in the dtype and on the device of `like`."""
    draw = (_normal if math.prod(shape) <= KEPT else _normal.__wrapped__)(seed, name, shape)
    # A copy always: what is kept must not be written into, nor carry its inference mode out of it.
    return draw.to(dtype=like.dtype, device=like.device, copy=True)


@lru_cache(maxsize=32)
def _normal(seed: int, name: str, shape: tuple[int, ...]) -> Tensor:
    return torch.randn(*shape, generator=generator(seed, name), dtype=torch.float64)


def haar_blocks(seed: int, name: str, m: int, d: int) -> Float[Tensor, "m d"]:
    """m rows of length 1 in blocks of d orthogonal ones, each block a Haar rotation, in float64. Cost m·d².

    Source: Mezzadri 2007, arXiv:math-ph/0609050: QR is Haar only once the signs of R's diagonal are moved into Q.
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
