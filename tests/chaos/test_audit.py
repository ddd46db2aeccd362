"""The audit reports every planted deviation, and nothing for a clean observation."""

from dataclasses import replace
from itertools import chain
from typing import get_args

import pytest

from tests.chaos.audit import FindingKind, ObservedDeadLetter, audit
from tests.chaos.clean_observation import SOUND, STORED, USER, clean_observation, object_path, task
from tests.chaos.fingerprint import Fingerprint
from tests.chaos.report import FINDING_GROUPS


@pytest.fixture
def observed():
    return clean_observation()


def kinds(observed):
    return {finding.kind for finding in audit(observed)}


def test_clean_observation_has_no_findings(observed):
    assert audit(observed) == []


def test_every_finding_is_counted_in_the_report():
    assert sorted(chain(*FINDING_GROUPS.values())) == sorted(get_args(FindingKind))


def test_missing_object_is_lost(observed):
    served = {name: fingerprint for name, fingerprint in observed.served.items() if name != object_path(SOUND)}
    left = observed.on_disk - {object_path(SOUND)}
    assert kinds(replace(observed, served=served, on_disk=left, in_storage=left)) == {"lost"}


def test_unreferenced_object_is_an_orphan(observed):
    more = observed.on_disk | {"generations/user/ff/ffff.png"}
    assert kinds(replace(observed, on_disk=more, in_storage=more)) == {"orphan"}


def test_bytes_without_a_storage_row_are_wrong(observed):
    assert kinds(replace(observed, in_storage=observed.in_storage - {object_path(SOUND)})) == {"wrong"}


def test_bytes_other_than_recorded_are_wrong(observed):
    assert kinds(replace(observed, served=dict(observed.served) | {object_path(SOUND): Fingerprint("d" * 64)})) == {
        "wrong"
    }


def test_other_picture_than_sent_is_wrong(observed):
    assert kinds(replace(observed, expected=dict(observed.expected) | {"p.png": Fingerprint("a" * 64, (8, 7, 1))})) == {
        "wrong"
    }


def test_file_that_was_not_stored_is_lost(observed):
    observed.rows["one"]["media"][1] = {"status": "failed"}
    objects, left = [observed.objects[0]], {object_path(STORED)}
    found = replace(
        observed, files=[observed.files[0], observed.files[2]], objects=objects, on_disk=left, in_storage=left
    )
    assert kinds(found) == {"lost"}


def test_media_in_another_order_is_wrong(observed):
    observed.rows["one"]["media"].reverse()
    assert kinds(observed) == {"wrong"}


def test_outdated_media_status_is_wrong(observed):
    observed.rows["one"]["media_status"] = "pending"
    assert kinds(observed) == {"wrong"}


def test_generation_without_a_task_is_lost(observed):
    assert "lost" in kinds(replace(observed, tasks=observed.tasks[1:]))


def test_generation_with_two_tasks_is_stored_twice(observed):
    assert "twice" in kinds(replace(observed, tasks=[*observed.tasks, task("one", "completed")]))


def test_one_content_in_two_objects_is_stored_twice(observed):
    other = f"generations/{USER}/bb/other.x"
    files = [*observed.files[:2], dict(observed.files[2]) | {"path": other.partition("/")[2]}]
    observed.rows["two"]["media"][0] = files[2] | {"status": "stored"}
    objects = [dict(observed.objects[0]) | {"refs": 1}, observed.objects[1]]
    objects.append(objects[0] | {"path": other.partition("/")[2]})
    more = observed.on_disk | {other}
    served = dict(observed.served) | {other: STORED}
    found = replace(observed, files=files, objects=objects, served=served, on_disk=more, in_storage=more)
    assert kinds(found) == {"twice"}


def test_wrong_reference_count_is_wrong(observed):
    assert kinds(replace(observed, objects=[dict(observed.objects[0]) | {"refs": 1}, observed.objects[1]])) == {"wrong"}


@pytest.mark.parametrize("code", ["source_unavailable", "worker_killed"])
def test_dead_letter_with_another_code_is_a_wrong_reason(observed, code):
    assert kinds(
        replace(observed, dead_letters=[replace(observed.dead_letters[0], code=code), observed.dead_letters[1]])
    ) == {"reason"}


def test_missing_dead_letter_is_a_wrong_reason(observed):
    assert kinds(replace(observed, dead_letters=observed.dead_letters[:1])) == {"reason"}


def test_dead_letter_about_a_good_file_is_a_wrong_reason(observed):
    dead_letter = ObservedDeadLetter("task of one", "storage_unavailable", ("http://s/p.png",))
    assert kinds(replace(observed, dead_letters=[*observed.dead_letters, dead_letter])) == {"reason"}


def test_duplicate_dead_letter_is_accepted(observed):
    assert audit(replace(observed, dead_letters=[*observed.dead_letters, observed.dead_letters[0]])) == []


def test_task_with_another_error_code_is_a_wrong_reason(observed):
    tasks = [*observed.tasks[:2], task("three", "failed", [(0, "corrupted")])]
    assert kinds(replace(observed, tasks=tasks)) == {"reason"}


@pytest.mark.parametrize("status", ["queued", "running", "retrying"])
def test_task_that_has_not_ended_is_unfinished(observed, status):
    assert kinds(replace(observed, tasks=[task("one", status), *observed.tasks[1:]])) == {"unfinished"}


@pytest.mark.parametrize(
    "left",
    [
        {"temp": ["outlast-0123"]},
        {"undeclared_queues": ["amq.gen-x"]},
        {"processes": ["1 of session 1"]},
        {"waiting": {"outlast.retry.1": 1}},
        {"exit_errors": ["worker-1 ended with -9 after SIGTERM"]},
    ],
)
def test_leftover_is_reported(observed, left):
    assert kinds(replace(observed, **left)) == {"leftover"}


def test_worker_without_a_control_queue_is_reported(observed):
    assert kinds(replace(observed, listening=1)) == {"not_listening"}


def test_traceback_in_a_log_is_reported(observed):
    assert kinds(replace(observed, tracebacks=["worker-1.log: Traceback"])) == {"traceback"}
