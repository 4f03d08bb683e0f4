"""FAVOR+ (the Performer): draw random features whose products estimate e^(q·k/√d), then never compare a pair.

Source: Choromanski et al. 2020, arXiv:2009.14794, sections 2.2–2.4 (positive, hyperbolic and trigonometric features,
orthogonal and regularised directions, generalised attention); Zhang et al. 2024, arXiv:2402.04347 (learned features).
Ours: no ε on the unbiased features, whose exponents are kept in range instead; only generalised ones have it, as defined.
"""

from __future__ import annotations

import math
from functools import partial
from typing import ClassVar, Self

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from longattn_core.contracts.mechanism import Attended, Cost, Family, Mechanism, Origin, dial
from longattn_core.contracts.sequence import Sequence
from longattn_core.mechanisms.favor import fast, plain
from longattn_core.mechanisms.favor.fast import Directions, gather_all, gather_past
from longattn_core.mechanisms.favor.features import GENERALISED, UNBIASED, FeatureMap, Kernel, Kind, draw_projection
from longattn_core.mechanisms.favor.learned import SAMPLE, fit_maps
from longattn_core.mechanisms.favor.map import FavorMap, FavorTrace
from longattn_core.mechanisms.favor.plain import Gathered, gather_plainly, patched
from longattn_core.numerics.draws import normal


class Favor(Mechanism):
    """Attention through features: φ(q)·(Σ φ(k)vᵀ) over φ(q)·(Σ φ(k)), in O(n·m·d).

    A sum of weights below 0, which only trigonometric features can give, is divided by all the same; with a sum of exactly 0
    the query attends to itself.
    """

    key: ClassVar[str] = "favor"
    title: ClassVar[str] = "FAVOR+"
    idea: ClassVar[str] = "Replace each query and key by random features whose products estimate the softmax weights."
    paper: ClassVar[str] = "Choromanski et al. 2020, arXiv:2009.14794"
    complexity: ClassVar[str] = "n·m·d"
    family: ClassVar[Family] = "compressed"
    order: ClassVar[int] = 90
    causal_note: ClassVar[str] = (
        "A query reads the sums of the keys up to itself, and no maximum over later keys enters, not even the rounding. Learned "
        "features are fitted on the calibration, or on Gaussian draws."
    )

    variant: Kind = dial(
        "positive",
        title="Features",
        help="Which function of q and k the features are.",
        options={
            "positive": "positive: e^(ω·x)",
            "hyperbolic": "hyperbolic: e^(ω·x), e^(−ω·x)",
            "trigonometric": "trigonometric: sin, cos",
            "relu": "generalised: ReLU",
            "elu": "generalised: elu + 1",
            "exponential": "generalised: exp",
            "hedgehog": "learned (Hedgehog)",
        },
    )
    features: int = dial(
        256,
        title="Features m",
        symbol="m",
        ge=1,
        le=4096,
        scale="log2",
        help="How many directions are drawn; features that come in pairs (hyperbolic, trigonometric) have 2m columns, "
        "learned ones m.",
    )
    kernel: Kernel = dial(
        "softmax",
        title="Kernel",
        when={"variant": UNBIASED},
        options={"softmax": "softmax: e^(x·y)", "gaussian": "Gaussian: e^(−‖x−y‖²/2)"},
        help="What the products of features estimate: the softmax kernel, or the Gaussian one, which is another attention.",
    )
    orthogonal: bool = dial(
        True,
        title="Orthogonal directions",
        when={"variant": (*UNBIASED, *GENERALISED)},
        help="Draw directions in orthogonal blocks of d: the same on average, with a smaller error.",
    )
    regularised: bool = dial(
        False,
        title="Directions of length √d (SMREG)",
        when={"variant": (*UNBIASED, *GENERALISED)},
        help="Put every direction on the sphere of radius √d: a little below the softmax kernel, and steadier.",
    )
    epsilon: float = dial(
        1e-3,
        title="Offset ε",
        symbol="ε",
        ge=1e-6,
        le=1,
        scale="log10",
        when={"variant": GENERALISED},
        help="Added to every generalised feature, so that no query is left without weight.",
    )
    steps: int = dial(
        60,
        title="Fitting steps",
        ge=0,
        le=500,
        when={"variant": ("hedgehog",)},
        help="How long the learned features are fitted to each head; at 0 they are a random rotation.",
    )

    def _attend(self, sequence: Sequence) -> Attended:
        """Cost: 2·n·m·d for features and 2·n·c·(e + 1) for sums per head; memory 1024·c (plain: 4 times), never n × n."""
        feature_map, calibration = self._feature_map(sequence)
        tokens = slice(None) if sequence.padding is None else sequence.padding.nonzero().squeeze(-1)
        q, k, v = (x[:, tokens] for x in (sequence.q, sequence.k, sequence.v))
        gathered = self._gathered(feature_map, q, k, v, causal=sequence.causal)
        return FavorMap(
            mechanism=self,
            sequence=sequence,
            output=_with_padding(gathered.output, sequence, 0.0),
            trace=FavorTrace(
                projection=feature_map.projection,
                maps=feature_map.maps,
                calibration=calibration,
                log_normaliser=_with_padding(gathered.log_sum, sequence, -math.inf),
                negative=_with_padding(gathered.negative, sequence, False),
            ),
            cost=self._cost(sequence, feature_map),
            feature_map=feature_map,
            regularised=self.regularised,
            reference=gathered.reference,
        )

    def _gathered(
        self,
        feature_map: FeatureMap,
        q: Float[Tensor, "h n d"],
        k: Float[Tensor, "h n d"],
        v: Float[Tensor, "h n e"],
        *,
        causal: bool,
    ) -> Gathered:
        """What the queries gather: by the fast path where it is allowed, else by the plain one."""
        gather_heads = partial(gather_plainly, feature_map, q, k, v, causal=causal)
        if not self._fast_allowed(q, k, v):
            return gather_heads(range(len(q)))
        directions = Directions.of(
            feature_map.projection, both_signs=self.variant == "hyperbolic", gaussian=feature_map.kernel == "gaussian"
        )
        gathered = (gather_past if causal else gather_all)(directions, q, k, v)
        heads = gathered.underflowed.any(-1).nonzero().squeeze(-1).tolist()
        return gathered if not heads else patched(gathered, gather_heads(heads), heads)

    def _fast_allowed(self, q: Tensor, k: Tensor, v: Tensor) -> bool:
        """Positive features in single precision without gradients."""
        tracked = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
        return self.variant in ("positive", "hyperbolic") and q.dtype == torch.float32 and not tracked

    def estimated_cost(self, sequence: Sequence) -> Cost:
        """Features and sums; learned features must be fitted first, so that variant attends."""
        if self.variant == "hedgehog":
            return super().estimated_cost(sequence)
        return self._cost(sequence, self._feature_map(sequence)[0])

    def _feature_map(self, sequence: Sequence) -> tuple[FeatureMap, str]:
        """The drawn or learned features, and what learned ones are fitted on, in words."""
        learned = self.variant == "hedgehog"
        projection = draw_projection(
            seed=self.seed,
            m=-(-self.features // 2) if learned else self.features,
            d=sequence.d,
            orthogonal=learned or self.orthogonal,
            regularised=self.regularised and not learned,
            like=sequence.q,
        )
        maps, calibration = None, "nothing is fitted"
        if learned:
            projection = projection / projection.norm(dim=-1, keepdim=True)
            sample, calibration = self._calibration(sequence)
            maps = fit_maps(sample, causal=sequence.causal, start=projection, steps=self.steps)
        kernel = self.kernel if self.variant in UNBIASED else "softmax"
        return (FeatureMap(kind=self.variant, kernel=kernel, epsilon=self.epsilon, projection=projection, maps=maps), calibration)

    def _calibration(self, sequence: Sequence) -> tuple[Sequence, str]:
        """What learned features are fitted on; under a causal mask never this sequence."""
        if not sequence.causal:
            return sequence, "this sequence"
        if sequence.calibration is not None:
            return sequence.calibration, f"the calibration sequence ({sequence.calibration.origin})"
        q, k = (
            normal(self.seed, f"favor calibration {name}", SAMPLE, sequence.d, like=sequence.q).expand(sequence.h, -1, -1)
            for name in "qk"
        )
        return Sequence(q=q, k=k, v=k), "unit Gaussian queries and keys drawn from the seed"

    def _cost(self, sequence: Sequence, feature_map: FeatureMap) -> Cost:
        """The cost of the path that this sequence takes: tiles and chunks differ, and the fast path multiplies by ω and by −ω."""
        h, d, e, columns = sequence.h, sequence.d, sequence.e, feature_map.columns
        n, size, causal = int(sequence.real.sum()), sequence.q.element_size(), sequence.causal
        quick = self._fast_allowed(sequence.q, sequence.k, sequence.v)
        rows = columns if quick else feature_map.projection.shape[0]
        tile = (fast.CHUNK if causal else fast.ROWS) if quick else (plain.CHUNK if causal else plain.ROWS)
        pairs = 0
        if causal:
            halves = n * (tile - 1) // 2 * (columns + e + 1) + n * columns
            pairs = n * tile * (columns + e) if quick else halves
        fit = 3 * self.steps * SAMPLE * (2 * d * rows + SAMPLE * columns) if self.variant == "hedgehog" else 0
        sums = columns * (e + 1)
        if not quick:
            held = min(n, plain.ROWS) * (4 * columns + 8 * (e + 1)) + 2 * sums
        elif causal:
            held = h * (min(n, tile) * (2 * columns + 2 * e + tile) + sums)
        else:
            held = min(n, tile) * columns + sums
        return Cost(
            multiply_adds=h * (2 * n * (rows * d + sums) + pairs + fit),
            bytes_moved=h * size * (2 * n * (d + e) + 4 * n * columns + 2 * sums * -(-n // tile)),
            bytes_peak=size * held,
        )

    @property
    def no_exact_setting(self) -> str | None:
        """Why no number of features makes this exact attention."""
        if self.variant == "hedgehog":
            return "The learned features imitate exact attention's rows on a sample; no number of them makes the two equal."
        if self.variant in GENERALISED:
            return "Generalised features estimate a similarity of their own, not e^(q·k/√d), however many there are."
        if self.kernel == "gaussian":
            return "These features estimate the Gaussian kernel, which is another attention than the softmax."
        if self.regularised:
            return "Directions on the sphere estimate a kernel that lies below e^(q·k/√d), however many there are."
        return (
            "The estimate of e^(q·k/√d) is right on average at any number of features, but attention is a ratio of two "
            "estimates, and only comes closer as m grows without end."
        )

    def ladder(self, n: int) -> tuple[Self, ...]:
        """Few features to many; generalised and learned ones stop earlier, because more do not help them."""
        rungs = (16, 64, 256, 1024)
        if self.variant not in UNBIASED:
            rungs = (8, 32, 64, 128) if self.variant == "hedgehog" else (8, 32, 128, 512)
        return tuple(self.with_dials(features=m) for m in rungs)

    def with_budget(self, keys: int, n: int) -> Self:
        """As many features as keys."""
        return self.with_dials(features=min(max(keys, 1), 4096))

    @property
    def label(self) -> str:
        """The title with the kind of feature."""
        names = {"relu": "ReLU", "elu": "elu + 1", "exponential": "exp"}
        if self.variant == "hedgehog":
            return "Learned features"
        if self.variant in GENERALISED:
            return f"Generalised {names[self.variant]}"
        kernel = ", Gaussian kernel" if self.kernel == "gaussian" else ""
        return f"{self.title} {self.variant}{kernel}"

    @property
    def parameters(self) -> Origin:
        """Learned features are fitted to the head; all others are drawn."""
        return "fitted here" if self.variant == "hedgehog" else "random draw"

    @property
    def not_stochastic(self) -> str | None:
        """Sines and cosines can be negative."""
        if self.variant == "trigonometric":
            return "Sines and cosines can make an estimate negative, and a row's sum of estimates near 0 or below."
        return None


def _with_padding(x: Shaped[Tensor, "h real *rest"], sequence: Sequence, fill: float | bool) -> Shaped[Tensor, "h n *rest"]:
    """What was computed for the real tokens, at their positions; padding gets `fill`."""
    if sequence.padding is None:
        return x
    whole = x.new_full((len(x), sequence.n, *x.shape[2:]), fill)
    return whole.index_copy(1, sequence.padding.nonzero().squeeze(-1), x)
