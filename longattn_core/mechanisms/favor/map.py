"""The map that FAVOR+ implies: two thin factors, one of queries' features and one of keys'.

Source: Choromanski et al. 2020, arXiv:2009.14794, section 2.1. Views are computed in float64 whatever the input.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from longattn_core.contracts.indexing import row_chunks
from longattn_core.contracts.mechanism import Attended, Explanation, ReadCount, Reason, Reduce
from longattn_core.mechanisms.favor.deviation import relative_deviation
from longattn_core.mechanisms.favor.features import FeatureMap, Features
from longattn_core.numerics.maps.factored import FactoredMap
from longattn_core.wording import noun_for

SAFE = 600.0
"""The largest exponent of a left factor for which float64 still represents the matching right factor."""

SMALLEST = 1e-290
"""A product of features below this has lost digits."""


class FavorReason(StrEnum):
    """Where the error of an estimated weight comes from."""

    STEADY = "steady"
    NOISY = "noisy"
    HOPELESS = "hopeless"
    NEGATIVE = "negative"
    OTHER_KERNEL = "other kernel"
    LEARNED = "learned"


@dataclass(frozen=True, kw_only=True, eq=False)
class FavorTrace:
    """The draw, and the normaliser of each query.

    `projection [m d]` holds the directions ω; `maps [2 h d half]` the learned maps of queries and of keys (None for
    drawn features), fitted on what `calibration` names. `log_normaliser [h n]` is ln |Σ_j φ(q_i)·φ(k_j)|, which estimates
    exact attention's logsumexp, and `negative [h n]` says where that sum is below 0; −inf and False for a padded query.
    """

    projection: Float[Tensor, "m d"]
    maps: Float[Tensor, "2 h d half"] | None
    calibration: str
    log_normaliser: Float[Tensor, "h n"]
    negative: Bool[Tensor, "h n"]


@dataclass(frozen=True, kw_only=True, eq=False)
class FavorMap(FactoredMap):
    """Weights φ(q)·φ(k) over their sum. `reference [h s]` is each key feature's largest exponent."""

    feature_map: FeatureMap
    regularised: bool
    reference: Float[Tensor, "h s"]

    def _features(self, head: int, tokens: Int[Tensor, "r"], *, keys: bool) -> Features:
        x = (self.sequence.k if keys else self.sequence.q)[head, tokens].double()
        return self._fine_map.of(x, head=head, keys=keys)

    def _scaled(self, head: int, tokens: Int[Tensor, "r"], *, keys: bool) -> tuple[Float[Tensor, "r c"], Float[Tensor, "r 1"]]:
        x = (self.sequence.k if keys else self.sequence.q)[head, tokens].double()
        return self._fine_map.scaled(x, head=head, keys=keys)

    def _left(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g r m"]:
        trace: FavorTrace = self.trace
        real, parts = self.sequence.real[queries, None], []
        for head in heads.tolist():
            sums = trace.log_normaliser[head, queries, None].double().masked_fill_(~real, 0.0)
            part = self._shifted(head, queries, self.reference[head].double(), -sums, keys=False)
            negative = trace.negative[head, queries].nonzero().squeeze(-1)
            parts.append(part.index_copy_(0, negative, -part[negative]))
        return self._stacked(parts, queries)

    def _right(self, keys: Int[Tensor, "c"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g c m"]:
        zeros = torch.zeros(len(keys), 1, dtype=torch.float64, device=keys.device)
        parts = [self._shifted(head, keys, -self.reference[head].double(), zeros, keys=True) for head in heads.tolist()]
        return self._stacked(parts, keys)

    def _shifted(
        self, head: int, tokens: Int[Tensor, "r"], columns: Float[Tensor, "s"], rows: Float[Tensor, "r 1"], *, keys: bool
    ) -> Float[Tensor, "r m"]:
        x = (self.sequence.k if keys else self.sequence.q)[head, tokens].detach().double()
        return self._fine_map.shifted(x, columns, rows, head=head, keys=keys)

    def _stacked(self, parts: list[Tensor], tokens: Int[Tensor, "r"]) -> Float[Tensor, "g r m"]:
        """The factors of all heads in one tensor, zero for padding; a single head's is not copied."""
        factor = parts[0][None] if len(parts) == 1 else torch.stack(parts)
        padded = (~self.sequence.real[tokens]).nonzero().squeeze(-1)
        return factor.index_fill_(1, padded, 0.0)

    @cached_property
    def _fine_map(self) -> FeatureMap:
        return self.feature_map.to(torch.float64)

    def _rows(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g r n"]:
        mask = self.sequence.allowed(queries)
        own = mask & (torch.arange(self.sequence.n, device=queries.device) == queries[:, None])
        parts = []
        for head in heads.tolist():
            sign, logarithm = self._kernel(head, queries)
            # Relative to the row's own largest weight, so that no later key matters.
            highest = logarithm.amax(-1, keepdim=True)
            weights = sign * (logarithm - highest.masked_fill(highest.isneginf(), 0.0)).exp()
            total = weights.sum(-1, keepdim=True)
            zero = total == 0
            parts.append(torch.where(zero, own.to(weights.dtype), weights / total.masked_fill(zero, 1.0)))
        return torch.stack(parts).to(self.output.dtype)

    def _kernel(self, head: int, queries: Int[Tensor, "r"]) -> tuple[Float[Tensor, "r n"], Float[Tensor, "r n"]]:
        """Sign and logarithm of φ(q)·φ(k) for every key, −inf where the mask hides it. Cost r·n·c, keys in chunks."""
        left, query_scale = self._scaled(head, queries, keys=False)
        products, scales = [], []
        for chunk in row_chunks(self.sequence.n, self.feature_map.columns):
            right, key_scale = self._scaled(head, torch.arange(chunk.start, chunk.stop, device=queries.device), keys=True)
            products.append(left @ right.mT)
            scales.append(key_scale.squeeze(-1))
        product, scale = torch.cat(products, dim=-1), query_scale + torch.cat(scales)
        mask = self.sequence.allowed(queries)
        logarithm = (product.abs().log() + scale).masked_fill(~mask, -math.inf)
        if self.feature_map.kind != "trigonometric":
            # A product that underflowed still counts unless another key of its row is far larger.
            underflowed = mask & (product < SMALLEST) & (scale + math.log(SMALLEST) > logarithm.amax(-1, keepdim=True) - 60)
            again = underflowed.nonzero()
            for chunk in row_chunks(len(again), self.feature_map.columns):
                pairs = again[chunk]
                own, other = (
                    self._features(head, x, keys=side).exponent
                    for x, side in ((queries[pairs[:, 0]], False), (pairs[:, 1], True))
                )
                logarithm[pairs[:, 0], pairs[:, 1]] = (own + other).logsumexp(-1)
            return mask.to(logarithm.dtype), logarithm
        return product.sign(), logarithm

    def _pooled(self, rows: list[int], columns: list[int], reduce: Reduce, heads: Int[Tensor, "g"]) -> Float[Tensor, "g H W"]:
        # Where single weights are needed, and not sums over all keys, the left factor must not overflow.
        single = reduce == "max" or self.sequence.causal
        if single and max(self._largest_exponent(h) for h in heads.tolist()) > SAFE:
            return Attended._pooled(self, rows, columns, reduce, heads)
        return super()._pooled(rows, columns, reduce, heads)

    @cached_property
    def _largest_exponents(self) -> dict[int, float]:
        """Results of `_largest_exponent` by head."""
        return {}

    def _largest_exponent(self, head: int) -> float:
        """The largest exponent of the head's left factor: large where later keys outweigh the visible ones. Computed once."""
        known = self._largest_exponents
        if head not in known:
            real = self.sequence.real.nonzero().squeeze(-1)
            sums, reference = self.trace.log_normaliser[head].double(), self.reference[head].double()
            # A bound from the lengths alone is usually small enough.
            lengths = self.sequence.q[head, real].double().norm(dim=-1, keepdim=True)
            largest = float((self._fine_map.highest(lengths) - sums[real, None]).max() + reference.max())
            if not largest <= SAFE:
                largest = -math.inf
                for chunk in row_chunks(len(real), self.feature_map.columns):
                    exponent = self._features(head, real[chunk], keys=False).exponent + reference
                    largest = max(largest, float((exponent - sums[real[chunk], None]).max()))
            known[head] = largest
        return known[head]

    def _read_count(self, head: int, query: int) -> ReadCount:
        real = bool(self.sequence.real[query])
        return ReadCount(count=self.feature_map.columns if real else 0, unit="features")

    def _explained(self, head: int, query: int, key: int, kept: bool, exact: float, weight: float) -> Explanation:
        sequence = self.sequence
        scale = sequence.d**-0.25
        x, y = sequence.q[head, query].double() * scale, sequence.k[head, key].double() * scale
        sum_norm, difference_norm = float((x + y).square().sum()), float((x - y).square().sum())
        sign, logarithm = self._kernel(head, torch.tensor([query], device=x.device))
        kernel = -difference_norm / 2 if self.feature_map.kernel == "gaussian" else float(x @ y)
        ratio = float(sign[0, key]) * _exp(float(logarithm[0, key]) - kernel)
        facts: dict[str, float | int | str | bool] = {
            "features": self.feature_map.columns,
            "log_kernel": kernel,
            "kernel": _exp(kernel),
            "estimate": float(sign[0, key]) * _exp(float(logarithm[0, key])),
            "ratio": ratio,
            "sum_norm": sum_norm,
        }
        deviation = relative_deviation(
            self.feature_map.kind,
            m=len(self.feature_map.projection),
            d=sequence.d,
            sum_norm=sum_norm,
            difference_norm=difference_norm,
            regularised=self.regularised,
        )
        if deviation is not None:
            facts["deviation"] = deviation
        if key == query and weight == 1 and float((sign * logarithm.exp()).sum()) == 0:
            reason: StrEnum = Reason.ITSELF
            text = "The estimates of all the keys cancel to exactly 0, so the query attends to itself."
        else:
            reason, text = _sentence(self.feature_map, facts, deviation, exact, weight)
        return Explanation(kept=kept, exact=exact, weight=weight, reason=reason, facts=facts, text=text)


def _sentence(
    feature_map: FeatureMap, facts: dict[str, float | int | str | bool], deviation: float | None, exact: float, weight: float
) -> tuple[FavorReason, str]:
    columns = facts["features"]
    noun = noun_for(int(columns), "feature")
    if feature_map.kind == "hedgehog":
        return FavorReason.LEARNED, (
            f"{columns} learned {noun}, fitted to imitate exact attention, give this key {weight:.3g} "
            f"where exact attention gives {exact:.3g}."
        )
    if deviation is None:
        return FavorReason.OTHER_KERNEL, (
            f"Measured by {columns} {feature_map.kind} {noun}, the similarity is another than e^(q·k/√d), "
            f"{facts['ratio']:.3g} times its value here, and the weight is {weight:.3g} where exact attention gives "
            f"{exact:.3g}."
        )
    name = "e^(q·k/√d)" if feature_map.kernel == "softmax" else "e^(−‖q−k‖²/2√d)"
    estimate = f"By {columns} random {noun}, {name} = {facts['kernel']:.3g} is put at {facts['estimate']:.3g}"
    error = f"at ‖q+k‖²/√d = {facts['sum_norm']:.3g} such an estimate is expected to stray by {_times(deviation)} its value"
    if weight < 0:
        return FavorReason.NEGATIVE, f"{estimate}, a negative weight, which only sines and cosines can give; {error}."
    if deviation <= 0.5:
        return FavorReason.STEADY, f"{estimate}; {error}."
    if deviation <= 10:
        return FavorReason.NOISY, f"{estimate}; {error}, so this weight is noisy."
    return FavorReason.HOPELESS, f"{estimate}; {error}, so this weight says little about the key."


def _times(deviation: float) -> str:
    if math.isinf(deviation):
        return "more than 10^300 times"
    return f"{deviation:.0%} of" if deviation <= 1 else f"{deviation:.3g} times"


def _exp(x: float) -> float:
    return math.exp(x) if x < 700 else math.inf
