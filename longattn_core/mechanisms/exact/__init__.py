"""Scaled dot-product attention: every query weighs every key that the mask allows."""

from longattn_core.mechanisms.exact.mechanism import Exact

__all__ = ["Exact"]
