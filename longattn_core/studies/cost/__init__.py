"""When cheaper attention pays: operations, bytes and time against n, the lengths where mechanisms cross exact attention.

Source: ours. `curves.py` counts every mechanism's cost at lengths that double, by its own formula, and finds the crossings;
`break_even.py` finds from which length on who is cheaper; `timing.py` measures the same settings on this machine; `limits.py`
measures how much any choice of so many keys could keep of a real head.
"""

from longattn_core.studies.cost.break_even import BreakEven, break_even
from longattn_core.studies.cost.curves import CostCurves
from longattn_core.studies.cost.limits import SparseLimits
from longattn_core.studies.cost.timing import CostTimes

__all__ = ["BreakEven", "CostCurves", "CostTimes", "SparseLimits", "break_even"]
