"""What a recurrent memory remembers, and for how long: timeline, reach, slots, states, sizes, comparison with others."""

from longattn_core.studies.memory.comparison import Comparison, MemoryComparison, comparison
from longattn_core.studies.memory.lags import MemoryLags
from longattn_core.studies.memory.reach import MemoryReach
from longattn_core.studies.memory.rewriting import Rewriting
from longattn_core.studies.memory.sizes import MemorySizes
from longattn_core.studies.memory.slots import SlotsHeld
from longattn_core.studies.memory.states import StateLife
from longattn_core.studies.memory.timeline import STATUSES, MemoryFinding, MemoryTimeline, memory_finding

__all__ = [
    "STATUSES",
    "Comparison",
    "MemoryComparison",
    "MemoryFinding",
    "MemoryLags",
    "MemoryReach",
    "MemorySizes",
    "MemoryTimeline",
    "Rewriting",
    "SlotsHeld",
    "StateLife",
    "comparison",
    "memory_finding",
]
