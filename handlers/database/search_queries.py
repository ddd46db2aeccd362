"""The SQL functions of the console's search: what an id, a path or a URL belongs to, and the row of a generation."""

from collections.abc import Sequence
from typing import Any, Final

from handlers.database.client import Supabase

Row = dict[str, Any]
SEARCHED_CHARACTERS: Final = 512
"""A longer text is no id; it is searched as a URL only."""


class SearchQueries:
    """The functions of `deploy/supabase/migrations` for the search.

    Every method raises DatabaseUnavailableError when the database does not answer, also after three seconds.
    """

    def __init__(self, supabase: Supabase) -> None:
        self._supabase = supabase

    async def find(self, text: str, keys: Sequence[str], paths: Sequence[str]) -> Row:
        """Return the `tasks`, `files` and `objects` with this id, these source keys or these paths."""
        arguments = {"p_text": text[:SEARCHED_CHARACTERS], "p_keys": list(keys), "p_paths": list(paths)}
        return dict(await self._supabase.call("outlast_find", arguments))

    async def find_rows(self, text: str) -> Row:
        """Return the `rows` of all bindings with this id, request id or owner, and which columns are `not_searched`."""
        if len(text) > SEARCHED_CHARACTERS:
            return {"rows": [], "not_searched": []}
        return dict(await self._supabase.call("outlast_find_rows", {"p_text": text}))

    async def generation_row(self, binding: str, generation_id: str) -> Row:
        """Return what is known of a generation's row, of its media, and of what brings rows to Outlast."""
        return dict(await self._supabase.call("outlast_console_row", {"p_id": generation_id, "p_binding": binding}))

    async def output(self, binding: str, generation_id: str, max_bytes: int) -> tuple[str | None, int | None]:
        """Return the output of a row as JSON text, None if it is larger than `max_bytes`; and its size in bytes."""
        arguments = {"p_generation_id": generation_id, "p_max_bytes": max_bytes, "p_binding": binding}
        found = await self._supabase.call("outlast_output", arguments)
        found = found[0] if isinstance(found, list) else found
        return found["output"], found["bytes"]
