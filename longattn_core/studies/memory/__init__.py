"""What a recurrent memory remembers, and for how long: timeline, reach, slots, states, sizes, comparison with others."""

from longattn_core.studies.memory.comparison import MemoryComparison
from longattn_core.studies.memory.finding import ComparisonFinding, MemoryFinding, comparison_finding, memory_finding
from longattn_core.studies.memory.held import STATUSES
from longattn_core.studies.memory.lags import MemoryLags
from longattn_core.studies.memory.reach import MemoryReach
from longattn_core.studies.memory.rewriting import Rewriting
from longattn_core.studies.memory.sizes import MemorySizes
from longattn_core.studies.memory.slots import SlotsHeld
from longattn_core.studies.memory.states import StateLife
from longattn_core.studies.memory.timeline import MemoryTimeline

__all__ = [
    "STATUSES",
    "ComparisonFinding",
    "MemoryComparison",
    "MemoryFinding",
    "MemoryLags",
    "MemoryReach",
    "MemorySizes",
    "MemoryTimeline",
    "Rewriting",
    "SlotsHeld",
    "StateLife",
    "comparison_finding",
    "memory_finding",
]
