"""Leaves out what a machine does not allow: a test that cannot run there is neither passed nor skipped.

The run's header says so (tests/summaries.py).
"""

import os
import shutil
import subprocess

UNSHARE = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
"""Namespaces of its own: for files and for processes."""


def may_install():
    """Whether we are root and may lay something over parts of the file system, for ourselves alone."""
    if os.geteuid() or shutil.which("unshare") is None:
        return False
    attempt = (*UNSHARE, "mount", "-t", "tmpfs", "tmpfs", "/mnt")
    return not subprocess.run(attempt, capture_output=True, check=False).returncode  # noqa: S603


def pytest_collection_modifyitems(config, items):
    """Deselect what is marked `machine` where no machine can be played."""
    machine = [item for item in items if item.get_closest_marker("machine")]
    if machine and not may_install():
        items[:] = [item for item in items if item not in machine]
        config.hook.pytest_deselected(items=machine)
