"""Dead letters: groups by cause, the items of a group, and replay or discard after a confirmation."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from aiohttp import web
from yarl import URL

from handlers.database.console_queries import ConsoleQueries
from handlers.errors import FileProcessingError
from schemas.dead_letters import BatchRequest, DeadLetterFilter, InvalidFilterError
from worker.console.auth import FORM, SESSION, redirect
from worker.console.dead_letter_cache import DeadLetterCache, failure_timeline
from worker.console.operations import Operations
from worker.console.templating import PAGE_SIZE, offset, page, parse_time, url_with_query
from worker.dead_letters.service import DeadLetterService, Verb
from worker.dead_letters.summary import DeadLetterSummary, group_items
from worker.settings import Settings

MAX_NOTE_CHARACTERS: Final = 2000
FILTERS: Final = ("code", "stage", "host", "since", "until", "generation", "user", "task")


class DeadLetterPages:
    """The pages of dead letters."""

    def __init__(
        self, settings: Settings, records: ConsoleQueries, operations: Operations, cache: DeadLetterCache
    ) -> None:
        self._records, self._operations, self._cache = records, operations, cache
        self._service = DeadLetterService(settings, "console")

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        app.router.add_get("/dead", self._groups)
        app.router.add_get("/dead/letters", self._list)
        app.router.add_get("/dead/confirm", self._confirm)
        app.router.add_post("/dead/run", self._run)
        app.router.add_post("/dead/note", self._write_note)

    async def _groups(self, request: web.Request) -> web.StreamResponse:
        running = await self._running_operations()
        items, list_age = await self._cache.items(busy=bool(running))
        notes, groups = await self._notes(), group_items(items)
        start = offset(request.query.get("from", "")) // PAGE_SIZE * PAGE_SIZE
        timeline = failure_timeline((_group_key(item), item.failed_at) for item in items)
        rows = [
            {
                "group": group,
                "failures": timeline.counts.get(_group_key(group), ()),
                "note": notes.get(_group_key(group)),
                "problem": self._cache.replay_problem(group.code),
                "link": _group_page(group.code, group.stage, group.host),
            }
            for group in groups[start : start + PAGE_SIZE]
        ]
        return page(
            request,
            "dead_letter_groups.html",
            title="Dead letters",
            rows=rows,
            total=len(items),
            list_age=list_age,
            timeline=timeline,
            start=start,
            page_size=PAGE_SIZE,
            total_groups=len(groups),
            running=running,
        )

    async def _list(self, request: web.Request) -> web.StreamResponse:
        given = _filters(request.query)
        filters = DeadLetterFilter.parse(given)
        running = await self._running_operations()
        items, list_age = await self._cache.items(busy=bool(running))
        matching = [item for item in items if filters.matches(item)]
        start = offset(request.query.get("from", "")) // PAGE_SIZE * PAGE_SIZE
        group_key = "\n".join((given.get("code", ""), given.get("stage", ""), given.get("host", "")))
        return page(
            request,
            "dead_letters.html",
            title="Dead letters",
            rows=matching[start : start + PAGE_SIZE],
            total=len(matching),
            start=start,
            page_size=PAGE_SIZE,
            filters=given,
            list_age=list_age,
            group_key=group_key,
            note=(await self._notes()).get(group_key),
            running=running,
            replay_problem=self._cache.replay_problem,
            page_url=url_with_query("/console/dead/letters", **given) if given else "/console/dead/letters?",
        )

    async def _confirm(self, request: web.Request) -> web.StreamResponse:
        return await self._confirmation(request, request.query, "")

    async def _confirmation(self, request: web.Request, fields: Mapping[str, Any], message: str) -> web.StreamResponse:
        """Return the page that asks for a confirmation, with the number of dead letters."""
        verb, given, ids = _verb(fields), _filters(fields), _ids(fields)
        now = datetime.now(UTC)
        selected = await self._select(given, ids, now)
        items = list({summary.item.id: summary.item for summary in selected}.values())
        problems: dict[str, int] = {}
        for item in items:
            if (problem := self._cache.replay_problem(item.code)) is not None:
                problems[problem] = problems.get(problem, 0) + 1
        return page(
            request,
            "confirm.html",
            title=verb.capitalize(),
            verb=verb,
            filters=given,
            ids=ids,
            count=len(items),
            at=now.isoformat(),
            groups=group_items(items),
            problems=problems,
            running=await self._running_operations(),
            message=message,
        )

    async def _run(self, request: web.Request) -> web.StreamResponse:
        """Start the operation, unless the number of dead letters is not the one that was confirmed."""
        fields = request[FORM]
        verb, given, ids = _verb(fields), _filters(fields), _ids(fields)
        rate = str(fields.get("rate", "")).strip()
        batch = BatchRequest.parse({"rate": rate} if rate else {})
        at = parse_time(str(fields.get("at", ""))) or datetime.now(UTC)
        selected = await self._select(given, ids, at)
        count = len({summary.item.id for summary in selected})
        confirmed = str(fields.get("count", ""))
        if str(count) != confirmed:
            message = f"You confirmed {confirmed[:12]} dead letters, but now {count} match. Check and confirm again."
            return await self._confirmation(request, fields, message)
        target: dict[str, Any] = {**given} | ({"selected": len(ids)} if ids else {})
        operation_id = await self._operations.start(verb, request[SESSION].name, target, selected, batch.rate)
        return redirect(f"/console/history/{operation_id}")

    async def _select(self, given: dict[str, str], ids: list[str], at: datetime) -> list[DeadLetterSummary]:
        """Return the matching dead letters that failed before `at`: later ones were not confirmed."""
        values: dict[str, Any] = {**given} | ({"ids": ",".join(ids)} if ids else {})
        found = await self._service.find(DeadLetterFilter.parse(values))
        return [summary for summary in found if summary.item.failed_at is None or summary.item.failed_at <= at]

    async def _write_note(self, request: web.Request) -> web.StreamResponse:
        fields = request[FORM]
        group_key = str(fields.get("about", ""))[:500].replace("\r\n", "\n")
        text = str(fields.get("note", "")).replace("\x00", "").strip()[:MAX_NOTE_CHARACTERS]
        by = request[SESSION].name
        await self._records.write_note(group_key, text, by)
        code, stage, host = [*group_key.split("\n"), "", "", ""][:3]
        await self._operations.record("note", by, {"code": code, "stage": stage, "host": host}, 1)
        return redirect(_group_page(code, stage, host))

    async def _notes(self) -> dict[str, Any]:
        """Return all notes; none while the database does not answer, since dead letters can be shown without it."""
        try:
            return await self._records.notes()
        except FileProcessingError:
            return {}

    async def _running_operations(self) -> list[Any]:
        try:
            return await self._records.operations(running=True)
        except FileProcessingError:
            return []


def _group_key(item_or_group: Any) -> str:  # noqa: ANN401 - DeadLetter and DeadLetterGroup have the same three fields
    return "\n".join((item_or_group.code, item_or_group.stage or "", item_or_group.host or ""))


def _group_page(code: str, stage: str | None, host: str | None) -> str:
    """Return the page of a group. An empty stage or host is also part of the filter."""
    query = {"code": code, "stage": stage or "", "host": host or ""}
    return str(URL("/console/dead/letters").with_query(query))


def _filters(fields: Mapping[str, Any]) -> dict[str, str]:
    """Return the filters of a query or form. An empty stage or host selects dead letters without one."""
    values = {name: str(fields[name]).strip() for name in FILTERS if name in fields}
    return {name: value for name, value in values.items() if value or name in {"stage", "host"}}


def _ids(fields: Any) -> list[str]:  # noqa: ANN401 - a multi-dict
    try:
        return [str(UUID(str(text))) for text in fields.getall("ids", [])]
    except ValueError:
        raise InvalidFilterError("ids: one of them is not the id of a dead letter") from None


def _verb(fields: Mapping[str, Any]) -> Verb:
    verb = fields.get("verb")
    if verb not in {"replay", "discard"}:
        raise InvalidFilterError("verb: must be replay or discard")
    return "replay" if verb == "replay" else "discard"
