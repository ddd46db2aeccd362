"""FAL's webhook completes the row of a binding with `fal_finishes`, and only the row that it is about."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from handlers.database.task_records import task_row
from handlers.download.allowlist import Allowlist
from handlers.settings import MediaSettings
from handlers.sources.fal_results import result_only_jobs
from handlers.sources.plan import plan_jobs
from schemas.events import CompletedGeneration, IgnoredWebhook
from schemas.jobs import Job, JobFile, NamedGeneration
from tests.contracts.postgres.conftest import Database, open_database

SETTINGS = MediaSettings(_env_file=None)
OUTPUT = {"seed": 1, "images": [{"url": "https://v3.fal.media/files/a.png"}]}
SETUP = """
create type public.state as enum ('waiting', 'done', 'broken', 'cancelled');
create table public.runs (id uuid primary key default gen_random_uuid(), owner text default 'u', status public.state
  default 'waiting', output json, request text, error text check (error <> 'refused'));
insert into public.outlast_bindings (name, "table", owner_column, status_column, completed_values, output_columns,
    request_column, error_column, media_column, media_status_column, fal_finishes, failed_values)
  values ('runs', 'runs', 'owner', 'status', '{done}', '{output}', 'request', 'error', 'media', 'media_status', true,
    '{broken,cancelled}');
create table public.links (id text primary key, url text, urls text[], request text);
insert into public.outlast_bindings (name, "table", output_columns, request_column, media_column, media_status_column,
    fal_finishes)
  values ('links', 'links', '{url}', 'request', 'media', 'media_status', true);
"""


class Project(Database):
    """A project with the bindings `runs` and `links`, whose rows FAL's webhook completes."""

    async def row(self, sql: str = "", *values: Any) -> dict[str, Any]:
        return await super().row(
            sql or "select status::text, output::text, request, error from runs where id = $1", *values
        )

    async def run_of(self, request: str | None, **columns: str) -> Any:
        names = ", ".join(["request", *columns])
        places = ", ".join([f"'{value}'" for value in columns.values()])
        sql = f"insert into runs ({names}) values ($1{', ' if places else ''}{places}) returning id"  # noqa: S608 - fixed names
        return await self.value(sql, request)

    async def succeeded(
        self, request: str, named: Any = None, output: Any = None, binding: str = "runs"
    ) -> dict[str, Any]:
        """Begin the job of FAL's webhook; return the answer."""
        name = None if named is None else NamedGeneration(binding=binding, generation_id=str(named))
        event = CompletedGeneration(source="fal", request_id=request, output=output or OUTPUT, named=name)
        (job,) = plan_jobs(event, SETTINGS, Allowlist(SETTINGS.source_allowlist))
        answer = await self.call("outlast_begin", p_job=task_row(job), p_lease=uuid4(), p_worker="w")
        assert isinstance(answer, dict)
        return answer

    async def failed(self, request: str, error: str = "out of memory", named: Any = None) -> str:
        name = None if named is None else NamedGeneration(binding="runs", generation_id=str(named))
        event = IgnoredWebhook(reason="generation_failed", request_id=request, error=error)
        (job,) = result_only_jobs(event, name, SETTINGS)
        return str((await self.call("outlast_fal_result", p_job=task_row(job)))["state"])


@pytest.fixture(scope="module")
async def project(postgres: Any) -> AsyncIterator[Project]:
    async with open_database(await postgres.create_database("fal_results")) as database:
        await database.run(SETUP)
        await database.install()
        await database.run("update outlast_settings set value = 'http://x' where key = 'webhook_url'")
        await database.value("select outlast_set_webhook_secret($1)", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
        yield Project(database.pool)


async def test_ok_writes_output_and_status_and_begins_the_task(project: Project) -> None:
    row = await project.run_of("r-ok")
    begun = await project.succeeded("r-ok")
    assert (begun["state"], begun["generation_id"], begun["binding"]) == ("run", str(row), "runs")
    written = await project.row("", row)
    assert json.loads(written["output"]) == OUTPUT
    assert (written["status"], written["request"]) == ("done", "r-ok")
    assert await project.value("select media_status from runs where id = $1", row) == "pending"
    assert await project.value("select count(*) from net.http_request_queue") == 0, "FAL's job is at work already"


async def test_error_writes_status_and_error(project: Project) -> None:
    row = await project.run_of("r-error")
    assert await project.failed("r-error") == "written"
    assert await project.row("", row) == {
        "status": "broken",
        "output": None,
        "request": "r-error",
        "error": "out of memory",
    }
    assert await project.failed("r-error", "again") == "finished"
    assert await project.failed("r-unknown") == "no_generation"


@pytest.mark.parametrize("status", ["done", "broken", "cancelled"])
async def test_a_row_that_the_application_finished_is_not_overwritten(project: Project, status: str) -> None:
    row = await project.run_of(f"r-{status}", status=status, output='{"mine": 1}')
    assert (await project.succeeded(f"r-{status}"))["state"] == "run"
    assert await project.failed(f"r-{status}") == "finished"
    assert await project.row("", row) == {
        "status": status,
        "output": '{"mine": 1}',
        "request": f"r-{status}",
        "error": None,
    }


async def test_an_output_without_files_completes_the_row_too(project: Project) -> None:
    row = await project.run_of("r-text")
    (job,) = result_only_jobs(
        CompletedGeneration(source="fal", request_id="r-text", output={"text": "x"}), None, SETTINGS
    )
    assert (await project.call("outlast_fal_result", p_job=task_row(job)))["state"] == "written"
    assert (await project.row("", row))["output"] == '{"text":"x"}'


async def test_the_address_names_a_row_without_a_request_id(project: Project) -> None:
    row = await project.run_of(None)
    begun = await project.succeeded("r-named", named=row)
    assert begun["generation_id"] == str(row)
    assert (await project.row("", row))["request"] == "r-named"
    assert (await project.succeeded("r-other", named=row))["state"] == "no_generation"


async def test_a_row_that_refuses_the_result_is_an_error_of_its_job(project: Project) -> None:
    row = await project.run_of("r-refused")
    assert (await project.failed("r-refused", "refused")).startswith("rejected: SQLSTATE 23514")
    assert (await project.row("", row))["status"] == "waiting"


async def test_a_text_column_gets_the_url_of_the_only_file(project: Project) -> None:
    await project.run("insert into links (id, request) values ('one', 'r-one'), ('two', 'r-two')")
    await project.succeeded("r-one")
    two = {"images": [{"url": f"https://v3.fal.media/files/{n}.png"} for n in "ab"]}
    await project.succeeded("r-two", output=two)
    urls = {row["id"]: row["url"] for row in await project.pool.fetch("select id, url from links")}
    assert (urls["one"], json.loads(urls["two"])) == ("https://v3.fal.media/files/a.png", two)


async def test_a_job_without_fals_result_does_not_end_a_row_that_is_not_finished(project: Project) -> None:
    row = await project.run_of("r-api")
    job = Job(
        task_id=uuid4(),
        binding="runs",
        generation_id=str(row),
        user_id="u",
        source="api",
        files=(JobFile(position=0, url="https://v3.fal.media/files/a.png", source_key="a"),),
        total_files=1,
        output_key="o",
        event_at=datetime.now(UTC),
    )
    begun = await project.call("outlast_begin", p_job=task_row(job), p_lease=uuid4(), p_worker="w")
    assert begun["state"] == "run"
    assert (await project.row("", row))["status"] == "waiting"
