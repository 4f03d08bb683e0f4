"""Sliding window: a query sees the tokens near it, and beside them sinks, global tokens, random or chosen blocks.

`mechanism.py`: the dials. `pattern.py`: which keys a query sees. `blockwise.py`: the output in parts, of which `plain.py` and
`fast.py` compute the window and `chosen.py` the chosen blocks. `map.py`: the map and its sentences.
"""

from longattn_core.mechanisms.window.mechanism import Window

__all__ = ["Window"]
