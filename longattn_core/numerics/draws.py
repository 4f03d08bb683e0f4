"""Random draws that repeat: made on the CPU in float64 from a seed and a name, then cast.

A name keeps two draws of one mechanism independent, and keeps each the same when another draw is added.
"""

import hashlib
import math

import torch
from jaxtyping import Float
from torch import Tensor


def generator(seed: int, name: str) -> torch.Generator:
    """A CPU generator of its own for this seed and name; the global one is not touched."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def normal(seed: int, name: str, *shape: int, like: Tensor) -> Float[Tensor, "..."]:
    """Independent N(0, 1) numbers in the dtype and on the device of `like`."""
    draw = torch.randn(*shape, generator=generator(seed, name), dtype=torch.float64)
    return draw.to(dtype=like.dtype, device=like.device)


def haar_blocks(seed: int, name: str, m: int, d: int) -> Float[Tensor, "m d"]:
    """m rows of length 1 in blocks of d orthogonal ones, each block a Haar rotation, in float64. Cost m·d².

    Source: Mezzadri 2007, arXiv:math-ph/0609050: QR is Haar only once the signs of R's diagonal are moved into Q.
    """
    source = generator(seed, name)
    blocks = []
    for _ in range(math.ceil(m / d)):
        q, r = torch.linalg.qr(torch.randn(d, d, generator=source, dtype=torch.float64))
        blocks.append((q * r.diagonal().sign()).mT)
    return torch.cat(blocks)[:m]
