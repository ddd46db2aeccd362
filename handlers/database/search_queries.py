"""The SQL functions of the console's search: what an id, a path or a URL belongs to, and the row of a generation."""

from collections.abc import Sequence
from typing import Any, Final

from handlers.database.client import Supabase

Row = dict[str, Any]
SEARCHED_CHARACTERS: Final = 512
"""A longer text is no id, so it is compared with source keys and paths only."""


class SearchQueries:
    """The functions of `deploy/supabase/migrations` for the search.

    Every method raises DatabaseUnavailableError when the database does not answer. A search may take three seconds.
    """

    def __init__(self, supabase: Supabase) -> None:
        self._supabase = supabase

    async def find(self, text: str, keys: Sequence[str], paths: Sequence[str]) -> Row:
        """Return `tasks` that `text` identifies or with these source keys, and `files` and `objects` by key or path."""
        arguments = {"p_text": text[:SEARCHED_CHARACTERS], "p_keys": list(keys), "p_paths": list(paths)}
        return dict(await self._supabase.call("outlast_find", arguments))

    async def find_rows(self, text: str) -> Row:
        """Return the `rows` of all bindings whose id, request id or owner is `text`, and the columns `not_searched`."""
        if len(text) > SEARCHED_CHARACTERS:
            return {"rows": [], "not_searched": []}
        return dict(await self._supabase.call("outlast_find_rows", {"p_text": text}))

    async def generation_row(self, binding: str, generation_id: str) -> Row:
        """Return what explains a generation's state: its binding, row and media, the trigger, and the last sweep."""
        return dict(await self._supabase.call("outlast_console_row", {"p_id": generation_id, "p_binding": binding}))

    async def output(self, binding: str, generation_id: str, max_bytes: int) -> tuple[str | None, int | None]:
        """Return the output of a row as JSON text, and its size in bytes; both None if there is no such row.

        The output is None if it is larger than `max_bytes`. Then the size may be that of the compressed value.
        """
        arguments = {"p_generation_id": generation_id, "p_max_bytes": max_bytes, "p_binding": binding}
        found = await self._supabase.call("outlast_output", arguments)
        found = found[0] if isinstance(found, list) else found
        return found["output"], found["bytes"]
