"""Discard: store dead letters in the archive table, then remove them from the queue."""

import base64
import hashlib
from collections.abc import Sequence
from typing import Any
from uuid import uuid5

from handlers.database.task_records import TaskRecords
from handlers.errors import DatabaseUnavailableError
from schemas.jobs import NAMESPACE
from worker.dead_letters.batch import Preparation, UnackedDeadLetter
from worker.dead_letters.summary import DeadLetterSummary


class Discard:
    """The action of a discard. Archiving a dead letter twice stores one row: its id is made from failure and body."""

    group_size = 16

    def __init__(self, records: TaskRecords, keep_days: float, by: str) -> None:
        self._records = records
        self._keep_seconds = int(keep_days * 24 * 3600)
        self._by = by

    async def prepare(self, group: Sequence[UnackedDeadLetter]) -> Sequence[Preparation]:
        """Archive the group. Raises DatabaseUnavailableError; then none of them may be removed from the queue."""
        rows = {row["id"]: row for row in map(_row, group)}
        stored = await self._records.archive(list(rows.values()), self._keep_seconds, self._by)
        if stored != len(rows):
            raise DatabaseUnavailableError(
                f"outlast_archive stored {stored} of {len(rows)} dead letters; check with `outlast doctor` that the "
                "database has this version's migrations"
            )
        return [Preparation()] * len(group)

    def on_removed(self, _summary: DeadLetterSummary) -> None:
        """Do nothing: discards have no metric."""


def _row(dead_letter: UnackedDeadLetter) -> dict[str, Any]:
    item, body = dead_letter.summary.item, dead_letter.message.body
    failed_at = "" if item.failed_at is None else item.failed_at.isoformat()
    identity = f"{item.id}\n{failed_at}\n{item.replays}\n{hashlib.sha256(body).hexdigest()}"
    return {
        "id": str(uuid5(NAMESPACE, identity)),
        "item": {key: _without_nul(value) for key, value in item.model_dump(mode="json").items()},
        "message_type": _without_nul(dead_letter.message.type),
        "body": base64.b64encode(body).decode(),
    }


def _without_nul(value: object) -> object:
    """Replace NUL characters, which PostgreSQL's text cannot hold. The body is stored as base64, unchanged."""
    return value.replace("\x00", "\ufffd") if isinstance(value, str) else value
