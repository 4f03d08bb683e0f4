"""What the estimate of a head's pairs comes to: a kind, which chooses the page's answer, and its numbers, by tested rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from longattn_core.studies.base.study import Result

CLOSE = 0.5
"""An error of at most this share of the control's is close."""
ALIKE = 0.05
"""An error is like its control where the two differ by at most this share of the control."""
NOTHING = 0.9
"""Without the sinks, an output that errs at least this much (giving out nothing errs 1) has found nothing else."""
NO_CONTRAST = 1e-3
"""Where the mean of the visible values errs less, exact attention is that mean, and there is nothing to estimate."""
SIMILAR = 1.1
"""Two ways of estimating are alike where their errors differ by at most this factor."""

Kind = Literal["close", "better", "sinks", "alike", "fails", "breaks", "equal", "alone"]


@dataclass(frozen=True, kw_only=True)
class PairsFinding:
    """The output's error and its control, the error without the sinks, and the counted cost over exact attention's.

    - `alone`: one token; `equal`: exact attention is the plain mean; `breaks`: sums of estimated weights below 0, and no
      better than the control; `sinks`: better than the control only by the sinks; `close`, `better`, `alike`, `fails`: the
      error is at most half of the control, below it, about it, above it.
    """

    kind: Kind
    error: float
    control: float
    error_without_sinks: float
    sinks: int
    negative: float
    cost: float

    @property
    def cheaper(self) -> bool:
        """Whether fewer operations were counted than exact attention needs."""
        return self.cost < 1


def pairs_finding(result: Result) -> PairsFinding:
    """Read a `Pairs` result."""
    row = result.tables["output"].iloc[0]
    numbers = {name: float(row[name]) for name in ("error", "control", "error without sinks", "control without sinks")}
    negative, sinks = float(row["negative_denominators"]), int(row["sinks"])
    return PairsFinding(
        kind=kind_of_output(int(row["n"]), sinks, negative, numbers),
        error=numbers["error"],
        control=numbers["control"],
        error_without_sinks=numbers["error without sinks"],
        sinks=sinks,
        negative=negative,
        cost=float(row["multiply_adds"]) / float(row["exact_multiply_adds"]),
    )


def kind_of_output(n: int, sinks: int, negative: float, numbers: dict[str, float]) -> Kind:
    """The kind that the errors of n tokens are; `negative` is the share of queries whose sum of weights is below 0."""
    error, control = numbers["error"], numbers["control"]
    if n < 2:
        return "alone"
    if control < NO_CONTRAST:
        return "equal"
    better = error < (1 - ALIKE) * control
    if negative > 0 and not better:
        return "breaks"
    if better and only_sinks(sinks, numbers["error without sinks"], numbers["control without sinks"]):
        return "sinks"
    if error <= CLOSE * control:
        return "close"
    if better:
        return "better"
    return "alike" if error <= (1 + ALIKE) * control else "fails"


def only_sinks(sinks: int, error: float, control: float) -> bool:
    """Whether an output has found nothing but the head's sinks; the error and its control are those without them."""
    return sinks > 0 and error >= NOTHING * min(1.0, control)


def similar(first: float, second: float) -> bool:
    """Whether two errors differ by at most the factor `SIMILAR`."""
    return max(first, second) <= SIMILAR * min(first, second)
