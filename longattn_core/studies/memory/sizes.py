"""Error against how much is remembered, counted alike for caches, summaries, slots and states."""

from __future__ import annotations

from typing import ClassVar

from longattn_core.mechanisms.memory import Memory
from longattn_core.mechanisms.memory.mechanism import LONGEST
from longattn_core.studies.base.study import Setting
from longattn_core.studies.memory.comparison import MemoryPoint, MemorySweep

SMALLEST = 4
MOST_SLOTS = 256


class MemorySizes(MemorySweep):
    """Agreement with exact attention as the memory grows, the segment staying as it is.

    Rows as in `MemoryComparison`; `held` is the size in tokens. A cache of M tokens, M/2 cached with M/2 summaries, and
    M slots at sizes that double up to n; each running state at the one size it has. Of the other dials the setting's own count.
    """

    key: ClassVar[str] = "memory.sizes"
    setting: Setting = Setting(key="memory")

    def points(self) -> tuple[MemoryPoint, ...]:
        """Sizes that double, smallest first, each variant in turn; then the states."""
        n = self.sequence().n
        chosen = self.setting.build()
        assert isinstance(chosen, Memory)
        sizes = [*(1 << power for power in range(2, n.bit_length() + 1) if SMALLEST <= 1 << power < n), min(n, LONGEST)]
        made: list[Memory] = []
        for size in sizes:
            made.append(chosen.with_dials(variant="cache", memory=size))
            half = max(1, size // 2)
            made.append(chosen.with_dials(variant="compressed", memory=half, compressed=half))
            if size <= MOST_SLOTS:
                made.append(chosen.with_dials(variant="slots", slots=size))
        states = [chosen.with_dials(variant=name) for name in ("state", "decay", "gated", "delta")]
        return tuple(MemoryPoint(source=self.source, setting=Setting.of(one), head=self.head) for one in [*states, *made])
