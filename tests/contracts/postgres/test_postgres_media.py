"""The contents of a generation's `media` and `media_status`."""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import uuid4

Make = Callable[..., dict[str, Any]]


async def test_media_lists_the_stored_files_by_position(db: Any, make_job: Make, path_of: Any) -> None:
    generation = await db.generation()
    assert await db.attempt(make_job(generation, ["z", "a", "m"]), stored=["m", "z", "a"]) == "completed"
    assert await db.media(generation) == ([path_of("z"), path_of("a"), path_of("m")], "completed")
    media = await db.value("select media from public.generations")
    assert set(media[0]) == {
        *("position", "field", "status", "source_url", "original_filename"),
        *("id", "bucket", "path", "content_type", "kind", "width", "height", "duration", "frames", "thumbhash"),
        *("sha256", "file_size", "original_size"),
    }


async def test_failed_files_make_the_status_partial_or_failed(db: Any, make_job: Make, path_of: Any) -> None:
    one, other = await db.generation(), await db.generation()
    await db.attempt(make_job(one, ["a", "b"]), stored=["b"], failed=["a"])
    await db.attempt(make_job(other, ["c"]), stored=[], failed=["c"])
    assert await db.media(one) == ([path_of("b")], "partial")
    assert await db.media(other) == ([], "failed")


async def test_a_newer_output_replaces_an_older_one_despite_a_late_retry(db: Any, make_job: Make, path_of: Any) -> None:
    generation = await db.generation()
    old = make_job(generation, ["a", "b"])
    new = make_job(generation, ["c"], event_at="2026-11-01T11:00:00Z")
    await db.attempt(old, stored=["a"], failed=["b"])
    await db.attempt(new, stored=["c"])
    assert await db.media(generation) == ([path_of("c")], "completed")
    await db.attempt(old, stored=["b"])
    assert await db.media(generation) == ([path_of("c")], "completed")
    assert await db.value("select count(*) from public.outlast_files") == 3


async def test_a_newer_output_replaces_an_older_one_until_it_is_cancelled(
    db: Any, make_job: Make, path_of: Any
) -> None:
    generation = await db.generation()
    await db.attempt(make_job(generation, ["a"]), stored=["a"])
    new, lease = make_job(generation, ["b"], event_at="2026-11-01T11:00:00Z"), uuid4()
    await db.call("outlast_begin", p_job=new, p_lease=lease, p_worker="w")
    assert await db.media(generation) == ([], "pending")
    await db.call("outlast_cancel", p_task_id=new["task_id"])
    assert await db.media(generation) == ([path_of("a")], "completed")


async def test_a_repeated_older_output_becomes_current_again(db: Any, make_job: Make, path_of: Any) -> None:
    generation = await db.generation()
    first = make_job(generation, ["a"])
    await db.attempt(first, stored=["a"])
    await db.attempt(make_job(generation, ["b"], event_at="2026-11-01T11:00:00Z"), stored=["b"])
    back = first | {"event_at": "2026-11-01T12:00:00Z"}
    answer = await db.call("outlast_begin", p_job=back, p_lease=uuid4(), p_worker="w")
    assert answer["state"] == "done"
    assert await db.media(generation) == ([path_of("a")], "completed")


async def test_a_split_event_is_pending_until_all_parts_have_ended(db: Any, make_job: Make, path_of: Any) -> None:
    generation, keys = await db.generation(), ["a", "b", "c"]
    await db.attempt(make_job(generation, ["c"], first=2, all_keys=keys), stored=["c"])
    assert await db.media(generation) == ([path_of("c")], "pending")
    await db.attempt(make_job(generation, ["a", "b"], all_keys=keys), stored=["a", "b"])
    assert await db.media(generation) == ([path_of("a"), path_of("b"), path_of("c")], "completed")


async def test_a_cancelled_part_makes_the_status_partial(db: Any, make_job: Make, path_of: Any) -> None:
    generation, keys = await db.generation(), ["a", "b"]
    part = make_job(generation, ["b"], first=1, all_keys=keys)
    await db.call("outlast_begin", p_job=part, p_lease=uuid4(), p_worker="w")
    await db.call("outlast_cancel", p_task_id=part["task_id"])
    await db.attempt(make_job(generation, ["a"], all_keys=keys), stored=["a"])
    assert await db.media(generation) == ([path_of("a")], "partial")


async def test_files_of_fal_and_supabase_are_merged_without_duplicates(db: Any, make_job: Make, path_of: Any) -> None:
    generation = await db.generation(request_id="r-1")
    from_fal = make_job(None, ["mask", "a", "b"], source="fal", request_id="r-1")
    await db.attempt(from_fal, stored=["mask", "a", "b"])
    assert await db.media(generation) == ([path_of("mask"), path_of("a"), path_of("b")], "completed")
    await db.attempt(make_job(generation, ["a", "b"], event_at="2026-11-01T09:00:00Z"), stored=["a", "b"])
    assert await db.media(generation) == ([path_of("a"), path_of("mask"), path_of("b")], "completed")
    assert await db.value("select count(*) from public.outlast_files") == 3


async def test_fal_files_of_another_request_are_not_listed(db: Any, make_job: Make, path_of: Any) -> None:
    generation = await db.generation(request_id="r-1")
    await db.attempt(make_job(None, ["old"], source="fal", request_id="r-1"), stored=["old"])
    await db.run("update public.generations set request_id = 'r-2'")
    await db.attempt(make_job(generation, ["new"]), stored=["new"])
    assert await db.media(generation) == ([path_of("new")], "completed")


async def test_a_fal_event_without_files_is_failed(db: Any, make_job: Make) -> None:
    generation = await db.generation(request_id="r-1")
    await db.attempt(make_job(None, [], source="fal", request_id="r-1"), stored=[], failed=["payload"])
    assert await db.media(generation) == ([], "failed")


async def test_concurrently_finished_parts_are_all_listed(db: Any, make_job: Make, path_of: Any) -> None:
    generation, keys = await db.generation(), [f"k{number}" for number in range(12)]
    parts = [make_job(generation, [key], first=position, all_keys=keys) for position, key in enumerate(keys)]
    await asyncio.gather(*(db.attempt(part, stored=part["source_keys"]) for part in parts))
    assert await db.media(generation) == ([path_of(key) for key in keys], "completed")
