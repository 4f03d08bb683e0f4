"""What a recurrent memory remembers, and for how long: its timeline, its reach, slots, states, sizes, and its standing."""

from longattn_core.studies.memory.comparison import MemoryStanding, Standing, standing
from longattn_core.studies.memory.lags import MemoryLags
from longattn_core.studies.memory.reach import MemoryReach
from longattn_core.studies.memory.rewriting import Rewriting
from longattn_core.studies.memory.sizes import MemorySizes
from longattn_core.studies.memory.slots import SlotsHeld
from longattn_core.studies.memory.states import StateLife
from longattn_core.studies.memory.timeline import STATUSES, MemoryFinding, MemoryTimeline, memory_finding

__all__ = [
    "STATUSES",
    "MemoryFinding",
    "MemoryLags",
    "MemoryReach",
    "MemorySizes",
    "MemoryStanding",
    "MemoryTimeline",
    "Rewriting",
    "SlotsHeld",
    "Standing",
    "StateLife",
    "memory_finding",
    "standing",
]
