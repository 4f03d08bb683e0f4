"""Patterns of one budget side by side: which keys each lets a query see, what it finds there, and at what price.

Source: the variants of `Window` and of `LSH`, whose files name their papers.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from longattn_core.contracts.mechanism import Mechanism
from longattn_core.mechanisms.lsh import LSH
from longattn_core.mechanisms.window import Window
from longattn_core.studies.base.head_study import HeadStudy
from longattn_core.studies.base.recall_point import UNITS, SettingPoint, head_of, measured
from longattn_core.studies.base.run import run_mechanism
from longattn_core.studies.base.study import Progress, Result, Setting

CELLS = 96
"""Cells along each side of a pattern's small picture."""


class Patterns(HeadStudy):
    """Every windowed pattern, and hashing with sinks and a window, at about `keys` keys a query.

    Table `patterns`: `name`, `idea`, `label`, `setting`, recall, share, error and control with and without the sinks.
    Arrays: `seen [p cells cells]`, the share of each cell's allowed pairs that is looked at (NaN in the future). A
    longer text is cut to its first 2,048 tokens.
    """

    key: ClassVar[str] = "window.patterns"
    keys: int = Field(64, ge=4, le=4096)

    def _run(self, progress: Progress) -> Result:
        sequence = head_of(self.source, self.head)
        keys = min(self.keys, sequence.n)
        records: list[dict[str, Any]] = []
        pictures = []
        chosen = patterns(keys, sequence.n)
        for index, (name, idea, mechanism) in enumerate(chosen):
            progress(index / len(chosen), name)
            setting = Setting.of(mechanism)
            row = measured(SettingPoint(source=self.source, setting=setting, head=self.head))
            records.append({"name": name, "idea": idea, "key": mechanism.key, "setting": setting.model_dump_json(), **row})
            one = run_mechanism(mechanism, sequence)
            pictures.append(_picture(one.attended, sequence.n))
        table = pd.DataFrame.from_records(records)
        table.attrs["units"] = UNITS
        words = {"read": f"{sequence.n}"}
        return Result(study=self, arrays={"seen": np.stack(pictures)}, tables={"patterns": table}, words=words)


def patterns(keys: int, n: int) -> tuple[tuple[str, str, Mechanism], ...]:
    """Name, idea and setting of each pattern at about `keys` keys a query."""
    dilation = max(2, min(8, n // max(1, keys) // 2))
    base = Window().with_budget(keys, n)

    def fitted(**dials: Any) -> Mechanism:
        return Window.model_validate(dials).with_budget(keys, n)

    # Half of the budget for the hash, because a sink and a window of 16 take the rest.
    local = max(1, min(16, keys // 4))
    hashed = LSH(buckets=16, rounds=4, width=max(1, (keys - 4 - local) // 4), sinks=min(4, keys // 4), local=local)
    return (
        ("window", "the last tokens and no others", fitted(variant="sliding")),
        (
            "window, dilated",
            f"every {dilation}th token: {dilation} times as far",
            fitted(variant="sliding").with_dials(dilation=dilation),
        ),
        ("window + sinks", "and the first tokens", base),
        ("sinks, dilated", f"first tokens, and every {dilation}th", base.with_dials(dilation=dilation)),
        ("global tokens", "the first tokens see all, and are seen", fitted(variant="global")),
        ("BigBird", "global tokens and random blocks", fitted(variant="bigbird")),
        ("chosen blocks", "the blocks whose mean key fits best", fitted(variant="selected")),
        ("chosen + window", "chosen blocks beside a window", fitted(variant="selected", windowed=True)),
        ("hash + sinks + window", "same bucket, first tokens, last 16", hashed),
    )


def _picture(attended: Any, n: int) -> np.ndarray:
    """The share of each cell's allowed pairs that was looked at `[cells cells]`; NaN where all of them lie in the
    future.
    """
    cells = min(CELLS, n)
    edges = torch.arange(cells + 1) * n // cells
    cell = torch.bucketize(torch.arange(n), edges[1:-1], right=True)
    seen, allowed = torch.zeros(cells, cells), torch.zeros(cells, cells)
    sequence = attended.sequence
    step = max(1, (1 << 22) // n)
    for start in range(0, n, step):
        rows = torch.arange(start, min(start + step, n))
        for out, pairs in ((seen, attended.kept(rows)[0] & sequence.allowed(rows)), (allowed, sequence.allowed(rows))):
            columns = torch.zeros(len(rows), cells).index_add(1, cell, pairs.float())
            out.index_add_(0, cell[rows], columns)
    picture: np.ndarray = torch.where(allowed > 0, seen / allowed.clamp_min(1), torch.nan).numpy()
    return picture
