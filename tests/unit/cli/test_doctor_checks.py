"""`outlast doctor`: the order of checks, and a project whose HTTP server closes connections."""

import asyncio

import pytest
from aiohttp import web
from rich.console import Console

from worker.doctor import columns, database, storage
from worker.doctor.context import CheckContext
from worker.doctor.result import Check, CheckFailure, State
from worker.doctor.run import CHECKS, run_checks
from worker.settings import Settings

QUIET = Console(quiet=True)


async def cut(request):
    request.transport.abort()
    return web.Response()


@pytest.fixture
async def context():
    """The context of a project whose server cuts every connection."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", cut)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    settings = Settings(_env_file=None, supabase_url=url, supabase_service_role_key="key" * 9, fal_key="fal" * 9)
    found = CheckContext.of(settings)
    found.health = {"generations": {"schema": "public", "table": "generations"}}
    yield found
    await found.aclose()
    await runner.cleanup()


@pytest.mark.parametrize(
    "run",
    [
        *(columns.column_types, columns.row_update, database.functions, database.rest_schema, storage.bucket),
    ],
)
async def test_a_cut_connection_is_a_failure_of_the_project_and_not_of_the_check(context, run):
    (result,) = await run_checks(context, [Check("one", run)], QUIET)
    assert result.state is State.FAILED
    assert "does not answer" in result.detail
    assert "check the status of the project" in result.remedy


async def test_a_check_waits_for_checks_whose_failure_does_not_matter(context):
    order = []

    async def failing(_context):
        await asyncio.sleep(0)
        order.append("first")
        raise CheckFailure("it fails", "mend it")

    async def second(_context):
        order.append("second")
        return "it ran"

    checks = [Check("first", failing), Check("second", second, after=("first",)), Check("third", second, ("first",))]
    results = await run_checks(context, checks, QUIET)
    assert [result.state for result in results] == [State.FAILED, State.OK, State.SKIPPED]
    assert order == ["first", "second"]


def test_the_bucket_is_judged_when_it_is_known_whether_it_may_be_public():
    (check,) = [check for check in CHECKS if check.run is storage.bucket]
    assert "functions" in check.after
