"""Error codes that mean something to several packages. This module imports nothing, because codec processes load it."""

from typing import Final

SKIPPED: Final = "type_skipped"
"""The code of a file that was not stored on purpose. It is listed with the failed files, but it is no failure."""
