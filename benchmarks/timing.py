"""Times by interleaved rounds: in every round each cell runs once, so that a slow moment of the machine hits all alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Collection
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import torch

SLOW = 10.0
"""Seconds of a call that is not only a warm-up but counts, and is repeated once at most."""


@dataclass(frozen=True, kw_only=True)
class Time:
    """Seconds of one call; `extrapolated` from shorter lengths; or the sentence why there is none."""

    seconds: float = math.nan
    extrapolated: bool = False
    reason: str | None = None


def extrapolated(known: Mapping[int, float], n: int) -> float | None:
    """Seconds at n by the power of n through the two longest measured lengths; None when fewer than two are known."""
    if len(known) < 2:
        return None
    (short, little), (long, much) = sorted(known.items())[-2:]
    power = math.log(much / little) / math.log(long / short)
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
) -> dict[str, Time]:
    """The median of each call's rounds, after one that warms up and whose result is given to `look`, untimed.

    A call is prepared anew before each of its runs, untimed, so that only one holds its inputs at a time. One that
    raises is not run again. When `over()` is true nothing is begun any more: a call without a time says so.
    """
    spent: dict[str, list[float]] = {name: [] for name in calls}
    first: dict[str, float] = {}
    failed: dict[str, str] = {}
    with torch.inference_mode():
        for turn in range(rounds + 1):
            for name, prepare in calls.items():
                slow = first.get(name, 0.0) > SLOW
                if name in failed or over() or (slow and turn > 1):
                    continue
                try:
                    call = prepare()
                    begun = perf_counter()
                    result = call()
                    seconds = perf_counter() - begun
                    if turn == 0:
                        look(name, result)
                    del call, result
                except Exception as error:  # a peer may fail in any way: its cell says so
                    failed[name] = f"does not run: {type(error).__name__}: {str(error).splitlines()[0][:120]}"
                    continue
                if turn == 0:
                    first[name] = seconds
                if turn or seconds > SLOW:
                    spent[name].append(seconds)
    return {name: _time(spent[name], first.get(name), failed.get(name)) for name in calls}


def _time(spent: Collection[float], first: float | None, failed: str | None) -> Time:
    if failed is not None:
        return Time(reason=failed)
    if spent:
        return Time(seconds=median(spent))
    return Time(reason="no time was left") if first is None else Time(seconds=first)
