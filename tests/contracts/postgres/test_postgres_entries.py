"""The entries of `media`: one for every file that the output names, stored or not, in order of its field."""

import json
from typing import Any
from uuid import uuid4

import pytest

from handlers.database.task_records import task_row
from handlers.download.allowlist import Allowlist
from handlers.settings import MediaSettings
from handlers.sources.output_fields import MAX_FIELD_CHARACTERS, field_order
from handlers.sources.plan import plan_jobs
from schemas.events import CompletedGeneration
from tests.contracts.postgres.conftest import USER, failed_file, new_job, stored_file

SETTINGS = MediaSettings(_env_file=None)
ALLOWLIST = Allowlist(SETTINGS.source_allowlist)
FAL = "https://v3.fal.media/files"
ELSEWHERE = "https://elsewhere.example/a.png"
ORDER = r"""
select regexp_replace(regexp_replace($1::text, '\[([0-9]{1,8})\]', '[0000000\1]', 'g'),
                      '\[0{0,7}([0-9]{8})\]', '[\1]', 'g')
"""


def planned(output: Any, generation: str | None, **other: Any) -> list[dict[str, Any]]:
    """Return the jobs of an output in the form in which a worker sends them; `at`: the hour of the event."""
    at, source, settings = other.pop("at", 10), other.pop("source", "supabase"), other.pop("settings", SETTINGS)
    event = CompletedGeneration(source=source, generation_id=generation, user_id=USER, output=output, **other)
    jobs = plan_jobs(event, settings, ALLOWLIST)
    return [task_row(job) | {"attempt": 1, "event_at": f"2026-11-01T{at:02}:00:00Z"} for job in jobs]


def images(*names: str) -> dict[str, Any]:
    return {"images": [{"url": f"{FAL}/{name}.png?token=secret"} for name in names]}


def outcomes(entries: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Return position, field, status and code of the entries."""
    return [(entry["position"], entry["field"], entry["status"], entry.get("code")) for entry in entries]


async def begin(db: Any, job: dict[str, Any]) -> Any:
    lease = uuid4()
    answer = await db.call("outlast_begin", p_job=job, p_lease=lease, p_worker="w")
    assert answer["state"] == "run", answer
    return lease


async def finish(db: Any, job: dict[str, Any], lease: Any, status: str, stored: str, failed: str = "") -> None:
    """Store the files at these positions of the job (digits), and report others as failed."""
    generation = await db.value("select generation_id from public.outlast_tasks where task_id = $1", job["task_id"])
    keys = dict(zip(map(str, job["positions"]), job["source_keys"], strict=True))
    files = [stored_file(generation, keys[at], job) for at in stored]
    answer = await db.call(
        "outlast_finish",
        p_task_id=job["task_id"],
        p_lease=lease,
        p_status=status,
        p_files=files,
        p_failed=[failed_file(keys[at]) for at in failed],
    )
    assert answer["state"] == "recorded"


async def test_a_begun_task_has_a_pending_entry_for_each_file(db: Any) -> None:
    generation = await db.generation()
    output = {
        "image": {"url": f"{FAL}/x.png?token=secret#part", "file_name": "cat.png"},
        "audio": "data:audio/wav,RIFF",
    }
    (job,) = planned(output, generation)
    await begin(db, job)
    sound, picture = await db.entries(generation)
    assert picture == {
        "position": 1,
        "field": "image.url",
        "status": "pending",
        "source_url": f"{FAL}/x.png",
        "original_filename": "cat.png",
    }
    assert (sound["field"], sound["original_filename"]) == ("audio", "file")
    assert sound["source_url"].startswith("data:audio/wav;sha256=")
    assert (await db.media(generation))[1] == "pending"


async def test_a_failed_file_leaves_no_hole(db: Any) -> None:
    generation = await db.generation()
    (job,) = planned(images("a", "b", "c"), generation)
    lease = await begin(db, job)
    await finish(db, job, lease, "partial", stored="02", failed="1")
    first, second, third = await db.entries(generation)
    assert outcomes([first, second, third]) == [
        (0, "images[0].url", "stored", None),
        (1, "images[1].url", "failed", "source_gone"),
        (2, "images[2].url", "stored", None),
    ]
    assert second["source_url"] == f"{FAL}/b.png"
    assert (third["kind"], third["file_size"], third["original_size"]) == ("image", 100, 1000)
    assert "url" not in third
    assert (await db.media(generation))[1] == "partial"


async def test_files_that_will_be_retried_are_pending(db: Any) -> None:
    generation = await db.generation()
    (job,) = planned(images("a", "b"), generation)
    await finish(db, job, await begin(db, job), "retrying", stored="1", failed="0")
    entries = [(0, "images[0].url", "pending", None), (1, "images[1].url", "stored", None)]
    assert outcomes(await db.entries(generation)) == entries
    retried = job | {key: job[key][:1] for key in ("positions", "source_keys", "files")}
    lease = await begin(db, retried)
    assert outcomes(await db.entries(generation)) == entries
    await finish(db, retried, lease, "completed", stored="0")
    assert [entry["status"] for entry in await db.entries(generation)] == ["stored", "stored"]


async def test_both_webhooks_give_the_same_list(db: Any) -> None:
    roles = {f"role_{n}": {"url": f"{FAL}/{n}.png"} for n in range(12)} | images(*(f"i{n}" for n in range(12)))
    shuffled = dict(sorted(roles.items(), key=lambda item: (len(item[0]), item[0])))
    lists = []
    for sources in (["fal"], ["supabase"], ["fal", "supabase"], ["supabase", "fal"]):
        request = f"r-{uuid4()}"
        generation = await db.generation(request_id=request)
        for source in sources:
            output, known = (shuffled, None) if source == "fal" else (roles, generation)
            for job in planned(output, known, source=source, request_id=request):
                digits = {at: str(at) for at in job["positions"]}
                lease = await begin(db, job)
                keys = dict(zip(job["positions"], job["source_keys"], strict=True))
                files = [stored_file(generation, keys[at], job) for at in digits if at % 2]
                await db.call(
                    "outlast_finish",
                    p_task_id=job["task_id"],
                    p_lease=lease,
                    p_status="partial",
                    p_files=files,
                    p_failed=[failed_file(keys[at]) for at in digits if at % 2 == 0],
                )
        lists.append((outcomes(await db.entries(generation)), (await db.media(generation))[1]))
    assert [list_ == lists[0] for list_ in lists] == [True] * 4
    fields = [field for _, field, _, _ in lists[0][0]]
    assert fields[:12] == [f"images[{n}].url" for n in range(12)]
    assert fields == sorted(fields, key=field_order)
    assert [position for position, _, _, _ in lists[0][0]] == list(range(24))


async def test_files_of_fals_webhook_alone_are_sorted_in_between(db: Any) -> None:
    generation = await db.generation(request_id="r-1")
    (from_fal,) = planned(images("a", "b") | {"audio": {"url": f"{FAL}/s.wav"}}, None, source="fal", request_id="r-1")
    (job,) = planned(images("a", "b"), generation)
    await begin(db, from_fal)
    await begin(db, job)
    assert outcomes(await db.entries(generation)) == [
        (0, "audio.url", "pending", None),
        (1, "images[0].url", "pending", None),
        (2, "images[1].url", "pending", None),
    ]


async def test_a_newer_output_replaces_the_entries_of_an_older_one(db: Any) -> None:
    generation = await db.generation()
    (old,) = planned(images("a"), generation)
    await finish(db, old, await begin(db, old), "completed", stored="0")
    (new,) = planned(images("b", "a"), generation, at=11)
    await begin(db, new)
    assert outcomes(await db.entries(generation)) == [
        (0, "images[0].url", "pending", None),
        (1, "images[1].url", "stored", None),
    ]
    await db.call("outlast_cancel", p_task_id=new["task_id"])
    assert outcomes(await db.entries(generation)) == [(0, "images[0].url", "stored", None)]


async def test_a_newer_event_with_the_same_files_renews_their_fields(db: Any) -> None:
    generation = await db.generation()
    (old,) = planned(images("a"), generation)
    await finish(db, old, await begin(db, old), "completed", stored="0")
    (new,) = planned({"pictures": images("a")["images"]}, generation, at=11)
    assert new["task_id"] == old["task_id"]
    assert (await db.call("outlast_begin", p_job=new, p_lease=uuid4(), p_worker="w"))["state"] == "done"
    assert outcomes(await db.entries(generation)) == [(0, "pictures[0].url", "stored", None)]


async def test_a_cancelled_task_has_skipped_entries(db: Any) -> None:
    generation = await db.generation()
    (job,) = planned(images("a", "b"), generation)
    await finish(db, job, await begin(db, job), "retrying", stored="0", failed="1")
    await db.call("outlast_cancel", p_task_id=job["task_id"])
    assert outcomes(await db.entries(generation)) == [
        (0, "images[0].url", "stored", None),
        (1, "images[1].url", "skipped", "cancelled"),
    ]
    assert (await db.media(generation))[1] is None


async def test_files_of_a_dead_lettered_message_are_failed(db: Any) -> None:
    generation = await db.generation()
    (job,) = planned(images("a"), generation)
    await begin(db, job)
    await db.run("update public.outlast_tasks set lease_until = now() - interval '1 s'")
    await db.call("outlast_bury", p_letters=[{"task_id": job["task_id"], "code": "worker_killed", "error": "killed"}])
    assert outcomes(await db.entries(generation)) == [(0, "images[0].url", "failed", "worker_killed")]
    await begin(db, job)  # a replay
    assert outcomes(await db.entries(generation)) == [(0, "images[0].url", "pending", None)]


async def test_a_moved_object_keeps_the_other_fields_of_its_entry(db: Any) -> None:
    generation = await db.generation()
    (job,) = planned(images("a", "b"), generation)
    await finish(db, job, await begin(db, job), "partial", stored="1", failed="0")
    failed, before = await db.entries(generation)
    better = stored_file(generation, "better", content_type="image/webp", file_size=7)
    claim = {"p_bucket": better["bucket"], "p_path": better["path"], "p_user_id": USER}
    await db.call("outlast_claim", **claim)
    await db.call("outlast_move_object", p_bucket=before["bucket"], p_path=before["path"], p_file=better)
    changed = {"path": better["path"], "content_type": "image/webp", "file_size": 7, "sha256": better["sha256"]}
    assert await db.entries(generation) == [failed, before | changed]


async def test_refreshed_media_is_the_same_again(db: Any) -> None:
    generation = await db.generation()
    (job,) = planned(images("a", "b"), generation)
    await finish(db, job, await begin(db, job), "partial", stored="1", failed="0")
    before = await db.entries(generation)
    await db.run("update public.generations set media = null")
    known = [{"source_key": job["source_keys"][1], "bucket": before[1]["bucket"], "path": before[1]["path"]}]
    assert await db.call("outlast_refresh_media", p_generation_id=generation, p_files=known) == {"unrecorded": 0}
    assert await db.entries(generation) == before


async def test_a_file_that_is_skipped_by_the_planner_has_an_entry_and_is_no_failure(db: Any) -> None:
    generation = await db.generation()
    output = images("a") | {"mask": ELSEWHERE}
    (job,) = planned(output, generation)
    lease = await begin(db, job)
    await finish(db, job, lease, "completed", stored="0")
    assert outcomes(await db.entries(generation)) == [
        (0, "images[0].url", "stored", None),
        (1, "mask", "skipped", "source_forbidden"),
    ]
    assert (await db.media(generation))[1] == "completed"


@pytest.mark.parametrize("swept", [False, True])
async def test_an_output_whose_only_file_is_skipped_is_completed_with_an_entry(db: Any, *, swept: bool) -> None:
    generation = await db.generation()
    (job,) = planned(ELSEWHERE + "?token=secret", generation)
    if swept:
        assert await db.call("outlast_requeue", p_jobs=[job]) == {"publish": []}
    else:
        await finish(db, job, await begin(db, job), "completed", stored="")
    (entry,) = await db.entries(generation)
    assert entry == {
        "position": 0,
        "field": "",
        "status": "skipped",
        "code": "source_forbidden",
        "source_url": ELSEWHERE,
        "original_filename": "a.png",
    }
    assert (await db.media(generation))[1] == "completed"
    (other,) = planned(["https://other.example/b.png"], generation, at=11)
    await finish(db, other, await begin(db, other), "completed", stored="")
    assert [entry["source_url"] for entry in await db.entries(generation)] == ["https://other.example/b.png"]


async def test_a_task_of_a_release_without_entries_has_minimal_ones(db: Any) -> None:
    generation = await db.generation()
    job = new_job(generation, ["a", "b"])
    await db.attempt(job, stored=["b"], failed=["a"])
    failed, stored = await db.entries(generation)
    assert failed == {
        "position": 0,
        "field": None,
        "status": "failed",
        "code": "source_gone",
        "source_url": None,
        "original_filename": None,
    }
    assert (stored["source_url"], stored["original_filename"]) == ("https://v3.fal.media/b.png", "b.png")


async def test_a_thousand_hostile_files_have_bounded_entries(db: Any) -> None:
    generation = await db.generation()
    key = '"; drop table\x00\ud800 \\[3].["' + "\N{PILE OF POO}" * 5_000
    output = {key: [{"url": f"{FAL}/{n}{'x' * 1_800}.png", "file_name": key + "y" * 3_000} for n in range(1_500)]}
    jobs = planned(output, generation, settings=SETTINGS.model_copy(update={"max_batch_size": 250}))
    for job in jobs:
        await begin(db, job)
    entries = await db.entries(generation)
    assert len(entries) == SETTINGS.max_event_files + 1
    assert max(len(json.dumps(entry)) for entry in entries) < 6_000
    assert max(len(entry["field"] or "") for entry in entries) <= MAX_FIELD_CHARACTERS
    assert outcomes(entries[-1:]) == [(1000, None, "pending", None)]
    await db.call("outlast_cancel", p_task_id=jobs[0]["task_id"])
    assert (await db.entries(generation))[0]["code"] == "cancelled"


@pytest.mark.parametrize("field", ["", "a", "a[0]", "a[10].b[9]", '["[7]"]', "a[123456789]", "a[99999999][00]", "é[٣]"])
async def test_the_database_sorts_fields_as_the_planner_does(db: Any, field: str) -> None:
    assert await db.value(ORDER, field) == field_order(field)
