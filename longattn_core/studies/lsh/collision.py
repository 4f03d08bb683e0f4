"""How the chance of sharing a bucket falls with the angle: closed forms, a simulation, and the head's own angles.

Source: Andoni et al. 2015, arXiv:1509.02897 (cross-polytope); Charikar 2002 (hyperplanes, SimHash).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from longattn_core.measures.theory.hashing import bits_collide, cross_polytope_collision, found_at_least_once
from longattn_core.mechanisms.lsh.hashing import Hashing, draw_rotations, hash_vectors
from longattn_core.studies.base.study import Progress, Result, Study

DEGREES = np.arange(0, 181, 3)
SIMULATED = np.arange(0, 181, 15)
DRAWS = 4000


class LshCollision(Study):
    """Chance that two vectors meet, against their angle, for one round and for all.

    Table `curves`: `angle` (degrees), `curve`, `rounds`, `chance`, by closed form. Table `simulated`: the same by
    `DRAWS` draws of the mechanism's own hash for each angle, one round, with a 95 % interval (`low`, `high`).
    """

    key: ClassVar[str] = "lsh.collision"
    buckets: int = Field(16, ge=1, le=1024)
    rounds: int = Field(4, ge=1, le=32)
    seed: int = Field(0, ge=0, le=2**31 - 1)

    def _run(self, progress: Progress) -> Result:
        even = max(2, self.buckets + self.buckets % 2)
        bits = max(1, (self.buckets - 1).bit_length())
        theta = np.radians(DEGREES)
        axis, sides = cross_polytope_collision(theta, even), bits_collide(theta, bits)
        curves = [
            _curve("nearest axis", 1, axis),
            _curve("hyperplanes (SimHash)", 1, sides),
            _curve(f"nearest axis, {self.rounds} rounds", self.rounds, found_at_least_once(axis, self.rounds)),
            _curve(f"hyperplanes, {self.rounds} rounds", self.rounds, found_at_least_once(sides, self.rounds)),
        ]
        table = pd.concat(curves if self.rounds > 1 else curves[:2], ignore_index=True)
        d = self.sequence().d
        simulated = pd.concat(
            [
                self._simulated("nearest axis", "cross_polytope", even, d),
                self._simulated("hyperplanes (SimHash)", "hyperplane", 1 << bits, d),
            ],
            ignore_index=True,
        )
        for one in (table, simulated):
            one.attrs["units"] = {"angle": "degrees", "chance": "probability", "low": "probability", "high": "probability"}
        return Result(study=self, tables={"curves": table, "simulated": simulated})

    def _simulated(self, name: str, hashing: Hashing, buckets: int, d: int) -> pd.DataFrame:
        """Pairs in one fixed plane: the rotation is isotropic, so the plane does not matter and the draw does."""
        if d < 2:
            return pd.DataFrame(columns=["angle", "curve", "chance", "low", "high"])
        theta = torch.from_numpy(np.radians(SIMULATED))
        pair = torch.zeros(len(theta) + 1, d, dtype=torch.float64)
        pair[0, 0] = 1.0
        pair[1:, 0], pair[1:, 1] = theta.cos(), theta.sin()
        met = np.zeros(len(SIMULATED))
        # Only the first two rows of the rotation touch the plane: drawing d of them would change nothing but the time.
        rotations = draw_rotations(self.seed, hashing, DRAWS, 2, buckets)
        found = hash_vectors(pair[None, :, :2], None, rotations, hashing)[0]
        met = (found[:, 1:] == found[:, :1]).double().mean(0).numpy()
        low, high = wilson(met, DRAWS)
        return pd.DataFrame({"angle": SIMULATED, "curve": name, "chance": met, "low": low, "high": high})


def _curve(name: str, rounds: int, chance: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"angle": DEGREES, "curve": name, "rounds": rounds, "chance": chance})


def wilson(share: np.ndarray, count: int, z: float = 1.959964) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % interval of a share that was counted `count` times (Wilson 1927): stays within 0 … 1."""
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return np.maximum(0.0, middle - half), np.minimum(1.0, middle + half)
