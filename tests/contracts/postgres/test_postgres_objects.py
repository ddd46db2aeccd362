"""Objects come on record before they are stored, are counted whoever deletes, and go only when nothing needs them."""

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


async def test_an_object_is_on_record_before_it_is_stored_and_goes_when_no_finish_comes(db: Any) -> None:
    assert await claim(db, "u/a") == "live"
    assert await db.refs() == {"u/a": 0}
    assert await take(db) == []
    await age(db)
    assert await claim(db, "u/a") == "live"
    assert await take(db) == [], "a claim spares it for another grace time"
    await age(db)
    assert await take(db) == ["u/a"]


async def test_a_marked_object_can_neither_be_claimed_nor_finished_until_it_is_forgotten(
    db: Any, make_job: Make, make_file: Make, path_of: Any
) -> None:
    await claim(db, path_of("a"))
    await age(db)
    assert await take(db) == [path_of("a")]
    assert await claim(db, path_of("a")) == "deleting"
    job, lease = make_job("g", ["a"]), uuid4()
    told = {"p_task_id": job["task_id"], "p_lease": lease, "p_status": "completed", "p_failed": []}
    await db.call("outlast_begin", p_job=job, p_lease=lease, p_worker="w")
    finished = await db.call("outlast_finish", p_files=[make_file("g", "a", job)], **told)
    assert finished["state"] == "object_deleting"
    assert await take(db) == [], "nobody else is given it"
    await db.call("outlast_forget_objects", p_bucket=BUCKET, p_paths=[path_of("a")])
    assert await claim(db, path_of("a")) == "live"
    finished = await db.call("outlast_finish", p_files=[make_file("g", "a", job)], **told)
    assert finished["state"] == "recorded"
    row = await db.row("select refs, user_id, sha256 is null as bare from public.outlast_objects")
    assert row == {"refs": 1, "user_id": "u", "bare": False}


async def test_what_a_dead_removal_left_marked_is_taken_up_after_ten_minutes(db: Any) -> None:
    await claim(db, "u/a")
    await age(db)
    assert await take(db) == ["u/a"]
    await age(db, days=11 / 60 / 24)
    assert await claim(db, "u/a") == "deleting", "and asking in vain does not put it off"
    assert await take(db) == ["u/a"]
    await db.call("outlast_forget_objects", p_bucket=BUCKET, p_paths=["u/a"])
    assert await states(db) == {}


async def test_forgetting_spares_what_is_not_marked(db: Any) -> None:
    await claim(db, "u/a")
    await db.call("outlast_forget_objects", p_bucket=BUCKET, p_paths=["u/a"])
    assert await states(db) == {"u/a": "live"}


async def test_not_even_a_wrong_count_takes_a_referenced_object(db: Any, make_job: Make, path_of: Any) -> None:
    await db.attempt(make_job("g", ["a"]), stored=["a"])
    await db.run("update public.outlast_objects set refs = 0")
    await age(db)
    assert await take(db) == []
    assert await db.refs() == {path_of("a"): 1}


async def test_what_somebody_else_stored_is_never_removed(own_db: Any) -> None:
    await own_db.run("insert into storage.buckets (id, name) values ('generations', 'generations')")
    await own_db.run("insert into storage.objects (bucket_id, name) values ('generations', 'u/theirs')")
    await claim(own_db, "u/theirs")
    await claim(own_db, "u/ours")
    await age(own_db)
    assert await take(own_db) == ["u/ours"]
    await own_db.run("drop schema storage cascade")  # whose tables are not ours to rely on
    assert await claim(own_db, "u/more") == "live"


async def test_two_removals_at_once_share_nothing(db: Any) -> None:
    for number in range(40):
        await claim(db, f"u/{number}")
    await age(db)
    taken = await asyncio.gather(*(take(db, p_limit=15) for _ in range(4)))
    paths = [path for part in taken for path in part]
    assert len(paths) == len(set(paths))
    while more := await take(db, p_limit=15):
        paths += more
    assert sorted(paths) == sorted(f"u/{number}" for number in range(40))


async def test_claims_and_removals_at_once_never_lose_a_claimed_object(db: Any) -> None:
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
async def test_deleting_generations_lets_go_of_their_files(db: Any, make_job: Make, path_of: Any, way: str) -> None:
    gone = [await db.generation() for _ in range(2)]
    kept = await db.generation()
    for generation in (*gone, kept, "without a row"):
        await db.attempt(make_job(generation, ["a", generation]), stored=["a", generation])
    assert (await db.refs())[path_of("a")] == 4
    if way == "truncate":
        await db.run("truncate public.generations")
        gone = [*gone, kept]
    else:
        await db.run(way, gone)
    assert await release(db) == {"files": 2 * len(gone), "more": False}
    refs = await db.refs()
    assert refs[path_of("a")] == 4 - len(gone)
    assert [refs[path_of(generation)] for generation in gone] == [0] * len(gone)
    assert refs[path_of("without a row")] == 1
    await age(db)
    assert await take(db) == sorted(path_of(generation) for generation in gone)


async def test_what_a_job_on_its_way_stored_after_the_deletion_goes_as_well(
    db: Any, make_job: Make, path_of: Any
) -> None:
    generation = await db.generation()
    await db.run("delete from public.generations")
    assert await release(db) == {"files": 0, "more": False}
    await db.attempt(make_job(generation, ["a"]), stored=["a"])
    assert (await release(db))["files"] == 0, "not due yet"
    await db.run("update public.outlast_deletions set due_at = now(), deleted_at = now() - interval '2 days'")
    assert (await release(db))["files"] == 1
    assert await db.refs() == {path_of("a"): 0}
    assert await db.value("select count(*) from public.outlast_deletions") == 0


async def test_a_row_that_came_back_keeps_its_files(db: Any, make_job: Make, path_of: Any) -> None:
    generation = await db.generation()
    await db.attempt(make_job(generation, ["a"]), stored=["a"])
    await db.run("create temporary table saved as table public.generations")
    await db.run("delete from public.generations")
    await db.run("insert into public.generations (id) values ($1::uuid)", generation)
    assert await release(db) == {"files": 0, "more": False}
    assert await db.refs() == {path_of("a"): 1}
    assert await db.value("select count(*) from public.outlast_deletions") == 0


async def test_many_deletions_are_worked_off_in_pages(db: Any, make_job: Make) -> None:
    for _ in range(5):
        generation = await db.generation()
        await db.attempt(make_job(generation, [generation]), stored=[generation])
    await db.run("delete from public.generations")
    seen = [await db.call("outlast_release", p_grace_seconds=DAY, p_limit=2) for _ in range(3)]
    assert [answer["files"] for answer in seen] == [2, 2, 1]
    assert [answer["more"] for answer in seen] == [True, True, False]


async def test_files_deleted_by_hand_are_counted_down(db: Any, make_job: Make, path_of: Any) -> None:
    await db.attempt(make_job("g1", ["a"]), stored=["a"])
    await db.attempt(make_job("g2", ["a", "b"]), stored=["a", "b"])
    await db.run("delete from public.outlast_files where generation_id = 'g2'")
    assert await db.refs() == {path_of("a"): 1, path_of("b"): 0}


async def test_finishes_and_deletions_at_once_count_right(db: Any, make_job: Make) -> None:
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


async def test_the_users_own_statement_never_fails_by_us(own_db: Any) -> None:
    await own_db.generation()
    await own_db.generation()
    await own_db.run("drop table public.outlast_deletions")
    await own_db.run("delete from public.generations where id = (select id from public.generations limit 1)")
    await own_db.run("truncate public.generations")
    assert await own_db.value("select count(*) from public.generations") == 0


async def test_a_deletion_waits_for_nobody(db: Any, make_job: Make) -> None:
    generation = await db.generation()
    await db.attempt(make_job(generation, ["a"]), stored=["a"])
    async with db.pool.acquire() as other, other.transaction():
        await other.execute("select public.outlast_lock_generation($1)", generation)
        await other.execute("select from public.outlast_objects for update")
        await other.execute("select from public.outlast_files for update")
        async with db.pool.acquire() as user, user.transaction():
            await user.execute("set local lock_timeout = '2s'")
            await user.execute("delete from public.generations")


async def move(db: Any, path: str, to: dict[str, Any], **more: Any) -> Any:
    return await db.call("outlast_move_object", p_bucket=BUCKET, p_path=path, p_file=to, **more)


async def test_files_move_to_a_better_object_and_their_media_with_them(
    db: Any, make_job: Make, make_file: Make, path_of: Any
) -> None:
    rows = [await db.generation() for _ in range(3)]
    for generation in rows:
        await db.attempt(make_job(generation, ["b", "a"]), stored=["b", "a"])
    better = make_file("g", "better", profile="webp-q80-strip", file_size=7)
    assert (await move(db, path_of("a"), better))["state"] == "object_deleting", "it was not claimed"
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


async def test_a_list_that_shows_an_older_output_follows_too(
    db: Any, make_job: Make, make_file: Make, path_of: Any
) -> None:
    generation = await db.generation()
    await db.attempt(make_job(generation, ["a"]), stored=["a"])
    newer = make_job(generation, ["n"], event_at="2026-11-02T10:00:00Z")
    await db.call("outlast_begin", p_job=newer, p_lease=uuid4(), p_worker="w")
    assert await db.media(generation) == ([path_of("a")], "pending")
    better = make_file("g", "better", profile="webp-q80-strip")
    await claim(db, better["path"])
    await move(db, path_of("a"), better)
    assert await db.media(generation) == ([path_of("better")], "pending")


async def test_kept_as_it_is_only_the_profile_changes(db: Any, make_job: Make, make_file: Make, path_of: Any) -> None:
    await db.attempt(make_job("g", ["a"]), stored=["a"])
    wanted = {"p_bucket": BUCKET, "p_profile": "webp-q80-strip"}
    (found,) = await db.call("outlast_to_optimize", **wanted)
    assert (found["path"], found["stale"], found["twin"]) == (path_of("a"), True, None)
    assert await db.call("outlast_optimizable", **wanted) == {"objects": 1, "bytes": 100, "duplicates": 0}
    same = make_file("g", "a", profile="webp-q80-strip")
    assert await move(db, path_of("a"), same) == {"state": "moved", "files": 1, "more": False}
    assert await db.call("outlast_to_optimize", **wanted) == []
    assert await db.refs() == {path_of("a"): 1}


async def test_a_twin_is_the_same_users_of_the_same_source_with_the_wanted_profile(
    db: Any, make_job: Make, make_file: Make
) -> None:
    async def store(user: str, path: str, profile: str, size: int) -> None:
        job = make_job(f"g-{path}", ["k"], user_id=user, profile=profile)
        lease = uuid4()
        await db.call("outlast_begin", p_job=job, p_lease=lease, p_worker="w")
        file = make_file(job["generation_id"], "k", job, path=path, profile=profile, file_size=size)
        told = {"p_task_id": job["task_id"], "p_lease": lease, "p_status": "completed", "p_failed": []}
        await db.call("outlast_finish", p_files=[file], **told)

    await store("u", "u/old", "keep-q85-strip", 90)
    await store("u", "u/large", "webp-q80-strip", 80)
    await store("u", "u/small", "webp-q80-strip", 70)
    await store("v", "v/old", "keep-q85-strip", 90)
    found = await db.call("outlast_to_optimize", p_bucket=BUCKET, p_profile="webp-q80-strip")
    assert [(one["path"], one["stale"], one["twin"] and one["twin"]["path"]) for one in found] == [
        ("u/large", False, "u/small"),
        ("u/old", True, "u/small"),
        ("v/old", True, None),
    ]


async def test_outsiders_see_no_deletions(db: Any) -> None:
    for role in ("anon", "authenticated"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with db.role(role) as connection:
                await connection.fetch("table public.outlast_deletions")
