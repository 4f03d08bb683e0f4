"""The most memory that this process has held."""

import resource
from pathlib import Path


def peak_megabytes() -> float:
    """Peak resident megabytes of this process alone.

    `ru_maxrss` begins, after fork and exec, at what the parent held: where the kernel tells the program's own peak, that is read.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
