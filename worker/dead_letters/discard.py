"""Discard: a dead letter moves to the archive table, and only then leaves the queue."""

import base64
import hashlib
from collections.abc import Sequence
from typing import Any
from uuid import uuid5

from handlers.database.task_records import TaskRecords
from handlers.errors import DatabaseUnavailableError
from schemas.jobs import NAMESPACE
from worker.dead_letters.batch import Held, Ready
from worker.dead_letters.summary import DeadLetterMessage


class Discard:
    """Archives, acks. To archive a letter twice leaves one: its row's id is derived from what it is."""

    at_once = 16

    def __init__(self, records: TaskRecords, keep_days: float, by: str) -> None:
        self._records = records
        self._keep_seconds = int(keep_days * 24 * 3600)
        self._by = by

    async def prepare(self, held: Sequence[Held]) -> Sequence[Ready]:
        """Have the archive keep the letters. Raises DatabaseUnavailableError, and then none of them may go."""
        rows = {row["id"]: row for row in map(_row, held)}
        kept = await self._records.archive(list(rows.values()), self._keep_seconds, self._by)
        if kept != len(rows):
            raise DatabaseUnavailableError(
                f"outlast_archive kept {kept} of {len(rows)} letters: is it the function of this version?"
            )
        return [Ready()] * len(held)

    def done(self, _letter: DeadLetterMessage) -> None:
        """Nothing is counted."""


def _row(held: Held) -> dict[str, Any]:
    item, body = held.letter.item, held.message.body
    failed_at = "" if item.failed_at is None else item.failed_at.isoformat()
    name = f"{item.id}\n{failed_at}\n{item.replays}\n{hashlib.sha256(body).hexdigest()}"
    return {
        "id": str(uuid5(NAMESPACE, name)),
        "item": {key: _storable(value) for key, value in item.model_dump(mode="json").items()},
        "message_type": _storable(held.message.type),
        "body": base64.b64encode(body).decode(),
    }


def _storable(value: object) -> object:
    """Return a value as PostgreSQL takes it: no text of its may hold a NUL. The body, in base64, keeps everything."""
    return value.replace("\x00", "\ufffd") if isinstance(value, str) else value
