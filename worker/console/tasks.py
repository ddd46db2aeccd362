"""Tasks: list and search them, show one, cancel it, submit it again."""

import asyncio
from http import HTTPStatus
from typing import Final
from uuid import UUID

from aiohttp import web

from handlers.database.console_queries import ConsoleQueries, Row
from handlers.json_text import clean_text
from schemas.dead_letters import InvalidFilterError
from schemas.jobs import Queue
from schemas.moments import read_moment
from schemas.submissions import Submission
from schemas.tasks import TaskStatus
from worker.broker.connection import Broker
from worker.console.auth import SESSION, redirect
from worker.console.generation.previews import links_and_previews
from worker.console.operations import Operations
from worker.console.sse import stream
from worker.console.templating import FILES_PER_PAGE, PAGE_SIZE, fragment, offset, page, parse_time, url_with_query
from worker.settings import Settings
from worker.tasks.service import CancelOutcome, InvalidSubmissionError, TaskService, build_job

FILTERS: Final = ("status", "queue", "code", "host", "binding", "since", "until", "ended", "q")
STATUSES: Final = {
    **{status.value: status.value for status in TaskStatus},
    "failed,partial": "failed or partial",
    "queued,running,retrying": "not ended",
}
"""The choices of the filter by status, and their names."""
MAX_COUNTED: Final = 10_000
ACTIVE: Final = {"queued", "running", "retrying"}


class TaskPages:
    """The pages of tasks."""

    def __init__(self, settings: Settings, records: ConsoleQueries, broker: Broker, operations: Operations) -> None:
        self._settings, self._records, self._broker, self._operations = settings, records, broker, operations

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        app.router.add_get("/tasks", self._list)
        app.router.add_get("/tasks/live", self._list_live)
        app.router.add_get("/tasks/{task_id}", self._show)
        app.router.add_get("/tasks/{task_id}/live", self._live)
        app.router.add_post("/tasks/{task_id}/cancel", self._cancel)
        app.router.add_post("/tasks/{task_id}/resubmit", self._resubmit)

    async def _list(self, request: web.Request) -> web.StreamResponse:
        filters = _filters(request)
        choices = {"statuses": STATUSES, "queues": [queue.value for queue in Queue], "codes": (), "hosts": ()}
        try:
            wanted = _for_database(filters)
        except InvalidFilterError as error:
            response = page(request, "tasks.html", title="Tasks", filters=filters, problem=str(error), **choices)
            response.set_status(HTTPStatus.UNPROCESSABLE_ENTITY)
            return response
        listed, found = await asyncio.gather(self._listed(request, filters, wanted), self._records.choices())
        live = None if request.query.get("before") else url_with_query("/console/tasks/live", **filters)
        return page(request, "tasks.html", title="Tasks", filters=filters, live=live, **choices | found, **listed)

    async def _list_live(self, request: web.Request) -> web.StreamResponse:
        filters = _filters(request)

        async def render() -> tuple[str, bool]:
            listed = await self._listed(request, filters, _for_database(filters))
            return fragment(request, "tasks_live.html", {**listed, "filters": filters}), False

        return await stream(request, render)

    async def _listed(self, request: web.Request, filters: dict[str, str], wanted: dict[str, str]) -> Row:
        """Return the rows of the page, the link to older ones, and the total."""
        before = _page_position(request.query.get("before", ""))
        rows, total = await asyncio.gather(
            self._records.tasks(wanted, before, PAGE_SIZE + 1), self._records.count(wanted, MAX_COUNTED)
        )
        shown, older = rows[:PAGE_SIZE], None
        if len(rows) > PAGE_SIZE:
            position = f"{shown[-1]['created_at']}~{shown[-1]['task_id']}"
            older = url_with_query("/console/tasks", **filters, before=position)
        return {"rows": shown, "older": older, "total": total, "most": MAX_COUNTED}

    async def _show(self, request: web.Request) -> web.StreamResponse:
        context = await self._context(request, await self._record(request))
        return page(request, "task.html", title="Task", **context, done=request.query.get("done"))

    async def _live(self, request: web.Request) -> web.StreamResponse:
        async def render() -> tuple[str, bool]:
            context = await self._context(request, await self._record(request))
            return fragment(request, "task_live.html", context), context["task"]["status"] not in ACTIVE

        return await stream(request, render)

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        record, by = await self._record(request), request[SESSION].name
        task_id = UUID(record["task"]["task_id"])
        outcome = await TaskService(self._settings, self._records.supabase, self._broker).cancel(task_id)
        cancelled = outcome is not CancelOutcome.ENDED
        detail = "" if cancelled else "the task had already ended"
        await self._operations.record("cancel", by, {"task": str(task_id)}, int(cancelled), detail)
        done = "cancelled" if cancelled else "not cancelled: the task had already ended"
        return redirect(url_with_query(f"/console/tasks/{task_id}", done=done))

    async def _resubmit(self, request: web.Request) -> web.StreamResponse:
        record, by = await self._record(request), request[SESSION].name
        task_id = record["task"]["task_id"]
        submission = self._resubmission(record)
        if submission is None:
            done = "not submitted: not all source URLs are recorded; replay the dead letter, or submit a new task"
        else:
            await TaskService(self._settings, self._records.supabase, self._broker).submit(submission)
            done = "submitted again"
        await self._operations.record("resubmit", by, {"task": task_id}, int(submission is not None), done)
        return redirect(url_with_query(f"/console/tasks/{task_id}", done=done))

    def _resubmission(self, record: Row) -> Submission | None:
        """Return a submission that produces the same task; None if the recorded URLs and options do not."""
        task = record["task"]
        urls = {file["source_key"]: file["source_url"] for file in record["files"]}
        urls |= {failed.get("source_key"): failed.get("url") for failed in task["failed"]}
        try:
            submission = Submission(
                urls=[urls.get(key) or "" for key in task["source_keys"]],
                user_id=task["user_id"],
                generation_id=task["generation_id"] or "",
                binding=task["binding"],
                task_options={"queue": task["queue"]},
            )
            job = build_job(submission, self._settings)
        except (ValueError, InvalidSubmissionError):
            return None
        return submission if str(job.task_id) == task["task_id"] else None

    async def _record(self, request: web.Request) -> Row:
        """Return `task`, `attempts` and `files` of the requested task."""
        try:
            task_id = UUID(request.match_info["task_id"])
        except ValueError:
            raise web.HTTPNotFound(text="This is not a task id.") from None
        record = await self._records.task(task_id)
        if record is None:
            raise web.HTTPNotFound(text="There is no task with this id.")
        return record

    async def _context(self, request: web.Request, record: Row) -> Row:
        """Return the template variables of a task."""
        start = offset(request.query.get("from", "")) // FILES_PER_PAGE * FILES_PER_PAGE
        files, status = record["files"][start : start + FILES_PER_PAGE], record["task"]["status"]
        links, previews = await links_and_previews(self._records, files)
        return {
            **record,
            "files": files,
            "start": start,
            "files_per_page": FILES_PER_PAGE,
            "files_after": len(record["files"]) - start - len(files),
            "links": links,
            "previews": previews,
            "active": status in ACTIVE,
            "can_resubmit": status in {"failed", "partial", "cancelled"} and self._resubmission(record) is not None,
        }


def _filters(request: web.Request) -> dict[str, str]:
    return {name: value for name in FILTERS if (value := request.query.get(name, "").strip())}


def _for_database(filters: dict[str, str]) -> dict[str, str]:
    """Return the filters in a form that PostgreSQL accepts. Raises InvalidFilterError for a time that is not valid."""
    clean = {name: clean_text(value) for name, value in filters.items()}
    for name in ("since", "until", "ended"):
        if name in filters:
            try:
                clean[name] = read_moment(filters[name]).isoformat()
            except ValueError as error:
                raise InvalidFilterError(f"{name}: {error}") from None
    return clean


def _page_position(text: str) -> tuple[str, str] | None:
    """Parse `<time>~<task id>`, the last row of the previous page; None if it is not valid."""
    at, _, task_id = text.replace(" ", "+").partition("~")
    try:
        return (parsed.isoformat(), str(UUID(task_id))) if (parsed := parse_time(at)) else None
    except ValueError:
        return None
