"""Why a recurrent memory gives a pair the weight it has.

Source: ours; one word for each way in which a token can reach, or fail to reach, a later query.
"""

from enum import StrEnum

from longattn_core.mechanisms.memory.segments import Layout

Facts = dict[str, float | int | str | bool]


class MemoryReason(StrEnum):
    """Where the memory of the query's segment holds the key, or how the running state changed it."""

    IN_SEGMENT = "in segment"
    CACHED = "cached"
    COMPRESSED = "compressed"
    GONE = "gone"
    LATER = "later segment"
    """Without a mask: segments are read in order, and this one has not been read yet."""
    SLOT = "through slots"
    KEPT = "kept"
    FADED = "faded"
    OVERWRITTEN = "overwritten"


def segment_facts(layout: Layout, query: int, key: int) -> Facts:
    """The query's segment, its first token and one past its last, and the distance to the key."""
    own = query // layout.segment
    start, stop = layout.span(own)
    return {"segment": own, "start": start, "stop": stop, "lag": query - key}


def reason_by_segment(layout: Layout, query: int, key: int) -> tuple[MemoryReason, str] | None:
    """Reason and text for a key in the query's own segment or in a later one; None for a key in an earlier segment."""
    own, other = query // layout.segment, key // layout.segment
    if other == own:
        start, stop = layout.span(own)
        text = f"The key stands in the query's own segment (tokens {start} to {stop - 1}), so it is seen as it is."
        return MemoryReason.IN_SEGMENT, text
    if other > own:
        text = (
            f"The key stands in segment {other}, which is read after the query's segment {own}: "
            "a recurrent memory holds the past only."
        )
        return MemoryReason.LATER, text
    return None
