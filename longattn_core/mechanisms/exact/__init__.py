"""Scaled dot-product attention: every query weighs every key that the mask allows.

`mechanism.py`: the dials, the factor on the scores, the cost. `map.py`: the map and its sentences. The output itself is
`numerics/block_attention.attend_whole`.
"""

from longattn_core.mechanisms.exact.mechanism import Exact

__all__ = ["Exact"]
