"""How wide must a window be? Error and recall against its width, with and without the first tokens.

Source: Xiao et al. 2023, StreamingLLM, arXiv:2309.17453, section 3: what keeping the first tokens is worth.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from longattn_core.mechanisms.window import Window
from longattn_core.studies.base.head_study import HeadStudy
from longattn_core.studies.base.recall_point import UNITS, SettingPoint, head_of, measured
from longattn_core.studies.base.study import Setting
from longattn_core.studies.base.sweep import Row, Sweep


class WindowWidths(HeadStudy, Sweep[SettingPoint]):
    """Fidelity over widths that double, for the sliding window alone and with `sinks` first tokens.

    Table `points`: `width`, `pattern` and what `measured` gives. Table `curves`: `width`, `curve`, `value`, `chance`:
    recall of the weight outside the sinks and, dashed, the share of pairs looked at; table `errors`: `width`, `pattern`, `error`.
    """

    key: ClassVar[str] = "window.widths"
    sinks: int = Field(4, ge=1, le=64)

    def points(self) -> tuple[SettingPoint, ...]:
        """Both patterns at each width, wide ones last."""
        n = head_of(self.source, self.head).n
        widths = sorted({width for width in (2**power for power in range(1, 13)) if width < n} | {n})
        return tuple(
            SettingPoint(source=self.source, head=self.head, setting=Setting.of(mechanism))
            for width in widths
            for mechanism in (Window(variant="sliding", width=width), Window(variant="sinks", width=width, sinks=self.sinks))
        )

    def measure(self, point: SettingPoint) -> Row:
        """One run against exact attention."""
        built = point.setting.build_as(Window)
        return {"width": built.width, "pattern": self.name_of(point).partition(",")[0], **measured(point)}

    @property
    def units(self) -> dict[str, str]:
        """The unit of each column."""
        return {**UNITS, "width": "tokens"}

    def name_of(self, point: SettingPoint) -> str:
        """The pattern and its width."""
        built = point.setting.build_as(Window)
        alone = "window alone" if built.variant == "sliding" else f"window + {built.sinks} first tokens"
        return f"{alone}, {built.width}"

    def _tables(self, rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
        curves = [
            pd.DataFrame({"width": rows["width"], "curve": rows["pattern"], "value": rows["recall"], "chance": False}),
            pd.DataFrame(
                {"width": rows["width"], "curve": "outside the sinks", "value": rows["recall without sinks"], "chance": False}
            )[rows["pattern"] == "window alone"],
            pd.DataFrame({"width": rows["width"], "curve": "pairs looked at (chance)", "value": rows["share"], "chance": True})[
                rows["pattern"] == "window alone"
            ],
        ]
        table = pd.concat(curves, ignore_index=True).sort_values(["curve", "width"], ignore_index=True)
        table.attrs["units"] = {"width": "tokens", "value": "share"}
        errors = rows[["width", "pattern", "error"]].copy()
        errors.attrs["units"] = {"width": "tokens", "error": "relative"}
        return {"curves": table, "errors": errors}

    def _words(self, rows: pd.DataFrame) -> dict[str, str]:
        control = rows["control"].to_numpy(dtype=float)
        return {"control": f"{np.nanmean(control):.6g}"} if np.isfinite(control).any() else {}
