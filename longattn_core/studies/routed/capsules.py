"""Capsules: how the couplings between tokens and capsules change from one iteration to the next.

Source: Sabour et al. 2017, arXiv:1710.09829, procedure 1, as the mechanism runs it (drawn directions, nothing learned). The mask
is taken off: a capsule gathers votes from the whole text.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import pandas as pd
import torch

from longattn_core.measures.fidelity import mean_of_visible, relative_error
from longattn_core.measures.sampling import blocks, map_rows, sample_queries
from longattn_core.mechanisms.routed import Routed
from longattn_core.mechanisms.routed.capsules import CapsuleMap
from longattn_core.studies.base.head_study import MechanismStudy, Parts
from longattn_core.studies.base.run import SAMPLE, MechanismRun, kept_run
from longattn_core.studies.base.study import Progress, Setting


class Capsules(MechanismStudy[Routed]):
    """The couplings of every iteration: `couplings [t, n, c]`, each token's shares; `order [n]` sorts the tokens by the capsule
    that wins at the end; `tokens [n]`.

    Table `iterations`: `entropy` of a token's couplings (nats, mean over tokens), `bound` ln c, `largest`, the mean largest
    coupling, `length`, the capsules' mean length. Arrays `error`, `control`: the output against exact attention without a mask.
    """

    key: ClassVar[str] = "routed.capsules"
    reads: ClassVar[type[Routed]] = Routed
    setting: Setting = Setting(key="routed", dials={"variant": "capsules"})

    def mechanism(self) -> Routed:
        """The setting as capsules, whatever its variant is."""
        return super().mechanism().with_dials(variant="capsules")

    def _runs(self) -> MechanismRun:
        return kept_run(self.source.masked(False), self.mechanism())

    def _measure(self, run: MechanismRun, progress: Progress) -> Parts:
        sequence, attended, head = run.sequence, run.attended_as(CapsuleMap), self.head_in(run.sequence)
        real = sequence.real
        couplings = attended.trace.couplings[:, head].double()
        entropy = -torch.special.xlogy(couplings, couplings).sum(-1)[:, real].mean(-1)
        table = pd.DataFrame(
            {
                "iteration": np.arange(1, len(couplings) + 1),
                "entropy": entropy.numpy(),
                "bound": math.log(couplings.shape[-1]),
                "largest": couplings.amax(-1)[:, real].mean(-1).numpy(),
                "length": attended.trace.lengths[:, head].double().mean(-1).numpy(),
            }
        )
        table.attrs["units"] = {"entropy": "nats", "bound": "nats", "largest": "share", "length": "below 1"}
        alone = sequence.select_heads(head)
        sample = sample_queries(alone, SAMPLE)
        exact = torch.cat([map_rows(alone, queries) for queries in blocks(alone, sample)], dim=1) @ alone.v.double()
        queries = list(sample.queries)
        last = couplings[-1]
        arrays = {
            "couplings": couplings.float().numpy(),
            "order": torch.argsort(last.argmax(-1) * 2.0 + 1 - last.amax(-1), stable=True).numpy(),
            "error": relative_error(attended.output[head : head + 1, queries], exact).numpy(),
            "control": relative_error(mean_of_visible(alone)[:, queries], exact).numpy(),
        }
        return Parts(arrays=arrays, tables={"iterations": table})
