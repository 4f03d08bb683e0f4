"""Times in interleaved rounds: in every round each cell runs once, so that a slow moment of the machine affects all alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter

import torch

SLOW = 3.0
"""A first call of more than this many seconds counts, instead of being only the warm-up; it is repeated once at most."""

COMPILING = 3.0
"""A first call that takes this many times as long as the second has compiled something, so it does not count."""

STEEPEST = 2.0
"""The highest power of n for extrapolation: nothing that is timed here grows faster."""

Note = Callable[[str, str, float | str], None]


@dataclass(frozen=True, kw_only=True)
class Time:
    """Seconds of one call, measured or `extrapolated` from shorter lengths; or the `reason` why there is no time."""

    seconds: float = math.nan
    extrapolated: bool = False
    reason: str | None = None


@dataclass(kw_only=True)
class Spent:
    """Seconds of a cell's `first` call and of the calls `after` it, or why it has `failed`."""

    first: float | None = None
    after: list[float] = field(default_factory=list)
    failed: str | None = None

    @property
    def slow(self) -> bool:
        """Whether the first call counts: it takes long, and the second does not show that it was compiling."""
        if self.first is None or self.first <= SLOW:
            return False
        return not self.after or self.after[0] > self.first / COMPILING

    def whole(self, rounds: int) -> bool:
        """Whether all calls have been made."""
        return self.failed is not None or len(self.after) >= (min(rounds, 1) if self.slow else rounds)

    @property
    def time(self) -> Time:
        """The median of the calls that count."""
        if self.failed is not None:
            return Time(reason=self.failed)
        if self.first is None:
            return Time(reason="no time was left")
        counted = [self.first, *self.after] if self.slow else self.after
        return Time(seconds=median(counted or [self.first]))


def extrapolated(known: Mapping[int, float], n: int) -> float | None:
    """Seconds at n by the power of n through the two longest measured lengths (at most n²); None with fewer than two."""
    if len(known) < 2:
        return None
    (short, little), (long, much) = sorted(known.items())[-2:]
    power = min(max(math.log(much / little) / math.log(long / short), 0.0), STEEPEST)
    return much * (n / long) ** power


def too_long(known: Mapping[int, float], n: int, limit: float) -> bool:
    """Whether a call at n is expected to take more than `limit` seconds; from a single length, by linear growth."""
    if not known:
        return False
    expected = extrapolated(known, n)
    if expected is None:
        ((length, seconds),) = known.items()
        expected = seconds * n / length
    return expected > limit


def interleaved(
    calls: Mapping[str, Callable[[], Callable[[], object]]],
    *,
    rounds: int,
    over: Callable[[], bool],
    check: Callable[[str, object], None] = lambda name, result: None,
    earlier: Mapping[str, Spent] | None = None,
    note: Note = lambda name, kind, finding: None,
) -> dict[str, Time]:
    """The median time of each call over some rounds, after a warm-up whose result goes to `check`, untimed.

    - A call is prepared again before each of its runs, untimed, so that only one call holds its inputs at a time.
    - A call that raises is not run again.
    - When `over()` is true no further call is made; a call without a time has this as its reason.
    - `earlier` holds the times of a run that was stopped: such calls are warmed up again, and only missing rounds are timed.
    - Each finished call is reported to `note`: the name of the cell, `first`, `after` or `failed`, and the seconds or reason.
    """
    spent = {name: (earlier or {}).get(name) or Spent() for name in calls}
    # The first call of a slow cell has counted, so no warm-up is needed.
    warm = {name for name, so_far in spent.items() if so_far.slow}
    with torch.inference_mode():
        for _ in range(rounds + 1):
            for name, prepare in calls.items():
                so_far = spent[name]
                if so_far.whole(rounds) or over():
                    continue
                try:
                    call = prepare()
                    begun = perf_counter()
                    result = call()
                    seconds = perf_counter() - begun
                    if so_far.first is None:
                        check(name, result)
                    del call, result
                except Exception as error:  # a peer may fail in any way, which its cell reports
                    so_far.failed = f"does not run: {type(error).__name__}: {str(error).splitlines()[0][:120]}"
                    note(name, "failed", so_far.failed)
                    continue
                if so_far.first is None:
                    so_far.first = seconds
                    note(name, "first", seconds)
                elif name in warm:
                    so_far.after.append(seconds)
                    note(name, "after", seconds)
                warm.add(name)
    return {name: so_far.time for name, so_far in spent.items()}
