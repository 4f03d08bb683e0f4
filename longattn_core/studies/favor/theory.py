"""The paper's figures by closed form and by Monte Carlo: which features err less where, the sphere, orthogonal directions.

Source: Choromanski et al. 2020, arXiv:2009.14794: lemma 2 and figure 2 (ratio of mean squared errors over angle and
length), theorem 1 (SMREG), theorem 2 (orthogonal directions). Monte Carlo is used only where ‖x + y‖² ≤ 2: beyond, the
directions that contribute most of the mean are too rare for a million draws. Its intervals are of 99.9 %, from the spread
of independent batches.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field

from longattn_core.measures.theory import features as law
from longattn_core.sequences.sources import Source, SyntheticSource
from longattn_core.sequences.synthetic import Gaussian
from longattn_core.studies.base.study import Progress, Result, Study

BATCHES = 32
LEVEL = 0.999


def no_source() -> SyntheticSource:
    """A source for studies that read no sequence: always the same, so that all visitors share one result."""
    return SyntheticSource(settings=Gaussian(n=1, d=2, e=1))


class _Theory(Study):
    source: Source = Field(default_factory=no_source)
    seed: int = Field(0, ge=0, le=2**31 - 1)


def mean_and_interval(values: np.ndarray, *, log: bool = False) -> tuple[float, float, float]:
    """Mean of the batches' values and the ends of its 99.9 % interval by Student's t; with `log`, of the logarithms."""
    from scipy import stats

    x = np.log(values) if log else values
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(x) - 1) * x.std(ddof=1) / math.sqrt(len(x)))
    ends = (float(x.mean()), float(x.mean()) - half, float(x.mean()) + half)
    return tuple(math.exp(end) for end in ends) if log else ends  # type: ignore[return-value]


class RatioSurface(_Theory):
    """MSE of sines and cosines over MSE of positive features, for ‖x‖ = ‖y‖ = ℓ at angle φ: the paper's figure 2.

    Arrays: `angle [a]` over −π … π and `length [l]` over −2 … 2 (a negative length reverses both vectors; the figure is
    symmetric around the origin, as the paper draws it); `ratio [l a]`, infinite at ±π, where positive
    features are exact. Table `slice`: the closed form at ℓ = `length_of_slice`; `confirmable` where ‖x + y‖² ≤ 2.
    Table `measured`: Monte Carlo with its interval there.
    """

    key: ClassVar[str] = "favor.ratio_surface"
    length_of_slice: float = Field(1.0, gt=0, le=4)
    draws: int = Field(1 << 20, ge=1 << 10, le=1 << 23)

    def _run(self, progress: Progress) -> Result:
        angle, length = np.linspace(-math.pi, math.pi, 121), np.linspace(-2, 2, 81)
        ratio = law.mse_ratio(length[:, None], angle[None, :])
        # As ℓ falls to 0 so does the ratio, at every angle below π: that limit replaces 0/0.
        ratio = np.where(np.isnan(ratio), 0.0, ratio)
        fine = np.linspace(-math.pi, math.pi, 241)
        line = pd.DataFrame({"angle": fine, "ratio": law.mse_ratio(self.length_of_slice, fine)})
        line["sum_norm"] = 2 * self.length_of_slice**2 * (1 + np.cos(fine))
        line["confirmable"] = line["sum_norm"] <= law.CONFIRMABLE + 1e-9
        line["ratio"] = line["ratio"].where(np.isfinite(line["ratio"]) & (line["ratio"] > 0))
        measured = []
        # Below this angle ‖x + y‖² is above what can be confirmed; at π positive features are exact and the ratio infinite.
        least = math.acos(min(1.0, max(-1.0, law.CONFIRMABLE / (2 * self.length_of_slice**2) - 1)))
        angles = np.linspace(max(least, 0.08 * math.pi), 0.96 * math.pi, 8).tolist()
        for index, at in enumerate(angles):
            progress(index / len(angles), f"{self.draws:,} draws at {math.degrees(at):.0f}°")
            mean, low, high = self._drawn(self.length_of_slice, at, index)
            measured.append({"angle": at, "ratio": mean, "low": low, "high": high})
        drawn = pd.DataFrame.from_records(measured, columns=["angle", "ratio", "low", "high"])
        line.attrs["units"] = drawn.attrs["units"] = {"angle": "radians", "ratio": "times", "sum_norm": "‖x+y‖²"}
        return Result(
            study=self, arrays={"angle": angle, "length": length, "ratio": ratio}, tables={"slice": line, "measured": drawn}
        )

    def _drawn(self, length: float, angle: float, index: int) -> tuple[float, float, float]:
        """The ratio of the two measured errors. x and y span a plane, so only two coordinates of ω matter."""
        generator = np.random.default_rng((self.seed, index))
        x, y = np.array([length, 0.0]), length * np.array([math.cos(angle), math.sin(angle)])
        exact, ratios = math.exp(float(x @ y)), []
        for _batch in range(BATCHES):
            omega = generator.standard_normal((self.draws // BATCHES, 2))
            a, b = omega @ x, omega @ y
            sine = math.exp(length**2) * np.cos(a - b)
            positive = math.exp(-(length**2)) * np.exp(a + b)
            ratios.append(((sine - exact) ** 2).mean() / ((positive - exact) ** 2).mean())
        return mean_and_interval(np.array(ratios), log=True)


class Symmetry(_Theory):
    """The mirror between two kinds: hyperbolic features err at (x, y) as sines and cosines do at (x, −y).

    Both errors, relative to the kernel, are √((cosh s − 1)/m), with s = ‖x + y‖² for hyperbolic and ‖x − y‖² for
    trigonometric features. Table `curves`: relative error for m = 1 by angle and kind, by closed form, at one length.
    """

    key: ClassVar[str] = "favor.symmetry"
    length: float = Field(1.0, gt=0, le=4)

    def _run(self, progress: Progress) -> Result:
        angle = np.linspace(0, math.pi, 91)
        x = np.tile([self.length, 0.0], (len(angle), 1))
        y = self.length * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        exact = law.kernel(x, y)
        forms = {"positive": law.mse_positive, "hyperbolic": law.mse_hyperbolic, "trigonometric": law.mse_trigonometric}
        table = pd.concat(
            [
                pd.DataFrame({"angle": angle, "features": name, "deviation": np.sqrt(form(x, y, 1)) / exact})
                for name, form in forms.items()
            ],
            ignore_index=True,
        )
        table.attrs["units"] = {"angle": "radians", "deviation": "times the kernel, for one direction"}
        return Result(study=self, tables={"curves": table})


class SphereKernel(_Theory):
    """SMREG over SM against ‖x + y‖², exactly and by Monte Carlo, for several widths d, with the paper's lower bound.

    Table `curves`: by `d` the exact ratio; Table `measured`: Monte Carlo with its interval, where ‖x + y‖² ≤ 2. Table `bounds`:
    1 − 2/d^{1/3} for each d, and `holds_to`, up to which ‖x + y‖² the exact ratio stays above it.
    """

    key: ClassVar[str] = "favor.sphere_kernel"
    widths: tuple[int, ...] = (4, 16, 64, 256)
    draws: int = Field(1 << 17, ge=1 << 10, le=1 << 21)

    def _run(self, progress: Progress) -> Result:
        squares = np.linspace(0, 64, 129)
        curves, bounds, measured = [], [], []
        for index, d in enumerate(self.widths):
            progress(index / len(self.widths), f"d = {d}")
            ratio = law.smreg_ratio(np.sqrt(squares), d)
            curves.append(pd.DataFrame({"sum_norm": squares, "d": f"d = {d}", "ratio": ratio}))
            bound = float(law.smreg_bound(d))
            below = squares[ratio < bound]
            bounds.append({"d": d, "bound": bound, "holds_to": float(below[0]) if len(below) else math.inf})
            # Only the first coordinate of a uniform direction matters; its square is Beta(1/2, (d − 1)/2).
            generator = np.random.default_rng((self.seed, d))
            size = (BATCHES, self.draws // BATCHES)
            first = np.sqrt(generator.beta(0.5, (d - 1) / 2, size)) * np.where(generator.random(size) < 0.5, -1, 1)
            for square in (0.5, 1.0, 2.0):
                values = np.exp(math.sqrt(d * square) * first - square / 2).mean(-1)
                mean, low, high = mean_and_interval(values)
                measured.append({"sum_norm": square, "d": f"d = {d}", "ratio": mean, "low": low, "high": high})
        line, drawn = pd.concat(curves, ignore_index=True), pd.DataFrame.from_records(measured)
        line.attrs["units"] = drawn.attrs["units"] = {"sum_norm": "‖x+y‖²", "ratio": "of the softmax kernel"}
        return Result(study=self, tables={"curves": line, "measured": drawn, "bounds": pd.DataFrame.from_records(bounds)})


class Orthogonality(_Theory):
    """MSE of positive features with m = d orthogonal directions over that of independent ones, against ‖x + y‖², for x = y.

    Table `curves`: closed form by `d`. Table `measured`: Monte Carlo with its interval, where ‖x + y‖² ≤ 2, with the draw of
    the mechanism itself.
    """

    key: ClassVar[str] = "favor.orthogonality"
    widths: tuple[int, ...] = (4, 16, 64)
    blocks: int = Field(4096, ge=64, le=1 << 16)

    def _run(self, progress: Progress) -> Result:
        squares = np.linspace(0.05, 8, 160)
        curves, measured = [], []
        for index, d in enumerate(self.widths):
            progress(index / len(self.widths), f"d = {d}")
            curves.append(pd.DataFrame({"sum_norm": squares, "d": f"d = {d}", "ratio": orthogonal_ratio(squares, d)}))
            for square in (0.5, 1.0, 2.0):
                mean, low, high = self._drawn(d, square)
                measured.append({"sum_norm": square, "d": f"d = {d}", "ratio": mean, "low": low, "high": high})
        line, drawn = pd.concat(curves, ignore_index=True), pd.DataFrame.from_records(measured)
        line.attrs["units"] = drawn.attrs["units"] = {"sum_norm": "‖x+y‖²", "ratio": "of independent directions' error"}
        return Result(study=self, tables={"curves": line, "measured": drawn})

    def _drawn(self, d: int, square: float) -> tuple[float, float, float]:
        """Measured error of orthogonal blocks over the closed form of independent ones, so that only one of them is noisy.

        Along one direction a Haar block's first coordinates are a uniform unit vector u, so ω_i·z = z·χ_i·u_i.
        """
        generator = np.random.default_rng((self.seed, d, round(1000 * square)))
        x = np.zeros(d)
        x[0] = math.sqrt(square) / 2
        exact, plain = float(law.kernel(x, x)), float(law.mse_positive(x, x, d))
        errors = []
        for _batch in range(BATCHES):
            u = generator.standard_normal((self.blocks // BATCHES * 16, d))
            u /= np.linalg.norm(u, axis=1, keepdims=True)
            lengths = np.sqrt(generator.chisquare(d, u.shape))
            estimate = np.exp(math.sqrt(square) * lengths * u - square / 2).mean(1) * exact
            errors.append(((estimate - exact) ** 2).mean() / plain)
        return mean_and_interval(np.array(errors))


def orthogonal_ratio(sum_norm: npt.ArrayLike, d: int) -> np.ndarray:
    """The closed form of `Orthogonality`'s ratio at each ‖x + y‖², for x = y."""
    square = np.asarray(sum_norm, dtype=np.float64)
    x = np.zeros((*square.shape, d))
    x[..., 0] = np.sqrt(square) / 2
    independent = law.mse_positive(x, x, d)
    return np.asarray((independent - law.orthogonal_gain(x, x, d)) / independent)


def count_inside(measured: pd.DataFrame, exact: np.ndarray) -> int:
    """How many of the exact values lie in the measured intervals (`low` … `high`), row by row."""
    return int(((measured["low"].to_numpy() <= exact) & (exact <= measured["high"].to_numpy())).sum())
