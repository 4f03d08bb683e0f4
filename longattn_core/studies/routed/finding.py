"""What a run of routing says in words: the numbers, and which sentence they allow, by rules that are tested.

Source: ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from longattn_core.studies.base.study import Result
from longattn_core.studies.routed.routes import CONTROL, FITTED, HINDSIGHT, RANDOM

NOTHING = 1e-5
"""With a smaller error than this the mean of the visible values leaves nothing to choose."""
GAIN = 0.9
"""A router is better than a path if its error is at most this part of the path's."""
ONE = 0.8
"""From this load on, a path takes nearly all."""
SHARPER = 0.05
"""By how much of ln c the couplings' entropy must move to be said to fall or to rise."""

RouterKind = Literal["even", "single", "mean", "gain", "keys", "one_path", "no_gain"]
ClusterKind = Literal["one", "chance", "some", "most"]
CapsulesKind = Literal["sharpen", "stay", "blur"]


@dataclass(frozen=True, kw_only=True)
class RouterFinding:
    """How the shown router fares beside the best of its paths alone.

    `kind`: the mean of the visible values is exact already (even); there is one path only (single); the mixture is no better
    than the mean of the visible values (mean); better than every path alone, and than the best of them with all the keys
    (gain); better than every path alone, but not than the best one with all the keys (keys); not better, and nearly
    everything goes to one path (one_path); not better (no_gain).
    `path` is the path of the largest load, `best` the one of the least error; `wide` is the error of `best` with as many keys
    as all paths together (NaN where it has no number of keys); `right` how often the largest share is the path that serves the
    query best, `always` the same for always taking the most frequent one.
    """

    kind: RouterKind
    path: str
    load: float
    best: str
    error: float
    best_error: float
    wide: float
    hindsight: float
    control: float
    fitted: float
    random: float
    right: float
    right_random: float
    always: float
    always_path: str

    @property
    def worse(self) -> bool:
        """Whether the mixture is as clearly worse than the best path alone as a gain would have to be better."""
        return self.error * GAIN >= self.best_error and self.error > self.best_error


def router_finding(result: Result) -> RouterFinding:
    """Read a `Routes` result that was not refused: the router that is shown is judged."""
    paths, errors, hits = result.tables["paths"], result.tables["errors"], result.tables["hits"]
    by_way = dict(zip(errors["way"], errors["error"].astype(float), strict=True))
    right = dict(zip(hits["way"], hits["right"].astype(float), strict=True))
    error = float(result.arrays["error"])
    top = paths.iloc[int(paths["load"].to_numpy().argmax())]
    best = paths.iloc[int(paths["error"].to_numpy().argmin())]
    wide = errors.loc[errors["group"] == "wide", "error"]
    always = {way: share for way, share in right.items() if way.startswith("always ")}
    most = max(always, key=lambda way: always[way])
    widest = float(wide.iloc[0]) if len(wide) else math.nan
    return RouterFinding(
        kind=router_kind(
            paths=len(paths),
            load=float(top["load"]),
            error=error,
            best=float(best["error"]),
            wide=widest,
            control=by_way[CONTROL],
        ),
        path=str(top["path"]),
        load=float(top["load"]),
        best=str(best["path"]),
        error=error,
        best_error=float(best["error"]),
        wide=widest,
        hindsight=by_way[HINDSIGHT],
        control=by_way[CONTROL],
        fitted=by_way[FITTED],
        random=by_way[RANDOM],
        right=right[FITTED],
        right_random=right[RANDOM],
        always=always[most],
        always_path=most.removeprefix("always "),
    )


def router_kind(*, paths: int, load: float, error: float, best: float, wide: float, control: float) -> RouterKind:
    """The sentence that the numbers allow: the first rule that holds, in the order of `RouterFinding.kind`."""
    if control < NOTHING:
        return "even"
    if paths < 2:
        return "single"
    if error >= control:
        return "mean"
    if error <= GAIN * best:
        return "keys" if error > GAIN * wide else "gain"
    return "one_path" if load >= ONE else "no_gain"


@dataclass(frozen=True, kw_only=True)
class ClusterFinding:
    """How much of exact attention's mass stays inside the clusters.

    `kind`: there is one cluster (one); no more stays than chance would keep (chance: at most 1.25 times the share of the keys
    that the own cluster holds); less than half (some); at least half (most). `kept` is the mass inside, `kept_plain` the same
    of the mass outside the sinks, `read_count` the part that the width lets through, `chance` the share of the visible keys,
    `evenness` 1 for clusters of one size.
    """

    kind: ClusterKind
    clusters: int
    kept: float
    kept_plain: float
    looked: float
    chance: float
    evenness: float
    smallest: int
    largest: int


def cluster_finding(result: Result) -> ClusterFinding:
    """Read a `Clusters` result."""
    sizes = result.tables["sizes"]["keys"].to_numpy()
    kept, chance = float(result.arrays["kept"]), float(result.arrays["chance"])
    return ClusterFinding(
        kind=cluster_kind(clusters=len(sizes), kept=kept, chance=chance),
        clusters=len(sizes),
        kept=kept,
        kept_plain=float(result.arrays["kept plain"]),
        looked=float(result.arrays["looked"]),
        chance=chance,
        evenness=float(result.arrays["evenness"]),
        smallest=int(sizes.min()),
        largest=int(sizes.max()),
    )


def cluster_kind(*, clusters: int, kept: float, chance: float) -> ClusterKind:
    """The first rule that holds, in the order of `ClusterFinding.kind`."""
    if clusters < 2:
        return "one"
    if kept <= 1.25 * chance:
        return "chance"
    return "most" if kept >= 0.5 else "some"


def capsules_kind(result: Result) -> CapsulesKind:
    """Whether a token's couplings sharpen over the iterations: their mean entropy falls, or rises, by `SHARPER` of ln c."""
    table = result.tables["iterations"]
    bound = float(table["bound"].iloc[0])
    return entropy_kind(table["entropy"].to_numpy(), bound)


def entropy_kind(entropy: np.ndarray, bound: float) -> CapsulesKind:
    """The rule on the entropies of all iterations."""
    fall = float(entropy[0] - entropy[-1])
    if bound <= 0 or abs(fall) < SHARPER * bound:
        return "stay"
    return "sharpen" if fall > 0 else "blur"
