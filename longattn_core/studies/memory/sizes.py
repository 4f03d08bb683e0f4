"""Error against how much is remembered, counted alike for caches, summaries, slots and states."""

from __future__ import annotations

from typing import ClassVar

from longattn_core.mechanisms.memory import Memory
from longattn_core.mechanisms.memory.mechanism import LONGEST
from longattn_core.studies.base.study import Setting
from longattn_core.studies.memory.comparison import MemoryPoint, MemorySweep

SMALLEST = 4
"""Tokens of the smallest memory."""
MOST_SLOTS = 256
"""More slots than this are not measured."""


class MemorySizes(MemorySweep):
    """Agreement with exact attention as the memory grows, the segment staying as it is.

    Rows as in every `MemorySweep`; `held` is the size in tokens. A cache of M tokens, M/2 cached with M/2 summaries, and
    M slots at sizes that double up to n; each running state at the one size it has. The other dials are the setting's.
    """

    key: ClassVar[str] = "memory.sizes"
    setting: Setting = Setting(key="memory")

    def points(self) -> tuple[MemoryPoint, ...]:
        """Sizes that double, smallest first, each variant in turn; then the states."""
        n = self.sequence().n
        chosen = self.setting.build_as(Memory)
        sizes = [*(1 << power for power in range(2, n.bit_length() + 1) if SMALLEST <= 1 << power < n), min(n, LONGEST)]
        made: list[Memory] = []
        for size in sizes:
            made.append(chosen.with_dials(variant="cache", memory=size))
            half = max(1, size // 2)
            made.append(chosen.with_dials(variant="compressed", memory=half, compressed=half))
            if size <= MOST_SLOTS:
                made.append(chosen.with_dials(variant="slots", slots=size))
        states = [chosen.with_dials(variant=name) for name in ("state", "decay", "gated", "delta")]
        return tuple(MemoryPoint(source=self.source, setting=Setting.of(memory), head=self.head) for memory in [*states, *made])
