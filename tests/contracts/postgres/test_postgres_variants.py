"""Variants in the database: recorded with their picture, counted as references, and removed with it."""

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.contracts.postgres.conftest import USER

Make = Callable[..., dict[str, Any]]
DAY = 24 * 3600


def variant(name: str, key: str = "a", digest: str = "1", **other: Any) -> dict[str, Any]:
    path = f"{USER}/{key}.{name}-{digest}.jpg"
    shape = {"width": 5, "height": 10, "frames": 1, "file_size": 50, "content_type": "image/jpeg", "sha256": digest}
    return {"name": name, "path": path, **shape, **other}


async def store(db: Any, job: dict[str, Any], *files: dict[str, Any]) -> str:
    lease = UUID(job["task_id"])
    await db.call("outlast_begin", p_job=job, p_lease=lease, p_worker="w")
    result = {"p_status": "completed", "p_files": list(files), "p_failed": []}
    return str((await db.call("outlast_finish", p_task_id=job["task_id"], p_lease=lease, **result))["state"])


async def orphans(db: Any) -> list[str]:
    await db.run("update public.outlast_objects set updated_at = updated_at - interval '2 days'")
    return list(await db.call("outlast_take_orphans", p_bucket="generations", p_grace_seconds=DAY))


async def test_variants_are_recorded_counted_and_removed_with_their_pictures(
    db: Any, make_job: Make, make_file: Make, path_of: Any
) -> None:
    """Two generations have the same picture. The second variant of one is the picture itself."""
    thumb, itself = variant("thumb", md5="m"), variant("preview", path=path_of("a"))
    generations = [await db.generation() for _ in range(2)]
    for generation in generations:
        job = make_job(generation, ["a", "b"])
        a, b = (make_file(generation, key, job) for key in ("a", "b"))
        assert await store(db, job, a | {"variants": [thumb, itself]}, b) == "object_differs", "Storage has no thumb"
        plain = [{name: value for name, value in thumb.items() if name != "md5"}, itself]
        assert await store(db, job, a | {"variants": plain}, b) == "recorded"
        entries = {entry["path"]: entry for entry in await db.entries(generation)}
        assert entries[path_of("a")]["variants"] == plain
        assert "variants" not in entries[path_of("b")]
    assert await db.refs() == {path_of("a"): 2, path_of("b"): 2, thumb["path"]: 2}
    known = await db.call("outlast_known", p_user_id=USER, p_source_sha256=a["source_sha256"], p_profile=a["profile"])
    assert known is None, "Storage lacks the objects"

    smaller = variant("thumb", digest="2")
    changed = make_job(generations[0], ["a"], profile="auto-q85-strip+thumb:2", event_at="2026-11-02T10:00:00Z")
    assert await store(db, changed, make_file(generations[0], "a", changed) | {"variants": [smaller]}) == "recorded"
    assert await db.refs() == {path_of("a"): 2, path_of("b"): 2, thumb["path"]: 1, smaller["path"]: 1}

    await db.run("delete from public.generations where id = $1", UUID(generations[1]))
    await db.call("outlast_release", p_grace_seconds=DAY)
    assert await db.refs() == {path_of("a"): 1, path_of("b"): 1, thumb["path"]: 0, smaller["path"]: 1}
    assert await orphans(db) == [thumb["path"]]
    claimed = await db.call("outlast_claim_all", p_bucket="generations", p_paths=[path_of("c"), thumb["path"]])
    assert claimed == {"state": "deleting"}
    job = make_job(generations[0], ["c"], event_at="2026-11-03T10:00:00Z")
    stored = make_file(generations[0], "c", job) | {"variants": plain[:1]}
    assert await store(db, job, stored) == "object_deleting"
    await db.run("delete from public.outlast_files")
    assert set((await db.refs()).values()) == {0}


async def test_the_variants_of_a_binding_replace_those_of_the_settings(db: Any, make_job: Make) -> None:
    await db.bind("generations", variants="small:10")
    try:
        for key, own, profile, expected in (
            ("a", False, "auto-q85-strip", "auto-q85-strip+small:10"),
            ("b", False, "auto-q85-strip+thumb:256", "auto-q85-strip+small:10"),
            ("c", True, "auto-q85-strip+thumb:256", "auto-q85-strip+thumb:256"),
        ):
            job = make_job("g", [key], profile=profile, own_variants=own)
            begun = await db.call("outlast_begin", p_job=job, p_lease=uuid4(), p_worker="w")
            assert (begun["state"], begun["variants"]) == ("run", "small:10")
            assert await db.value("select profile from outlast_tasks where task_id = $1", job["task_id"]) == expected
        await db.bind("generations", variants="")
        job = make_job("h", ["a"], profile="auto-q85-strip+thumb:256")
        await db.call("outlast_begin", p_job=job, p_lease=uuid4(), p_worker="w")
        assert (
            await db.value("select profile from outlast_tasks where task_id = $1", job["task_id"]) == "auto-q85-strip"
        )
    finally:
        await db.bind("generations", variants=None)


@pytest.mark.parametrize("is_public", [False, True])
async def test_variants_in_a_public_bucket_have_a_url(
    db: Any, make_job: Make, make_file: Make, *, is_public: bool
) -> None:
    await db.run("insert into storage.buckets (id, name) values ('generations', 'generations') on conflict do nothing")
    await db.run("update storage.buckets set public = $1 where id = 'generations'", is_public)
    await db.call("outlast_note_public_url", p_url="https://p.test")
    generation = await db.generation()
    job = make_job(generation, ["a"])
    try:
        await store(db, job, make_file(generation, "a", job) | {"variants": [variant("thumb")]})
        (entry,) = await db.entries(generation)
        urls = [item.get("url") for item in (entry, *entry["variants"])]
        paths = [item["path"] for item in (entry, *entry["variants"])]
        base = "https://p.test/storage/v1/object/public/generations/"
        assert urls == ([f"{base}{path}" for path in paths] if is_public else [None, None])
    finally:
        await db.run("update storage.buckets set public = false where id = 'generations'")
        await db.run("delete from public.outlast_settings where key = 'public_url'")
