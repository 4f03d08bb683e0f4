"""Small sequences that every test of a mechanism can use: those of the public checks."""

from longattn_core.testing.sequences import PADDINGS, gaussian

__all__ = ["PADDINGS", "gaussian"]
