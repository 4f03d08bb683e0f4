"""What the measurements of random features find: a kind, which chooses the sentence, and its numbers, by tested rules."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from longattn_core.studies.base.study import Result

CLOSE = 0.5
"""An error of at most this share of the control's is close."""
ALIKE = 0.05
"""Errors that differ by at most this share are alike."""
NOTHING = 0.9
"""Without the sinks, an output that errs at least this much (giving out nothing errs 1) has found nothing else."""
NO_CONTRAST = 1e-3
"""Where the mean of the visible values errs less, exact attention is that mean, and there is nothing to estimate."""
SIMILAR = 1.1
"""Errors within this factor of one another are alike."""

Kind = Literal["close", "better", "sinks", "alike", "fails", "breaks", "equal", "alone"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The output's error beside its control, with and without sinks, and the counted cost over exact attention's.

    - `alone`: one token; `equal`: exact attention is the plain mean; `breaks`: sums of estimated weights below 0, and no
      better than the control; `sinks`: better than the control only by the sinks; `close`, `better`, `alike`, `fails`: the
      error is at most half of the control, below it, about it, above it.
    """

    kind: Kind
    error: float
    control: float
    error_without_sinks: float
    control_without_sinks: float
    sinks: int
    negative: float
    cost: float

    @property
    def cheaper(self) -> bool:
        """Whether fewer operations were counted than exact attention needs."""
        return self.cost < 1


def finding(result: Result) -> Finding:
    """Read a `Pairs` result."""
    row = result.tables["output"].iloc[0]
    numbers = {name: float(row[name]) for name in ("error", "control", "error without sinks", "control without sinks")}
    error, control = numbers["error"], numbers["control"]
    negative, sinks = float(row["negative_denominators"]), int(row["sinks"])
    return Finding(
        kind=_kind(int(row["n"]), sinks, negative, numbers),
        error=error,
        control=control,
        error_without_sinks=numbers["error without sinks"],
        control_without_sinks=numbers["control without sinks"],
        sinks=sinks,
        negative=negative,
        cost=float(row["multiply_adds"]) / float(row["exact_multiply_adds"]),
    )


def _kind(n: int, sinks: int, negative: float, numbers: dict[str, float]) -> Kind:
    error, control = numbers["error"], numbers["control"]
    if n < 2:
        return "alone"
    if control < NO_CONTRAST:
        return "equal"
    better = error < (1 - ALIKE) * control
    if negative > 0 and not better:
        return "breaks"
    if better and sinks and numbers["error without sinks"] >= NOTHING * min(1.0, numbers["control without sinks"]):
        return "sinks"
    if error <= CLOSE * control:
        return "close"
    if better:
        return "better"
    return "alike" if error <= (1 + ALIKE) * control else "fails"


@dataclass(frozen=True, kw_only=True)
class Enough:
    """From which size on positive features with orthogonal directions err at most half as much as the control.

    `never`: at no measured size below the control; `better`: below it from `size` on, but never at half; `enough`: at half
    from `size` on. `best` is the kind of feature with the smallest error at the largest size measured by all.
    """

    kind: Literal["enough", "better", "never"]
    size: int
    error: float
    control: float
    largest: int
    best: str
    best_error: float


def enough(result: Result) -> Enough | None:
    """Read an `ErrorAgainstFeatures` result; None while it holds no positive features yet."""
    table, control = result.tables["output"], float(result.tables["points"]["control"].iloc[0])
    own = table[(table["family"] == "positive") & (table["directions"] == "orthogonal")].sort_values("size")
    if own.empty:
        return None
    last = table[table["size"] == int(own["size"].max())].sort_values("error").iloc[0]
    half, below = _from_there(own, 0.5 * control), _from_there(own, control)
    kind: Literal["enough", "better", "never"] = "never" if below.empty else "better" if half.empty else "enough"
    first = (own.iloc[-1:] if below.empty else below if half.empty else half).iloc[0]
    return Enough(
        kind=kind,
        size=int(first["size"]),
        error=float(first["error"]),
        control=control,
        largest=int(own["size"].max()),
        best=f"{last['family']}, {last['directions']}",
        best_error=float(last["error"]),
    )


def _from_there(own: pd.DataFrame, limit: float) -> pd.DataFrame:
    """The rows from which on no error lies above the limit: a lucky draw at few features is no rule."""
    good = (own["error"] <= limit).to_numpy()
    return own[np.minimum.accumulate(good[::-1])[::-1]]


@dataclass(frozen=True, kw_only=True)
class Reach:
    """At which sharpness random features err less than the mean of the visible values."""

    kind: Literal["everywhere", "somewhere", "nowhere"]
    better: tuple[float, ...]
    worse: tuple[float, ...]


def reach(result: Result) -> Reach | None:
    """Read an `ErrorAgainstSharpness` result; None while no β is measured."""
    curves = result.tables["curves"]
    wide = curves.pivot_table(index="beta", columns="curve", values="error")
    if "random features" not in wide or wide.empty:
        return None
    below = wide["random features"] < wide["mean of visible values"]
    better, worse = (tuple(float(beta) for beta in wide.index[mask]) for mask in (below, ~below))
    return Reach(kind="nowhere" if not better else "somewhere" if worse else "everywhere", better=better, worse=worse)


@dataclass(frozen=True, kw_only=True)
class Suited:
    """How many heads of the sample random features suit, and the extremes."""

    kind: Literal["few", "most"]
    heads: int
    closer: int
    sinks: int
    worse: int
    best: str
    best_error: float
    best_control: float


def suited(points: pd.DataFrame) -> Suited:
    """Read the points of a `HeadsSuited` result."""
    count = {kind: int((points["kind"] == kind).sum()) for kind in set(points["kind"])}
    closer = points[points["kind"] == "closer than the mean"]
    best = (closer if len(closer) else points).sort_values("gain").iloc[0]
    honest = count.get("closer than the mean", 0)
    return Suited(
        kind="most" if 2 * honest > len(points) else "few",
        heads=len(points),
        closer=honest,
        sinks=count.get("finds only sinks", 0),
        worse=count.get("worse than the mean", 0),
        best=str(best["name"]),
        best_error=float(best["error"]),
        best_control=float(best["control"]),
    )


@dataclass(frozen=True, kw_only=True)
class Broken:
    """Whether sums of trigonometric weights fall below 0 (`breaks`), only near it (`near`), or stay clear (`holds`)."""

    kind: Literal["breaks", "near", "holds"]
    negative: float
    small: float
    largest: float
    error: float
    positive_small: float
    positive_error: float


def broken(result: Result) -> Broken:
    """Read a `Denominators` result."""
    table = result.tables["kinds"]
    rows = {str(row["features"]): row for row in table.to_dict("records")}
    sine, positive = rows["trigonometric"], rows["positive"]
    kind: Literal["breaks", "near", "holds"] = "near" if sine["small"] > 0 else "holds"
    return Broken(
        kind="breaks" if sine["negative"] > 0 else kind,
        negative=sine["negative"],
        small=sine["small"],
        largest=sine["largest"],
        error=sine["error"],
        positive_small=positive["small"],
        positive_error=positive["error"],
    )


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How far one draw's error differs from another's, and which way of joining draws ends lower."""

    kind: Literal["ratio", "outputs", "alike"]
    draws: int
    low: float
    high: float
    ratio: float
    outputs: float
    control: float


def spread(result: Result) -> Spread:
    """Read a `Redraws` result."""
    errors, joined = result.tables["draws"]["error"], result.tables["joined"]
    last = joined[joined["together"] == joined["together"].max()].set_index("way")["error"]
    ratio, outputs = float(last["all features in one ratio"]), float(last["mean of the outputs"])
    alike = max(ratio, outputs) <= SIMILAR * min(ratio, outputs)
    return Spread(
        kind="alike" if alike else "ratio" if ratio < outputs else "outputs",
        draws=len(errors),
        low=float(errors.min()),
        high=float(errors.max()),
        ratio=ratio,
        outputs=outputs,
        control=float(result.arrays["control"]),
    )


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """Fitted against drawn features at the widest width that both were measured at."""

    kind: Literal["learned", "drawn", "alike"]
    columns: int
    learned: float
    drawn: float
    control: float


def fitted(result: Result) -> Fitted | None:
    """Read a `LearnedAgainstDrawn` result; None while no width has both."""
    wide = result.tables["curves"].pivot_table(index="columns", columns="features", values="error").dropna()
    if wide.empty or set(wide) != {"drawn", "learned"}:
        return None
    columns, last = int(wide.index.max()), wide.loc[wide.index.max()]
    learned, drawn = float(last["learned"]), float(last["drawn"])
    alike = max(learned, drawn) <= SIMILAR * min(learned, drawn)
    return Fitted(
        kind="alike" if alike else "learned" if learned < drawn else "drawn",
        columns=columns,
        learned=learned,
        drawn=drawn,
        control=float(result.tables["points"]["control"].iloc[0]),
    )


@dataclass(frozen=True, kw_only=True)
class Stray:
    """How far a single estimate is expected to stray at the median norm, and how many features half of its value would take.

    `gentle`: at most half of its value; `noisy`: at most ten times; `hopeless`: more; `other`: another kernel is estimated.
    """

    kind: Literal["gentle", "noisy", "hopeless", "other"]
    norm: float
    expected: float
    found: float
    needed: float


def stray(deviations: pd.DataFrame, m: int) -> Stray:
    """Read the table of `deviations`; `m` is the number of directions that it was measured with."""
    if deviations.empty:
        return Stray(kind="other", norm=math.nan, expected=math.nan, found=math.nan, needed=math.nan)
    wide = deviations.pivot_table(index="norm", columns="curve", values="deviation", dropna=False)
    middle = wide.iloc[len(wide) // 2]
    expected = float(middle["expected"])
    kind: Literal["gentle", "noisy", "hopeless"] = "gentle" if expected <= 0.5 else "noisy"
    return Stray(
        kind="hopeless" if expected > 10 else kind,
        norm=float(wide.index[len(wide) // 2]),
        expected=expected,
        found=float(middle["half of the pairs stray less"]),
        needed=m * (expected / 0.5) ** 2,
    )
