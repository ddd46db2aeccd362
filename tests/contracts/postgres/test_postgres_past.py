"""Rows from before the installation: only `outlast_past` and pages that begin at the kind `past` have them."""

from collections.abc import Callable
from typing import Any

import pytest

from deploy.local.postgres import apply_migrations

Make = Callable[..., dict[str, Any]]
INSTALLED = "2026-06-01"
EARLIER_VERSION = """
delete from public.outlast_bindings;
insert into public.outlast_settings (key, value) values ('generations_schema', 'public'),
  ('generations_table', 'generations'), ('id_column', 'id'), ('user_column', 'user_id'), ('status_column', 'status'),
  ('output_column', 'output'), ('request_column', 'request_id'), ('created_column', 'created_at');
"""
INSERT = "insert into public.generations (status, output, created_at) values ($1, '{}', $2::text::timestamptz)"


@pytest.fixture
async def installed_db(db: Any) -> Any:
    """A database whose table was bound on 1 June."""
    await db.run("update public.outlast_bindings set installed_at = $1::text::timestamptz", INSTALLED)
    return db


async def insert(db: Any, *moments: str | None, status: str = "completed") -> list[str]:
    return [
        await db.value(f"{INSERT} returning id::text", status, moment)  # fixed text
        for moment in moments
    ]


async def found(db: Any, kind: str | None = None, limit: int = 3, **arguments: Any) -> list[str]:
    """Return the generations on all pages, which are small."""
    ids, place = [], None if kind is None else {"kind": kind}
    while True:
        page = await db.call("outlast_missing_page", p_after=place, p_limit=limit, **arguments)
        ids += [entry["generation_id"] for entry in page["entries"]]
        place = page["next"]
        if place is None:
            return ids


async def test_old_rows_are_found_only_when_asked_for(installed_db: Any) -> None:
    old = await insert(installed_db, *(f"2026-05-{day:02}" for day in range(1, 9)))
    young = await insert(installed_db, "2026-06-01", "2026-07-01")
    assert await found(installed_db) == young
    assert await found(installed_db, "past") == old
    since, until = [await installed_db.value("select $1::text::timestamptz", f"2026-05-0{day}") for day in (3, 6)]
    assert await found(installed_db, "past", p_since=since, p_until=until) == old[2:6]
    past = await installed_db.call("outlast_past", p_since=since, p_until=until, p_sample=2)
    assert (past["generations"], len(past["sample"]), past["oldest"][:10]) == (4, 2, "2026-05-03")
    assert {entry["generation_id"] for entry in past["sample"]} < set(old[2:6])


async def test_a_row_without_a_usable_time_is_swept_if_it_is_completed_after_the_installation(
    installed_db: Any,
) -> None:
    await installed_db.run("alter table public.generations disable trigger user")
    old = await insert(installed_db, None, "-infinity")
    await installed_db.run("alter table public.generations enable trigger user")
    new = await insert(installed_db, None, "-infinity", "4000-01-01 BC")
    assert sorted(await found(installed_db)) == sorted(new)
    assert set(old) <= set(await found(installed_db, "past"))


async def test_an_old_row_that_is_completed_by_an_update_is_swept_and_its_note_forgotten(
    installed_db: Any, make_job: Make
) -> None:
    (running, other) = await insert(installed_db, "2026-05-31", "2026-05-30", status="processing")
    await installed_db.run("update public.generations set status = 'completed' where id = $1::uuid", running)
    assert await found(installed_db) == [running]
    await installed_db.call("outlast_expire", p_keep_seconds=0)
    assert await found(installed_db) == [running]
    await installed_db.attempt(make_job(running, ["a"]), stored=["a"])
    assert await found(installed_db) == []
    await installed_db.call("outlast_expire", p_keep_seconds=0)
    assert await installed_db.value("select count(*) from public.outlast_late_rows") == 0
    assert other not in await found(installed_db, "past")


async def test_after_an_upgrade_rows_of_every_age_are_swept(own_db: Any, database_url: str) -> None:
    await own_db.run(EARLIER_VERSION)
    await apply_migrations(database_url)
    old = await insert(own_db, "2020-01-01", None)
    assert await found(own_db) == old
    assert await found(own_db, "past") == []
    await own_db.install()
    assert await found(own_db) == old


async def test_an_upgrade_keeps_the_recorded_time_of_the_installation(own_db: Any, database_url: str) -> None:
    await own_db.run(EARLIER_VERSION)
    await own_db.run("insert into public.outlast_settings (key, value) values ('installed_at', $1)", INSTALLED)
    await apply_migrations(database_url)
    assert await own_db.value("select installed_at = $1::text::timestamptz from public.outlast_bindings", INSTALLED)


async def test_the_time_of_the_installation_is_that_of_the_first_installation_of_the_table(own_db: Any) -> None:
    read = "select installed_at from public.outlast_bindings"
    first = await own_db.value(read)
    assert abs((await own_db.value("select now()") - first).total_seconds()) < 3600
    await own_db.install()
    assert await own_db.value(read) == first
    await own_db.run("create table public.renders (like public.generations including defaults)")
    await own_db.run("alter table public.renders drop column media, drop column media_status")
    await own_db.install(p_table="renders")
    assert await own_db.value(read) > first


async def test_ids_of_another_type_do_not_stop_the_sweep(own_db: Any) -> None:
    await own_db.run("insert into public.outlast_late_rows (generation_id) values ('17'), ('no id'), ('99999999999')")
    young = await own_db.generation()
    assert await found(own_db) == [young]
    await own_db.run("create table public.numbered (id bigint primary key, status text, output jsonb, created_at text)")
    await own_db.run("insert into public.numbered values (17, 'completed', '{}', 'x'), (18, 'completed', '{}', 'x')")
    await own_db.bind(table="numbered", owner_column=None, request_column=None)
    assert await found(own_db) == ["17"]
    assert await found(own_db, "past") == ["17", "18"]
    assert (await own_db.call("outlast_past"))["generations"] == 2
