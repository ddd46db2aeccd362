"""The SQL that is part of the package, and how names and values are written in SQL."""

import re
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

SUPABASE: Final = files("deploy").joinpath("supabase")
LONGEST_NAME: Final = 63
"""Bytes of an identifier; PostgreSQL cuts longer ones (NAMEDATALEN)."""
TABLE: Final = re.compile(r"^create table if not exists public\.(outlast_\w+)", re.MULTILINE)
GRANTED: Final = re.compile(r"grant execute on function (.*?) to service_role;", re.DOTALL)
FUNCTION: Final = re.compile(r"public\.(outlast_\w+)\(")


def migrations() -> list[Traversable]:
    """Return the migrations in the order they are to be applied."""
    return _sorted("migrations")


def removal() -> list[Traversable]:
    """Return what takes Outlast out again: all but its data, then its data."""
    return _sorted("removal")


def newest() -> str:
    """Return the version a database has once every migration is applied."""
    return migrations()[-1].name.partition("_")[0]


def tables() -> set[str]:
    """Return the tables the migrations make."""
    return {name for file in migrations() for name in TABLE.findall(file.read_text("utf-8"))}


def functions() -> set[str]:
    """Return the functions the migrations let the service role call over REST."""
    granted = (text for file in migrations() for text in GRANTED.findall(file.read_text("utf-8")))
    return {name for text in granted for name in FUNCTION.findall(text)}


def literal(value: str) -> str:
    """Return a string as SQL writes it, whatever `standard_conforming_strings` says.

    Raises:
        ValueError: it holds a NUL, which PostgreSQL's text cannot.
    """
    if "\0" in value:
        raise ValueError(f"{value!r} holds a NUL character, which PostgreSQL cannot store")
    quoted = "'" + value.replace("'", "''") + "'"
    return "E" + quoted.replace("\\", "\\\\") if "\\" in value else quoted


def identifier(name: str) -> str:
    """Return the name of a table or column if PostgreSQL can have one of that name.

    Raises:
        ValueError: it is empty, holds a NUL, or is longer than PostgreSQL keeps.
    """
    size = len(name.encode())
    if not name or "\0" in name or size > LONGEST_NAME:
        raise ValueError(
            f"{name!r} cannot be a name in PostgreSQL: 1 to {LONGEST_NAME} bytes, no NUL, and this has {size}"
        )
    return name


def _sorted(folder: str) -> list[Traversable]:
    found = [file for file in SUPABASE.joinpath(folder).iterdir() if file.name.endswith(".sql")]
    return sorted(found, key=lambda file: file.name)
