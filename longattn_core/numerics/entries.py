"""The short list of keys that each query of a sparse map reads, with its weights."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Entries:
    """The keys that each query reads, and their weights. An empty slot has key −1 and weight 0.

    Shapes: `keys [g r c]` (int64; no key occurs twice in a row), `weights [g r c]`.
    """

    keys: Int[Tensor, "g r c"]
    weights: Float[Tensor, "g r c"]
