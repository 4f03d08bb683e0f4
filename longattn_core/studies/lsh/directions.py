"""Where queries and keys point: on one plane of the rotation, and by the angles between them, as they are and centred.

Source: the sectors are those of Andoni et al. 2015, arXiv:1509.02897, figure 1; the cosines are ours, and tell why
hashing finds little in a trained head: its queries stand across its keys, and its keys all point one way.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from torch.nn.functional import normalize

from longattn_core.contracts.sequence import Sequence, exact_rows
from longattn_core.measures.sampling import sample_queries
from longattn_core.measures.spread import find_sinks, sink_mask
from longattn_core.mechanisms.lsh import LSH
from longattn_core.mechanisms.lsh.hashing import centres_of
from longattn_core.mechanisms.lsh.map import LSHMap
from longattn_core.studies.base.head_study import HeadStudy, MechanismStudy, Parts
from longattn_core.studies.base.query import WatchedPair, token_array
from longattn_core.studies.base.run import MechanismRun
from longattn_core.studies.base.study import Progress, Result, Setting

MOST = 1024
"""Tokens drawn in the plane and taken into the angles, spread evenly over the sequence."""
SAMPLE = 128
"""Queries whose pairs make up the angles."""
BINS = np.linspace(-1, 1, 41)


class LshPlane(MechanismStudy[LSH]):
    """Queries and keys on the plane of two axes of one round's rotation.

    The axes are those of the query's bucket and of the key's (of the query's second choice where they are one). Table
    `points`: `kind` ("query" or "key"), `token`, `position`, `x`, `y` (the unit vector times the two columns, over
    √d), `bucket`, `inside` (its bucket is one of the plane's own sectors), `tracked`. `arrays["axes"]`: the two axes'
    numbers, the second −1 where the hash has one only; `query_along, key_along`: the tracked pair's coordinates on
    every axis; `angle`: theirs, in degrees, as they are hashed. No table where there is a single bucket
    (`words["reason"]`).
    """

    key: ClassVar[str] = "lsh.plane"
    reads: ClassVar[type[LSH]] = LSH
    setting: Setting = Setting(key="lsh")
    round: int = Field(1, ge=1, le=32)
    query: int | None = Field(None, ge=0, le=65535)
    marked: int | None = Field(None, ge=0, le=65535)

    def _measure(self, run: MechanismRun, progress: Progress) -> Parts:
        sequence, attended, mechanism = run.sequence, run.attended_as(LSHMap), self.mechanism()
        head, trace = self.head_in(sequence), attended.trace
        shown = min(self.round, len(trace.rotations)) - 1
        rotation = trace.rotations[shown]
        if rotation.shape[1] == 0:
            return Parts(words={"reason": "With one bucket there is nothing to tell apart."})
        pair = WatchedPair.of(sequence, head, self.query, self.marked)
        q, k = directions(sequence, mechanism, head)
        projected = {"query": (q @ rotation).numpy(), "key": (k @ rotation).numpy()}
        buckets = {"query": trace.buckets[head, shown].numpy(), "key": trace.key_buckets[head, shown].numpy()}
        axes = self._axes(mechanism, projected, buckets, pair)
        angle = float(torch.rad2deg(torch.arccos((q[pair.query] @ k[pair.key]).clamp(-1, 1))))
        arrays = {
            "axes": np.array(axes),
            "query": np.array(pair.query),
            "marked": np.array(pair.key),
            "angle": np.array(angle),
            "query_along": projected["query"][pair.query],
            "key_along": projected["key"][pair.key],
        }
        points = _points(sequence, projected, buckets, axes, mechanism, pair)
        return Parts(arrays=arrays, tables={"points": points}, words={"hashing": mechanism.hashing})

    def _axes(
        self, mechanism: LSH, projected: dict[str, np.ndarray], buckets: dict[str, np.ndarray], pair: WatchedPair
    ) -> tuple[int, int]:
        columns = projected["query"].shape[1]
        if columns == 1:
            return 0, -1
        if mechanism.hashing == "hyperplane":
            differs = int(buckets["query"][pair.query]) ^ int(buckets["key"][pair.key])
            first = (differs & -differs).bit_length() - 1 if differs else 0
            return first, (first + 1) % columns
        first, second = int(buckets["query"][pair.query]) % columns, int(buckets["key"][pair.key]) % columns
        if first == second:
            ranked = np.argsort(-np.abs(projected["query"][pair.query]), kind="stable")
            second = int(ranked[1] if ranked[0] == first else ranked[0])
        return first, second


def _points(
    sequence: Sequence,
    projected: dict[str, np.ndarray],
    buckets: dict[str, np.ndarray],
    axes: tuple[int, int],
    mechanism: LSH,
    pair: WatchedPair,
) -> pd.DataFrame:
    real = sequence.real.nonzero().squeeze(-1).numpy()
    kept = np.unique(
        np.concatenate([real[np.linspace(0, len(real) - 1, min(MOST, len(real))).astype(int)], [pair.query, pair.key]])
    )
    tokens = token_array(sequence)
    columns, frames = projected["query"].shape[1], []
    for kind in ("key", "query"):
        x = projected[kind][kept] / np.sqrt(sequence.d)
        bucket = buckets[kind][kept]
        inside = np.ones(len(kept), dtype=bool)
        if mechanism.hashing == "cross_polytope":
            inside = np.isin(bucket % columns, [axis for axis in axes if axis >= 0])
        frames.append(
            pd.DataFrame(
                {
                    "kind": kind,
                    "token": tokens[kept],
                    "position": kept,
                    "x": x[:, axes[0]],
                    "y": x[:, axes[1]] if axes[1] >= 0 else np.zeros(len(kept)),
                    "bucket": bucket,
                    "inside": inside,
                    "tracked": kept == (pair.query if kind == "query" else pair.key),
                }
            )
        )
    table = pd.concat(frames, ignore_index=True)
    table.attrs["units"] = {"x": "of length 1", "y": "of length 1", "position": "token", "bucket": "number"}
    return table


def directions(sequence: Sequence, mechanism: LSH, head: int) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]]:
    """Queries and keys of one head as they are hashed: centred if the setting says so, length 1, in float64. Cost
    n·d.
    """
    shared = mechanism.sharing == "shared"
    alone = sequence.select_heads(head)
    centres = centres_of(alone, centred=mechanism.centred, shared=shared)
    q = alone.q[0].double() - (0.0 if centres.queries is None else centres.queries[0])
    k = (alone.q if shared else alone.k)[0].double() - (0.0 if centres.keys is None else centres.keys[0])
    return normalize(q, dim=-1), normalize(k, dim=-1)


class LshAngles(HeadStudy):
    """The cosines that hashing lives on: queries against keys, keys against keys, as the head has them and centred.

    Table `cosines`: `pairs` ("query and key", "key and key", "query and query"), `centred`, `low`, `high`, `share` of
    the pairs in each bin. Table `angles`: for each kind, centred or not, the mean cosine and median angle; for
    queries and keys also of the pairs weighted by exact attention outside the sinks (`weighted angle`), which are
    those that hashing should bring together.
    """

    key: ClassVar[str] = "lsh.angles"

    def _run(self, progress: Progress) -> Result:
        sequence = self.sequence()
        head = self.head_in(sequence)
        sample = sample_queries(sequence, SAMPLE)
        rows = torch.tensor(sample.queries)
        allowed = sequence.allowed(rows)
        weight = exact_rows(sequence, rows, head)[0].double()
        weight = weight.masked_fill(sink_mask(find_sinks(sequence.select_heads(head), sample), sequence.n)[0], 0.0)
        histogram, angles = [], []
        for centred in (False, True):
            q, k = directions(sequence, LSH(centred=centred), head)
            for name, left, right in (("query and key", q, k), ("key and key", k, k), ("query and query", q, q)):
                cosine = (left[rows] @ right.mT).clamp(-1, 1)
                # A vector beside itself says nothing about the head.
                chosen = allowed if name == "query and key" else allowed & (torch.arange(sequence.n) != rows[:, None])
                values = cosine[chosen].numpy()
                counts = np.histogram(values, BINS)[0] / max(1, len(values))
                histogram.append(
                    pd.DataFrame({"pairs": name, "centred": centred, "low": BINS[:-1], "high": BINS[1:], "share": counts})
                )
                angles.append(
                    {
                        "pairs": name,
                        "centred": centred,
                        "mean cosine": float(values.mean()) if len(values) else np.nan,
                        "median angle": float(np.degrees(np.arccos(np.median(values)))) if len(values) else np.nan,
                        "weighted angle": _weighted(cosine, weight) if name == "query and key" else np.nan,
                    }
                )
        tables = {"cosines": pd.concat(histogram, ignore_index=True), "angles": pd.DataFrame.from_records(angles)}
        tables["cosines"].attrs["units"] = {"low": "cosine", "high": "cosine", "share": "share of pairs"}
        tables["angles"].attrs["units"] = {"mean cosine": "cosine", "median angle": "degrees", "weighted angle": "degrees"}
        return Result(study=self, tables=tables, words={"sample": sample.text})


def _weighted(cosine: Float[Tensor, "r n"], weight: Float[Tensor, "r n"]) -> float:
    """The angle that half of the weight lies within, in degrees; NaN where no weight is left."""
    order = cosine.flatten().argsort(descending=True)
    total = weight.flatten()[order].cumsum(0)
    if not len(total) or float(total[-1]) <= 0:
        return float("nan")
    at = int(torch.searchsorted(total, total[-1] / 2).clamp_max(len(total) - 1))
    return float(torch.rad2deg(torch.arccos(cosine.flatten()[order[at]])))
