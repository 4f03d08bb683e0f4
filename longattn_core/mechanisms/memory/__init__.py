"""Recurrent memory: read the text piece by piece, and carry on what a memory of bounded size can hold.

`mechanism.py`: the dials. Variants with their maps: `cache.py`, `compressed.py`, `slots.py` and `slot_map.py`, `fading.py` and
`fading_map.py` (with `gates.py`), `delta.py`. Shared: `segments.py`, `states.py` (maps of running states), `reasons.py`.
"""

from longattn_core.mechanisms.memory.mechanism import Memory

__all__ = ["Memory"]
