"""Relative positions: what the distance between two tokens adds to their score, in seven schemes.

`mechanism.py`: the dials. `schemes.py`: what each scheme adds, by the arithmetic of `distances.py`. `encoding.py`: the scores of
any pair; `plain.py` and `fast.py`: the output. `map.py`: the map and its sentences.
"""

from longattn_core.mechanisms.relative.mechanism import Relative

__all__ = ["Relative"]
