"""Dead letters: groups by cause, rows inside, and replay or discard with the count confirmed first."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from aiohttp import web
from yarl import URL

from handlers.database.console_queries import ConsoleQueries
from handlers.errors import FileProcessingError
from schemas.dead_letters import BatchRequest, DeadLetterFilter, InvalidFilterError
from worker.console.auth import SESSION, see
from worker.console.dead_letter_cache import Snapshot, bars
from worker.console.operations import Operations
from worker.console.templating import link, moment, page, whole
from worker.dead_letters.service import DeadLetterService, Verb
from worker.dead_letters.summary import DeadLetterMessage, grouped
from worker.settings import Settings

PAGE: Final = 50
GROUPS: Final = 50
MOST_NOTE: Final = 2000
FILTERS: Final = ("code", "stage", "host", "since", "until", "generation", "user", "task")


class DeadPages:
    """The pages of dead letters."""

    def __init__(self, settings: Settings, records: ConsoleQueries, operations: Operations, snapshot: Snapshot) -> None:
        self._records, self._operations, self._snapshot = records, operations, snapshot
        self._desk = DeadLetterService(settings, "console")

    def add_to(self, app: web.Application) -> None:
        """Serve them."""
        app.router.add_get("/dead", self._groups)
        app.router.add_get("/dead/letters", self._letters)
        app.router.add_get("/dead/confirm", self._confirm)
        app.router.add_post("/dead/run", self._run)
        app.router.add_post("/dead/note", self._note)

    async def _groups(self, request: web.Request) -> web.StreamResponse:
        running = await self._running()
        items, age = await self._snapshot.items(busy=bool(running))
        notes, found = await self._notes(), grouped(items)
        start = whole(request.query.get("from", "")) // GROUPS * GROUPS
        over_time = bars((_about(item), item.failed_at) for item in items)
        groups = [
            {
                "group": group,
                "bars": over_time.of.get(_about(group), ()),
                "note": notes.get(_about(group)),
                "trouble": self._snapshot.trouble(group.code),
                "link": _within(group.code, group.stage, group.host),
            }
            for group in found[start : start + GROUPS]
        ]
        return page(
            request,
            "dead.html",
            title="Dead letters",
            groups=groups,
            total=len(items),
            age=age,
            over_time=over_time,
            start=start,
            size=GROUPS,
            of=len(found),
            running=running,
        )

    async def _letters(self, request: web.Request) -> web.StreamResponse:
        chosen = _filters(request.query)
        choice = DeadLetterFilter.read(chosen)
        running = await self._running()
        items, age = await self._snapshot.items(busy=bool(running))
        found = [item for item in items if choice.takes(item)]
        start = whole(request.query.get("from", "")) // PAGE * PAGE
        about = "\n".join((chosen.get("code", ""), chosen.get("stage", ""), chosen.get("host", "")))
        return page(
            request,
            "letters.html",
            title="Dead letters",
            rows=found[start : start + PAGE],
            total=len(found),
            start=start,
            size=PAGE,
            chosen=chosen,
            age=age,
            about=about,
            note=(await self._notes()).get(about),
            running=running,
            trouble=self._snapshot.trouble,
            more=link("/console/dead/letters", **chosen) if chosen else "/console/dead/letters?",
        )

    async def _confirm(self, request: web.Request) -> web.StreamResponse:
        return await self._asked(request, request.query, "")

    async def _asked(self, request: web.Request, fields: Mapping[str, Any], said: str) -> web.StreamResponse:
        verb, chosen, ids = _verb(fields), _filters(fields), _ids(fields)
        now = datetime.now(UTC)
        found = await self._found(chosen, ids, now)
        items = list({letter.item.id: letter.item for letter in found}.values())
        troubles: dict[str, int] = {}
        for item in items:
            if (why := self._snapshot.trouble(item.code)) is not None:
                troubles[why] = troubles.get(why, 0) + 1
        return page(
            request,
            "confirm.html",
            title=verb.capitalize(),
            verb=verb,
            chosen=chosen,
            ids=ids,
            count=len(items),
            at=now.isoformat(),
            groups=grouped(items),
            troubles=troubles,
            running=await self._running(),
            said=said,
        )

    async def _run(self, request: web.Request) -> web.StreamResponse:
        fields = await request.post()
        verb, chosen, ids = _verb(fields), _filters(fields), _ids(fields)
        errand = BatchRequest.read({"rate": rate} if (rate := str(fields.get("rate", "")).strip()) else {})
        at = moment(str(fields.get("at", ""))) or datetime.now(UTC)
        found = await self._found(chosen, ids, at)
        count = len({letter.item.id for letter in found})
        if str(count) != str(fields.get("count", "")):
            said = f"You confirmed {str(fields.get('count', ''))[:12]} letters, and now it is {count}: look again."
            return await self._asked(request, fields, said)
        target: dict[str, Any] = {**chosen} | ({"ids": len(ids)} if ids else {})
        name = await self._operations.start(verb, request[SESSION].who, target, found, errand.rate)
        return see(f"/console/history/{name}")

    async def _found(self, chosen: dict[str, str], ids: list[str], at: datetime) -> list[DeadLetterMessage]:
        """Return the letters meant that failed until a moment: what comes later was not confirmed."""
        values: dict[str, Any] = {**chosen} | ({"ids": ",".join(ids)} if ids else {})
        found = await self._desk.find(DeadLetterFilter.read(values))
        return [letter for letter in found if letter.item.failed_at is None or letter.item.failed_at <= at]

    async def _note(self, request: web.Request) -> web.StreamResponse:
        fields = await request.post()
        about, text = str(fields.get("about", ""))[:500], str(fields.get("note", "")).replace("\x00", "")
        by = request[SESSION].who
        await self._records.note(about.replace("\r\n", "\n"), text.strip()[:MOST_NOTE], by)
        code, stage, host = [*about.replace("\r\n", "\n").split("\n"), "", "", ""][:3]
        await self._operations.note("note", by, {"code": code, "stage": stage, "host": host}, 1)
        return see(_within(code, stage, host))

    async def _notes(self) -> dict[str, Any]:
        try:
            return await self._records.notes()
        except FileProcessingError:  # letters live in RabbitMQ: they can be seen without the database
            return {}

    async def _running(self) -> list[Any]:
        try:
            return await self._records.operations(running=True)
        except FileProcessingError:
            return []


def _about(one: Any) -> str:  # noqa: ANN401 - a letter or a group: both have the three
    return "\n".join((one.code, one.stage or "", one.host or ""))


def _within(code: str, stage: str | None, host: str | None) -> str:
    """Return the page of one group: an empty stage or host is part of its name."""
    query = {"code": code, "stage": stage or "", "host": host or ""}
    return str(URL("/console/dead/letters").with_query(query))


def _filters(fields: Mapping[str, Any]) -> dict[str, str]:
    """Return the filters given; an empty stage or host means the letters that have none."""
    return {n: v for n in FILTERS if n in fields and ((v := str(fields[n]).strip()) or n in {"stage", "host"})}


def _ids(fields: Any) -> list[str]:  # noqa: ANN401 - a multi-dict
    try:
        return [str(UUID(str(name))) for name in fields.getall("ids", [])]
    except ValueError:
        raise InvalidFilterError("ids: one is no letter's id") from None


def _verb(fields: Mapping[str, Any]) -> Verb:
    verb = fields.get("verb")
    if verb not in {"replay", "discard"}:
        raise InvalidFilterError("verb: give replay or discard")
    return "replay" if verb == "replay" else "discard"
