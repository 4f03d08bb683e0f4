"""Locality-sensitive hashing: attend only to keys in the query's own bucket, in any of a few random rounds.

`mechanism.py`: the dials. `hashing.py`: the draw, the buckets and Reformer's chunks; the attention over the sorted lists is
`numerics/lists`. `map.py`: the map and its sentences.
"""

from longattn_core.mechanisms.lsh.mechanism import LSH

__all__ = ["LSH"]
