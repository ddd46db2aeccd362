"""What notices are made of: ended generations, each once, the digest of failures, and the hosts of sources."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

Make = Callable[..., dict[str, Any]]
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


async def begin_notices(db: Any) -> None:
    """From here on notices are sent, also of the last seconds."""
    await db.run(
        "delete from outlast_settings where key in ('notices_after', 'digest_after'); delete from outlast_noticed;"
        "delete from outlast_undecodable"
    )
    assert await db.call("outlast_notices") == []
    assert (await db.call("outlast_digest"))["total"] == 0


async def test_a_generation_is_told_once_when_all_of_its_tasks_have_ended(db: Any, make_job: Make) -> None:
    await begin_notices(db)
    row = await db.generation()
    first = make_job(row, ["a", "b"], all_keys=["a", "b", "c"])
    second = make_job(row, ["c"], first=2, all_keys=["a", "b", "c"])
    await db.call("outlast_enqueue", p_job=second)
    await db.attempt(first, ["a"], ["b"])
    (notice,) = await db.call("outlast_notices")
    assert (notice["generation_id"], notice["status"]) == (row, None)
    await db.call("outlast_note_notices", p_items=[notice])
    assert await db.call("outlast_notices") == []

    await db.attempt(second, ["c"])
    (notice,) = await db.call("outlast_notices")
    assert (notice["status"], notice["total"], notice["stored"]) == ("partial", 3, 2)
    assert notice["failed"] == [{"code": "source_gone", "stage": "", "host": "v3.fal.media"}]
    await db.call("outlast_note_notices", p_items=[notice])
    assert await db.call("outlast_notices") == []

    await db.attempt(first | {"event_at": "2026-11-01T11:00:00Z"}, ["a", "b"])  # a replay
    (notice,) = await db.call("outlast_notices")
    assert (notice["status"], notice["stored"], notice["failed"]) == ("completed", 3, [])


async def test_what_ended_before_the_first_call_or_hours_ago_is_not_told(db: Any, make_job: Make) -> None:
    await db.attempt(make_job(await db.generation(), ["a"]), ["a"])
    await db.run("update outlast_tasks set finished_at = now() - interval '2 minutes'")
    await begin_notices(db)
    await db.attempt(make_job(await db.generation(), ["b"]), ["b"])
    await db.run("update outlast_tasks set finished_at = now() - interval '2 hours' where source_keys = '{b}'")
    assert await db.call("outlast_notices") == []


async def test_the_digest_counts_files_by_code_and_host_since_the_last_one(db: Any, make_job: Make) -> None:
    await begin_notices(db)
    row = await db.generation()
    await db.attempt(make_job(row, ["a", "b", "c"]), ["a"], ["b", "c"])
    await db.attempt(make_job(await db.generation(), ["d"], source="adopt"), [], ["d"])
    await db.run("update outlast_settings set value = (now() - interval '1 hour')::text where key = 'digest_after'")
    for _ in range(3):
        await db.call("outlast_note_undecodable", p_code="undecodable")
    await db.run("update outlast_tasks set finished_at = now() - interval '10 seconds'")
    await db.run("update outlast_undecodable set second = date_trunc('second', now() - interval '10 seconds')")
    digest = await db.call("outlast_digest")
    assert digest["total"] == 5
    assert digest["groups"] == [
        {"code": "undecodable", "host": None, "files": 3, "generation_id": None},
        {"code": "source_gone", "host": "v3.fal.media", "files": 2, "generation_id": row},
    ]
    await db.call("outlast_note_digest", p_until=datetime.fromisoformat(digest["until"]))
    assert (await db.call("outlast_digest"))["total"] == 0


async def test_the_ten_hosts_with_the_most_files_are_listed(db: Any, make_job: Make) -> None:
    for number in range(12):
        urls = [{"source_url": f"https://host-{number}.example/a?b"}] * (20 - number)
        await db.attempt(make_job(await db.generation(), [f"k{number}"], files=urls), [], [f"k{number}"])
    await db.run(
        "update outlast_tasks set failed = $1::jsonb where files -> 0 ->> 'source_url' ~ 'host-1[.]'",
        [{"url": "https://host-1.example/a", "code": "size_exceeded"}],
    )
    hosts = await db.call("outlast_source_hosts", p_since=LONG_AGO)
    assert [host["host"] for host in hosts] == [f"host-{number}.example" for number in range(10)]
    assert json.dumps(hosts[1]["codes"]) == '{"size_exceeded": 1}'
    assert (hosts[1]["files"], hosts[1]["failed"]) == (19, 1)
    assert await db.call("outlast_source_hosts", p_since=datetime.now(UTC) + timedelta(hours=1)) == []
