"""Low rank: press the n × n map through k columns."""

from longattn_core.mechanisms.low_rank.mechanism import LowRank

__all__ = ["LowRank"]
