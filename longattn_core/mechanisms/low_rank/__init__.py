"""Low rank: approximate the n × n map by a product of an n × k and a k × n matrix.

`mechanism.py`: the dials. `truncated.py` (SVD), `linformer.py` and `nystrom.py`: each variant's output and its own map.
`map.py`: what these maps share. `pieces.py`: arithmetic that Linformer and Nyström share.
"""

from longattn_core.mechanisms.low_rank.mechanism import LowRank

__all__ = ["LowRank"]
