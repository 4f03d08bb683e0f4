"""Hierarchical attention: near text token by token, the rest by sentence and paragraph, or by blocks that grow with distance.

Source: Yang et al. 2016, HAN (NAACL 2016, doi:10.18653/v1/N16-1174), section 2.2; Zhu & Soricut 2021, H-Transformer-1D,
arXiv:2107.11906, sections 4 and 5. `mechanism.py`: the dials. `nested.py`: the levels of a text and how they are joined;
`dyadic.py`: the blocks that double. `map.py`: the map and its sentences.
"""

from longattn_core.mechanisms.hierarchical.mechanism import Hierarchical

__all__ = ["Hierarchical"]
