"""The `outlast` command line.

structlog imports rich and Pygments where they are installed, for tracebacks that Outlast does not print. They need
5 MiB in each process, so structlog is imported here as if rich were missing. Commands that print tables import rich.
"""

import sys

if not {"rich", "structlog"} & sys.modules.keys():
    sys.modules["rich"] = None  # type: ignore[assignment]  # importing it raises ModuleNotFoundError
    try:
        import structlog  # noqa: F401
    finally:
        del sys.modules["rich"]
