"""Who reads what, on the real PostgreSQL: a visitor, two users, and the service role."""

from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

ALICE = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
BOB = "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"
OF = {"alice": ALICE, "bob": BOB}
OBJECTS = """
insert into storage.buckets (id, name) values ('generations', 'generations'), ('other', 'other');
insert into storage.objects (bucket_id, name) values
  ('generations', '{alice}/ab/1.jpg'), ('generations', '{bob}/ab/1.jpg'), ('generations', 'anonymous/ab/1.jpg'),
  ('generations', '{alice}'), ('other', '{alice}/ab/1.jpg');
"""
READERS = [
    ("anon", None, set()),
    ("authenticated", ALICE, {"alice"}),
    ("authenticated", BOB, {"bob"}),
    ("authenticated", None, set()),
    ("service_role", None, {"alice", "bob"}),
]
each_reader = pytest.mark.parametrize(("role", "user", "sees"), READERS)


@pytest.fixture
async def filled(own_db: Any, make_job: Callable[..., Any]) -> Any:
    for name, user in OF.items():
        assert await own_db.attempt(make_job(name, [name], user_id=user), stored=[name]) == "completed"
    await own_db.run(OBJECTS.format(alice=ALICE, bob=BOB))
    return own_db


async def names(db: Any, role: str, user: str | None, sql: str) -> set[str]:
    async with db.role(role, user) as connection:
        return {row[0] for row in await connection.fetch(sql)}


@each_reader
@pytest.mark.parametrize("table", ["outlast_tasks", "outlast_files"])
async def test_rows_of_tasks_and_files(filled: Any, role: str, user: str | None, sees: set[str], table: str) -> None:
    sql = f"select generation_id from public.{table}"  # noqa: S608 - names of ours
    if role == "anon":
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await names(filled, role, user, sql)
    else:
        assert await names(filled, role, user, sql) == sees


@each_reader
async def test_objects_of_the_bucket(filled: Any, role: str, user: str | None, sees: set[str]) -> None:
    found = await names(filled, role, user, "select bucket_id || ':' || name from storage.objects")
    if role == "service_role":
        assert len(found) == 5
    else:
        assert found == {f"generations:{OF[name]}/ab/1.jpg" for name in sees}


@each_reader
async def test_nobody_but_the_service_role_writes_objects(
    filled: Any, role: str, user: str | None, sees: set[str]
) -> None:
    put = f"insert into storage.objects (bucket_id, name) values ('generations', '{user}/x/y') returning name"  # noqa: S608 - names of ours
    change = "update storage.objects set name = name || 'x' returning name"
    if role == "service_role":
        assert len(await names(filled, role, user, put)) == 1
        assert len(await names(filled, role, user, change)) == 5  # of six, two share a name
        return
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await names(filled, role, user, put)
    assert await names(filled, role, user, change) == set()
    assert await names(filled, role, user, "delete from storage.objects returning name") == set()
    assert {name.partition("/")[0] for name in await names(filled, role, user, "select name from storage.objects")} == {
        OF[name] for name in sees
    }


@pytest.mark.parametrize(("role", "user"), [reader[:2] for reader in READERS])
@pytest.mark.parametrize("table", ["outlast_settings", "outlast_objects", "outlast_workers", "outlast_dead_archive"])
async def test_what_is_nobodys_business(filled: Any, role: str, user: str | None, table: str) -> None:
    sql = f"select to_jsonb(t)::text from public.{table} t"  # noqa: S608 - names of ours
    if role == "service_role":
        assert bool(await names(filled, role, user, sql)) == (table in {"outlast_settings", "outlast_objects"})
    else:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await names(filled, role, user, sql)


async def test_another_bucket_is_opened_in_the_place_of_the_first(filled: Any) -> None:
    await filled.run("update public.outlast_settings set value = $1 where key = 'bucket'", "it's; --")
    await filled.run("insert into storage.buckets (id, name) values ($1, $1)", "it's; --")
    await filled.run("insert into storage.objects (bucket_id, name) values ($1, $2)", "it's; --", f"{ALICE}/x/y.jpg")
    await filled.value("select public.outlast_install_storage()")
    found = await names(filled, "authenticated", ALICE, "select bucket_id from storage.objects")
    assert found == {"it's; --"}
    assert (await filled.call("outlast_health"))["storage_policy"] is True
