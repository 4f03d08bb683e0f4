"""Strided attention: a query reads itself and every s-th key before it."""

from longattn_core.mechanisms.strided.mechanism import Strided

__all__ = ["Strided"]
