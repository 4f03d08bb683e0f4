"""Recurrent memory: read the text piece by piece, and carry on what a memory of bounded size can hold."""

from longattn_core.mechanisms.memory.mechanism import Memory

__all__ = ["Memory"]
