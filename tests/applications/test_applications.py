"""Tables of the shapes that applications have: `outlast init`, events, media, sweep, deletion and removal of each."""

import asyncpg
import pytest

from handlers.database.task_records import task_row
from schemas.jobs import DEFAULT_BINDING
from schemas.periodic import ReconcilePage
from tests.applications.application import NAMES, Application
from tests.contracts.postgres.conftest import Database, open_database
from worker.periodic.sweep_plan import SweepPlanner
from worker.settings import Settings


@pytest.fixture(scope="session")
async def project(postgres):
    """A project that all shapes share, as several bindings of one project do."""
    url = await postgres.create_database("applications")
    async with open_database(url) as db:
        await db.run("delete from public.generations")
        yield db, url


@pytest.fixture(params=NAMES)
async def application(request, project, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    db, url = project
    made = Application(request.param, db, url)
    await made.create()
    return made


async def missing(db: Database, binding: str):
    page = ReconcilePage.model_validate(await db.call("outlast_missing_page", p_idle_seconds=0))
    return [entry for entry in page.entries if entry.binding == binding]


async def test_a_table_of_this_shape_is_served_and_left_as_it_was(application):
    app, db, expected = application, application.db, application.expected
    before, kept = app.dump(), expected.get("untouched")
    untouched = None if kept is None else await app.run(kept)

    for options, option in expected.get("refused", []):
        with pytest.raises(asyncpg.PostgresError) as refused:
            await db.run(app.init(options))
        assert option in refused.value.hint
        assert app.dump() == before
    await db.run(app.init(expected["options"]))

    # The application inserts a row and completes it. That sends one event, and nothing else does.
    generation = await app.run(expected["insert"], "service_role")
    assert await app.events() == []
    await app.run(expected["complete"], "authenticated")
    (event,) = await app.events()
    assert (event.binding, event.generation_id, event.user_id) == (app.name, generation, expected["owner"])
    assert event.request_id == expected.get("request")
    await app.run(expected["complete"], "authenticated")
    assert await app.events() == []

    # Without the event, the sweep finds the row, and plans the same tasks.
    jobs = app.jobs(event)
    assert [file.field for job in jobs for file in job.files] == expected["fields"]
    (entry,) = await missing(db, app.name)
    assert (entry.generation_id, entry.user_id, entry.reason) == (generation, expected["owner"], "no_task")
    swept = SweepPlanner(Settings(_env_file=None)).jobs(entry)
    assert [job.task_id for job in swept] == [job.task_id for job in jobs]
    assert task_row(jobs[0])["binding"] == app.name

    # FAL's webhook names the request only.
    if event.request_id is not None:
        (fal,) = app.jobs(event.model_copy(update={"source": "fal", "binding": DEFAULT_BINDING, "generation_id": None}))
        begun = await app.process(fal)
        assert (begun["binding"], begun["generation_id"]) == (app.name, generation)
    for job in jobs:
        begun = await app.process(job)
        assert (begun["binding"], begun["user_id"]) == (app.name, expected["owner"])
    assert await app.events() == [], "Outlast's own update sends no event"
    if app.media is not None:
        media = await app.run(f"select {app.media} from {app.table} where {app.media} is not null")  # noqa: S608 - names of ours
        assert [(entry["field"], entry["status"]) for entry in media] == [
            (name, "stored") for name in expected["fields"]
        ]
        status = f"select {app.media_status} from {app.table} where {app.media_status} is not null"  # noqa: S608 - names of ours
        assert await app.run(status) == "completed"
        await app.run(f"update {app.table} set {app.media} = null, {app.media_status} = 'mine'", "authenticated")  # noqa: S608 - names of ours
        assert await app.run(status) == "completed", "end users cannot write these columns"
    assert await missing(db, app.name) == []
    if "written" in expected:
        assert await app.run(expected["written"]) is True

    # Its files are released when the row is deleted.
    files = "select count(*) from public.outlast_files where binding = $1"
    assert await db.value(files, app.name) == len(expected["fields"])
    await app.run(expected["delete"], "authenticated")
    await db.call("outlast_release", p_grace_seconds=0)
    assert await db.value(files, app.name) == 0
    if untouched is not None:
        assert await app.run(kept) in (untouched, None)

    await db.run("select public.outlast_unbind($1)", app.name)
    assert app.dump() == before
    assert await db.value("select count(*) from public.outlast_bindings where name = $1", app.name) == 0
