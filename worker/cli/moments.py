"""Reads the option --since."""

from datetime import datetime
from typing import Final

import typer

from schemas.moments import read_moment

FORMS: Final = "ISO 8601, 02:00, 2h or yesterday; UTC."
"""The accepted forms of a time, for the help of options."""


def read_since(text: str | None) -> datetime | None:
    """Return the moment; None if the option is not given. Raises BadParameter (exit code 2)."""
    try:
        return None if text is None else read_moment(text)
    except ValueError as error:
        raise typer.BadParameter(f"--since: {text!r} {error}") from None
