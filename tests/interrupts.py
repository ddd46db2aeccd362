"""pytest plugin: Ctrl-C, SIGTERM and SIGHUP end the run in order; tests/process_cleanup.py ends what pytest cannot.

Python's own KeyboardInterrupt is not enough. asyncio turns SIGINT into the cancellation of the running test, and a test
that handles cancellation continues. A shell starts background commands with SIGINT ignored.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from types import FrameType

import pytest

from deploy.local.processes import MARKER
from tests import process_cleanup

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_received: list[int] = []


def interrupt(signum: int, _frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt in the main thread; pytest then tears down all fixtures."""
    _received.append(signum)
    raise KeyboardInterrupt


def pytest_configure() -> None:
    install_handlers()


def pytest_runtest_setup() -> None:
    install_handlers()  # asyncio resets a signal to its default when a test removes its handler


def pytest_runtest_logfinish() -> None:
    """Stop also when code has suppressed the KeyboardInterrupt."""
    if _received:
        raise KeyboardInterrupt


def install_handlers() -> None:
    for sign in SIGNALS:
        if sign is signal.SIGINT or signal.getsignal(sign) is not signal.SIG_IGN:  # nohup ignores SIGHUP
            signal.signal(sign, interrupt)


@pytest.fixture(scope="session", autouse=True)
def cleanup_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A process that outlives this one, also after kill -9, and ends the processes that this one started."""
    folder = str(tmp_path_factory.getbasetemp().resolve())
    os.environ[MARKER] = folder  # children inherit it
    argv = [sys.executable, "-I", "-S", process_cleanup.__file__, str(os.getpid()), folder, MARKER]
    process = subprocess.Popen(argv, start_new_session=True, stdin=subprocess.DEVNULL, cwd="/", env={})  # noqa: S603 - our own program
    yield
    process.poll()  # it runs until this process ends, so it is not waited for
    process.returncode = 0
