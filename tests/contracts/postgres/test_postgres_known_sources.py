"""`outlast_begin` returns the files that a user has already from the job's immutable sources."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from schemas.tasks import BeginReply, FinishReply

Make = Callable[..., dict[str, Any]]
USER = "11111111-1111-4111-8111-111111111111"
OTHER = "22222222-2222-4222-8222-222222222222"
MD5 = "0123456789abcdef0123456789abcdef"


async def put(
    db: Any, path: str, *, size: int = 100, etag: str | None = f'"{MD5}"', bucket: str = "generations"
) -> None:
    """Insert a row as Storage does when an object is stored."""
    await db.run("insert into storage.buckets (id, name) values ($1, $1) on conflict do nothing", bucket)
    sql = "insert into storage.objects (bucket_id, name, metadata) values ($1, $2, $3)"
    await db.run(sql, bucket, path, {"size": size, "eTag": etag})


async def begin(db: Any, job: dict[str, Any], *immutable: str) -> tuple[Any, BeginReply]:
    lease = uuid4()
    job |= {"immutable": list(immutable)} if immutable else {}
    return lease, BeginReply.model_validate(await db.call("outlast_begin", p_job=job, p_lease=lease, p_worker="w"))


async def finish(db: Any, job: dict[str, Any], lease: Any, *files: dict[str, Any]) -> FinishReply:
    arguments = {"p_task_id": job["task_id"], "p_lease": lease, "p_status": "completed", "p_failed": []}
    return FinishReply.model_validate(await db.call("outlast_finish", p_files=list(files), **arguments))


async def store(db: Any, job: dict[str, Any], *files: dict[str, Any]) -> None:
    lease, _ = await begin(db, job)
    assert (await finish(db, job, lease, *files)).state == "recorded"


def used(reply: BeginReply) -> list[dict[str, Any]]:
    """Return the known files as a worker records them for the generation `g2`."""
    return [file.model_dump(mode="json") | {"id": str(uuid4()), "deduplicated": True} for file in reply.known]


async def test_a_file_from_the_same_immutable_url_is_known_and_shares_its_object(
    own_db: Any, make_job: Make, make_file: Make
) -> None:
    job = make_job("g1", ["a", "b"])
    await store(own_db, job, make_file("g1", "a", job), make_file("g1", "b", job))
    for key in "ab":
        await put(own_db, f"{USER}/{key}.jpg")
    job = make_job("g2", ["a", "b", "c"])
    lease, reply = await begin(own_db, job, "a", "c")
    assert (reply.state, reply.files) == ("run", [])
    assert [(file.source_key, file.path, file.md5) for file in reply.known] == [("a", f"{USER}/a.jpg", MD5)]
    assert (await finish(own_db, job, lease, *used(reply))).state == "recorded"
    assert await own_db.refs() == {f"{USER}/a.jpg": 2, f"{USER}/b.jpg": 1}
    assert await own_db.value("select deduplicated from outlast_files where generation_id = 'g2'") is True
    _, again = await begin(own_db, make_job("g2", ["a", "c"], first=7), "a", "c")
    assert ([file.source_key for file in again.files], again.known) == (["a"], [])


UNKNOWN: dict[str, dict[str, Any]] = {
    "another user's": {"user_id": OTHER},
    "of no user": {"user_id": None},
    "another quality": {"profile": "auto-q60-strip"},
    "other variants": {"profile": "auto-q85-strip+thumb:256"},
}


@pytest.mark.parametrize("why", UNKNOWN)
async def test_a_file_of_another_user_or_profile_is_not_known(
    own_db: Any, make_job: Make, make_file: Make, why: str
) -> None:
    await store(own_db, job := make_job("g1", ["a"]), make_file("g1", "a", job))
    await put(own_db, f"{USER}/a.jpg")
    _, reply = await begin(own_db, make_job("g2", ["a"], **UNKNOWN[why]), "a")
    assert (reply.state, reply.known) == ("run", [])
    _, reply = await begin(own_db, make_job("g3", ["a"]), "a")
    assert len(reply.known) == 1


async def test_files_without_a_user_are_known_to_jobs_without_a_user_only(
    own_db: Any, make_job: Make, make_file: Make
) -> None:
    await store(own_db, job := make_job("g1", ["a"], user_id=None), make_file("g1", "a", job))
    await put(own_db, f"{USER}/a.jpg")
    counts = []
    for number, user in enumerate(("", USER, None)):
        _, reply = await begin(own_db, make_job(f"g2{number}", ["a"], user_id=user), "a")
        counts.append(len(reply.known))
    assert counts == [0, 0, 1]


async def test_the_variants_of_the_binding_are_part_of_the_profile(
    own_db: Any, make_job: Make, make_file: Make
) -> None:
    await store(own_db, job := make_job("g1", ["a"]), make_file("g1", "a", job))
    await put(own_db, f"{USER}/a.jpg")
    await own_db.run("update outlast_bindings set variants = 'thumb:256'")
    assert (await begin(own_db, make_job("g2", ["a"]), "a"))[1].known == []
    await own_db.run("update outlast_files set profile = 'auto-q85-strip+thumb:256'")
    assert len((await begin(own_db, make_job("g3", ["a"]), "a"))[1].known) == 1


async def test_a_file_that_is_not_named_as_immutable_is_not_known(own_db: Any, make_job: Make, make_file: Make) -> None:
    await store(own_db, job := make_job("g1", ["a"]), make_file("g1", "a", job))
    await put(own_db, f"{USER}/a.jpg")
    assert (await begin(own_db, make_job("g2", ["a"])))[1].known == []
    assert (await begin(own_db, make_job("g3", ["a"]), "b"))[1].known == []


BROKEN = {
    "removed from Storage": "delete from storage.objects",
    "of another size": 'update storage.objects set metadata = \'{"size": 99, "eTag": "x"}\'',
    "without a size": 'update storage.objects set metadata = \'{"eTag": "x"}\'',
    "without metadata": "update storage.objects set metadata = null",
    "being deleted": "update public.outlast_objects set state = 'deleting'",
    "without its variant": (
        """update public.outlast_files set variants = '[{"name": "thumb", "path": "thumb.jpg",
           "content_type": "image/jpeg", "width": 1, "height": 1, "file_size": 1, "sha256": "0"}]'"""
    ),
}


@pytest.mark.parametrize("what", BROKEN)
async def test_an_object_that_is_missing_or_incomplete_is_not_known(
    own_db: Any, make_job: Make, make_file: Make, what: str
) -> None:
    await store(own_db, job := make_job("g1", ["a"]), make_file("g1", "a", job))
    await put(own_db, f"{USER}/a.jpg")
    await own_db.run(BROKEN[what])
    _, reply = await begin(own_db, make_job("g2", ["a"]), "a")
    assert (reply.state, reply.known) == ("run", [])


async def test_the_newest_file_whose_object_exists_is_known(own_db: Any, make_job: Make, make_file: Make) -> None:
    for number, path in enumerate(("old", "newer", "gone")):
        job = make_job(f"g{number}", ["a"])
        await store(own_db, job, make_file(f"g{number}", "a", job, path=path))
        await put(own_db, path)
    await own_db.run("delete from storage.objects where name = 'gone'")
    _, reply = await begin(own_db, make_job("g9", ["a"]), "a")
    assert [file.path for file in reply.known] == ["newer"]


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ("delete from storage.objects", "object_differs"),
        ('update storage.objects set metadata = metadata || \'{"eTag": "another"}\'', "object_differs"),
        ("update public.outlast_objects set state = 'deleting'", "object_deleting"),
    ],
)
async def test_an_object_that_is_removed_after_begin_is_not_recorded_and_not_known_again(
    own_db: Any, make_job: Make, make_file: Make, change: str, state: str
) -> None:
    await store(own_db, job := make_job("g1", ["a"]), make_file("g1", "a", job))
    await put(own_db, f"{USER}/a.jpg")
    job = make_job("g2", ["a"])
    lease, reply = await begin(own_db, job, "a")
    await own_db.run(change)
    assert (await finish(own_db, job, lease, *used(reply))).state == state
    assert await own_db.value("select count(*) from outlast_files where generation_id = 'g2'") == 0
    await own_db.run("update outlast_tasks set lease = null")
    _, reply = await begin(own_db, job, "a")
    assert len(reply.known) == (1 if "another" in change else 0), "an object that was replaced is known as it is now"


async def test_where_storage_cannot_be_read_no_file_is_known(own_db: Any, make_job: Make, make_file: Make) -> None:
    await store(own_db, job := make_job("g1", ["a"]), make_file("g1", "a", job))
    await put(own_db, f"{USER}/a.jpg")
    await own_db.run_as_superuser("drop table storage.objects cascade")
    _, reply = await begin(own_db, make_job("g2", ["a"]), "a")
    assert (reply.state, reply.sees_storage, reply.known) == ("run", False, [])
