"""The limits of a codec process, enforced by the kernel: memory, processor time, and written bytes.

They are a second protection, after the pool's time limit and the checks of file headers. They apply even if the decoder
never returns to Python, or if the pool's process has ended.
"""

import math
import resource
from pathlib import Path
from typing import Final

from handlers.media import Limits

CPU_FACTOR: Final = 2
"""The pool limits elapsed time. In one second, helper threads may add to the processor time of a process."""
CPU_SPARE_SECONDS: Final = 1


def apply_limits(limits: Limits) -> None:
    """Limit memory and written bytes of this process permanently, and write no core dumps."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _lower(resource.RLIMIT_FSIZE, limits.max_written)  # Python ignores the signal: writing fails with EFBIG
    _lower(resource.RLIMIT_AS, _address_space_bytes() + limits.max_memory)


def allow_cpu_time(seconds: float) -> None:
    """Allow processor time for one more file: CPU_FACTOR times `seconds`, plus CPU_SPARE_SECONDS.

    If the process takes more, the kernel ends it.
    """
    usage = resource.getrusage(resource.RUSAGE_SELF)
    maximum = math.ceil(usage.ru_utime + usage.ru_stime + CPU_FACTOR * seconds) + CPU_SPARE_SECONDS
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (maximum if hard == resource.RLIM_INFINITY else min(maximum, hard), hard))


def _lower(limit: int, maximum: int) -> None:
    """Lower a limit so that this process cannot raise it again; a lower limit stays."""
    _, hard = resource.getrlimit(limit)
    maximum = maximum if hard == resource.RLIM_INFINITY else min(maximum, hard)
    resource.setrlimit(limit, (maximum, maximum))


def _address_space_bytes() -> int:
    """Return the address space in use, including libraries."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
