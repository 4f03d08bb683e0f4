"""What each memory slot holds: of which tokens it is blended, when a segment comes to read it."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from longattn_core.measures.spread import effective_tokens
from longattn_core.mechanisms.memory.slots import SlotTrace
from longattn_core.studies.base.head_study import HeadStudy
from longattn_core.studies.base.query import tokens_of
from longattn_core.studies.base.run import kept_run
from longattn_core.studies.base.study import Progress, Result, Setting


class SlotsHeld(HeadStudy):
    """The slots as one segment finds them (the last one, if none is asked for).

    Array `held [s, n]`: each token's share in each slot, NaN from the segment on; a slot is masked until it has been written.
    Table `slots`: `slot`, `spread` (effective tokens, e^entropy), `top` and `top share`, `last segment` (share of the
    newest segment), `kept` (what the last write left of what was there before). `words["refusal"]` when nothing is written.
    """

    key: ClassVar[str] = "memory.slots"
    setting: Setting = Setting(key="memory", dials={"variant": "slots"})
    segment: int | None = Field(None, ge=0, le=131072)

    def _run(self, progress: Progress) -> Result:
        one = kept_run(self.source, self.setting.build())
        sequence, attended = one.sequence, one.attended
        tokens = tokens_of(sequence)
        arrays: dict[str, np.ndarray] = {"tokens": np.array(tokens, dtype=np.str_)}
        if attended is None or not isinstance(attended.trace, SlotTrace):
            return Result(study=self, arrays=arrays, words={"refusal": one.refusal or "This memory has no slots."})
        trace, head = attended.trace, torch.tensor([self.head_in(sequence)])
        last = len(trace.segments) - 1
        segment = last if self.segment is None else min(self.segment, last)
        start = int(trace.segments[segment, 0])
        held = np.full((len(trace.queries), sequence.n), np.nan, dtype=np.float32)
        arrays |= {"held": held, "segment": np.array(segment), "start": np.array(start)}
        if not bool(trace.written[segment]):
            return Result(study=self, arrays=arrays, words={"refusal": "No slot has been written yet: all are masked."})
        shares = trace.mixing(segment, head)[0].double()
        held[:, :start] = shares.float().cpu().numpy()
        top = shares.argmax(-1)
        newest = int(trace.segments[segment - 1, 0])
        table = pd.DataFrame(
            {
                "slot": np.arange(len(shares)),
                "spread": effective_tokens(shares).cpu().numpy(),
                "top": [tokens[i] for i in top.tolist()],
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
        return Result(study=self, arrays=arrays, tables={"slots": table})
