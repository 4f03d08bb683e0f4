"""What each memory slot holds: of which tokens it is blended, when a segment comes to read it."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from longattn_core.contracts.mechanism import Refused
from longattn_core.measures.spread import effective_tokens
from longattn_core.mechanisms.memory import Memory
from longattn_core.mechanisms.memory.slot_map import SlotMap
from longattn_core.studies.base.head_study import MechanismStudy, Parts
from longattn_core.studies.base.query import token_array
from longattn_core.studies.base.run import MechanismRun
from longattn_core.studies.base.study import Progress, Setting


class SlotsHeld(MechanismStudy[Memory]):
    """The slots as one segment finds them (the last segment, if `segment` is None).

    Array `held [s, n]`: each token's share in each slot, NaN from the segment on; a slot is masked until it has been written.
    Table `slots`: `slot`, `spread` (effective tokens, e^entropy), `top` and `top share`, `last segment` (share of the
    newest segment), `kept` (what the last write left of what was there before). Where nothing has been written yet,
    `words["refusal"]` says so beside a `held` of NaN.
    """

    key: ClassVar[str] = "memory.slots"
    reads: ClassVar[type[Memory]] = Memory
    setting: Setting = Setting(key="memory", dials={"variant": "slots"})
    segment: int | None = Field(None, ge=0, le=131072)

    def _measure(self, run: MechanismRun, progress: Progress) -> Parts:
        if self.mechanism().variant != "slots":
            raise Refused("This memory has no slots.")
        sequence, trace = run.sequence, run.attended_as(SlotMap).trace
        head = torch.tensor([self.head_in(sequence)])
        last = len(trace.segments) - 1
        segment = last if self.segment is None else min(self.segment, last)
        start = int(trace.segments[segment, 0])
        held = np.full((len(trace.queries), sequence.n), np.nan, dtype=np.float32)
        arrays = {"held": held, "segment": np.array(segment), "start": np.array(start)}
        if not bool(trace.written[segment]):
            return Parts(arrays=arrays, words={"refusal": "No slot has been written yet: all are masked."})
        shares = trace.mixing(segment, head)[0].double()
        held[:, :start] = shares.float().cpu().numpy()
        top = shares.argmax(-1)
        newest = int(trace.segments[segment - 1, 0])
        table = pd.DataFrame(
            {
                "slot": np.arange(len(shares)),
                "spread": effective_tokens(shares).cpu().numpy(),
                "top": token_array(sequence)[top.cpu().numpy()],
                "top place": top.cpu().numpy(),
                "top share": shares.amax(-1).cpu().numpy(),
                "last segment": shares[:, newest:].sum(-1).cpu().numpy(),
                "kept": trace.log_keep[head[0], segment - 1].double().exp().cpu().numpy()
                if segment > 1
                else np.zeros(len(shares)),
            }
        )
        table.attrs["units"] = {
            "spread": "tokens",
            "top place": "token",
            "top share": "share",
            "last segment": "share",
            "kept": "share",
        }
        return Parts(arrays=arrays, tables={"slots": table})
