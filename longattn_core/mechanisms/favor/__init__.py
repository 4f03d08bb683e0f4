"""FAVOR+ (the Performer): draw random features whose products estimate e^(q·k/√d), then never compare a pair.

`mechanism.py`: the dials. `features.py`: the feature maps, `learned.py` those that are fitted. `plain.py` and `fast.py`: the
output. `map.py`: the map and its sentences; `deviation.py`: the expected error that they name.
"""

from longattn_core.mechanisms.favor.mechanism import Favor

__all__ = ["Favor"]
