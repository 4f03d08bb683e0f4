"""Segmented attention: a token reads the segment it stands in, and the others only as far as the variant allows.

Source: Qiu et al. 2019, arXiv:1911.02972, section 3, with the identity permutation. `integration.py` holds the ways in
which segments learn of one another, `mapped.py` the map and its sentences, `mechanism.py` the dials.
"""

from longattn_core.mechanisms.segmented.mechanism import Segmented

__all__ = ["Segmented"]
