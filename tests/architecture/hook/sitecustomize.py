"""Records which files of the project a process enters, and in which order.

Python imports this module at the start of every process whose PYTHONPATH has its folder. `trace.py` writes two files
beside a copy of it, since codec processes do not inherit other variables: `root` has the folder of the project,
`records` the folder for the records: one file for each process, which the processes forked from it share. A line has
the monotonic time in nanoseconds, the process id and the path of a file; it is written when a function of another file
than before is called. Left out are the imports of modules, resumed coroutines, and
asyncio tasks that have a name of their own: these are background tasks, such as the heartbeat.
"""

import os
import re
import sys
import threading
import time
from pathlib import Path

PACKAGES = ("handlers", "schemas", "worker")
UNNAMED = re.compile(r"Task-\d+")
CO_OPTIMIZED = 1  # set for functions, not for modules and class bodies


class Recorder:
    """The profile function of one process and of those forked from it."""

    def __init__(self, root, folder):
        self.folders = tuple(f"{root}/{package}/" for package in PACKAGES)
        self.start = len(root) + 1
        kind = "codec" if "-c" in sys.orig_argv else sys.orig_argv[-1].rpartition("/")[2]
        self.path = f"{folder}/{os.getpid()}.{kind}"
        self.open()
        self.first = {}
        self.state = threading.local()

    def __call__(self, frame, event, _):
        code = frame.f_code
        if event not in {"call", "return"} or not code.co_filename.startswith(self.folders):
            return
        if code.co_name == "<module>":
            if frame.f_globals["__name__"] != "__main__":  # the main module runs the program, and is no import
                self.state.imports = self.imports + (1 if event == "call" else -1)
        elif (
            event == "call"
            and code.co_flags & CO_OPTIMIZED
            and not self.imports
            and not self.resumes(frame)
            and not in_background()
        ):
            self.enter(code.co_filename)

    @property
    def imports(self):
        """How many modules of the project are being imported in this thread."""
        return getattr(self.state, "imports", 0)

    def resumes(self, frame):
        """Whether a coroutine or generator is resumed: its last instruction is then not that of its first call."""
        return frame.f_lasti != self.first.setdefault(frame.f_code, frame.f_lasti)

    def enter(self, file):
        key = (os.getpid(), file)
        if getattr(self.state, "last", None) != key:
            self.state.last = key
            line = f"{time.monotonic_ns()} {key[0]} {file[self.start :]}\n"
            if not self.is_open():
                self.open()
            os.write(self.output, line.encode())

    def open(self):
        self.output = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.identity = os.fstat(self.output)

    def is_open(self):
        """Whether the record is still open: a codec process closes what it inherits, before it loses all files."""
        try:
            return os.path.samestat(os.fstat(self.output), self.identity)
        except OSError:
            return False


def in_background():
    asyncio = sys.modules.get("asyncio")
    try:
        task = asyncio.current_task()
    except (AttributeError, RuntimeError):  # asyncio is not loaded, or no loop runs in this thread
        return False
    return task is not None and not UNNAMED.fullmatch(task.get_name())


beside = Path(__file__).parent
if (beside / "records").exists():
    recorder = Recorder((beside / "root").read_text(), (beside / "records").read_text())
    threading.setprofile(recorder)
    sys.setprofile(recorder)
