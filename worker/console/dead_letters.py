"""Dead letters: the items of a group or filter, notes, and replay or discard after a confirmation."""

from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final
from uuid import UUID

from aiohttp import web
from yarl import URL

from handlers.database.console_queries import ConsoleQueries
from schemas.dead_letters import BatchRequest, DeadLetterFilter, InvalidFilterError
from schemas.moments import read_moment
from worker.console.auth import FORM, SESSION, redirect
from worker.console.dead_letter_cache import DeadLetterCache
from worker.console.dead_letter_groups import MAX_CHOICES, group_page, read_notes, running_operations
from worker.console.operations import Operations
from worker.console.sse import stream
from worker.console.templating import PAGE_SIZE, fragment, offset, page, parse_time, url_with_query
from worker.dead_letters.service import DeadLetterService, Verb
from worker.dead_letters.summary import DeadLetterSummary, group_items
from worker.settings import Settings

MAX_NOTE_CHARACTERS: Final = 2000
FILTERS: Final = ("code", "stage", "host", "since", "until", "binding", "generation", "user", "task")


class DeadLetterPages:
    """The pages of dead letters."""

    def __init__(
        self, settings: Settings, records: ConsoleQueries, operations: Operations, cache: DeadLetterCache
    ) -> None:
        self._records, self._operations, self._cache = records, operations, cache
        self._service = DeadLetterService(settings, "console")

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        app.router.add_get("/dead/letters", self._list)
        app.router.add_get("/dead/letters/live", self._list_live)
        app.router.add_get("/dead/confirm", self._confirm)
        app.router.add_post("/dead/run", self._run)
        app.router.add_post("/dead/note", self._write_note)

    async def _list(self, request: web.Request) -> web.StreamResponse:
        given, problem = _filters(request.query), None
        try:
            filters = DeadLetterFilter.parse(given)
        except InvalidFilterError as error:
            filters, problem = None, str(error)
        context = await self._listed(request, given, filters)
        group_key = "\n".join((given.get("code", ""), given.get("stage", ""), given.get("host", "")))
        response = page(
            request,
            "dead_letters.html",
            problem=problem,
            title="Dead letters",
            group_key=group_key,
            note=(await read_notes(self._records)).get(group_key),
            live=str(URL("/console/dead/letters/live").with_query({**given, "from": str(context["start"])})),
            **context,
        )
        if problem:
            response.set_status(HTTPStatus.UNPROCESSABLE_ENTITY)
        return response

    async def _list_live(self, request: web.Request) -> web.StreamResponse:
        given = _filters(request.query)

        async def render() -> tuple[str, bool]:
            context = await self._listed(request, given, DeadLetterFilter.parse(given), live=True)
            return fragment(request, "dead_letters_live.html", context), False

        return await stream(request, render)

    async def _listed(
        self, request: web.Request, given: dict[str, str], filters: DeadLetterFilter | None, *, live: bool = False
    ) -> dict[str, Any]:
        """Return the template variables of the list: one page of what matches, and the values to choose from."""
        running = await running_operations(self._records)
        items, list_age = await self._cache.items(busy=bool(running), live=live)
        matching = [] if filters is None else [item for item in items if filters.matches(item)]
        start = offset(request.query.get("from", "")) // PAGE_SIZE * PAGE_SIZE
        return {
            "rows": matching[start : start + PAGE_SIZE],
            "total": len(matching),
            "start": start,
            "page_size": PAGE_SIZE,
            "filters": given,
            "choices": {
                name: sorted({value for item in items if (value := getattr(item, name))})[:MAX_CHOICES]
                for name in ("code", "stage", "host")
            },
            "list_age": 0 if live else list_age,
            "running": running,
            "replay_problem": self._cache.replay_problem,
            "page_url": url_with_query("/console/dead/letters", **given) if given else "/console/dead/letters?",
        }

    async def _confirm(self, request: web.Request) -> web.StreamResponse:
        return await self._confirmation(request, request.query, "")

    async def _confirmation(self, request: web.Request, fields: Mapping[str, Any], message: str) -> web.StreamResponse:
        """Return the page that asks for a confirmation, with the number of dead letters."""
        verb, ids, now = _verb(fields), _ids(fields), datetime.now(UTC)
        given = _fixed_times(_filters(fields), now)
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
            running=await running_operations(self._records),
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
        return redirect(group_page(code, stage, host))


def _filters(fields: Mapping[str, Any]) -> dict[str, str]:
    """Return the filters of a query or form. An empty stage or host selects dead letters without one."""
    values = {name: str(fields[name]).strip() for name in FILTERS if name in fields}
    return {name: value for name, value in values.items() if value or name in {"stage", "host"}}


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


def _verb(fields: Mapping[str, Any]) -> Verb:
    verb = fields.get("verb")
    if verb not in {"replay", "discard"}:
        raise InvalidFilterError("verb: must be replay or discard")
    return "replay" if verb == "replay" else "discard"
