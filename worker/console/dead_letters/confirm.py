"""Dead letters: replay or discard after a confirmation."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self
from uuid import UUID

from aiohttp import web

from handlers.database.console_queries import ConsoleQueries
from schemas.dead_letters import BatchRequest, DeadLetter, DeadLetterFilter, InvalidFilterError
from schemas.moments import read_moment
from worker.console.auth import FORM, SESSION, redirect
from worker.console.dead_letters.cache import DeadLetterCache
from worker.console.dead_letters.items import read_filters
from worker.console.dead_letters.loading import loading_page, running_operations
from worker.console.operations import Operations
from worker.console.templating import page, parse_time
from worker.dead_letters.service import DeadLetterService, Verb
from worker.dead_letters.summary import group_items
from worker.settings import Settings


@dataclass(frozen=True, slots=True)
class Selection:
    """What an operator wants to do, with which dead letters."""

    verb: Verb
    given: dict[str, str]
    ids: list[str]

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> Self:
        """Return the selection of a query or form; its times become absolute. Raises InvalidFilterError."""
        verb = fields.get("verb")
        if verb not in {"replay", "discard"}:
            raise InvalidFilterError("verb: must be replay or discard")
        given = _fixed_times(read_filters(fields), datetime.now(UTC))
        return cls("replay" if verb == "replay" else "discard", given, _ids(fields))

    def filters(self) -> DeadLetterFilter:
        """Return the filters. Raises InvalidFilterError."""
        return DeadLetterFilter.parse({**self.given} | ({"ids": ",".join(self.ids)} if self.ids else {}))


class DeadLetterConfirmPages:
    """The page that asks for a confirmation, and the form that starts the operation."""

    def __init__(
        self, settings: Settings, records: ConsoleQueries, operations: Operations, cache: DeadLetterCache
    ) -> None:
        self._records, self._operations, self._cache = records, operations, cache
        self._service = DeadLetterService(settings, "console")

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        app.router.add_get("/dead/confirm", self._confirm)
        app.router.add_post("/dead/run", self._run)

    async def _confirm(self, request: web.Request) -> web.StreamResponse:
        """Count in the list as last read. `_run` counts in the queue, and asks again if the number is another one."""
        selection = Selection.read(request.query)
        filters, letters = selection.filters(), await self._cache.latest()
        if not letters.current or letters.began_at is None:
            return loading_page(request, letters)
        newest = max((item.failed_at for item in letters.messages if item.failed_at), default=letters.began_at)
        at = min(max(newest, letters.began_at), datetime.now(UTC))
        matching = [item for item in letters.messages if filters.matches(item)]
        return await self._confirmation(request, selection, matching, at, "")

    async def _confirmation(
        self, request: web.Request, selection: Selection, matching: Iterable[DeadLetter], at: datetime, message: str
    ) -> web.StreamResponse:
        """Return the page that asks for a confirmation, with the number of dead letters that failed until `at`."""
        items = list({item.id: item for item in matching if _failed_before(at, item)}.values())
        problems: dict[str, int] = {}
        for item in items:
            if (problem := self._cache.replay_problem(item.code)) is not None:
                problems[problem] = problems.get(problem, 0) + 1
        return page(
            request,
            "confirm.html",
            title=selection.verb.capitalize(),
            verb=selection.verb,
            filters=selection.given,
            ids=selection.ids,
            count=len(items),
            at=at.isoformat(),
            groups=group_items(items),
            problems=problems,
            running=await running_operations(self._records),
            message=message,
        )

    async def _run(self, request: web.Request) -> web.StreamResponse:
        """Start the operation. If another number of dead letters matches than was confirmed, ask again."""
        fields, now = request[FORM], datetime.now(UTC)
        selection = Selection.read(fields)
        rate = str(fields.get("rate", "")).strip()
        batch = BatchRequest.parse({"rate": rate} if rate else {})
        at = parse_time(str(fields.get("at", ""))) or now
        found = await self._service.find(selection.filters())
        selected = [summary for summary in found if _failed_before(at, summary.item)]
        count, confirmed = len({summary.item.id for summary in selected}), str(fields.get("count", ""))
        if str(count) != confirmed:
            message = f"You confirmed {confirmed[:12]} dead letters, but now {count} match. Check and confirm again."
            return await self._confirmation(request, selection, [summary.item for summary in found], now, message)
        target: dict[str, Any] = {**selection.given} | ({"selected": len(selection.ids)} if selection.ids else {})
        operation_id = await self._operations.start(selection.verb, request[SESSION].name, target, selected, batch.rate)
        return redirect(f"/console/history/{operation_id}")


def _failed_before(at: datetime, item: DeadLetter) -> bool:
    """Whether a dead letter failed at or before `at`, or has no time. Later ones were not confirmed."""
    return item.failed_at is None or item.failed_at <= at


def _fixed_times(filters: dict[str, str], now: datetime) -> dict[str, str]:
    """Return the filters with absolute times, so that what is confirmed is what is run. Raises InvalidFilterError."""
    fixed = dict(filters)
    for name in ("since", "until"):
        if name in filters:
            try:
                fixed[name] = read_moment(filters[name], now).isoformat()
            except ValueError as error:
                raise InvalidFilterError(f"{name}: {error}") from None
    return fixed


def _ids(fields: Any) -> list[str]:  # noqa: ANN401 - a multi-dict
    try:
        return [str(UUID(str(text))) for text in fields.getall("ids", [])]
    except ValueError:
        raise InvalidFilterError("ids: one of them is not the id of a dead letter") from None
