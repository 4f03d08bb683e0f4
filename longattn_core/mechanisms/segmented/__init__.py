"""Segmented attention: a token reads its own segment, and the others only as far as the variant allows.

Source: Qiu et al. 2019, arXiv:1911.02972, section 3, with the identity permutation. `mechanism.py`: the dials. `integration.py`:
the segments and what a token reads of the others. `map.py`: the map and its sentences.
"""

from longattn_core.mechanisms.segmented.mechanism import Segmented

__all__ = ["Segmented"]
