"""The cost of every mechanism at one budget of keys or features, by its own formula, from 64 to 65,536 tokens."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from longattn_core.contracts.mechanism import Cost, Mechanism
from longattn_core.contracts.sequence import Sequence
from longattn_core.measures.cost import CostPoint, counted_at, hollow
from longattn_core.registry import mechanism, mechanisms
from longattn_core.studies.base.cache import SingleFlightCache
from longattn_core.studies.base.study import Progress, Result, Study

Quantity = Literal["multiply_adds", "bytes_moved", "bytes_held"]
QUANTITIES: tuple[Quantity, ...] = ("multiply_adds", "bytes_moved", "bytes_held")
"""`bytes_held` is the peak with queries, keys, values and output, which every mechanism holds alike."""

LENGTHS = tuple(1 << power for power in range(6, 17))
"""64 … 65,536 tokens."""

BUDGETS = (16, 32, 64, 128, 256, 512, 1024)
"""The budgets that a visitor chooses between: keys or features per query."""

FINE = 256
"""A crossing beyond twice this many tokens is found to one part in this many."""
OCTAVES = 3
"""Doublings of n over which an exponent is fitted: over a single one, rounding to whole blocks would change it."""

NUMBER_BYTES = 4
"""Costs are counted in float32."""
MEMORY = 16 * 2**30
"""The page says at which length this much memory is full: 16 GB."""
WHOLE = "n × n, held whole"
STEEP = 1.5
"""From this power of n on, what is held is carried on by its power, below along a line."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a cost depends on besides n: the widths of keys and values, and the mask. One head."""

    d: int
    e: int
    causal: bool

    def of(self, cost: Cost, what: Quantity, n: int) -> float:
        """One quantity of a cost at n tokens."""
        if what == "bytes_held":
            return float(cost.bytes_peak + NUMBER_BYTES * n * 2 * (self.d + self.e))
        return float(getattr(cost, what))


_counted: SingleFlightCache[CostPoint] = SingleFlightCache(size=8192)


class CostCurves(Study):
    """One head of the source's widths and mask; every showcased mechanism with about `keys` keys or features a query.

    Tables: `points`, a row a mechanism and length (NaN with the reason in `refusal` where it cannot read it); `crossings`, for
    each approximating mechanism that can read the shape, and each quantity, the least n from which on it needs less than exact
    attention (NaN: at no length here); `complexity`, a row a mechanism. `arrays["n"]` is the length of the source's own
    sequence, which is among the lengths; `d` and `e` its widths.
    """

    key: ClassVar[str] = "cost.curves"
    keys: int = Field(64, ge=1, le=65536)

    def _run(self, progress: Progress) -> Result:
        sequence = self.sequence()
        shape = Shape(d=sequence.d, e=sequence.e, causal=sequence.causal)
        lengths = sorted({*LENGTHS, sequence.n})
        records, crossings, summaries = [], [], []
        mechanisms = showcased()
        exact = mechanism("exact")
        for index, (label, shown) in enumerate(mechanisms.items()):
            progress(index / len(mechanisms), label)
            points = [counted(shown, self.keys, n, shape) for n in lengths]
            records += [_record(shown, label, point, shape) for point in points]
            crossed: dict[Quantity, float] = {}
            readable = any(isinstance(point.cost, Cost) for point in points)
            if readable and shown.approximates and shown.key != "exact":
                crossed = {what: self._crossing(shown, exact, points, what, shape) for what in QUANTITIES}
                crossings += [{"key": shown.key, "label": label, "quantity": what, "n": n} for what, n in crossed.items()]
            summaries.append(_summary(shown, label, points, crossed.get("multiply_adds", np.nan), sequence.n, shape))
        tables = {
            "points": pd.DataFrame.from_records(records),
            "crossings": pd.DataFrame.from_records(crossings),
            "complexity": pd.DataFrame.from_records(summaries),
        }
        counted_units = {"multiply_adds": "multiply-adds", "bytes_moved": "bytes", "bytes_held": "bytes"}
        tables["points"].attrs["units"] = {"n": "tokens", **counted_units}
        tables["crossings"].attrs["units"] = {"n": "tokens"}
        tables["complexity"].attrs["units"] = {
            **counted_units,
            "exponent": "power of n",
            "memory exponent": "power of n",
            "pays from": "tokens",
            "memory ends": "tokens",
        }
        arrays = {"n": np.array(sequence.n), "d": np.array(sequence.d), "e": np.array(sequence.e)}
        return Result(study=self, arrays=arrays, tables=tables)

    def _crossing(self, shown: Mechanism, exact: Mechanism, points: list[CostPoint], what: Quantity, shape: Shape) -> float:
        def cheaper(n: int) -> bool:
            own, of_exact = counted(shown, self.keys, n, shape).cost, counted(exact, self.keys, n, shape).cost
            if not (isinstance(own, Cost) and isinstance(of_exact, Cost)):
                return False
            return shape.of(own, what, n) < shape.of(of_exact, what, n)

        # Only between the fixed lengths, whatever the sequence's own is: what was counted for one text serves all.
        return crossing(cheaper, [point.n for point in points if isinstance(point.cost, Cost) and point.n in LENGTHS])


def showcased() -> dict[str, Mechanism]:
    """The settings that are compared, by their labels; exact attention is the first."""
    return {shown.label: shown for kind in mechanisms().values() for shown in kind.showcase()}


def counted(shown: Mechanism, keys: int, n: int, shape: Shape) -> CostPoint:
    """The cost of n tokens at this budget, computed once in the process."""
    setting, name = _named(shown, min(keys, n), n)
    return _counted.get(f"{name} {shape}", lambda: counted_at(setting, _hollow(n, shape)))


@lru_cache(maxsize=1 << 14)
def _named(shown: Mechanism, keys: int, n: int) -> tuple[Mechanism, str]:
    """A mechanism at a budget, and the name under which its cost is kept. Cached: called a thousand times at a dial's move."""
    setting = shown.with_budget(keys, n)
    return setting, f"{setting.key} {setting.model_dump_json()} {n}"


@lru_cache(maxsize=32)
def _hollow(n: int, shape: Shape) -> Sequence:
    return hollow(n, d=shape.d, e=shape.e, causal=shape.causal)


def crossing(cheaper: Callable[[int], bool], lengths: list[int]) -> float:
    """The least n from which on `cheaper` holds at every one of the lengths, found by bisection between two of them.

    Exact below 2·`FINE` tokens, beyond to one part in `FINE`, because the counts of random buckets have no finer meaning.
    NaN when it does not hold at the longest; the shortest length when it holds at all of them.
    """
    last = next((index for index in reversed(range(len(lengths))) if not cheaper(lengths[index])), None)
    if last is None:
        return float(lengths[0]) if lengths else np.nan
    if last == len(lengths) - 1:
        return np.nan
    low, high = lengths[last], lengths[last + 1]
    while high - low > max(1, low // FINE):
        middle = (low + high) // 2
        low, high = (low, middle) if cheaper(middle) else (middle, high)
    return float(high)


def _record(shown: Mechanism, label: str, point: CostPoint, shape: Shape) -> dict[str, object]:
    cost = point.cost
    return {
        "key": shown.key,
        "label": label,
        "approximates": shown.approximates,
        "n": point.n,
        **_values(point, shape),
        "refusal": "" if isinstance(cost, Cost) else cost.reason,
    }


def _values(point: CostPoint, shape: Shape) -> dict[str, float]:
    cost = point.cost
    return {what: shape.of(cost, what, point.n) if isinstance(cost, Cost) else np.nan for what in QUANTITIES}


def _summary(shown: Mechanism, label: str, points: list[CostPoint], pays: float, n: int, shape: Shape) -> dict[str, object]:
    now = next(point for point in points if point.n == n)
    known = [point for point in points if isinstance(point.cost, Cost) and point.n in LENGTHS]
    held = {point.n: _values(point, shape)["bytes_held"] for point in known}
    return {
        "key": shown.key,
        "label": label,
        "family": shown.family,
        "idea": type(shown).idea,
        "textbook": type(shown).complexity,
        "exponent": _power({point.n: _values(point, shape)["multiply_adds"] for point in known}),
        "memory exponent": _power(held),
        **_values(now, shape),
        "memory ends": _ends(held),
        "pays from": pays,
        "refusal": "" if isinstance(now.cost, Cost) else now.cost.reason,
        "leaks": shown.depends_on_future or "",
    }


def _power(values: Mapping[int, float]) -> float:
    """The power of n by which values grow over the last `OCTAVES` doublings; NaN for fewer than two lengths."""
    if len(values) < 2:
        return np.nan
    lengths = sorted(values)
    low, high = lengths[max(0, len(lengths) - 1 - OCTAVES)], lengths[-1]
    return float(np.log(values[high] / values[low]) / np.log(high / low))


def _ends(held: Mapping[int, float]) -> float:
    """The length at which the bytes held reach `MEMORY`, extrapolated from the last lengths; NaN for fewer than two lengths.

    Growth that is about linear is carried on along a line, faster growth by its power (`STEEP`).
    """
    if len(held) < 2:
        return np.nan
    before, last = sorted(held)[-2:]
    power = _power(held)
    if power > STEEP:
        return float(last * (MEMORY / held[last]) ** (1 / power))
    return float(last + (MEMORY - held[last]) * (last - before) / (held[last] - held[before]))


def whole_map(lengths: Collection[int], shape: Shape) -> pd.DataFrame:
    """What exact attention holds where all n × n scores of one head are held at once, as it was first written."""
    held = [NUMBER_BYTES * float(n * n + 2 * n * (shape.d + shape.e)) for n in lengths]
    table = pd.DataFrame({"n": list(lengths), "bytes_held": held, "label": WHOLE, "key": "exact"})
    table.attrs["units"] = {"n": "tokens", "bytes_held": "bytes"}
    return table


def whole_map_ends(shape: Shape) -> int:
    """The longest n whose n × n map and inputs fit into `MEMORY`: n² + 2n(d + e) = MEMORY / 4."""
    half = shape.d + shape.e
    return int(np.sqrt(half**2 + MEMORY / NUMBER_BYTES) - half)
