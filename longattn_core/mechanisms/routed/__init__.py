"""Routing: send each token where it is served best, by a router over ways to attend, by clusters, or by capsules."""

from longattn_core.mechanisms.routed.mechanism import Routed

__all__ = ["Routed"]
