"""Deselects tests marked `machine` where they cannot run, instead of skipping them.

The run's header says so (tests/summaries.py).
"""

import os
import shutil
import subprocess

UNSHARE = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
"""Separate mount and process namespaces."""


def can_use_namespaces():
    """Whether this process is root and may mount file systems in its own namespace."""
    if os.geteuid() or shutil.which("unshare") is None:
        return False
    attempt = (*UNSHARE, "mount", "-t", "tmpfs", "tmpfs", "/mnt")
    return not subprocess.run(attempt, capture_output=True, check=False).returncode  # noqa: S603


def pytest_collection_modifyitems(config, items):
    """Deselect the tests marked `machine` if namespaces cannot be used."""
    machine = [item for item in items if item.get_closest_marker("machine")]
    if machine and not can_use_namespaces():
        items[:] = [item for item in items if item not in machine]
        config.hook.pytest_deselected(items=machine)
