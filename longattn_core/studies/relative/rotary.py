"""Rotary positions as clocks: every pair of channels is a hand; and what becomes of the hands past the trained length.

Source: Su et al. 2021, arXiv:2104.09864 (RoPE); Chen et al. 2023, arXiv:2306.15595 (interpolation); Peng et al. 2023,
arXiv:2309.00071 (NTK-aware scaling, YaRN).
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from longattn_core.contracts.sequence import Sequence
from longattn_core.mechanisms.relative.distances import Scaling, scaled_frequencies
from longattn_core.studies.base.head_study import HeadStudy
from longattn_core.studies.base.query import tokens_of
from longattn_core.studies.base.run import read_prefix
from longattn_core.studies.base.study import Progress, Result
from longattn_core.studies.relative.schemes import LONGEST, unturned

SCALINGS: dict[Scaling, str] = {"none": "RoPE as it is", "interpolation": "interpolated", "ntk": "NTK", "yarn": "YaRN"}
STRETCHES = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0)
MOST_LAGS = 900
"""Distances that are drawn of a long text."""

Floats = npt.NDArray[np.float64]


class Clocks(HeadStudy):
    """The hands of one query and one key: each pair of channels turned by position × frequency.

    Table `hands`: pair t, `wavelength` (tokens a full turn), `query`, `key` (angles in degrees, clockwise from the top),
    `apart` (their difference: distance × frequency, in turns) and `adds`, what the pair adds to this pair of tokens' score;
    the column sums to `score`. Arrays: `score`, `content` (before turning), the places that were taken.
    """

    key: ClassVar[str] = "relative.clocks"
    position: int = Field(256, ge=0, le=65535)
    distance: int = Field(1, ge=0, le=65535)
    base: float = Field(10_000.0, ge=10, le=1e8)

    def _run(self, progress: Progress) -> Result:
        sequence = unturned(read_prefix(self.source, self.head, max(LONGEST, 1)))
        query = min(self.position, sequence.n - 1)
        key = max(0, query - self.distance)
        frequencies, _ = scaled_frequencies(_even(sequence), self.base, "none", LONGEST, 1)
        q, k = (_pairs(x[0, place]) for x, place in ((sequence.q, query), (sequence.k, key)))
        turned = q * k.conj() * torch.polar(torch.ones_like(frequencies), (query - key) * frequencies)
        adds = turned.real / math.sqrt(sequence.d)
        degrees = [np.degrees(np.mod(place * frequencies.numpy(), 2 * np.pi)) for place in (query, key)]
        table = pd.DataFrame(
            {
                "pair": np.arange(len(frequencies)),
                "wavelength": 2 * np.pi / frequencies.numpy(),
                "query": degrees[0],
                "key": degrees[1],
                "apart": (query - key) * frequencies.numpy() / (2 * np.pi),
                "adds": adds.numpy(),
            }
        )
        table.attrs["units"] = {
            "pair": "number",
            "wavelength": "tokens",
            "query": "degrees",
            "key": "degrees",
            "apart": "turns",
            "adds": "units of the score",
        }
        arrays = {
            "score": np.array(float(adds.sum())),
            "content": np.array(float((q * k.conj()).real.sum()) / math.sqrt(sequence.d)),
            "query": np.array(query),
            "key": np.array(key),
            "tokens": np.array(tokens_of(sequence), dtype=np.str_),
        }
        return Result(study=self, arrays=arrays, tables={"hands": table}, words={"origin": sequence.origin})


def _even(sequence: Sequence) -> int:
    if sequence.d % 2:
        raise ValueError(f"Rotary positions turn pairs of channels, so the width must be even; it is {sequence.d}.")
    return sequence.d


def _pairs(x: Tensor) -> Tensor:
    """Channels 2t and 2t + 1 as one complex number."""
    pairs: Tensor = torch.view_as_complex(x.double().reshape(-1, 2).contiguous())
    return pairs


class Beyond(HeadStudy):
    """A text `stretch` times as long as the trained length: the mean query's score with the mean key, and unseen angles.

    Tables: `scores` (scaling, distance, score) at the longest text; `lag` (scaling, length, score at distance `lag`);
    `unseen` (scaling, length, the share of pairs whose hand goes where training never saw it, how far the worst goes);
    `pairs` (scaling, pair, wavelength, the largest angle of the text in turns, that of training). Closed forms: nothing
    of n² is computed.
    """

    key: ClassVar[str] = "relative.beyond"
    base: float = Field(10_000.0, ge=10, le=1e8)
    trained: int = Field(2048, ge=16, le=131072)
    stretch: float = Field(4.0, ge=1, le=64)
    lag: int = Field(64, ge=0, le=131072)

    def _run(self, progress: Progress) -> Result:
        sequence = unturned(read_prefix(self.source, self.head, LONGEST))
        d = _even(sequence)
        q, k = (_pairs(x[0, sequence.real].double().mean(0)) for x in (sequence.q, sequence.k))
        amplitudes = (q * k.conj()).numpy() / math.sqrt(d)
        length = round(self.trained * self.stretch)
        lags = np.unique(np.geomspace(1, max(1, length - 1), MOST_LAGS).round().astype(np.int64))
        scores, at_lag, unseen, pairs = [], [], [], []
        for scaling, name in SCALINGS.items():
            frequencies, side = _scaled(d, self.base, scaling, self.trained, length)
            scores.append(
                pd.DataFrame({"scaling": name, "distance": lags, "score": _score(amplitudes, frequencies, lags) * side**2})
            )
            turns = (length - 1) * frequencies / (2 * np.pi)
            pairs.append(
                pd.DataFrame(
                    {
                        "scaling": name,
                        "pair": np.arange(len(frequencies)),
                        "wavelength": 2 * np.pi / frequencies,
                        "turns": turns,
                        "trained": (self.trained - 1) * _scaled(d, self.base, "none", self.trained, 1)[0] / (2 * np.pi),
                    }
                )
            )
            for stretch in STRETCHES:
                longer = round(self.trained * stretch)
                frequencies, side = _scaled(d, self.base, scaling, self.trained, longer)
                score = float(_score(amplitudes, frequencies, np.array([self.lag]))[0]) * side**2
                at_lag.append({"scaling": name, "length": longer, "score": score})
                share, worst = unseen_angles(d, self.base, scaling, self.trained, longer)
                unseen.append({"scaling": name, "length": longer, "share": share, "worst": worst})
        tables = {
            "scores": pd.concat(scores, ignore_index=True),
            "pairs": pd.concat(pairs, ignore_index=True),
            "lag": pd.DataFrame.from_records(at_lag),
            "unseen": pd.DataFrame.from_records(unseen),
        }
        tables["scores"].attrs["units"] = {"distance": "tokens", "score": "units of the score"}
        tables["lag"].attrs["units"] = {"length": "tokens", "score": "units of the score"}
        tables["unseen"].attrs["units"] = {
            "length": "tokens",
            "share": "share of the pairs",
            "worst": "of the largest angle seen",
        }
        tables["pairs"].attrs["units"] = {"wavelength": "tokens", "turns": "turns", "trained": "turns"}
        arrays = {"length": np.array(length), "trained": np.array(self.trained), "pairs": np.array(d // 2)}
        return Result(study=self, arrays=arrays, tables=tables, words={"origin": sequence.origin})


def _scaled(d: int, base: float, scaling: Scaling, trained: int, length: int) -> tuple[Floats, float]:
    frequencies, side = scaled_frequencies(d, base, scaling, trained, length)
    return frequencies.numpy(), side


def _score(amplitudes: npt.NDArray[Any], frequencies: Floats, lags: npt.NDArray[np.int64]) -> Floats:
    """The mean query's score with the mean key at each distance. Cost lags·d."""
    return np.asarray((amplitudes * np.exp(1j * lags[:, None] * frequencies)).real.sum(-1))


def unseen_angles(d: int, base: float, scaling: Scaling, trained: int, length: int) -> tuple[float, float]:
    """The share of pairs whose angle at the end of the text was met nowhere in training, and how far the worst goes.

    A pair that went once round in training has been everywhere; one that did not is new beyond its largest angle. The
    worst is the largest ratio to that angle among such pairs, at least 1.
    """
    seen = (trained - 1) * _scaled(d, base, "none", trained, 1)[0]
    asked = (length - 1) * _scaled(d, base, scaling, trained, length)[0]
    # One part in a hundred of slack: interpolation divides by L/T, and the last positions are L − 1 and T − 1.
    new = (seen < 2 * np.pi) & (asked > seen * 1.01)
    if trained < 2 or not new.any():
        return 0.0, 1.0
    return float(new.mean()), float((asked[new] / seen[new]).max())
