"""Routing: the content of a token decides what it reads, by a router over ways to attend, by clusters, or by capsules.

`mechanism.py`: the dials. `clusters.py` and `capsules.py`: each variant's output, map and sentences; `router.py` the router's
output, `router_map.py` its map and sentences. `fitting.py`: what centroids and router are fitted on, and how.
"""

from longattn_core.mechanisms.routed.mechanism import Routed

__all__ = ["Routed"]
