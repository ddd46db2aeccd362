"""Privileges of each role, under Supabase's default privileges."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

ALICE = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
BOB = "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"
TABLES = [
    *("outlast_bindings", "outlast_settings", "outlast_tasks", "outlast_files", "outlast_objects", "outlast_workers"),
    "outlast_late_rows",
    *("outlast_turns", "outlast_dead_archive", "outlast_deletions", "outlast_requests", "outlast_uploads"),
    *("outlast_attempts", "outlast_operations", "outlast_notes", "outlast_rejected_rows"),
    *("outlast_written_urls", "outlast_noticed", "outlast_undecodable", "outlast_replayed", "outlast_paused"),
]
REST_FUNCTIONS = {
    *("enqueue", "begin", "progress", "heartbeat", "cancel", "known", "finish", "missing", "health"),
    *("bury", "turn", "archive", "requeue", "claim", "release", "orphans", "take_orphans", "forget_objects"),
    *("to_optimize", "optimizable", "move_object", "submit", "states", "worker_stats", "expire", "upload"),
    *("check_columns", "refresh_media", "console_tasks", "console_task", "console_generation", "console_now"),
    *("operation", "operations", "abort", "note", "archived", "unarchive", "policies", "try_update"),
    *("missing_page", "output", "retry_rejected", "past", "adopted", "try_insert", "try_state", "try_remove"),
    *("used_buckets", "note_public_url", "fal_result"),
    *("notices", "note_notices", "digest", "note_digest", "note_undecodable", "source_hosts"),
    *("follow_replay", "unfollow_replay", "replay_results"),
    *("find", "find_rows", "console_row", "console_count", "console_choices", "console_trend", "pause"),
    *("many", "claim_all", "to_vary", "count_unvaried", "set_variants"),
}
AS_CALLER = ["outlast_keep_media"]
"""Functions that are not security definer, because they check the role that executes the statement."""
UNPRIVILEGED = ["anon", "authenticated"]

each_unprivileged_role = pytest.mark.parametrize("role", UNPRIVILEGED)


async def test_every_table_is_listed_here_and_has_row_security(db: Any) -> None:
    rows = await db.pool.fetch(
        "select relname, relrowsecurity from pg_class where relnamespace = 'public'::regnamespace"
        " and relkind = 'r' and starts_with(relname, 'outlast_')"
    )
    assert {row["relname"]: row["relrowsecurity"] for row in rows} == dict.fromkeys(TABLES, True)


async def test_the_service_role_may_execute_exactly_the_rest_functions(db: Any) -> None:
    rows = await db.pool.fetch(
        "select proname, has_function_privilege('service_role', oid, 'execute') as allowed, prosecdef,"
        " coalesce('search_path=\"\"' = any (proconfig), false) as empty_path"
        " from pg_proc where pronamespace = 'public'::regnamespace and starts_with(proname, 'outlast_')"
    )
    assert {row["proname"].removeprefix("outlast_") for row in rows if row["allowed"]} == REST_FUNCTIONS
    assert [row["proname"] for row in rows if not row["prosecdef"]] == AS_CALLER
    assert [row["proname"] for row in rows if not row["empty_path"]] == []


@each_unprivileged_role
async def test_unprivileged_roles_may_execute_no_function(db: Any, role: str) -> None:
    rows = await db.pool.fetch(
        "select p.oid::regprocedure::text as name, has_function_privilege($1, p.oid, 'execute') as allowed"
        " from pg_proc p where pronamespace = 'public'::regnamespace and starts_with(proname, 'outlast_')",
        role,
    )
    assert len(rows) > 10
    assert [row["name"] for row in rows if row["allowed"]] == []


@each_unprivileged_role
async def test_unprivileged_roles_can_call_other_functions_but_none_of_outlast(own_db: Any, role: str) -> None:
    await own_db.run("create function public.mine() returns int language sql as 'select 1'")
    async with own_db.role(role) as connection:
        assert await connection.fetchval("select public.mine()") == 1
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with own_db.role(role) as connection:
            await connection.fetchval("select public.outlast_health()")


@each_unprivileged_role
@pytest.mark.parametrize("table", TABLES)
async def test_unprivileged_roles_may_write_no_table(db: Any, role: str, table: str) -> None:
    allowed = await db.row(
        "select has_table_privilege($1, $2, 'insert, update, delete, truncate, references, trigger') as write,"
        " has_table_privilege($1, $2, 'select') as read",
        role,
        f"public.{table}",
    )
    assert not allowed["write"]
    assert allowed["read"] == (role == "authenticated" and table in {"outlast_tasks", "outlast_files"})


@each_unprivileged_role
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


@each_unprivileged_role
async def test_health_reports_a_function_granted_to_an_unprivileged_role(own_db: Any, role: str) -> None:
    assert (await own_db.call("outlast_health"))["anon_can_execute"] is False
    await own_db.run(f"grant execute on function public.outlast_cancel(uuid) to {role}")
    assert (await own_db.call("outlast_health"))["anon_can_execute"] is True
