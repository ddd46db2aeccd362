"""Asks the database what has ended or failed, and publishes one message for each notice and address."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote, urlencode

from handlers.database.notice_records import EndedTask, NoticeRecords
from schemas.jobs import Queue
from worker.broker import topology
from worker.broker.connection import Broker
from worker.broker.errors import PUBLISH_SECONDS
from worker.notices.message import Notice, NoticeMessage
from worker.notices.types import NoticeType
from worker.settings import Settings

NOTICE_SECONDS: Final = 5.0
DIGEST_SECONDS: Final = 60.0
TYPES: Final[dict[str, NoticeType]] = {
    "completed": "generation.completed",
    "partial": "generation.partial",
    "failed": "generation.failed",
}


class Notices:
    """Two scheduled actions that publish notices; repeated after FileProcessingError or BrokerUnavailableError."""

    def __init__(self, settings: Settings, records: NoticeRecords, broker: Broker) -> None:
        self._urls = settings.notify_addresses
        self._wanted = frozenset(settings.notify_events)
        self._console = (settings.console_url or "").rstrip("/")
        self._records = records
        self._broker = broker

    async def publish_ended(self) -> None:
        """Publish a notice of each generation that ended since the last call."""
        while tasks := await self._records.ended():
            for task in _last_of_each_generation(tasks):
                await self._publish(self._ended_notice(task), task.subject)
            await self._records.note_ended(tasks)

    async def publish_dead_letters(self) -> None:
        """Publish one digest of the files that became dead letters since the last call."""
        digest = await self._records.digest()
        if digest.total:
            data = digest.model_dump(mode="json", exclude={"until"}) | self._link("/dead")
            notice = Notice(type="dead_letters.added", timestamp=digest.until, data=data)
            await self._publish(notice, digest.until.isoformat())
        await self._records.note_digest(digest.until)

    def _ended_notice(self, task: EndedTask) -> Notice:
        link = self._link(f"/generations/{quote(task.generation_id, safe='')}", binding=task.binding)
        fields = ("binding", "generation_id", "user_id", "request_id", "status", "total", "stored", "failed")
        data = task.model_dump(mode="json", include=set(fields)) | link
        return Notice(type=TYPES[task.status or "failed"], timestamp=task.ended_at or datetime.now(UTC), data=data)

    async def _publish(self, notice: Notice, subject: str) -> None:
        if notice.type not in self._wanted:
            return
        for url in self._urls:
            message = NoticeMessage.of(notice, subject, url).message()
            await self._broker.publish(topology.WORK, Queue.WEBHOOKS, message, PUBLISH_SECONDS)

    def _link(self, path: str, **query: str) -> dict[str, Any]:
        """Return the field `console_url`, the address of a page of the console; no field if CONSOLE_URL is not set."""
        if not self._console:
            return {}
        return {"console_url": f"{self._console}{path}{'?' if query else ''}{urlencode(query)}"}


def _last_of_each_generation(tasks: Sequence[EndedTask]) -> list[EndedTask]:
    """Return one task of each generation, without those of which a task has not ended yet."""
    return list({task.subject: task for task in tasks if task.status is not None}.values())
