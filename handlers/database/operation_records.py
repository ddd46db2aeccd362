"""The SQL functions that record what operators do with dead letters, and the results of replayed dead letters."""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from handlers.database.client import Supabase

LETTERS_PER_CALL: Final = 1000


class OperationRecords:
    """The functions of `deploy/supabase/migrations` for operations.

    Every method raises DatabaseUnavailableError when the database does not answer.
    """

    def __init__(self, supabase: Supabase) -> None:
        self._supabase = supabase

    async def record(self, columns: dict[str, Any]) -> str | None:
        """Record an operation (at least `id`, `verb`, `by`, `state`); return who has asked to abort it, or None."""
        aborted_by: str | None = (await self._supabase.call("outlast_operation", {"p_operation": columns}))["abort"]
        return aborted_by

    async def follow_replay(self, operation_id: UUID, letters: Sequence[dict[str, Any]]) -> None:
        """Record the dead letters that a replay will publish, so that their results are counted.

        `letters` have `id`, `task_id` and `source_keys` each.
        """
        for start in range(0, len(letters), LETTERS_PER_CALL):
            part = list(letters[start : start + LETTERS_PER_CALL])
            await self._supabase.call("outlast_follow_replay", {"p_id": str(operation_id), "p_letters": part})

    async def unfollow_replay(self, operation_id: UUID, letter_ids: Sequence[UUID]) -> None:
        """Remove the record of dead letters that were not published after all."""
        arguments = {"p_id": str(operation_id), "p_letter_ids": [str(letter_id) for letter_id in letter_ids]}
        await self._supabase.call("outlast_unfollow_replay", arguments)

    async def replay_results(self, operation_id: UUID) -> dict[str, Any] | None:
        """Count replayed dead letters: `stored`, `cancelled`, `waiting`, `failed` by code; None if none is recorded."""
        results = await self._supabase.call("outlast_replay_results", {"p_ids": [str(operation_id)]})
        found: dict[str, Any] | None = results.get(str(operation_id))
        return found
