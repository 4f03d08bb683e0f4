"""What all synthetic sequences have: dials, random draws, and the way in which heads become a sequence.

Source: ours. Each name and each head has a generator of its own, and draws are made token by token. So the first n tokens do
not change when n grows, and a head does not change when more heads are added.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_serializer, model_validator
from torch import Tensor

from longattn_core.contracts.mechanism import dial
from longattn_core.contracts.sequence import Levels, Sequence
from longattn_core.numerics.draws import generator
from longattn_core.sequences.limits import MAX_TOKENS, check_size

__all__ = ["CALIBRATION_TOKENS", "Draws", "Head", "Synthetic"]

CALIBRATION_TOKENS = 512
BLOCK = 256
"""Tokens drawn at once. Whole blocks are drawn and then cut, because a draw of another length would give other numbers."""

Head = tuple[Tensor, Tensor, Tensor]
"""q [n d], k [n d] and v [n e] of one head, in float64."""

Text = Literal["sequence", "calibration"]


@dataclass(frozen=True, kw_only=True)
class Draws:
    """The random numbers of one synthetic sequence, in float64 on the CPU.

    The calibration has other tokens but the same heads: what belongs to a token is drawn again for it, what belongs to a head
    (centres, a subspace, frequencies) is the same in both. In the same way two texts share the weights of a model.
    """

    seed: int
    text: Text

    def tokens(self, name: str, head: int, n: int, width: int) -> Float[Tensor, "n width"]:
        """N(0, 1) numbers, one row per token; the first rows do not depend on n."""
        source = generator(self.seed, f"{self.text}:{name}:{head}")
        rows = torch.empty(math.ceil(n / BLOCK) * BLOCK, width, dtype=torch.float64)
        for start in range(0, len(rows), BLOCK):
            rows[start : start + BLOCK].normal_(generator=source)
        return rows[:n]

    def choices(self, name: str, n: int, count: int) -> Int[Tensor, "n"]:
        """A number in 0 … count − 1 for each token, the same in every head; the first ones do not depend on n."""
        source = generator(self.seed, f"{self.text}:{name}")
        picks = torch.empty(math.ceil(n / BLOCK) * BLOCK, dtype=torch.int64)
        for start in range(0, len(picks), BLOCK):
            picks[start : start + BLOCK].random_(count, generator=source)
        return picks[:n]

    def fixed(self, name: str, head: int, *shape: int) -> Float[Tensor, "..."]:
        """N(0, 1) numbers that belong to the head, the same for every text."""
        return torch.randn(*shape, generator=generator(self.seed, f"head:{name}:{head}"), dtype=torch.float64)

    def uniform(self, name: str, head: int, count: int) -> Float[Tensor, "count"]:
        """Numbers in [0, 1) that belong to the head, the same for every text."""
        return torch.rand(count, generator=generator(self.seed, f"head:{name}:{head}"), dtype=torch.float64)


class Synthetic(BaseModel, ABC):
    """A sequence that isolates one property. Its fields are its dials; it is frozen and refuses unknown dials.

    A class states `title` and `idea` (the property, in one sentence). In its docstring a *score* is q·k/√d before the sharpness.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    title: ClassVar[str]
    idea: ClassVar[str]

    kind: str
    n: int = dial(512, title="Length n", symbol="n", ge=1, le=MAX_TOKENS, scale="log2", help="How many tokens.")
    heads: int = dial(1, title="Heads h", symbol="h", ge=1, le=16, help="How many heads, each with draws of its own.")
    d: int = dial(64, title="Width d", symbol="d", ge=2, le=256, scale="log2", help="Channels of a query or key; even.")
    e: int = dial(64, title="Value width e", symbol="e", ge=1, le=256, scale="log2", help="Channels of a value.")
    causal: bool = dial(True, title="Causal mask", help="A query looks at itself and at what came before it.")
    sharpness: float = dial(
        1.0, title="Sharpness β", symbol="β", ge=0.05, le=20, scale="log10", help="All scores are multiplied by β."
    )
    dtype: Literal["float32", "float64"] = dial(
        "float32", title="Precision", help="The type of the numbers.", options={"float32": "single", "float64": "double"}
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, title="Seed", description="Chooses the random draw.")

    @field_validator("d")
    @classmethod
    def _even(cls, d: int) -> int:
        if d % 2:
            raise ValueError(f"the width d must be even, found {d}")
        return d

    @model_validator(mode="after")
    def _fits(self) -> Self:
        check_size(self.heads, self.n, self.d, self.e)
        return self

    @model_serializer(mode="wrap")
    def _with_kind(self, rest: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        # A dump without defaults must still state the kind.
        return {"kind": self.kind, **rest(self)}

    @abstractmethod
    def _head(self, draws: Draws, head: int, n: int) -> Head:
        """Queries, keys and values of one head."""

    @abstractmethod
    def _facts(self) -> str:
        """The values of this kind's own dials, for the sentence that states the origin of the sequence."""

    def _tokens(self, draws: Draws, n: int) -> tuple[str, ...]:
        return tuple(f"t{i}" for i in range(n))

    def _levels(self, n: int) -> Levels | None:
        return None

    def sequence(self) -> Sequence:
        """Draw the sequence, with another text of the same heads as its calibration. Cost: heads·n·(2d + e) draws."""
        drawn = self._drawn(Draws(seed=self.seed, text="calibration"), CALIBRATION_TOKENS, None)
        return self._drawn(Draws(seed=self.seed, text="sequence"), self.n, drawn).sharpened(self.sharpness)

    def _drawn(self, draws: Draws, n: int, calibration: Sequence | None) -> Sequence:
        dtype = torch.float32 if self.dtype == "float32" else torch.float64
        # Cast head by head, so that only one head at a time is held in float64.
        heads = [tuple(x.to(dtype) for x in self._head(draws, head, n)) for head in range(self.heads)]
        q, k, v = (torch.stack(parts) for parts in zip(*heads, strict=True))
        return Sequence(
            q=q,
            k=k,
            v=v,
            causal=self.causal,
            tokens=self._tokens(draws, n),
            levels=self._levels(n),
            calibration=calibration,
            origin=self.origin if calibration is not None else f"{self.origin} Another text of the same heads.",
        )

    @property
    def origin(self) -> str:
        """The origin of the sequence, in one sentence."""
        return f"{self.title} (synthetic): {self._facts()}; {self.n:,} tokens, seed {self.seed}."

    def with_dials(self, **dials: Any) -> Self:
        """The same kind with some dials changed, validated again."""
        return type(self).model_validate({**self.model_dump(), **dials})
