"""SQL functions check in `storage.objects` that known and recorded objects exist, if they may read that table."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from schemas.tasks import BeginReply, FinishReply

Make = Callable[..., dict[str, Any]]
USER = "11111111-1111-4111-8111-111111111111"
MD5 = "0123456789abcdef0123456789abcdef"


async def put(db: Any, path: str, *, size: int = 100, etag: str = f'"{MD5}"', sha256: str | None = None) -> None:
    """Insert a row as Storage does when an object is stored."""
    await db.run("insert into storage.buckets (id, name) values ('generations', 'generations') on conflict do nothing")
    metadata, own = {"size": size, "eTag": etag}, {"sha256": sha256} if sha256 else None
    sql = "insert into storage.objects (bucket_id, name, metadata, user_metadata) values ('generations', $1, $2, $3)"
    await db.run(sql, path, metadata, own)


async def begun(db: Any, job: dict[str, Any]) -> Any:
    lease = uuid4()
    return lease, BeginReply.model_validate(await db.call("outlast_begin", p_job=job, p_lease=lease, p_worker="w"))


async def finished(db: Any, job: dict[str, Any], lease: Any, *files: dict[str, Any]) -> str:
    arguments = {
        "p_task_id": job["task_id"],
        "p_lease": lease,
        "p_status": "completed",
        "p_files": files,
        "p_failed": [],
    }
    return FinishReply.model_validate(await db.call("outlast_finish", **arguments)).state


@pytest.mark.parametrize(
    ("stored_object", "state"),
    [
        ({}, "recorded"),
        ({"etag": MD5}, "recorded"),
        ({"size": 99}, "object_differs"),
        ({"etag": '"ffffffffffffffffffffffffffffffff"'}, "object_differs"),
        ({"etag": '"ffffffffffffffffffffffffffffffff-2"'}, "object_differs"),
        ({"etag": '"ffffffffffffffffffffffffffffffff-2"', "sha256": "its own"}, "recorded"),
        ({"etag": '"ffffffffffffffffffffffffffffffff-2"', "sha256": "another"}, "object_differs"),
        ({"etag": '"ffffffffffffffffffffffffffffffff"', "sha256": "its own"}, "object_differs"),
        (None, "object_differs"),
    ],
)
async def test_a_new_file_is_recorded_only_if_storage_has_the_same_object(
    own_db: Any, make_job: Make, make_file: Make, stored_object: dict[str, Any] | None, state: str
) -> None:
    job = make_job("g", ["a", "b"])
    lease, reply = await begun(own_db, job)
    assert reply.sees_storage
    new, old = make_file("g", "a", job, md5=MD5, sha256="its own"), make_file("g", "b", job)
    if stored_object is not None:
        await put(own_db, new["path"], **stored_object)
    assert await finished(own_db, job, lease, new, old) == state
    assert await own_db.value("select count(*) from public.outlast_files") == (2 if state == "recorded" else 0)
    running = await own_db.value("select status from public.outlast_tasks")
    assert running == ("completed" if state == "recorded" else "running")
    if state == "object_differs":  # without that file the attempt is recorded
        assert await finished(own_db, job, lease, old) == "recorded"


async def test_a_file_is_known_only_while_its_object_exists(own_db: Any, make_job: Make, make_file: Make) -> None:
    await own_db.attempt(make_job("g", ["a"]), stored=["a"])
    file = make_file("g", "a")
    query = {"p_user_id": USER, "p_source_sha256": file["source_sha256"], "p_profile": file["profile"]}
    assert await own_db.call("outlast_known", **query) is None
    await put(own_db, file["path"])
    assert (await own_db.call("outlast_known", **query))["path"] == file["path"]


async def test_an_older_file_is_known_if_the_newer_object_is_missing(
    own_db: Any, make_job: Make, make_file: Make
) -> None:
    job = make_job("g", ["a", "b"])
    lease, _ = await begun(own_db, job)
    files = [make_file("g", key, job, source_sha256="same") for key in ("a", "b")]
    assert await finished(own_db, job, lease, *files) == "recorded"
    await own_db.run("update public.outlast_files set updated_at = now() + interval '1 s' where source_key = 'b'")
    await put(own_db, files[0]["path"])
    query = {"p_user_id": USER, "p_source_sha256": "same", "p_profile": files[0]["profile"]}
    assert (await own_db.call("outlast_known", **query))["path"] == files[0]["path"]


UNREADABLE = {
    "no such schema": "drop schema storage cascade",
    "no such table": "drop table storage.objects",
    "an older Storage": "alter table storage.objects drop column user_metadata",
    "rows that are hidden": "alter table storage.objects force row level security",
    "no grant": "",
}


@pytest.mark.parametrize("why", UNREADABLE)
async def test_if_storage_is_unreadable_files_are_recorded_without_the_check(
    own_db: Any, make_job: Make, make_file: Make, why: str
) -> None:
    await own_db.run_as_superuser("create role blind_owner nologin" if await _no_role(own_db) else "select 1")
    await own_db.run_as_superuser("grant usage on schema public, storage to blind_owner")
    await own_db.run_as_superuser(UNREADABLE[why] or "revoke all on storage.objects from blind_owner")
    if why in {"rows that are hidden", "no grant"}:  # does not apply to a role that bypasses row security
        if why == "rows that are hidden":
            await own_db.run_as_superuser("grant select on storage.objects to blind_owner")
        await own_db.run_as_superuser("alter function public.outlast_sees_storage() owner to blind_owner")
        await own_db.run_as_superuser(
            "grant execute on function public.outlast_sees_storage() to postgres, service_role"
        )
    job = make_job("g", ["a"])
    lease, reply = await begun(own_db, job)
    assert reply.state == "run"
    assert not reply.sees_storage
    file = make_file("g", "a", job)
    assert await finished(own_db, job, lease, file) == "recorded"
    query = {"p_user_id": USER, "p_source_sha256": file["source_sha256"], "p_profile": file["profile"]}
    assert (await own_db.call("outlast_known", **query))["path"] == file["path"], "the worker checks Storage itself"


async def _no_role(db: Any) -> bool:
    return await db.value("select count(*) from pg_roles where rolname = 'blind_owner'") == 0
