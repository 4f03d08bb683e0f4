"""The arithmetic of distances, to be looked at: the skew frame by frame, T5's staircase, ALiBi's slopes.

Source: Huang et al. 2018, arXiv:1809.04281, section 3.4.1; Raffel et al. 2019, arXiv:1910.10683, section 2.1; Press et
al. 2021, arXiv:2108.12409, section 3.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch.nn.functional import pad

from longattn_core.measures.theory.positions import alibi_slopes, t5_bucket
from longattn_core.mechanisms.relative import Relative
from longattn_core.mechanisms.relative.distances import skew
from longattn_core.mechanisms.relative.map import RelativeTrace
from longattn_core.studies.base.head_study import HeadStudy
from longattn_core.studies.base.run import read_prefix
from longattn_core.studies.base.study import Progress, Result
from longattn_core.studies.relative.schemes import mapped, unturned

STAGES = ("by_distance", "pad", "reshape", "slice")
"""The frames of the skew, in their order."""
NONE = -99
"""The distance of a number that stands for none: what was padded."""


class Skew(HeadStudy):
    """The skew on the first `size` tokens: logits by distance become logits by key without an index.

    Table `cells`: stage, row, column, value (a query's score against the vector of a distance, /√d), distance (`NONE` for
    padding), `kept` (whether it is in the result), `line` (its place when all rows stand in one line). Arrays: `result`
    `[c c]` of the mechanism's own skew and `looked_up`, each pair's number looked up by its distance: the two are equal.
    """

    key: ClassVar[str] = "relative.skew"
    size: int = Field(4, ge=1, le=6)
    seed: int = Field(0, ge=0, le=2**31 - 1)

    def _run(self, progress: Progress) -> Result:
        sequence = unturned(read_prefix(self.source, self.head, self.size)).to(dtype=torch.float64)
        c = sequence.n
        attended = mapped(Relative(variant="music", longest=max(1, c), seed=self.seed), sequence)
        trace: RelativeTrace = attended.trace
        assert trace.embeddings is not None
        lags = c - 1 - torch.arange(2 * c - 1)
        vectors = trace.embeddings[lags + (len(trace.embeddings) - 1) // 2]
        logits = sequence.q[0] @ vectors.mT / float(np.sqrt(sequence.d))
        result = skew(logits, c)
        frames = _frames(logits.numpy(), lags.numpy(), c)
        table = pd.concat(frames, ignore_index=True)
        table.attrs["units"] = {"value": "units of the score", "distance": "tokens"}
        looked_up = attended.added()[0]
        arrays = {"result": result.numpy(), "looked_up": looked_up.numpy(), "size": np.array(c)}
        return Result(study=self, arrays=arrays, tables={"cells": table}, words={"origin": sequence.origin})


def _frames(logits: np.ndarray, lags: np.ndarray, c: int) -> list[pd.DataFrame]:
    """The cells of each stage, with the line of numbers that the reshape cuts anew."""
    padded = pad(torch.from_numpy(logits), (0, 1)).numpy()
    distances = np.concatenate([np.tile(lags, (c, 1)), np.full((c, 1), NONE)], axis=1)
    width = 2 * c - 1
    start = c - 1
    flat, flat_distances = padded.ravel()[start:], distances.ravel()[start:]
    cut, cut_distances = (x[: c * width].reshape(c, width) for x in (flat, flat_distances))
    kept = np.zeros((c, width), dtype=bool)
    kept[:, :c] = True
    in_line = np.zeros(c * (width + 1), dtype=bool)
    in_line[start : start + c * width] = kept.ravel()
    kept_padded = in_line.reshape(c, width + 1)
    lines = np.arange(c * (width + 1)).reshape(c, width + 1)
    again = lines.ravel()[start : start + c * width].reshape(c, width)
    return [
        _cells("by_distance", logits, np.tile(lags, (c, 1)), kept_padded[:, :width], lines[:, :width]),
        _cells("pad", padded, distances, kept_padded, lines),
        _cells("reshape", cut, cut_distances, kept, again),
        _cells("slice", cut[:, :c], cut_distances[:, :c], kept[:, :c], again[:, :c]),
    ]


def _cells(stage: str, values: np.ndarray, distances: np.ndarray, kept: np.ndarray, lines: np.ndarray) -> pd.DataFrame:
    rows, columns = np.indices(values.shape)
    return pd.DataFrame(
        {
            "stage": stage,
            "row": rows.ravel(),
            "column": columns.ravel(),
            "value": values.ravel(),
            "distance": distances.ravel(),
            "kept": kept.ravel(),
            "line": lines.ravel(),
        }
    )


class Tables(HeadStudy):
    """The fixed numbers of T5 and ALiBi: the bucket of each distance, and the slope of each head.

    Tables: `buckets` (distance, bucket), `slopes` (head from 0, slope, the distance at which it has cost one unit of the
    score, `own`: the head at hand).
    """

    key: ClassVar[str] = "relative.tables"
    buckets: int = Field(32, ge=4, le=256)
    reach: int = Field(128, ge=8, le=8192)

    def _run(self, progress: Progress) -> Result:
        sequence = read_prefix(self.source, self.head, 1)
        causal = sequence.causal
        most = 2 * self.reach
        distance = np.arange(0 if causal else -most, most + 1)
        buckets = self.buckets - self.buckets % 2
        staircase = pd.DataFrame(
            {"distance": distance, "bucket": t5_bucket(distance, buckets=buckets, furthest=self.reach, causal=causal)}
        )
        staircase.attrs["units"] = {"distance": "tokens", "bucket": "number"}
        slopes = alibi_slopes(sequence.head_count)
        own = sequence.head_numbers[0]
        table = pd.DataFrame(
            {"head": np.arange(len(slopes)), "slope": slopes, "unit": 1 / slopes, "own": np.arange(len(slopes)) == own}
        )
        table.attrs["units"] = {"head": "number", "slope": "units of the score a token", "unit": "tokens"}
        return Result(study=self, tables={"buckets": staircase, "slopes": table}, words={"origin": sequence.origin})
