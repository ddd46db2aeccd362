"""Several bindings side by side: their generations, events and files are kept apart; changes hold at once."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from deploy.local.postgres import apply_migrations
from schemas.jobs import DEFAULT_BINDING, JobFile, Profile, file_id_for, task_id_for
from tests.contracts.postgres.conftest import USER

CLIPS = """
create table public.clips (id uuid primary key default gen_random_uuid(), user_id uuid, status text, output jsonb,
  request_id text, created_at timestamptz default now(), deleted boolean default false);
insert into public.outlast_bindings (name, "table", owner_column, status_column, completed_values, output_columns,
    request_column, created_column, deleted_column, media_column, media_status_column)
  values ('clips', 'clips', 'user_id', 'status', '{done}', '{output}', 'request_id', 'created_at', 'deleted', 'media',
    'media_status');
"""
OLD_CONSTRAINT = (
    "alter table public.outlast_files add constraint outlast_files_generation_id_source_key_key"
    " unique (generation_id, source_key)"
)


@pytest.fixture
async def two(own_db: Any) -> Any:
    """A database with the bindings `generations` and `clips`. It was set up by a version without bindings."""
    await own_db.run(OLD_CONSTRAINT)
    await own_db.run(CLIPS)
    await own_db.install()
    return own_db


async def clip(db: Any, **columns: Any) -> str:
    row = {"id": uuid4(), "status": "done", "output": {"images": []}, **columns}
    places = ", ".join(f"${number}" for number in range(1, len(row) + 1))
    sql = f"insert into public.clips ({', '.join(row)}) values ({places}) returning id::text"  # noqa: S608 - fixed names
    return str(await db.value(sql, *row.values()))


def for_clips(job: dict[str, Any]) -> dict[str, Any]:
    return job | {"binding": "clips", "task_id": str(uuid4())}


async def media_status(db: Any, table: str) -> list[str | None]:
    rows = await db.pool.fetch(f"select media_status from public.{table} order by id")  # noqa: S608 - fixed names
    return [row["media_status"] for row in rows]


async def swept(db: Any, place: dict[str, Any] | None = None) -> list[tuple[str, str]]:
    """Return what the sweep, or `outlast adopt`, finds on pages of one entry."""
    found = []
    while True:
        page = await db.call("outlast_missing_page", p_after=place, p_limit=1)
        found += [(entry["binding"], entry["generation_id"]) for entry in page["entries"]]
        place = page["next"]
        if place is None:
            return found


async def test_equal_generation_ids_of_two_bindings_are_two_generations(two: Any, make_job: Callable[..., Any]) -> None:
    generation = await two.generation()
    await clip(two, id=UUID(generation))
    job = make_job(generation, ["a"])
    assert await two.attempt(job, stored=["a"]) == "completed"
    assert (await media_status(two, "generations"), await media_status(two, "clips")) == (["completed"], [None])
    assert [found["generation_id"] for found in await two.call("outlast_missing")] == [], (
        "an old worker sees one binding"
    )
    page = await two.call("outlast_missing_page")
    assert [(entry["binding"], entry["generation_id"]) for entry in page["entries"]] == [("clips", generation)]

    await two.run("update public.outlast_files set id = gen_random_uuid()")  # the helper makes ids of one binding
    assert await two.attempt(for_clips(job), stored=["a"]) == "completed"
    assert (await media_status(two, "clips"), await two.refs()) == (["completed"], {f"{job['user_id']}/a.jpg": 2})
    await two.run("delete from public.clips")
    assert (await two.call("outlast_release", p_grace_seconds=0))["files"] == 1
    left = await two.row("select binding, generation_id from public.outlast_files")
    assert left == {"binding": "generations", "generation_id": generation}


async def test_pages_of_the_sweep_continue_in_the_next_binding(two: Any) -> None:
    wanted = {("clips", await clip(two)) for _ in range(3)} | {
        ("generations", await two.generation()) for _ in range(3)
    }
    found, place = set(), None
    for _ in range(4):
        page = await two.call("outlast_missing_page", p_after=place, p_limit=2)
        found |= {(entry["binding"], entry["generation_id"]) for entry in page["entries"]}
        if (place := page["next"]) is None:
            break
    assert (found, place) == (wanted, None)


async def test_each_binding_has_its_own_time_of_installation_and_late_rows(two: Any) -> None:
    await two.run("update public.outlast_bindings set installed_at = '2026-06-01' where name = 'clips'")
    await two.run("update public.outlast_bindings set installed_at = '2026-08-01' where name = 'generations'")
    may, july = [datetime(2026, month, 1, tzinfo=UTC) for month in (5, 7)]
    old = [await two.generation(created_at=may), await two.generation(created_at=july)]
    old_clip, young_clip = await clip(two, created_at=may), await clip(two, created_at=july)
    late = await clip(two, id=UUID(old[0]), created_at=may, status="new")
    assert await swept(two) == [("clips", young_clip)]
    await two.run("update public.clips set status = 'done' where id = $1::uuid", late)
    assert await swept(two) == [("clips", young_clip), ("clips", late)]
    assert await swept(two, {"kind": "past"}) == [("generations", generation) for generation in old]
    assert sorted(await swept(two, {"kind": "past", "binding": "clips"})) == sorted(
        [("clips", old_clip), ("clips", late)]
    )
    past = await two.call("outlast_past", p_binding="clips")
    assert (past["generations"], past["bindings"]) == (2, ["clips", "generations"])
    assert {entry["binding"] for entry in past["sample"]} == {"clips"}
    await two.run("select public.outlast_unbind('clips')")
    assert await two.value("select count(*) from public.outlast_late_rows") == 0


async def test_a_table_without_a_creation_time_is_swept_from_its_installation_on(two: Any) -> None:
    old = await clip(two)
    await two.run("update public.clips set created_at = null, status = 'new'")
    await two.run("delete from public.outlast_late_rows")
    await two.bind("clips", created_column=None)
    await two.install()
    await two.run("alter table public.clips disable trigger user")
    await two.run("update public.clips set status = 'done'")
    await two.run("alter table public.clips enable trigger user")
    new = await clip(two)
    assert await swept(two) == [("clips", new)]
    assert {("clips", old), ("clips", new)} == set(await swept(two, {"kind": "past", "binding": "clips"}))


async def test_the_owner_over_a_foreign_key_is_compared_for_a_row_that_was_inserted_again(
    two: Any, make_job: Callable[..., Any]
) -> None:
    await two.run("create table public.projects (id int primary key, owner_id text)")
    await two.run("insert into public.projects values (1, $1), (2, 'attacker')", USER)
    await two.run("alter table public.clips add project int references public.projects (id)")
    path = {"schema": "public", "table": "projects", "key": "id", "value": "owner_id", "column": "project"}
    await two.bind("clips", **{f"owner_{part}": value for part, value in path.items()})
    await two.install()
    generation = await clip(two, project=1)
    job = for_clips(make_job(generation, ["secret"]))
    await two.run("delete from public.clips")
    await clip(two, id=UUID(generation), project=2)
    assert await two.attempt(job, stored=["secret"]) == "completed"
    assert await two.row("select media, media_status from public.clips") == {"media": None, "media_status": None}
    (entry,) = (await two.call("outlast_missing_page"))["entries"]
    assert (entry["generation_id"], entry["user_id"], entry["reason"]) == (generation, "attacker", "no_task")
    own = for_clips(make_job(generation, ["own"], user_id="attacker"))
    assert await two.attempt(own, stored=["own"]) == "completed"
    (stored,) = await two.value("select media from public.clips")
    assert stored["original_filename"] == "own.png"


async def test_a_request_id_finds_its_row_in_any_binding_but_not_in_two(two: Any, make_job: Callable[..., Any]) -> None:
    generation = await clip(two, request_id="r1")
    begin = {"p_lease": uuid4(), "p_worker": "w"}
    job = make_job(None, ["a"], source="fal", request_id="r1", user_id=None)
    begun = await two.call("outlast_begin", p_job=job, **begin)
    assert (begun["state"], begun["binding"], begun["generation_id"]) == ("run", "clips", generation)
    await two.generation(request_id="r2")
    await clip(two, request_id="r2")
    shared = make_job(None, ["b"], source="fal", request_id="r2", user_id=None)
    assert await two.call("outlast_begin", p_job=shared, **begin) == {"state": "no_generation", "shared": True}


async def test_a_deleted_flag_releases_files_and_sends_nothing(two: Any, make_job: Callable[..., Any]) -> None:
    generation = await clip(two)
    await two.attempt(for_clips(make_job(generation, ["a"])), stored=["a"])
    await two.run("update public.clips set deleted = true")
    await two.run("update public.clips set deleted = true, output = '{}'")
    assert await two.value("select count(*) from public.outlast_deletions") == 1
    assert (await two.call("outlast_release", p_grace_seconds=0))["files"] == 1
    await clip(two, deleted=True)
    assert (await two.call("outlast_missing_page"))["entries"] == []


async def test_a_trigger_of_an_earlier_version_sends_the_new_event(own_db: Any) -> None:
    await own_db.run(
        "update public.outlast_settings set value = 'http://x' where key = 'webhook_url';"
        "update public.outlast_settings set value = 'whsec_c2VjcmV0' where key = 'webhook_secret';"
        "drop trigger outlast_notify_insert on public.generations;"
        "create trigger outlast_notify_insert after insert on public.generations for each row"
        " execute function public.outlast_notify('status', 'completed', 'output')"
    )
    generation = await own_db.generation()
    body = json.loads(bytes(await own_db.value("select body from net.http_request_queue")))
    assert (body["outlast"]["binding"], body["outlast"]["generation_id"]) == ("generations", generation)


async def test_health_reports_each_binding_and_an_unbound_table_is_left_without_triggers(two: Any) -> None:
    health = await two.call("outlast_health")
    assert [binding["binding"] for binding in health["bindings"]] == ["generations", "clips"]
    assert all(binding["triggers_current"] and binding["sweep_index"] for binding in health["bindings"])
    await two.run("select public.outlast_unbind('clips')")
    left = "select count(*) from pg_trigger where tgrelid = 'public.clips'::regclass"
    assert await two.value(left) == 0
    assert await two.value("select count(*) from pg_class where relname ~ '^outlast_unheard'") == 1
    await two.run("select public.outlast_unbind('generations')")
    assert (await two.call("outlast_health"))["bindings"] == []
    with pytest.raises(asyncpg.UndefinedObjectError, match="no binding"):
        await two.run("select public.outlast_unbind('generations')")


@pytest.mark.parametrize(
    ("change", "error", "hint"),
    [
        ({"completed_values": ["nope"]}, asyncpg.InvalidParameterValueError, "--completed-value"),
        ({"output_columns": ["nope"]}, asyncpg.UndefinedColumnError, "outlast init --help"),
        ({"media_column": "output"}, asyncpg.DuplicateColumnError, "--media-column"),
        ({"media_status_column": "user_id"}, asyncpg.DatatypeMismatchError, "--media-status-column"),
        (
            {"owner_schema": "public", "owner_table": "nope", "owner_key": "id", "owner_value": "u"},
            asyncpg.UndefinedTableError,
            "--owner",
        ),
    ],
)
async def test_install_names_the_option_for_a_table_that_does_not_fit(
    two: Any, database_url: str, change: dict[str, Any], error: type[Exception], hint: str
) -> None:
    await clip(two)
    await two.run("alter table public.clips add check (status in ('new', 'done'))")
    await two.bind("clips", **change)
    with pytest.raises(error) as raised:
        await two.run("select public.outlast_install_binding('clips')")
    assert hint in raised.value.hint  # type: ignore[attr-defined]
    await two.run("drop trigger outlast_deleted on public.generations")
    assert (await two.install())["triggers_current"], "one table that does not fit hinders no other"
    await apply_migrations(database_url)  # warns, and applies the rest


UNFIT_KEYS: list[tuple[dict[str, Any], str]] = [
    ({"owner_column": "usr_id"}, "outlast init --help"),
    ({"request_column": "fal_id"}, "outlast init --help"),
    ({"id_column": "user_id"}, "--id-column"),
    ({"deleted_column": "flag"}, "--deleted-column"),
    ({"owner_schema": "public", "owner_table": "members", "owner_key": "team", "owner_value": "who"}, "--owner"),
    ({"fal_finishes": True, "output_columns": ["outputs"]}, "--output-column"),
    ({"fal_finishes": True, "error_column": "flag"}, "--error-column"),
]
"""A change of the binding of clips, and what its hint names."""


async def change_and_install(db: Any, change: dict[str, Any]) -> None:
    """Change the binding of clips and install it, in one transaction."""
    names = ", ".join(f"{name} = ${number}" for number, name in enumerate(change, 1))
    async with db.pool.acquire() as connection, connection.transaction():
        await connection.execute(f"update public.outlast_bindings set {names} where name = 'clips'", *change.values())  # noqa: S608 - fixed names
        await connection.execute("select public.outlast_install_binding('clips')")


async def test_install_refuses_names_with_which_rows_would_share_files_or_have_none(two: Any) -> None:
    await two.run("create table public.members (team uuid, who uuid, primary key (team, who))")
    await two.run("alter table public.clips add outputs jsonb[], add flag int not null default 0")
    for change, hint in UNFIT_KEYS:
        with pytest.raises(asyncpg.PostgresError) as raised:
            await change_and_install(two, change)
        assert hint in raised.value.hint, (change, raised.value)
    await two.run_as_superuser("alter table public.clips owner to supabase_admin; set role postgres")
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="belongs to the role supabase_admin") as raised:
        await two.run("select public.outlast_install_binding('clips')")
    assert "owner to postgres" in raised.value.hint
    assert (await two.install())["triggers_current"], "it hinders no other"


@pytest.mark.parametrize("change", ["drop table public.teams", "drop function public.nobody() cascade"])
async def test_a_table_that_does_not_fit_any_more_hinders_no_other_table(two: Any, change: str) -> None:
    await two.run("create table public.teams (id uuid primary key, who uuid)")
    await two.run("create function public.nobody() returns uuid language sql as 'select null::uuid'")
    body = "begin return query execute 'select null::uuid, public.nobody()'; end"
    await two.run(
        f"create function public.all_owners() returns table (id uuid, who uuid) language plpgsql as $${body}$$"
    )
    await two.run("create view public.owners as select * from public.all_owners()")
    table = "teams" if "table" in change else "owners"
    owner = {"owner_schema": "public", "owner_table": table, "owner_key": "id", "owner_value": "who"}
    await two.bind("clips", **owner)
    await two.install()
    of_clip = await clip(two, request_id="of-clip")
    generation = await two.generation(request_id="of-generation")
    await two.run(change)
    found = await two.row("select * from public.outlast_find_generation(null, null, 'of-generation')")
    assert (found["generation_id"], found["user_id"]) == (generation, USER)
    swept_rows = await swept(two)
    assert ("generations", generation) in swept_rows
    assert (("clips", of_clip) in swept_rows) is (table == "teams"), "a missing owner leaves the row without one"


def test_task_and_file_ids_differ_between_bindings_and_stay_for_generations() -> None:
    files = (JobFile(position=0, url="https://fal.media/a.png", source_key="a"),)
    ids = {binding: task_id_for("g", files, Profile(), binding) for binding in (DEFAULT_BINDING, "clips", "b")}
    assert ids[DEFAULT_BINDING] == task_id_for("g", files, Profile())
    assert len(set(ids.values())) == len(ids)
    assert len({file_id_for("g", "a"), file_id_for("g", "a", "clips"), file_id_for("g", "a", DEFAULT_BINDING)}) == 2
