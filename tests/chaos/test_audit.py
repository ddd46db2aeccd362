"""The auditor bites: what is planted is found, and nothing is found where nothing is."""

from dataclasses import replace

import pytest

from tests.chaos.audit import ObservedDeadLetter, audit
from tests.chaos.clean_observation import SOUND, STORED, USER, clean_observation, object_path, task
from tests.chaos.fingerprint import Fingerprint


@pytest.fixture
def observed():
    return clean_observation()


def kinds(observed):
    return {finding.kind for finding in audit(observed)}


def test_where_all_is_well_nothing_is_found(observed):
    assert audit(observed) == []


def test_a_missing_object(observed):
    served = {name: fingerprint for name, fingerprint in observed.served.items() if name != object_path(SOUND)}
    left = observed.on_disk - {object_path(SOUND)}
    assert kinds(replace(observed, served=served, on_disk=left, in_storage=left)) == {"lost"}


def test_an_object_nobody_names(observed):
    more = observed.on_disk | {"generations/user/ff/ffff.png"}
    assert kinds(replace(observed, on_disk=more, in_storage=more)) == {"orphan"}


def test_bytes_without_a_row_in_storage(observed):
    assert kinds(replace(observed, in_storage=observed.in_storage - {object_path(SOUND)})) == {"wrong"}


def test_other_bytes_than_recorded(observed):
    assert kinds(replace(observed, served=dict(observed.served) | {object_path(SOUND): Fingerprint("d" * 64)})) == {
        "wrong"
    }


def test_another_picture_than_was_sent(observed):
    assert kinds(replace(observed, expected=dict(observed.expected) | {"p.png": Fingerprint("a" * 64, (8, 7, 1))})) == {
        "wrong"
    }


def test_a_file_that_was_not_stored(observed):
    observed.rows["one"]["media"].pop()
    objects, left = [observed.objects[0]], {object_path(STORED)}
    found = replace(
        observed, files=[observed.files[0], observed.files[2]], objects=objects, on_disk=left, in_storage=left
    )
    assert kinds(found) == {"lost"}


def test_media_in_another_order(observed):
    observed.rows["one"]["media"].reverse()
    assert kinds(observed) == {"wrong"}


def test_media_status_that_lags_behind(observed):
    observed.rows["one"]["media_status"] = "pending"
    assert kinds(observed) == {"wrong"}


def test_a_generation_nobody_heard_of(observed):
    assert "lost" in kinds(replace(observed, tasks=observed.tasks[1:]))


def test_a_generation_with_two_tasks(observed):
    assert "twice" in kinds(replace(observed, tasks=[*observed.tasks, task("one", "completed")]))


def test_one_content_in_two_places(observed):
    other = f"generations/{USER}/bb/other.x"
    files = [*observed.files[:2], dict(observed.files[2]) | {"path": other.partition("/")[2]}]
    observed.rows["two"]["media"] = [files[2]]
    objects = [dict(observed.objects[0]) | {"refs": 1}, observed.objects[1]]
    objects.append(objects[0] | {"path": other.partition("/")[2]})
    more = observed.on_disk | {other}
    served = dict(observed.served) | {other: STORED}
    found = replace(observed, files=files, objects=objects, served=served, on_disk=more, in_storage=more)
    assert kinds(found) == {"twice"}


def test_references_that_do_not_count_up(observed):
    assert kinds(replace(observed, objects=[dict(observed.objects[0]) | {"refs": 1}, observed.objects[1]])) == {"wrong"}


@pytest.mark.parametrize("code", ["source_unavailable", "worker_killed"])
def test_a_letter_with_another_code(observed, code):
    assert kinds(
        replace(observed, dead_letters=[replace(observed.dead_letters[0], code=code), observed.dead_letters[1]])
    ) == {"reason"}


def test_a_letter_that_is_missing(observed):
    assert kinds(replace(observed, dead_letters=observed.dead_letters[:1])) == {"reason"}


def test_a_letter_about_a_file_that_is_good(observed):
    dead_letter = ObservedDeadLetter("task of one", "storage_unavailable", ("http://s/p.png",))
    assert kinds(replace(observed, dead_letters=[*observed.dead_letters, dead_letter])) == {"reason"}


def test_the_same_letter_twice_is_no_harm(observed):
    assert audit(replace(observed, dead_letters=[*observed.dead_letters, observed.dead_letters[0]])) == []


def test_a_task_that_tells_another_reason(observed):
    tasks = [*observed.tasks[:2], task("three", "failed", [(0, "corrupted")])]
    assert kinds(replace(observed, tasks=tasks)) == {"reason"}


@pytest.mark.parametrize("status", ["queued", "running", "retrying"])
def test_a_task_that_has_not_ended(observed, status):
    assert kinds(replace(observed, tasks=[task("one", status), *observed.tasks[1:]])) == {"unfinished"}


@pytest.mark.parametrize(
    "left",
    [
        {"temp": ["outlast-0123"]},
        {"strange_queues": ["amq.gen-x"]},
        {"processes": ["1 of session 1"]},
        {"waiting": {"outlast.retry.1": 1}},
        {"bad_ends": ["worker-1 ended with -9 after SIGTERM"]},
    ],
)
def test_what_was_left_behind(observed, left):
    assert kinds(replace(observed, **left)) == {"leftover"}


def test_a_worker_that_hears_nothing_any_more(observed):
    assert kinds(replace(observed, listening=1)) == {"deaf"}
