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


def test_the_same_event_has_the_same_task_id():
    assert task_id_for("g1", FILES, Profile()) == task_id_for("g1", FILES, Profile())
    # A fixed value, because a change of the derivation would run every unfinished task a second time.
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
def test_another_event_has_another_task_id(owner, files, profile):
    assert task_id_for(owner, files, profile) != job().task_id


def test_a_job_is_equal_after_a_json_round_trip():
    assert Job.model_validate_json(job().model_dump_json()) == job()


def test_unknown_fields_are_ignored():
    body = job().model_dump_json()[:-1] + ',"unknown":"field"}'
    assert Job.model_validate_json(body) == job()


def test_only_selects_files_and_keeps_the_task():
    selected = job().limited_to(["b"])
    assert [file.position for file in selected.files] == [1]
    assert (selected.task_id, selected.total_files) == (job().task_id, 2)


def test_quality_above_100_is_refused():
    with pytest.raises(ValidationError, match="quality"):
        Profile(quality=101)
