"""Times by interleaved rounds: in every round each cell runs once, so that a slow moment of the machine hits all alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter

import torch

SLOW = 3.0
"""Seconds of a call that is not only a warm-up but counts, and is repeated once at most."""

COMPILING = 3.0
"""A first call that takes so many times as long as the second did something else besides."""

STEEPEST = 2.0
"""The highest power of n that is carried on: nothing that is timed here grows faster."""

Note = Callable[[str, str, float | str], None]


@dataclass(frozen=True, kw_only=True)
class Time:
    """Seconds of one call; `extrapolated` from shorter lengths; or the sentence why there is none."""

    seconds: float = math.nan
    extrapolated: bool = False
    reason: str | None = None


@dataclass(kw_only=True)
class Spent:
    """Seconds of a cell's `first` call and of those `after` it, or why it has `failed`."""

    first: float | None = None
    after: list[float] = field(default_factory=list)
    failed: str | None = None

    @property
    def slow(self) -> bool:
        """Whether one call takes so long that the first counts; not if the second shows that the first was compiling."""
        if self.first is None or self.first <= SLOW:
            return False
        return not self.after or self.after[0] > self.first / COMPILING

    def whole(self, rounds: int) -> bool:
        """Whether nothing is left to be run."""
        return self.failed is not None or len(self.after) >= (min(rounds, 1) if self.slow else rounds)

    @property
    def time(self) -> Time:
        """The median of what counts."""
        if self.failed is not None:
            return Time(reason=self.failed)
        if self.first is None:
            return Time(reason="no time was left")
        counted = [self.first, *self.after] if self.slow else self.after
        return Time(seconds=median(counted or [self.first]))


def extrapolated(known: Mapping[int, float], n: int) -> float | None:
    """Seconds at n by the power of n through the two longest measured lengths, at most its square; None when fewer than
    two are known.
    """
    if len(known) < 2:
        return None
    (short, little), (long, much) = sorted(known.items())[-2:]
    power = min(max(math.log(much / little) / math.log(long / short), 0.0), STEEPEST)
    return much * (n / long) ** power


def too_long(known: Mapping[int, float], n: int, limit: float) -> bool:
    """Whether a call at n is expected to take more than `limit` seconds; with one known length, as if it grew with n."""
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
    look: Callable[[str, object], None] = lambda name, result: None,
    earlier: Mapping[str, Spent] | None = None,
    note: Note = lambda name, kind, found: None,
) -> dict[str, Time]:
    """The median of each call's rounds, after one that warms up and whose result is given to `look`, untimed.

    A call is prepared anew before each of its runs, untimed, so that only one holds its inputs at a time. One that
    raises is not run again. When `over()` is true nothing is begun any more: a call without a time says so. What a run
    that was stopped has spent comes as `earlier`: it is warmed up again, and only what is missing is timed. Whatever ends
    is told to `note`, as the name of the cell, `first`, `after` or `failed`, and what was found.
    """
    spent = {name: (earlier or {}).get(name) or Spent() for name in calls}
    # The first call of a slow one has counted: it needs no other to warm up.
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
                        look(name, result)
                    del call, result
                except Exception as error:  # a peer may fail in any way: its cell says so
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
