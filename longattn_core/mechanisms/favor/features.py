"""The feature maps φ whose products stand for the softmax kernel, kept in the exponent so that none overflows.

Source: Choromanski et al. 2020, arXiv:2009.14794, lemma 1 (positive, hyperbolic, trigonometric) and section 2.2
(generalised); Zhang et al. 2024, arXiv:2402.04347 (learned). Ours: every feature is held as `wave · e^exponent`, and a
positive one has no wave, so no maximum has to be taken off, and no ε added, before the features are multiplied.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import elu, log_softmax

from longattn_core.numerics.draws import generator, haar_blocks

Kind: TypeAlias = Literal["positive", "hyperbolic", "trigonometric", "relu", "elu", "exponential", "hedgehog"]
Kernel: TypeAlias = Literal["softmax", "gaussian"]

UNBIASED: tuple[Kind, ...] = ("positive", "hyperbolic", "trigonometric")
GENERALISED: tuple[Kind, ...] = ("relu", "elu", "exponential")

LOG2_E = 1 / math.log(2)


def draw_projection(
    *, seed: int, m: int, d: int, orthogonal: bool, regularised: bool, like: Float[Tensor, "..."]
) -> Float[Tensor, "m d"]:
    """m directions ω, drawn so that fewer features are the first rows of more. Cost m·d².

    Orthogonal ones come in Haar blocks of d whose lengths are drawn again from χ_d, so that each row is N(0, I);
    regularised ones have length √d (SMREG). The result has the dtype and device of `like`.
    """
    gaussian = torch.randn(m, d, generator=generator(seed, "favor lengths"), dtype=torch.float64)
    lengths = gaussian.norm(dim=-1, keepdim=True)
    directions = haar_blocks(seed, "favor directions", m, d) if orthogonal else gaussian / lengths
    return (directions * (math.sqrt(d) if regularised else lengths)).to(dtype=like.dtype, device=like.device)


@dataclass(frozen=True, kw_only=True, eq=False)
class Features:
    """Features of some tokens, φ = wave · e^exponent: `wave [n c]`, or None for 1; `exponent [n c]` or `[n 1]`.

    Axes before those count blocks of tokens.
    """

    exponent: Float[Tensor, "*b n s"]
    wave: Float[Tensor, "*b n c"] | None

    def shifted(self, offset: Float[Tensor, "..."]) -> Float[Tensor, "*b n c"]:
        """wave · e^(exponent + offset): the features times a factor that brings them near 1."""
        size = (self.exponent + offset).exp_()
        return size if self.wave is None else size * self.wave


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureMap:
    """φ of queries and keys. `projection [m d]`; `maps [2 h d half]`, for queries and for keys, when they are learned.

    `of` takes q or k as they are and applies the d^(−1/4) that turns e^(q·k/√d) into e^(x·y).
    """

    kind: Kind
    kernel: Kernel
    epsilon: float
    projection: Float[Tensor, "m d"]
    maps: Float[Tensor, "2 h d half"] | None = None

    @property
    def columns(self) -> int:
        """How many columns φ has: m, and 2·m for features that come in pairs."""
        rows = self.projection.shape[0]
        return 2 * rows if self.kind in ("hyperbolic", "trigonometric", "hedgehog") else rows

    def to(self, dtype: torch.dtype) -> FeatureMap:
        """The same map in another dtype."""
        maps = None if self.maps is None else self.maps.to(dtype)
        return FeatureMap(
            kind=self.kind, kernel=self.kernel, epsilon=self.epsilon, projection=self.projection.to(dtype), maps=maps
        )

    def of(self, x: Float[Tensor, "n d"], *, head: int, keys: bool) -> Features:
        """The features of one head's queries or keys. Cost n·m·d multiply-adds and n·c exponentials later."""
        x = x * x.shape[-1] ** -0.25
        if self.maps is not None:
            return _learned(x, self.maps[int(keys), head])
        if self.kind in GENERALISED:
            return self._generalised(x @ self.projection.mT)
        return self._unbiased(x)

    def shifted(
        self, x: Float[Tensor, "n d"], columns: Float[Tensor, "s"], rows: Float[Tensor, "n 1"], *, head: int, keys: bool
    ) -> Float[Tensor, "n c"]:
        """φ · e^(columns + rows), a feature's factor and a token's, in as few passes as can be; without gradients."""
        if self.kind not in UNBIASED:
            return self.of(x, head=head, keys=keys).shifted(columns + rows)
        if self.kind == "trigonometric":
            x = x * x.shape[-1] ** -0.25
            half_square = x.square().sum(-1, keepdim=True) / 2
            along, found = x @ self.projection.mT, x.new_empty(len(x), self.columns)
            for waves, half in zip((torch.sin, torch.cos), found.tensor_split(2, dim=-1), strict=True):
                waves(along, out=half)
            size = 0.0 if self.kernel == "gaussian" else half_square
            return found.mul_((size + columns + rows - math.log(self.columns / 2) / 2).exp_())
        found, size = self._powers(x, columns * LOG2_E)
        return found.add_((size + rows) * LOG2_E).exp2_()

    def scaled(self, x: Float[Tensor, "n d"], *, head: int, keys: bool) -> tuple[Float[Tensor, "n c"], Float[Tensor, "n 1"]]:
        """φ · e^(−scale) with a scale for each token, at which its largest exponent is 0."""
        if self.kind in UNBIASED and self.kind != "trigonometric":
            found, size = self._powers(x, x.new_zeros(1))
            # Held constant for the gradient: it is taken off here and comes back with the scale.
            highest = found.detach().amax(-1, keepdim=True)
            return found.sub_(highest).exp2_(), size + highest / LOG2_E
        features = self.of(x, head=head, keys=keys)
        scale = features.exponent.detach().amax(-1, keepdim=True)
        return features.shifted(-scale), scale

    def _powers(self, x: Float[Tensor, "n d"], columns: Float[Tensor, "s"]) -> tuple[Float[Tensor, "n c"], Float[Tensor, "n 1"]]:
        """Exponents of positive features as powers of two, which torch finds several times as fast as those of e.

        Given apart from what a token's length takes off all of its own, which is natural.
        """
        x = x * x.shape[-1] ** -0.25
        size = x.square().sum(-1, keepdim=True) * (-1.0 if self.kernel == "gaussian" else -0.5)
        across = self.projection if self.kind == "positive" else torch.cat((self.projection, -self.projection))
        return torch.addmm(columns, x, across.mT * LOG2_E), size - math.log(self.columns) / 2

    def highest(self, lengths: Float[Tensor, "n 1"]) -> Float[Tensor, "n 1"]:
        """A bound that no exponent of a query of that length exceeds, from the lengths of the directions."""
        if self.maps is not None:
            return torch.zeros_like(lengths)
        x = lengths * self.projection.shape[-1] ** -0.25
        longest: Tensor = torch.linalg.vector_norm(self.projection, dim=-1).max()
        along: Tensor = x * longest
        if self.kind == "exponential":
            return torch.logaddexp(along, torch.full_like(along, math.log(self.epsilon)))
        if self.kind in GENERALISED:
            return torch.log(along + (1 + self.epsilon))
        if self.kind == "trigonometric":
            return torch.zeros_like(x) if self.kernel == "gaussian" else torch.square(x) / 2
        return along

    def _unbiased(self, x: Float[Tensor, "n d"]) -> Features:
        m = self.projection.shape[0]
        along = x @ self.projection.mT
        half_square = x.square().sum(-1, keepdim=True) / 2
        if self.kind == "trigonometric":
            size = torch.zeros_like(half_square) if self.kernel == "gaussian" else half_square
            return Features(exponent=size - math.log(m) / 2, wave=torch.cat((along.sin(), along.cos()), dim=-1))
        size = -(2 * half_square if self.kernel == "gaussian" else half_square)
        if self.kind == "positive":
            return Features(exponent=along + (size - math.log(m) / 2), wave=None)
        return Features(exponent=torch.cat((along, -along), dim=-1) + (size - math.log(2 * m) / 2), wave=None)

    def _generalised(self, along: Float[Tensor, "n m"]) -> Features:
        if self.kind == "exponential":
            return Features(exponent=torch.logaddexp(along, torch.full_like(along, math.log(self.epsilon))), wave=None)
        value = along.relu() if self.kind == "relu" else elu(along) + 1
        return Features(exponent=(value + self.epsilon).log(), wave=None)


def _learned(x: Float[Tensor, "n d"], weights: Float[Tensor, "d half"]) -> Features:
    along = x @ weights
    return Features(exponent=torch.cat((log_softmax(along, -1), log_softmax(-along, -1)), dim=-1), wave=None)
