"""The feature maps φ whose products stand for the softmax kernel, kept in the exponent so that none overflows.

Source: Choromanski et al. 2020, arXiv:2009.14794, lemma 1 (positive, hyperbolic, trigonometric) and section 2.2
(generalised); Zhang et al. 2024, arXiv:2402.04347 (learned). Ours: every feature is held as `wave · e^exponent`, and a
positive one has no wave. So the factor that keeps a product in range is chosen when features are multiplied, and no ε is added.
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
    """m directions ω; for a smaller m they are the first rows of those for a larger m. Cost m·d².

    Orthogonal directions come in Haar blocks of d, with lengths drawn from χ_d, so that each row is N(0, I); regularised
    directions have length √d (SMREG). The result has the dtype and device of `like`.
    """
    gaussian = torch.randn(m, d, generator=generator(seed, "favor lengths"), dtype=torch.float64)
    lengths = gaussian.norm(dim=-1, keepdim=True)
    directions = haar_blocks(seed, "favor directions", m, d) if orthogonal else gaussian / lengths
    return (directions * (math.sqrt(d) if regularised else lengths)).to(dtype=like.dtype, device=like.device)


@dataclass(frozen=True, kw_only=True, eq=False)
class Features:
    """Features of some tokens, φ = wave · e^exponent: `wave [n c]`, or None for 1; `exponent [n c]` or `[n 1]`.

    Leading axes count blocks of tokens.
    """

    exponent: Float[Tensor, "*b n s"]
    wave: Float[Tensor, "*b n c"] | None

    def shifted(self, offset: Float[Tensor, "..."]) -> Float[Tensor, "*b n c"]:
        """wave · e^(exponent + offset): the features times the factor e^offset, which the caller chooses to avoid overflow."""
        magnitude = (self.exponent + offset).exp_()
        return magnitude if self.wave is None else magnitude * self.wave


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
        """φ · e^(columns + rows), with an exponent for each feature and one for each token, in few passes; without gradients."""
        if self.kind not in UNBIASED:
            return self.of(x, head=head, keys=keys).shifted(columns + rows)
        if self.kind == "trigonometric":
            x = x * x.shape[-1] ** -0.25
            half_square = x.square().sum(-1, keepdim=True) / 2
            angles, features = x @ self.projection.mT, x.new_empty(len(x), self.columns)
            for function, half in zip((torch.sin, torch.cos), features.tensor_split(2, dim=-1), strict=True):
                function(angles, out=half)
            exponent = 0.0 if self.kernel == "gaussian" else half_square
            return features.mul_((exponent + columns + rows - math.log(self.columns / 2) / 2).exp_())
        powers, exponent = self._powers(x, columns * LOG2_E)
        return powers.add_((exponent + rows) * LOG2_E).exp2_()

    def scaled(self, x: Float[Tensor, "n d"], *, head: int, keys: bool) -> tuple[Float[Tensor, "n c"], Float[Tensor, "n 1"]]:
        """φ · e^(−scale), with the scale of each token at which its largest exponent is 0."""
        if self.kind in UNBIASED and self.kind != "trigonometric":
            powers, exponent = self._powers(x, x.new_zeros(1))
            # Constant for the gradient: it is subtracted here and added again with the scale.
            highest = powers.detach().amax(-1, keepdim=True)
            return powers.sub_(highest).exp2_(), exponent + highest / LOG2_E
        features = self.of(x, head=head, keys=keys)
        scale = features.exponent.detach().amax(-1, keepdim=True)
        return features.shifted(-scale), scale

    def _powers(self, x: Float[Tensor, "n d"], columns: Float[Tensor, "s"]) -> tuple[Float[Tensor, "n c"], Float[Tensor, "n 1"]]:
        """The exponents of positive features in two parts: by direction, to the base 2, and by the token's norm, to the base e.

        Torch computes powers of two several times as fast as those of e.
        """
        x = x * x.shape[-1] ** -0.25
        by_norm = x.square().sum(-1, keepdim=True) * (-1.0 if self.kernel == "gaussian" else -0.5)
        directions = self.projection if self.kind == "positive" else torch.cat((self.projection, -self.projection))
        return torch.addmm(columns, x, directions.mT * LOG2_E), by_norm - math.log(self.columns) / 2

    def highest(self, lengths: Float[Tensor, "n 1"]) -> Float[Tensor, "n 1"]:
        """An upper bound of the exponents of queries of these lengths, from the lengths of the directions."""
        if self.maps is not None:
            return torch.zeros_like(lengths)
        x = lengths * self.projection.shape[-1] ** -0.25
        longest: Tensor = torch.linalg.vector_norm(self.projection, dim=-1).max()
        product: Tensor = x * longest
        if self.kind == "exponential":
            return torch.logaddexp(product, torch.full_like(product, math.log(self.epsilon)))
        if self.kind in GENERALISED:
            return torch.log(product + (1 + self.epsilon))
        if self.kind == "trigonometric":
            return torch.zeros_like(x) if self.kernel == "gaussian" else torch.square(x) / 2
        return product

    def _unbiased(self, x: Float[Tensor, "n d"]) -> Features:
        m = self.projection.shape[0]
        products = x @ self.projection.mT
        half_square = x.square().sum(-1, keepdim=True) / 2
        if self.kind == "trigonometric":
            by_norm = torch.zeros_like(half_square) if self.kernel == "gaussian" else half_square
            return Features(exponent=by_norm - math.log(m) / 2, wave=torch.cat((products.sin(), products.cos()), dim=-1))
        by_norm = -(2 * half_square if self.kernel == "gaussian" else half_square)
        if self.kind == "positive":
            return Features(exponent=products + (by_norm - math.log(m) / 2), wave=None)
        return Features(exponent=torch.cat((products, -products), dim=-1) + (by_norm - math.log(2 * m) / 2), wave=None)

    def _generalised(self, products: Float[Tensor, "n m"]) -> Features:
        if self.kind == "exponential":
            return Features(exponent=torch.logaddexp(products, torch.full_like(products, math.log(self.epsilon))), wave=None)
        value = products.relu() if self.kind == "relu" else elu(products) + 1
        return Features(exponent=(value + self.epsilon).log(), wave=None)


def _learned(x: Float[Tensor, "n d"], weights: Float[Tensor, "d half"]) -> Features:
    products = x @ weights
    return Features(exponent=torch.cat((log_softmax(products, -1), log_softmax(-products, -1)), dim=-1), wave=None)
