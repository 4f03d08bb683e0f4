"""ProbSparse: only the queries whose scores stand out attend; all others take the mean of the values."""

from longattn_core.mechanisms.probsparse.mechanism import ProbSparse

__all__ = ["ProbSparse"]
