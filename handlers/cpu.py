"""What this machine gives us to work with."""

import math
import os
from pathlib import Path
from typing import Final

CGROUP_CPU_MAX: Final = Path("/sys/fs/cgroup/cpu.max")
"""Microseconds of all cores together, or `max`, in so many microseconds (Linux, control groups v2)."""


def cores() -> int:
    """Return how many cores this process may keep busy: by its affinity, and by its container's quota, rounded up."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = CGROUP_CPU_MAX.read_text().split()
        return max(1, min(allowed, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no such group, or `max`
        return allowed
