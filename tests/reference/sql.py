"""deploy/docs/sql.md: the tables, and the functions that the service role may call, from the migrations."""

import re
from pathlib import Path

from tests.reference.tables import table

MIGRATIONS = sorted((Path(__file__).parents[2] / "deploy/supabase/migrations").glob("*.sql"))
COMMENT = r"((?:^--[^\n]*\n)*)"
LINES = re.MULTILINE | re.DOTALL
FUNCTION = re.compile(COMMENT + r"^create or replace function public\.(outlast_\w+)\(([^)]*)\)\s*returns (\w+)", LINES)
TABLE = re.compile(COMMENT + r"^create table if not exists public\.(outlast_\w+) \(\n(.*?)^\);", LINES)
GRANT = re.compile(r"^grant execute on function (.*?)\s+to service_role", re.MULTILINE | re.DOTALL)
COLUMN = re.compile(r"^  ([a-z_0-9]+) [a-z]", re.MULTILINE)
NO_COLUMNS = {"primary", "unique", "check", "foreign", "constraint"}
HEAD = """\
# SQL

What `outlast init` creates in your database, all in the schema `public`. Workers call these functions over
Supabase's REST API as the service role, each in one transaction. You can call them in the SQL editor too. End users can
call none of them; which rows they can read is in [security.md](security.md).

"""


def page() -> str:
    text = "".join(path.read_text("utf-8") for path in MIGRATIONS)
    granted = {name for grant in GRANT.findall(text) for name in re.findall(r"public\.(outlast_\w+)\(", grant)}
    functions = {name: (comment, arguments, kind) for comment, name, arguments, kind in FUNCTION.findall(text)}
    tables = {name: (comment, body) for comment, name, body in TABLE.findall(text)}
    rows = [
        (f"`{name}({_arguments(functions[name][1])})`", functions[name][2], _prose(functions[name][0]))
        for name in sorted(granted & set(functions))
    ]
    table_rows = [(f"`{name}`", _columns(body), _prose(comment)) for name, (comment, body) in sorted(tables.items())]
    return "".join(
        [
            HEAD,
            "## Functions\n\n",
            table(("function", "returns", "does"), rows),
            "\n## Tables\n\n",
            table(("table", "columns", "holds"), table_rows),
        ]
    )


def _arguments(text):
    """Return the arguments on one line."""
    return " ".join(text.split())


def _columns(body):
    return ", ".join(f"`{name}`" for name in COLUMN.findall(body) if name not in NO_COLUMNS)


def _prose(comment):
    return " ".join(line.removeprefix("--").strip() for line in comment.splitlines())
