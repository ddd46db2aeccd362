"""Objects: registered before they are stored, counted by references, and deleted only when unreferenced."""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

Make = Callable[..., dict[str, Any]]
BUCKET = "generations"
DAY = 24 * 3600


async def age(db: Any, days: float = 2) -> None:
    await db.run("update public.outlast_objects set updated_at = updated_at - interval '1 day' * $1", days)


async def take(db: Any, **more: Any) -> list[str]:
    return list(await db.call("outlast_take_orphans", p_bucket=BUCKET, p_grace_seconds=DAY, **more))


async def claim(db: Any, path: str) -> str:
    return str((await db.call("outlast_claim", p_bucket=BUCKET, p_path=path, p_user_id="u"))["state"])


async def release(db: Any) -> Any:
    return await db.call("outlast_release", p_grace_seconds=DAY)


async def states(db: Any) -> dict[str, str]:
    return {row["path"]: row["state"] for row in await db.pool.fetch("select path, state from public.outlast_objects")}


async def test_a_claimed_object_without_a_finish_is_an_orphan_after_the_grace_period(db: Any) -> None:
    assert await claim(db, "u/a") == "live"
    assert await db.refs() == {"u/a": 0}
    assert await take(db) == []
    await age(db)
    assert await claim(db, "u/a") == "live"
    assert await take(db) == [], "a claim starts the grace period again"
    await age(db)
    assert await take(db) == ["u/a"]


async def test_an_object_marked_deleting_can_be_neither_claimed_nor_finished(
    db: Any, make_job: Make, make_file: Make, path_of: Any
) -> None:
    await claim(db, path_of("a"))
    await age(db)
    assert await take(db) == [path_of("a")]
    assert await claim(db, path_of("a")) == "deleting"
    job, lease = make_job("g", ["a"]), uuid4()
    arguments = {"p_task_id": job["task_id"], "p_lease": lease, "p_status": "completed", "p_failed": []}
    await db.call("outlast_begin", p_job=job, p_lease=lease, p_worker="w")
    finished = await db.call("outlast_finish", p_files=[make_file("g", "a", job)], **arguments)
    assert finished["state"] == "object_deleting"
    assert await take(db) == [], "it is not returned a second time"
    await db.call("outlast_forget_objects", p_bucket=BUCKET, p_paths=[path_of("a")])
    assert await claim(db, path_of("a")) == "live"
    finished = await db.call("outlast_finish", p_files=[make_file("g", "a", job)], **arguments)
    assert finished["state"] == "recorded"
    row = await db.row("select refs, user_id, sha256 is null as has_no_hash from public.outlast_objects")
    assert row == {"refs": 1, "user_id": "u", "has_no_hash": False}


async def test_an_interrupted_removal_is_repeated_after_ten_minutes(db: Any) -> None:
    await claim(db, "u/a")
    await age(db)
    assert await take(db) == ["u/a"]
    await age(db, days=11 / 60 / 24)
    assert await claim(db, "u/a") == "deleting", "a refused claim does not delay the removal"
    assert await take(db) == ["u/a"]
    await db.call("outlast_forget_objects", p_bucket=BUCKET, p_paths=["u/a"])
    assert await states(db) == {}


async def test_forget_objects_keeps_unmarked_objects(db: Any) -> None:
    await claim(db, "u/a")
    await db.call("outlast_forget_objects", p_bucket=BUCKET, p_paths=["u/a"])
    assert await states(db) == {"u/a": "live"}


async def test_a_referenced_object_is_not_an_orphan_despite_a_wrong_count(
    db: Any, make_job: Make, path_of: Any
) -> None:
    await db.attempt(make_job("g", ["a"]), stored=["a"])
    await db.run("update public.outlast_objects set refs = 0")
    await age(db)
    assert await take(db) == []
    assert await db.refs() == {path_of("a"): 1}


async def test_objects_not_stored_by_outlast_are_never_orphans(own_db: Any) -> None:
    await own_db.run("insert into storage.buckets (id, name) values ('generations', 'generations')")
    await own_db.run("insert into storage.objects (bucket_id, name) values ('generations', 'u/foreign')")
    await claim(own_db, "u/foreign")
    await claim(own_db, "u/own")
    await age(own_db)
    assert await take(own_db) == ["u/own"]
    await own_db.run_as_superuser("drop schema storage cascade")  # Storage may be missing
    assert await claim(own_db, "u/another") == "live"


async def test_concurrent_removals_take_disjoint_objects(db: Any) -> None:
    for number in range(40):
        await claim(db, f"u/{number}")
    await age(db)
    taken = await asyncio.gather(*(take(db, p_limit=15) for _ in range(4)))
    paths = [path for part in taken for path in part]
    assert len(paths) == len(set(paths))
    while more := await take(db, p_limit=15):
        paths += more
    assert sorted(paths) == sorted(f"u/{number}" for number in range(40))


async def test_concurrent_claims_and_removals_never_remove_a_claimed_object(db: Any) -> None:
    for _ in range(15):
        await db.run("delete from public.outlast_objects")
        for number in range(8):
            await claim(db, f"u/{number}")
        await age(db)
        *claims, taken = await asyncio.gather(*(claim(db, f"u/{number}") for number in range(8)), take(db))
        claimed = {f"u/{number}" for number, state in enumerate(claims) if state == "live"}
        assert claimed.isdisjoint(taken)
        assert claimed | set(taken) == {f"u/{number}" for number in range(8)}


@pytest.mark.parametrize("way", ["delete from public.generations where id::text = any ($1)", "truncate"])
async def test_deleting_generations_releases_their_files(db: Any, make_job: Make, path_of: Any, way: str) -> None:
    deleted = [await db.generation() for _ in range(2)]
    kept = await db.generation()
    for generation in (*deleted, kept, "without a row"):
        await db.attempt(make_job(generation, ["a", generation]), stored=["a", generation])
    assert (await db.refs())[path_of("a")] == 4
    if way == "truncate":
        await db.run("truncate public.generations")
        deleted = [*deleted, kept]
    else:
        await db.run(way, deleted)
    assert await release(db) == {"files": 2 * len(deleted), "more": False}
    refs = await db.refs()
    assert refs[path_of("a")] == 4 - len(deleted)
    assert [refs[path_of(generation)] for generation in deleted] == [0] * len(deleted)
    assert refs[path_of("without a row")] == 1
    await age(db)
    assert await take(db) == sorted(path_of(generation) for generation in deleted)


async def test_a_file_stored_after_the_deletion_is_released_later(db: Any, make_job: Make, path_of: Any) -> None:
    generation = await db.generation()
    await db.run("delete from public.generations")
    assert await release(db) == {"files": 0, "more": False}
    await db.attempt(make_job(generation, ["a"]), stored=["a"])
    assert (await release(db))["files"] == 0, "it is not due yet"
    await db.run("update public.outlast_deletions set due_at = now(), deleted_at = now() - interval '2 days'")
    assert (await release(db))["files"] == 1
    assert await db.refs() == {path_of("a"): 0}
    assert await db.value("select count(*) from public.outlast_deletions") == 0


async def test_a_row_inserted_again_keeps_its_files(db: Any, make_job: Make, path_of: Any) -> None:
    generation = await db.generation()
    await db.attempt(make_job(generation, ["a"]), stored=["a"])
    await db.run("create temporary table saved as table public.generations")
    await db.run("delete from public.generations")
    await db.run("insert into public.generations (id) values ($1::uuid)", generation)
    assert await release(db) == {"files": 0, "more": False}
    assert await db.refs() == {path_of("a"): 1}
    assert await db.value("select count(*) from public.outlast_deletions") == 0


async def test_deletions_are_released_in_pages(db: Any, make_job: Make) -> None:
    for _ in range(5):
        generation = await db.generation()
        await db.attempt(make_job(generation, [generation]), stored=[generation])
    await db.run("delete from public.generations")
    seen = [await db.call("outlast_release", p_grace_seconds=DAY, p_limit=2) for _ in range(3)]
    assert [answer["files"] for answer in seen] == [2, 2, 1]
    assert [answer["more"] for answer in seen] == [True, True, False]


async def test_manually_deleted_files_decrease_the_count(db: Any, make_job: Make, path_of: Any) -> None:
    await db.attempt(make_job("g1", ["a"]), stored=["a"])
    await db.attempt(make_job("g2", ["a", "b"]), stored=["a", "b"])
    await db.run("delete from public.outlast_files where generation_id = 'g2'")
    assert await db.refs() == {path_of("a"): 1, path_of("b"): 0}


async def test_concurrent_finishes_and_deletions_count_correctly(db: Any, make_job: Make) -> None:
    rows = [await db.generation() for _ in range(12)]
    for generation in rows[:6]:
        await db.attempt(make_job(generation, ["a", "b"]), stored=["a", "b"])

    async def delete(generation: str) -> None:
        await db.run("delete from public.generations where id::text = $1", generation)
        await release(db)

    await asyncio.gather(
        *(delete(generation) for generation in rows[:6]),
        *(db.attempt(make_job(generation, ["b", "a"]), stored=["b", "a"]) for generation in rows[6:]),
    )
    await release(db)
    counted = await db.pool.fetch("select path, count(*) from public.outlast_files group by path")
    assert await db.refs() == {row["path"]: row["count"] for row in counted} != {}
    assert set((await db.refs()).values()) == {6}


async def test_a_broken_installation_does_not_fail_the_users_deletion(own_db: Any) -> None:
    await own_db.generation()
    await own_db.generation()
    await own_db.run("drop table public.outlast_deletions")
    await own_db.run("delete from public.generations where id = (select id from public.generations limit 1)")
    await own_db.run("truncate public.generations")
    assert await own_db.value("select count(*) from public.generations") == 0


async def test_a_deletion_waits_for_no_lock_of_outlast(db: Any, make_job: Make) -> None:
    generation = await db.generation()
    await db.attempt(make_job(generation, ["a"]), stored=["a"])
    async with db.pool.acquire() as other, other.transaction():
        await other.execute("select public.outlast_lock_generation('generations', $1)", generation)
        await other.execute("select from public.outlast_objects for update")
        await other.execute("select from public.outlast_files for update")
        async with db.pool.acquire() as user, user.transaction():
            await user.execute("set local lock_timeout = '2s'")
            assert await user.execute("delete from public.generations") == "DELETE 1"


async def move(db: Any, path: str, to: dict[str, Any], **more: Any) -> Any:
    return await db.call("outlast_move_object", p_bucket=BUCKET, p_path=path, p_file=to, **more)


async def test_move_object_updates_files_media_and_counts(
    db: Any, make_job: Make, make_file: Make, path_of: Any
) -> None:
    rows = [await db.generation() for _ in range(3)]
    for generation in rows:
        await db.attempt(make_job(generation, ["b", "a"]), stored=["b", "a"])
    better = make_file("g", "better", profile="webp-q80-strip", file_size=7)
    assert (await move(db, path_of("a"), better))["state"] == "object_deleting", "the target is not claimed"
    await claim(db, better["path"])
    await db.run("update public.outlast_objects set state = 'deleting' where path = $1", better["path"])
    assert (await move(db, path_of("a"), better))["state"] == "object_deleting"
    await db.run("update public.outlast_objects set state = 'live'")
    answers = [await move(db, path_of("a"), better, p_limit=2) for _ in range(2)]
    assert answers == [{"state": "moved", "files": 2, "more": True}, {"state": "moved", "files": 1, "more": False}]
    assert await db.refs() == {path_of("a"): 0, path_of("b"): 3, path_of("better"): 3}
    for generation in rows:
        row = await db.row("select media from public.generations where id::text = $1", generation)
        assert [element["path"] for element in row["media"]] == [path_of("b"), path_of("better")]
        assert row["media"][1]["file_size"] == 7
    kept = await db.value("select count(*) from public.outlast_files where profile = 'webp-q80-strip'")
    assert kept == 3


async def test_move_object_updates_media_of_an_older_output(
    db: Any, make_job: Make, make_file: Make, path_of: Any
) -> None:
    generation = await db.generation()
    await db.attempt(make_job(generation, ["a"]), stored=["a"])
    newer = make_job(generation, ["n"], event_at="2026-11-02T10:00:00Z")
    await db.call("outlast_begin", p_job=newer, p_lease=uuid4(), p_worker="w")
    better = make_file("g", "better", profile="webp-q80-strip")
    await claim(db, better["path"])
    await move(db, path_of("a"), better)
    assert await db.media(generation) == ([], "pending")
    await db.call("outlast_cancel", p_task_id=newer["task_id"])
    assert await db.media(generation) == ([path_of("better")], "completed")


async def test_moving_to_the_same_object_changes_only_the_profile(
    db: Any, make_job: Make, make_file: Make, path_of: Any
) -> None:
    await db.attempt(make_job("g", ["a"]), stored=["a"])
    wanted = {"p_bucket": BUCKET, "p_profile": "webp-q80-strip"}
    (found,) = await db.call("outlast_to_optimize", **wanted)
    assert (found["path"], found["stale"], found["twin"]) == (path_of("a"), True, None)
    assert await db.call("outlast_optimizable", **wanted) == {"objects": 1, "bytes": 100, "duplicates": 0}
    same = make_file("g", "a", profile="webp-q80-strip")
    assert await move(db, path_of("a"), same) == {"state": "moved", "files": 1, "more": False}
    assert await db.call("outlast_to_optimize", **wanted) == []
    assert await db.refs() == {path_of("a"): 1}


async def test_a_twin_has_the_same_user_and_source_and_the_wanted_profile(
    db: Any, make_job: Make, make_file: Make
) -> None:
    async def store(user: str, path: str, profile: str, size: int) -> None:
        job = make_job(f"g-{path}", ["k"], user_id=user, profile=profile)
        lease = uuid4()
        await db.call("outlast_begin", p_job=job, p_lease=lease, p_worker="w")
        file = make_file(job["generation_id"], "k", job, path=path, profile=profile, file_size=size)
        arguments = {"p_task_id": job["task_id"], "p_lease": lease, "p_status": "completed", "p_failed": []}
        await db.call("outlast_finish", p_files=[file], **arguments)

    await store("u", "u/old", "keep-q85-strip", 90)
    await store("u", "u/large", "webp-q80-strip", 80)
    await store("u", "u/small", "webp-q80-strip", 70)
    await store("v", "v/old", "keep-q85-strip", 90)
    found = await db.call("outlast_to_optimize", p_bucket=BUCKET, p_profile="webp-q80-strip")
    assert [(entry["path"], entry["stale"], entry["twin"] and entry["twin"]["path"]) for entry in found] == [
        ("u/large", False, "u/small"),
        ("u/old", True, "u/small"),
        ("v/old", True, None),
    ]


async def test_anon_and_authenticated_cannot_read_deletions(db: Any) -> None:
    for role in ("anon", "authenticated"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with db.role(role) as connection:
                await connection.fetch("table public.outlast_deletions")
