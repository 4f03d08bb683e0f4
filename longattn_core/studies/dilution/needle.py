"""A needle in noise: the weight of one key whose score leads by g among n − 1 with Gaussian scores, over many draws.

Source: ours; the closed forms are those of `measures.theory.dilution`. The scores are those of the synthetic sequence
`Needle`: in a row the needle's score is g and the others' are σ·z with z ~ N(0, 1), so z is drawn once for all g and σ.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from longattn_core.contracts.sequence import exact_rows
from longattn_core.measures.theory.dilution import (
    chance_of_leading,
    entropy_bound,
    few_keys_dominate,
    needed_lead,
    needle_weight,
    uniform_weight,
    weight_holds,
)
from longattn_core.sequences.sources import SyntheticSource
from longattn_core.sequences.synthetic import Gaussian, Identical, Needle
from longattn_core.studies.base.cache import SingleFlightCache
from longattn_core.studies.base.intervals import interval, summarised
from longattn_core.studies.base.study import Progress, Result, Study
from longattn_core.studies.dilution.weight_shares import UNITS, ScoreRows, measured_rows, table_row

__all__ = ["LENGTHS", "NeedleGrowth", "NeedleTheory", "noise"]

LENGTHS = tuple(1 << power for power in range(4, 14))
LONGEST = LENGTHS[-1]

_noise: SingleFlightCache[dict[int, Tensor]] = SingleFlightCache(size=128)


def noise(d: int, seed: int, n: int) -> Tensor:
    """The last query's scores over the n − 1 keys that are no needle `[n − 1]`, for σ = 1: independent N(0, 1), float64.

    Taken from the sequence itself, its needle at token 0, cut after n tokens. Cost: 2·8192·d draws once a seed, kept for
    all `LENGTHS`.
    """

    def draw() -> dict[int, Tensor]:
        drawn = Needle(n=LONGEST, d=d, e=1, seed=seed, lead=0.0, noise=1.0, position=0, dtype="float64").sequence()
        q, k = drawn.q[0], drawn.k[0]
        return {length: q[length - 1] @ k[1:length].mT / math.sqrt(d) for length in LENGTHS}

    return _noise.get(f"{d} {seed}", draw)[n]


def _settings(study: Study) -> Needle:
    source = study.source
    if not isinstance(source, SyntheticSource) or not isinstance(source.settings, Needle):
        raise ValueError("This picture is of the synthetic sequence “Needle in noise”; choose it under “Synthetic”.")
    return source.settings


class NeedleGrowth(Study):
    """The last query's shares as n grows to 8,192, over `seeds` draws, beside the closed form.

    Table `points`: means over the draws, with the columns of `table_row`, `low` and `high` (95 % interval of the needle's mean
    share), `formula`, and whether it `holds` or `few keys dominate` (σ² > 2·ln n). `draws`: a row a draw and length.
    The lead and the noise are the source's times its sharpness; its own length and position change nothing here.
    """

    key: ClassVar[str] = "dilution.needle"
    seeds: int = Field(16, ge=2, le=64)
    reference: int = Field(LENGTHS[0], ge=2, le=8192)
    temperature: float = Field(0.67, gt=0.05, le=10)

    def _run(self, progress: Progress) -> Result:
        settings = _settings(self)
        lead, sigma = settings.lead * settings.sharpness, settings.noise * settings.sharpness
        rows, draws = [], []
        for index, n in enumerate(LENGTHS):
            progress(index / len(LENGTHS), f"{n:,} tokens")
            z = torch.stack([noise(settings.d, settings.seed + seed, n) for seed in range(self.seeds)])
            scores = torch.cat((torch.full((self.seeds, 1), lead, dtype=torch.float64), sigma * z), dim=1)
            drawn = ScoreRows(scores=scores, needle=0)
            each = measured_rows(drawn)["needle"].tolist()
            draws += [{"n": n, "draw": seed, "needle": weight} for seed, weight in enumerate(each)]
            _, low, high = interval(each)
            row = table_row(drawn, reference=self.reference, temperature=self.temperature)
            rows.append(row | {"low": max(low, 0.0), "high": min(high, 1.0)})
        table = pd.DataFrame.from_records(rows)
        lengths = table["n"].to_numpy()
        table["formula"] = needle_weight(lead, lengths, sigma)
        table["holds"] = weight_holds(lengths, sigma)
        table["few keys dominate"] = few_keys_dominate(lengths, sigma)
        units = {**UNITS, **dict.fromkeys(("low", "high", "formula"), "share of weight")}
        table.attrs["units"] = units
        each_draw = pd.DataFrame.from_records(draws)
        each_draw.attrs["units"] = units
        arrays = {"lead": np.array(lead), "noise": np.array(sigma)}
        return Result(study=self, arrays=arrays, tables={"points": table, "draws": each_draw})


class NeedleTheory(Study):
    """The closed forms beside what is drawn, for the lead and noise of the source.

    Tables: `leads` (g*(p, n) for p = .1, .5, .9), `chances` (that no noise key outranks the needle: formula, and the share
    of `seeds` draws with its interval), `alike` (the last query's largest weight among identical rows, 1/n, and among
    distinct Gaussian ones), `spread` (entropy of noise alone against its bound ln n).
    """

    key: ClassVar[str] = "dilution.needle_theory"
    seeds: int = Field(32, ge=2, le=64)

    def _run(self, progress: Progress) -> Result:
        settings = _settings(self)
        lead, sigma = settings.lead * settings.sharpness, settings.noise * settings.sharpness
        n = np.array(LENGTHS)
        leads = pd.concat(
            [
                pd.DataFrame({"n": n, "share": p, "lead": needed_lead(p, n, sigma), "valid": weight_holds(n, sigma)})
                for p in (0.1, 0.5, 0.9)
            ],
            ignore_index=True,
        )
        chances, alike, spreads = [], [], []
        for index, length in enumerate(LENGTHS):
            progress(index / len(LENGTHS), f"{length:,} tokens")
            z = torch.stack([noise(settings.d, settings.seed + seed, length) for seed in range(self.seeds)])
            first = (sigma * z.amax(-1) <= lead).double()
            low, high = _wilson(float(first.sum()), self.seeds)
            chances.append(
                {
                    "n": length,
                    "formula": float(chance_of_leading(lead, length, sigma)),
                    "drawn": float(first.mean()),
                    "low": low,
                    "high": high,
                }
            )
            entropy = measured_rows(ScoreRows(scores=sigma * z, needle=None))["entropy"]
            spreads.append({"n": length, "entropy": float(entropy.mean()), "bound": float(entropy_bound(length - 1))})
        for name, kind in (("identical", Identical), ("distinct", Gaussian)):
            rows = [_largest(kind, settings.d, seed, length) for length in LENGTHS for seed in range(4)]
            alike.append(summarised(pd.DataFrame(rows), by=["n"], value="largest", log=True).assign(rows=name))
        joined = pd.concat(alike, ignore_index=True)
        joined["formula"] = uniform_weight(joined["n"].to_numpy())
        tables = {"leads": leads, "chances": pd.DataFrame(chances), "alike": joined, "spread": pd.DataFrame(spreads)}
        for table in tables.values():
            table.attrs["units"] = {
                "n": "tokens",
                "lead": "nats",
                "entropy": "nats",
                "bound": "nats",
                "largest": "share of weight",
            }
        return Result(study=self, arrays={"lead": np.array(lead), "noise": np.array(sigma)}, tables=tables)


def _largest(kind: type[Identical] | type[Gaussian], d: int, seed: int, n: int) -> dict[str, float]:
    row = exact_rows(kind(n=n, d=d, e=1, seed=seed, dtype="float64").sequence(), n - 1)
    return {"n": n, "largest": float(row.max())}


def _wilson(hits: float, draws: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927): unlike the usual interval it has a width where all draws agree."""
    z, share = 1.959964, hits / draws
    middle = (share + z * z / (2 * draws)) / (1 + z * z / draws)
    half = z / (1 + z * z / draws) * math.sqrt(share * (1 - share) / draws + z * z / (4 * draws * draws))
    return max(0.0, middle - half), min(1.0, middle + half)
