"""The limits of a codec process, kept by the kernel: memory, processor time, what it writes, and no network.

They stand behind the pool's own time limit and the checks of a file's header, and hold also when the decoder never
gives control back to Python, or the pool's process is gone.
"""

import math
import os
import resource
from pathlib import Path
from typing import Final

from handlers.codec import seccomp
from handlers.media import Limits

CPU_FACTOR: Final = 2  # the pool's limit is in seconds passed, of which a helper thread or two may use more
CPU_SPARE_SECONDS: Final = 1


def confine(limits: Limits) -> None:
    """Limit this process for the whole of its life."""
    seccomp.refuse()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _lower(resource.RLIMIT_FSIZE, limits.max_written)  # Python ignores the signal: writing fails with EFBIG
    _lower(resource.RLIMIT_AS, _address_space() + limits.max_memory)


def allow(seconds: float) -> None:
    """Let the process use processor time for one file more; beyond that the kernel ends it."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    most = math.ceil(used.ru_utime + used.ru_stime + CPU_FACTOR * seconds) + CPU_SPARE_SECONDS
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def write_beside(target: Path) -> None:
    """Let libvips put what it cannot hold in memory beside the target: in TEMP_DIR, and gone with the file's folder."""
    os.environ["TMPDIR"] = str(target.parent)


def _lower(what: int, most: int) -> None:
    """Set a limit that nothing in the process can raise again; a lower one that is there already stays."""
    _, hard = resource.getrlimit(what)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (most, most))


def _address_space() -> int:
    """Bytes of address space in use now, the libraries' own included."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
