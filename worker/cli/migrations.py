"""The SQL that is part of the package, and how names and values are written in SQL."""

import re
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

SUPABASE: Final = files("deploy").joinpath("supabase")
MAX_NAME_BYTES: Final = 63
"""PostgreSQL truncates longer identifiers (NAMEDATALEN)."""
TABLE: Final = re.compile(r"^create table if not exists public\.(outlast_\w+)", re.MULTILINE)
GRANTED: Final = re.compile(r"grant execute on function (.*?) to service_role;", re.DOTALL)
POLICIES: Final = "_outlast_row_security.sql"
"""The end of the name of the migration that creates the policies."""
FUNCTION: Final = re.compile(r"public\.(outlast_\w+)\(")


def migrations() -> list[Traversable]:
    """Return the migrations in the order in which `outlast init` applies them.

    The last one creates the policies, in a transaction of its own. Other tools may apply all by order of name.
    """
    return sorted(_sql_files("migrations"), key=lambda file: file.name.endswith(POLICIES))


def removal() -> list[Traversable]:
    """Return the SQL files that remove Outlast: first everything except its data, then its data."""
    return _sql_files("removal")


def next_steps(receiver: str) -> str:
    """Return the text that says what to do after `outlast init`."""
    return SUPABASE.joinpath("next_steps.md").read_text("utf-8").replace("{receiver}", receiver)


def newest_version() -> str:
    """Return the version of a database with all migrations applied."""
    return max(file.name.partition("_")[0] for file in migrations())


def tables() -> set[str]:
    """Return the names of the tables that the migrations create."""
    return {name for file in migrations() for name in TABLE.findall(file.read_text("utf-8"))}


def functions() -> set[str]:
    """Return the names of the functions that the service role may call over REST."""
    granted = (text for file in migrations() for text in GRANTED.findall(file.read_text("utf-8")))
    return {name for text in granted for name in FUNCTION.findall(text)}


def literal(value: str) -> str:
    """Return an SQL string literal that is valid with and without `standard_conforming_strings`.

    Raises:
        ValueError: it contains a NUL character, which PostgreSQL cannot store.
    """
    if "\0" in value:
        raise ValueError(f"{value!r} contains a NUL character, which PostgreSQL cannot store")
    quoted = "'" + value.replace("'", "''") + "'"
    return "E" + quoted.replace("\\", "\\\\") if "\\" in value else quoted


def identifier(name: str) -> str:
    """Return `name` if it is valid as the name of a table or column in PostgreSQL.

    Raises:
        ValueError: it is empty, contains a NUL character, or is longer than 63 bytes.
    """
    size = len(name.encode())
    if not name or "\0" in name or size > MAX_NAME_BYTES:
        raise ValueError(
            f"{name!r} is not a valid name in PostgreSQL: it has {size} bytes; use 1 to {MAX_NAME_BYTES}, without NUL"
        )
    return name


def _sql_files(folder: str) -> list[Traversable]:
    sql_files = [file for file in SUPABASE.joinpath(folder).iterdir() if file.name.endswith(".sql")]
    return sorted(sql_files, key=lambda file: file.name)
