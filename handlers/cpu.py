"""The number of CPU cores that this process may use."""

import math
import os
from pathlib import Path
from typing import Final

CGROUP_CPU_MAX: Final = Path("/sys/fs/cgroup/cpu.max")
"""The CPU quota of the control group (Linux, v2): `<microseconds> <period>`, or `max <period>` without a quota."""


def cores() -> int:
    """Return the number of cores that the CPU affinity and the container's quota allow; the quota is rounded up."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = CGROUP_CPU_MAX.read_text().split()
        return max(1, min(allowed, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no control group, or no quota
        return allowed
