"""When cheaper attention pays: operations, bytes and time against n, and from which length on a mechanism costs less.

Source: ours. `curves.py` counts every mechanism's cost at lengths that double, by its own formula, and finds the crossings;
`break_even.py` reads from them which mechanisms are cheaper, and from which length on; `timing.py` measures the same
settings on this machine; `limits.py` measures how much of a real head any choice of k keys could keep.
"""

from longattn_core.studies.cost.break_even import BreakEven, break_even
from longattn_core.studies.cost.curves import CostCurves
from longattn_core.studies.cost.limits import SparseLimits
from longattn_core.studies.cost.timing import CostTimes

__all__ = ["BreakEven", "CostCurves", "CostTimes", "SparseLimits", "break_even"]
