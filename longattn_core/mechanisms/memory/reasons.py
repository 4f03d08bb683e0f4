"""Why a recurrent memory gives a pair the weight it has.

Source: ours; one word for each way in which a token can reach, or fail to reach, a later query.
"""

from enum import StrEnum


class MemoryReason(StrEnum):
    """Where the key stands in the memory of the query's segment, or what the running state did to it."""

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
