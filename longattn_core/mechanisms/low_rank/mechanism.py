"""Low rank: approximate the n × n map by a product of an n × k and a k × n matrix.

Source: truncated SVD (Eckart & Young 1936), an oracle that costs more than exact attention and bounds the error of the
others; Linformer (Wang et al. 2020, arXiv:2006.04768); Nyström attention (Xiong et al. 2021, arXiv:2102.03902).
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import torch

from longattn_core.contracts.mechanism import Attended, Cost, Family, Mechanism, Origin, dial
from longattn_core.contracts.sequence import Sequence
from longattn_core.mechanisms.low_rank.linformer import (
    SAMPLE,
    LinformerMap,
    LinformerTrace,
    fitted_projections,
    gaussian_projections,
    linformer,
    mean_projections,
)
from longattn_core.mechanisms.low_rank.nystrom import NystromMap, nystrom
from longattn_core.mechanisms.low_rank.truncated import SvdMap, truncate

LARGEST_SVD = 4096
"""The largest number of tokens of which the SVD is computed, and the largest rank."""

LARGEST_NYSTROM = 1024
"""The largest number of landmarks that a budget or a ladder asks for: Nyström costs k³."""


class LowRank(Mechanism):
    """Attention through k columns: the best k of the map itself (SVD), k mixed keys (Linformer), k landmarks (Nyström)."""

    key: ClassVar[str] = "low_rank"
    title: ClassVar[str] = "Low rank"
    idea: ClassVar[str] = "Rebuild the whole map from k columns, which is cheap when it holds no more than k numbers a row."
    paper: ClassVar[str] = "Wang et al. 2020, arXiv:2006.04768; Xiong et al. 2021, arXiv:2102.03902"
    complexity: ClassVar[str] = "n·k·d (the SVD, an oracle: n³)"
    family: ClassVar[Family] = "compressed"
    order: ClassVar[int] = 80
    causal_note: ClassVar[str] = (
        "Linformer and Nyström mix all positions, so they refuse a causal mask. The SVD cuts its product at the mask, but its "
        "singular directions are those of the whole map: a later token changes earlier outputs."
    )

    variant: Literal["svd", "linformer", "nystrom"] = dial(
        "svd",
        title="Method",
        help="How the k columns are found.",
        options={"svd": "SVD: the best there are (oracle)", "linformer": "Linformer", "nystrom": "Nyström"},
    )
    rank: int = dial(
        64,
        title="Rank k",
        symbol="k",
        ge=1,
        le=4096,
        scale="log2",
        help="How many columns the map is pressed through; at n tokens or more nothing is lost, but for random columns.",
    )
    projection: Literal["mean", "gaussian", "fitted"] = dial(
        "mean",
        title="Projection",
        symbol="E, F",
        when={"variant": ("linformer",)},
        options={
            "mean": "means of consecutive tokens",
            "gaussian": "random Gaussian",
            "fitted": "means for keys, fitted for values",
        },
        help="What mixes the n keys and values into k.",
    )
    cutoff: float = dial(
        0.0,
        title="Cut-off of the inverse",
        ge=0,
        le=0.5,
        when={"variant": ("nystrom",)},
        help="Singular values below this share of the largest count as 0; at 0 the pseudo-inverse is the true one, "
        "which makes small differences between landmarks large.",
    )

    def _attend(self, sequence: Sequence) -> Attended:
        """Cost: n·k·(d + e) per head; the SVD n³. Memory about 64 MB; the SVD n²."""
        rank = min(self.rank, int(sequence.real.sum()))
        if self.variant == "svd":
            output, factors = truncate(sequence, self.rank)
            return SvdMap(
                mechanism=self,
                sequence=sequence,
                output=output,
                trace=factors,
                cost=self._cost(sequence),
                rank=rank,
                unit="singular directions",
            )
        if self.variant == "nystrom":
            output, landmarks = nystrom(sequence, self.rank, self.cutoff)
            return NystromMap(
                mechanism=self,
                sequence=sequence,
                output=output,
                trace=landmarks,
                cost=self._cost(sequence),
                rank=rank,
                unit="landmarks",
            )
        if self.projection == "gaussian":
            e, f = gaussian_projections(sequence, self.rank, self.seed)
        else:
            e, f = (mean_projections if self.projection == "mean" else fitted_projections)(sequence, self.rank)
        output, keys = linformer(sequence, e, f)
        tokens = torch.arange(sequence.n, device=sequence.q.device)
        sampled = min(int(sequence.real.sum()), SAMPLE * rank) if self.projection == "fitted" else 0
        return LinformerMap(
            mechanism=self,
            sequence=sequence,
            output=output,
            cost=self._cost(sequence),
            rank=rank,
            unit="mixed keys",
            trace=LinformerTrace(keys=e, values=f, tokens=tokens, sampled=sampled),
            mixed_keys=keys,
        )

    def estimated_cost(self, sequence: Sequence) -> Cost:
        """The cost of every variant depends on n, k, d and e alone."""
        return self._cost(sequence)

    @property
    def cubic(self) -> bool:
        """True for the SVD of the whole map."""
        return self.variant == "svd"

    def refuses(self, sequence: Sequence) -> str | None:
        """Linformer and Nyström refuse a causal mask, and the SVD more than 4,096 tokens."""
        if self.variant == "svd":
            if sequence.n > LARGEST_SVD:
                return (
                    f"The SVD needs the whole n × n map and n³ steps: it is there up to {LARGEST_SVD:,} tokens, and this "
                    f"sequence has {sequence.n:,}."
                )
            return None
        if not sequence.causal:
            return None
        if self.variant == "linformer":
            return "Linformer mixes the keys of all positions into each of its k keys, so it cannot hide the future."
        return "Nyström's landmarks are means over all positions, so it cannot hide the future."

    @classmethod
    def variants(cls) -> tuple[Self, ...]:
        """The SVD, Linformer with each projection, Nyström."""
        linformers = tuple(cls(variant="linformer", projection=projection) for projection in ("mean", "gaussian", "fitted"))
        return (cls(variant="svd"), *linformers, cls(variant="nystrom"))

    def exact_setting(self, n: int) -> Self | None:
        """Rank n, with the true pseudo-inverse; None beyond the largest rank, and for random columns."""
        if n > LARGEST_SVD or self.no_exact_setting is not None:
            return None
        return self.with_dials(rank=n, cutoff=0.0)

    @classmethod
    def showcase(cls) -> tuple[Self, ...]:
        """The SVD as a bound, and Nyström as a method, which refuses a causal sequence in a sentence of its own."""
        return (cls(), cls(variant="nystrom"))

    @property
    def no_exact_setting(self) -> str | None:
        """A random mix of all keys never equals the keys themselves."""
        if self.variant == "linformer" and self.projection == "gaussian":
            return "A Gaussian mix of n keys into n is not the keys themselves: the error at rank n is still above 1."
        return None

    @property
    def exact_tolerance(self) -> float:
        """Nyström's pseudo-inverse amplifies rounding."""
        return 1e-8 if self.variant == "nystrom" else 1e-10

    def ladder(self, n: int) -> tuple[Self, ...]:
        """Ranks from a sixteenth of the largest to the largest.

        Below rank n, Nyström leaves out singular values under 1 %: with the true pseudo-inverse, its error on Gaussian heads
        rises far above 1 before it falls.
        """
        largest = min(n, LARGEST_NYSTROM if self.variant == "nystrom" else LARGEST_SVD)
        ranks = sorted({max(1, largest // part) for part in (16, 8, 4, 2, 1)})
        if self.variant == "nystrom":
            return tuple(self.with_dials(rank=k, cutoff=0.0 if k == n else max(self.cutoff, 0.01)) for k in ranks)
        return tuple(self.with_dials(rank=k) for k in ranks)

    def with_budget(self, keys: int, n: int) -> Self:
        """As many columns as keys, for Nyström at most 1,024."""
        largest = LARGEST_NYSTROM if self.variant == "nystrom" else LARGEST_SVD
        return self.with_dials(rank=min(max(keys, 1), largest))

    @property
    def label(self) -> str:
        """The method, and for Linformer its projection."""
        if self.variant == "linformer":
            return {"mean": "Linformer, means", "gaussian": "Linformer, Gaussian", "fitted": "Linformer, fitted"}[self.projection]
        return "Nyström" if self.variant == "nystrom" else "SVD (oracle)"

    @property
    def parameters(self) -> Origin:
        """Only Linformer has parameters: drawn or fitted ones."""
        if self.variant != "linformer" or self.projection == "mean":
            return "none"
        return "random draw" if self.projection == "gaussian" else "fitted here"

    @property
    def not_stochastic(self) -> str | None:
        """Only Linformer's means give non-negative rows that sum to 1."""
        if self.variant == "svd":
            return "A truncated SVD has negative entries, and under a mask it is cut again without making rows sum to 1."
        if self.variant == "nystrom":
            return "The pseudo-inverse has negative entries, and so has the map."
        if self.projection != "mean":
            return "The projection of the values has negative entries; only means of tokens hand out shares."
        return None

    @property
    def differentiable(self) -> bool:
        """False for the SVD: where two singular values are equal, its gradient is infinite."""
        return self.variant != "svd"

    @property
    def depends_on_future(self) -> str | None:
        """The SVD is taken of the whole map, later rows included."""
        if self.variant == "svd":
            return (
                "The singular directions are those of the whole map: a later token turns them, and so moves the outputs "
                "before it. The SVD is an oracle, a yardstick and not a method."
            )
        return None

    def _cost(self, sequence: Sequence) -> Cost:
        h, d, e = sequence.h, sequence.d, sequence.e
        n = int(sequence.real.sum())
        k = min(self.rank, n)
        size = sequence.q.element_size()
        held = min(1 << 22, n * k)
        through = n * k * (d + e)
        moved = 2 * n * (d + e) + 2 * n * k
        if self.variant == "svd":
            pairs = n * (n + 1) // 2 if sequence.causal else n * n
            back = pairs * (k + e) if sequence.causal else 2 * n * k * e
            # Golub & Van Loan, table 8.6.1: 21·n³ operations for all of U, S and V.
            multiply_adds, moved, peak = pairs * d + 21 * n**3 // 2 + back, moved + 8 * n * n, 4 * n * n * size
        elif self.variant == "nystrom":
            size = 8
            multiply_adds = 2 * n * d + n * k * d + k * k * (d + e) + 12 * k**3 + through
            moved, peak = moved + 2 * n * k + 4 * k * k, 8 * (2 * held + n * (3 * d + 4 * e) + 6 * k * k)
        elif self.projection == "fitted":
            size, sample = 8, min(n, SAMPLE * k)
            fit = 2 * sample * n * d + sample * n * (e + 1) + sample * k * (d + e) + 10 * sample * k * k
            multiply_adds = 2 * n * d + fit + through
            moved, peak = (moved + 4 * sample * n, 8 * (2 * min(1 << 22, n * sample) + h * n * (2 * d + 2 * e) + 6 * sample * k))
        else:
            gaussian = self.projection == "gaussian"
            multiply_adds = n * (d + e) * (k if gaussian else 1) + through
            peak = size * (2 * held + (2 * 1024 * k if gaussian else n * (d + e)))
        return Cost(multiply_adds=h * multiply_adds, bytes_moved=h * size * moved, bytes_peak=peak)
