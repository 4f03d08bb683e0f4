"""How far a window reaches through several layers, in closed form: a path, not yet a memory.

Source: Beltagy et al. 2020, arXiv:2004.05150, section 3.1: a stack of L windows of w tokens has a field of L·w.
"""

from __future__ import annotations

from typing import ClassVar

import pandas as pd
from pydantic import Field

from longattn_core.measures.reach import window_reach
from longattn_core.sequences.sources import LAYERS
from longattn_core.studies.base.study import Progress, Result, Study


class WindowReach(Study):
    """Tokens back that the last query's information can come from after 1 … 30 layers, for some widths and a dilation.

    Table `reach`: `layers`, `curve`, `width`, `dilation`, `tokens`. Closed form; nothing of the text is read but its length.
    """

    key: ClassVar[str] = "window.reach"
    width: int = Field(60, ge=1, le=131072)
    dilation: int = Field(1, ge=1, le=4096)

    def _run(self, progress: Progress) -> Result:
        last = self.sequence().n - 1
        chosen = {(self.width, self.dilation): True, (max(2, self.width // 4), 1): False, (4 * self.width, 1): False}
        records = [
            {
                "layers": layers,
                "curve": _name(width, dilation),
                "width": width,
                "dilation": dilation,
                "tokens": window_reach(last, width, layers, dilation=dilation),
                "now": now,
            }
            for (width, dilation), now in chosen.items()
            for layers in range(1, LAYERS + 1)
        ]
        table = pd.DataFrame.from_records(records)
        table.attrs["units"] = {"layers": "number", "tokens": "tokens back", "width": "tokens"}
        return Result(study=self, tables={"reach": table})


def _name(width: int, dilation: int) -> str:
    return f"window {width:,}" + (f", every {dilation}th" if dilation > 1 else "")
