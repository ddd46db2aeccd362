from datetime import UTC, datetime
from uuid import UUID

import pytest
from pydantic import ValidationError

from schemas.jobs import Job, JobFile, Profile, output_key_for, task_id_for

FILES = (
    JobFile(position=0, url="https://fal.media/a.png", source_key="a"),
    JobFile(position=1, url="https://fal.media/b.png", source_key="b"),
)


def job() -> Job:
    return Job(
        task_id=task_id_for("g1", FILES, Profile()),
        generation_id="g1",
        source="supabase",
        files=FILES,
        total_files=2,
        output_key=output_key_for(["a", "b"]),
        event_at=datetime(2026, 1, 2, tzinfo=UTC),
    )


def test_the_same_event_is_the_same_task():
    assert task_id_for("g1", FILES, Profile()) == task_id_for("g1", FILES, Profile())
    # Pinned: a changed derivation would run every task in flight a second time.
    assert task_id_for("g1", FILES, Profile()) == UUID("6a1cf88c-5c39-53ae-a677-b33a81928e1b")


@pytest.mark.parametrize(
    ("owner", "files", "profile"),
    [
        ("g2", FILES, Profile()),
        ("g1", FILES[:1], Profile()),
        ("g1", FILES[::-1], Profile()),
        ("g1", FILES, Profile(quality=70)),
    ],
)
def test_another_event_is_another_task(owner, files, profile):
    assert task_id_for(owner, files, profile) != job().task_id


def test_a_job_survives_its_json():
    assert Job.model_validate_json(job().model_dump_json()) == job()


def test_unknown_fields_of_a_newer_writer_are_ignored():
    body = job().model_dump_json()[:-1] + ',"mood":"good"}'
    assert Job.model_validate_json(body) == job()


def test_only_keeps_the_task():
    kept = job().only(["b"])
    assert [file.position for file in kept.files] == [1]
    assert (kept.task_id, kept.total_files) == (job().task_id, 2)


def test_quality_is_bounded():
    with pytest.raises(ValidationError, match="quality"):
        Profile(quality=101)
