"""Relative positions: what the distance between two tokens adds to their score, in seven schemes."""

from longattn_core.mechanisms.relative.mechanism import Relative

__all__ = ["Relative"]
