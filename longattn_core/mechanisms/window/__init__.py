"""Sliding window: a query sees the tokens near it, and beside them sinks, global tokens, random or chosen blocks."""

from longattn_core.mechanisms.window.mechanism import Window

__all__ = ["Window"]
