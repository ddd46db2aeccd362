"""Under Supabase's own default privileges: who may do what."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

ALICE = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
BOB = "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"
TABLES = [
    *("outlast_settings", "outlast_tasks", "outlast_files", "outlast_objects", "outlast_workers"),
    *("outlast_turns", "outlast_dead_archive", "outlast_deletions", "outlast_requests", "outlast_uploads"),
    *("outlast_attempts", "outlast_operations", "outlast_notes"),
]
OVER_REST = {
    *("enqueue", "begin", "progress", "heartbeat", "cancel", "known", "finish", "missing", "health"),
    *("bury", "turn", "archive", "requeue", "claim", "release", "orphans", "take_orphans", "forget_objects"),
    *("to_optimize", "optimizable", "move_object", "submit", "states", "worker_stats", "expire", "upload"),
    *("refresh_media", "console_tasks", "console_task", "console_generation", "console_now"),
    *("operation", "operations", "abort", "note", "archived", "unarchive"),
}
OUTSIDERS = ["anon", "authenticated"]

each_outsider = pytest.mark.parametrize("role", OUTSIDERS)


async def test_no_table_of_ours_is_left_out_and_none_without_row_security(db: Any) -> None:
    rows = await db.pool.fetch(
        "select relname, relrowsecurity from pg_class where relnamespace = 'public'::regnamespace"
        " and relkind = 'r' and starts_with(relname, 'outlast_')"
    )
    assert {row["relname"]: row["relrowsecurity"] for row in rows} == dict.fromkeys(TABLES, True)


async def test_the_service_role_may_execute_what_rest_callers_need_and_no_more(db: Any) -> None:
    rows = await db.pool.fetch(
        "select proname, has_function_privilege('service_role', oid, 'execute') as allowed, prosecdef,"
        " coalesce('search_path=\"\"' = any (proconfig), false) as empty_path"
        " from pg_proc where pronamespace = 'public'::regnamespace and starts_with(proname, 'outlast_')"
    )
    assert {row["proname"].removeprefix("outlast_") for row in rows if row["allowed"]} == OVER_REST
    assert [row["proname"] for row in rows if not (row["prosecdef"] and row["empty_path"])] == []


@each_outsider
async def test_outsiders_may_execute_none_of_our_functions(db: Any, role: str) -> None:
    rows = await db.pool.fetch(
        "select p.oid::regprocedure::text as name, has_function_privilege($1, p.oid, 'execute') as allowed"
        " from pg_proc p where pronamespace = 'public'::regnamespace and starts_with(proname, 'outlast_')",
        role,
    )
    assert len(rows) > 10
    assert [row["name"] for row in rows if row["allowed"]] == []


@each_outsider
async def test_the_check_would_notice_a_grant(own_db: Any, role: str) -> None:
    await own_db.run("create function public.mine() returns int language sql as 'select 1'")
    async with own_db.role(role) as connection:
        assert await connection.fetchval("select public.mine()") == 1
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with own_db.role(role) as connection:
            await connection.fetchval("select public.outlast_health()")


@each_outsider
@pytest.mark.parametrize("table", TABLES)
async def test_outsiders_may_write_none_of_our_tables(db: Any, role: str, table: str) -> None:
    allowed = await db.row(
        "select has_table_privilege($1, $2, 'insert, update, delete, truncate, references, trigger') as write,"
        " has_table_privilege($1, $2, 'select') as read",
        role,
        f"public.{table}",
    )
    assert not allowed["write"]
    assert allowed["read"] == (role == "authenticated" and table in {"outlast_tasks", "outlast_files"})


@each_outsider
async def test_users_see_their_own_tasks_and_files_only(db: Any, role: str, make_job: Callable[..., Any]) -> None:
    for user in (ALICE, BOB):
        job = make_job(f"of-{user}", [f"key-{user}"], user_id=user)
        assert await db.attempt(job, stored=[f"key-{user}"]) == "completed"
    for table in ("outlast_tasks", "outlast_files"):
        if role == "anon":
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await read(db, role, table, ALICE)
        else:
            assert await read(db, role, table, ALICE) == [f"of-{ALICE}"]
            assert await read(db, role, table, BOB) == [f"of-{BOB}"]
            assert await read(db, role, table, str(uuid4())) == []


async def read(db: Any, role: str, table: str, user: str) -> list[str]:
    async with db.role(role, user) as connection:
        return [row["generation_id"] for row in await connection.fetch(f"table public.{table}")]


@each_outsider
async def test_health_tells_of_a_grant_too_many(own_db: Any, role: str) -> None:
    assert (await own_db.call("outlast_health"))["anon_can_execute"] is False
    await own_db.run(f"grant execute on function public.outlast_cancel(uuid) to {role}")
    assert (await own_db.call("outlast_health"))["anon_can_execute"] is True
