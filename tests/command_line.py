"""Runs `outlast` in this process, for calls that end before they start anything: a process takes a second to import."""

import os
import sys
from collections.abc import Callable

import pytest

from worker.cli.main import main

KEPT = frozenset({"PATH", "HOME", "LANG"})

Outcome = tuple[object, str, str]
"""Exit code, standard output and standard error."""


@pytest.fixture
def call_outlast(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: os.PathLike[str]
) -> Callable[..., Outcome]:
    """Return a function that calls `outlast` with arguments and a minimal environment, in an empty folder."""

    def call(*arguments: str, **environment: str) -> Outcome:
        monkeypatch.chdir(tmp_path)
        for name in set(os.environ) - KEPT:
            monkeypatch.delenv(name)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["outlast", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, *capsys.readouterr()

    return call
