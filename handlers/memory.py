"""The memory that this process may use: the limit of its container or systemd unit, or the machine's memory."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

MIB: Final = 1024 * 1024
CGROUPS: Final = Path("/sys/fs/cgroup")
OWN_CGROUPS: Final = Path("/proc/self/cgroup")
"""The control groups of this process: lines `<number>:<controllers>:<path>`; without controllers in version 2."""


def limit_mib() -> int:
    """Return the least limit of the control groups, or the machine's memory if that is less, in MiB."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *_limits()]) // MIB


def _limits() -> Iterator[int]:
    """Yield the memory limits, in bytes, of the control groups of this process and of their parents."""
    for file in _files():
        try:
            yield int(file.read_text())
        except (OSError, ValueError):  # no such group, or no limit (`max`)
            continue


def _files() -> Iterator[Path]:
    try:
        lines = OWN_CGROUPS.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        root, name = (CGROUPS / "memory", "memory.limit_in_bytes") if controllers else (CGROUPS, "memory.max")
        if controllers in {"", "memory"}:
            group = root / path.lstrip("/")
            # Inside of a container the root of the mount is its own group.
            yield from (folder / name for folder in (group, *group.parents) if folder.is_relative_to(root))
