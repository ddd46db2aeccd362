"""Everything known of one dead letter, as it may be shown: no query of a URL, no content, no secret."""

from typing import Any
from uuid import UUID

from aio_pika.abc import AbstractIncomingMessage

from schemas.urls import redact_url
from worker.broker.envelope import PREFIX, Envelope, UndecodableError
from worker.dead_letters.queue_lock import DeadLetters
from worker.dead_letters.summary import DeadLetterMessage, read, scrubbed, united

Sight = tuple[DeadLetterMessage, list[dict[str, Any]], dict[str, Any]]
"""A letter, its files, our headers."""


async def show(letters: DeadLetters, name: UUID) -> dict[str, Any] | None:
    """Return the item of this id with `files` (of all its letters) and `headers` (of the latest); None if not there.

    Raises:
        BusyError, BrokerUnavailableError: the dead letters could not be read.
    """
    found: list[Sight] = []

    def look(message: AbstractIncomingMessage) -> None:
        letter = read(message)
        if letter.item.id == name:
            found.append((letter, _files(message), _headers(message)))

    async with letters.open() as pile:
        async for _ in pile.windows(look):
            continue
    if not found:
        return None
    item = united(letter for letter, _, _ in found)[0]
    files = {file["source_key"]: file for _, files, _ in found for file in files}
    headers = next(headers for letter, _, headers in found if letter.item.failed_at == item.failed_at)
    in_order = sorted(files.values(), key=lambda file: file["position"])
    return item.model_dump(mode="json") | {"files": in_order, "headers": headers}


def _files(message: AbstractIncomingMessage) -> list[dict[str, Any]]:
    try:
        job = Envelope.read(message).job
    except UndecodableError:
        return []
    return [file.model_dump(mode="json") | {"url": redact_url(file.url)} for file in job.files]


def _headers(message: AbstractIncomingMessage) -> dict[str, Any]:
    ours = {name: value for name, value in message.headers.items() if name.startswith(PREFIX) or name == "traceparent"}
    return {name: scrubbed(value) if isinstance(value, str) else _plain(value) for name, value in sorted(ours.items())}


def _plain(value: object) -> object:
    return value if isinstance(value, int | float | None) else str(value)
