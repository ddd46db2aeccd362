"""Row-level security for anon, two users, and the service role."""

from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

from handlers.storage import object_path

ALICE = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
BOB = "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"
USERS = {"alice": ALICE, "bob": BOB}
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
    for name, user in USERS.items():
        assert await own_db.attempt(make_job(name, [name], user_id=user), stored=[name]) == "completed"
    await own_db.run(OBJECTS.format(alice=ALICE, bob=BOB))
    return own_db


async def names(db: Any, role: str, user: str | None, sql: str) -> set[str]:
    async with db.role(role, user) as connection:
        return {row[0] for row in await connection.fetch(sql)}


@each_reader
@pytest.mark.parametrize("table", ["outlast_tasks", "outlast_files"])
async def test_users_read_their_own_tasks_and_files_only(
    filled: Any, role: str, user: str | None, sees: set[str], table: str
) -> None:
    sql = f"select generation_id from public.{table}"  # noqa: S608 - fixed names
    if role == "anon":
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await names(filled, role, user, sql)
    else:
        assert await names(filled, role, user, sql) == sees


@each_reader
async def test_users_read_their_own_objects_of_the_bucket_only(
    filled: Any, role: str, user: str | None, sees: set[str]
) -> None:
    found = await names(filled, role, user, "select bucket_id || ':' || name from storage.objects")
    if role == "service_role":
        assert len(found) == 5
    else:
        assert found == {f"generations:{USERS[name]}/ab/1.jpg" for name in sees}


@each_reader
async def test_only_the_service_role_writes_objects(filled: Any, role: str, user: str | None, sees: set[str]) -> None:
    put = f"insert into storage.objects (bucket_id, name) values ('generations', '{user}/x/y') returning name"  # noqa: S608 - fixed names
    change = "update storage.objects set name = name || 'x' returning name"
    if role == "service_role":
        assert len(await names(filled, role, user, put)) == 1
        assert len(await names(filled, role, user, change)) == 5  # of six, two have the same name
        return
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await names(filled, role, user, put)
    assert await names(filled, role, user, change) == set()
    assert await names(filled, role, user, "delete from storage.objects returning name") == set()
    assert {name.partition("/")[0] for name in await names(filled, role, user, "select name from storage.objects")} == {
        USERS[name] for name in sees
    }


@pytest.mark.parametrize(("role", "user"), [reader[:2] for reader in READERS])
@pytest.mark.parametrize("table", ["outlast_settings", "outlast_objects", "outlast_workers", "outlast_dead_archive"])
async def test_internal_tables_are_readable_by_the_service_role_only(
    filled: Any, role: str, user: str | None, table: str
) -> None:
    sql = f"select to_jsonb(t)::text from public.{table} t"  # noqa: S608 - fixed names
    if role == "service_role":
        assert bool(await names(filled, role, user, sql)) == (table in {"outlast_settings", "outlast_objects"})
    else:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await names(filled, role, user, sql)


async def test_the_storage_policy_follows_the_bucket_setting(filled: Any) -> None:
    await filled.run("update public.outlast_settings set value = $1 where key = 'bucket'", "it's; --")
    await filled.run("insert into storage.buckets (id, name) values ($1, $1)", "it's; --")
    await filled.run("insert into storage.objects (bucket_id, name) values ($1, $2)", "it's; --", f"{ALICE}/x/y.jpg")
    await filled.value("select public.outlast_install_storage()")
    found = await names(filled, "authenticated", ALICE, "select bucket_id from storage.objects")
    assert found == {"it's; --"}
    assert (await filled.call("outlast_health"))["storage_policy"] is True


SUBJECTS = [
    ALICE,
    "user_2abCdEfGhIjKlMnOp",
    "auth0|507f1f77bcf86cd799439020",
    "google-oauth2|103547991597142817347",
    "waad|a=b/c d%20?#",
    "aB3dEf6hIj9kLm0nOp1qRs2tUv3w",
    "42",
    "ann.o+1@example.com",
    "did:key:z6Mk",
    ".hidden",
    "..",
    "anonymous",
    "r\u00e9n\u00e9e \U0001f600",
    "x" * 300,
]
"""Ids of users of Supabase, Clerk, Auth0, Azure AD, Firebase and of applications of their own."""


async def test_users_of_every_provider_read_their_own_folder_and_no_other(own_db: Any) -> None:
    paths = {user: object_path(user, "ab" * 32, "png") for user in SUBJECTS}
    assert len(set(paths.values())) == len(SUBJECTS)
    await own_db.run(OBJECTS.format(alice="someone", bob="else"))
    insert = "insert into storage.objects (bucket_id, name) values ($1, $2)"
    for path in paths.values():
        await own_db.run(insert, "generations", path)
        await own_db.run(insert, "other", path)
    for user, path in paths.items():
        found = await names(own_db, "authenticated", user, "select bucket_id || ':' || name from storage.objects")
        assert found == {f"generations:{path}"}, user


async def test_files_in_folders_of_a_binding_are_read_by_their_owner(filled: Any) -> None:
    await filled.bind(object_path="{status}/{user_id}", bucket="other")
    await filled.run("select public.outlast_install_storage(true)")
    await filled.run("update public.outlast_files set bucket = 'other', path = 'completed/x' where user_id = $1", ALICE)
    await filled.run("insert into storage.objects (bucket_id, name) values ('other', 'completed/x')")
    sql = "select bucket_id || ':' || name from storage.objects"
    assert await names(filled, "authenticated", ALICE, sql) == {f"generations:{ALICE}/ab/1.jpg", "other:completed/x"}
    assert await names(filled, "authenticated", BOB, sql) == {f"generations:{BOB}/ab/1.jpg"}
    assert await names(filled, "authenticated", "completed", sql) == set()
    assert (await filled.call("outlast_health"))["storage_policy"] is True
