"""The auditor bites: what is planted is found, and nothing is found where nothing is."""

from dataclasses import replace

import pytest

from tests.chaos.good_end import SOUND, STORED, USER, good_end, place, task
from tests.chaos.judge import Letter, judge
from tests.chaos.looks import Look


@pytest.fixture
def seen():
    return good_end()


def kinds(seen):
    return {finding.kind for finding in judge(seen)}


def test_where_all_is_well_nothing_is_found(seen):
    assert judge(seen) == []


def test_a_missing_object(seen):
    served = {name: look for name, look in seen.served.items() if name != place(SOUND)}
    left = seen.on_disk - {place(SOUND)}
    assert kinds(replace(seen, served=served, on_disk=left, in_storage=left)) == {"lost"}


def test_an_object_nobody_names(seen):
    more = seen.on_disk | {"generations/user/ff/ffff.png"}
    assert kinds(replace(seen, on_disk=more, in_storage=more)) == {"orphan"}


def test_bytes_without_a_row_in_storage(seen):
    assert kinds(replace(seen, in_storage=seen.in_storage - {place(SOUND)})) == {"wrong"}


def test_other_bytes_than_recorded(seen):
    assert kinds(replace(seen, served=dict(seen.served) | {place(SOUND): Look("d" * 64)})) == {"wrong"}


def test_another_picture_than_was_sent(seen):
    assert kinds(replace(seen, expected=dict(seen.expected) | {"p.png": Look("a" * 64, (8, 7, 1))})) == {"wrong"}


def test_a_file_that_was_not_stored(seen):
    seen.rows["one"]["media"].pop()
    objects, left = [seen.objects[0]], {place(STORED)}
    found = replace(seen, files=[seen.files[0], seen.files[2]], objects=objects, on_disk=left, in_storage=left)
    assert kinds(found) == {"lost"}


def test_media_in_another_order(seen):
    seen.rows["one"]["media"].reverse()
    assert kinds(seen) == {"wrong"}


def test_media_status_that_lags_behind(seen):
    seen.rows["one"]["media_status"] = "pending"
    assert kinds(seen) == {"wrong"}


def test_a_generation_nobody_heard_of(seen):
    assert "lost" in kinds(replace(seen, tasks=seen.tasks[1:]))


def test_a_generation_with_two_tasks(seen):
    assert "twice" in kinds(replace(seen, tasks=[*seen.tasks, task("one", "completed")]))


def test_one_content_in_two_places(seen):
    other = f"generations/{USER}/bb/other.x"
    files = [*seen.files[:2], dict(seen.files[2]) | {"path": other.partition("/")[2]}]
    seen.rows["two"]["media"] = [files[2]]
    objects = [dict(seen.objects[0]) | {"refs": 1}, seen.objects[1]]
    objects.append(objects[0] | {"path": other.partition("/")[2]})
    more = seen.on_disk | {other}
    served = dict(seen.served) | {other: STORED}
    found = replace(seen, files=files, objects=objects, served=served, on_disk=more, in_storage=more)
    assert kinds(found) == {"twice"}


def test_references_that_do_not_count_up(seen):
    assert kinds(replace(seen, objects=[dict(seen.objects[0]) | {"refs": 1}, seen.objects[1]])) == {"wrong"}


@pytest.mark.parametrize("code", ["source_unavailable", "worker_killed"])
def test_a_letter_with_another_code(seen, code):
    assert kinds(replace(seen, letters=[replace(seen.letters[0], code=code), seen.letters[1]])) == {"reason"}


def test_a_letter_that_is_missing(seen):
    assert kinds(replace(seen, letters=seen.letters[:1])) == {"reason"}


def test_a_letter_about_a_file_that_is_good(seen):
    letter = Letter("task of one", "storage_unavailable", ("http://s/p.png",))
    assert kinds(replace(seen, letters=[*seen.letters, letter])) == {"reason"}


def test_the_same_letter_twice_is_no_harm(seen):
    assert judge(replace(seen, letters=[*seen.letters, seen.letters[0]])) == []


def test_a_task_that_tells_another_reason(seen):
    tasks = [*seen.tasks[:2], task("three", "failed", [(0, "corrupted")])]
    assert kinds(replace(seen, tasks=tasks)) == {"reason"}


@pytest.mark.parametrize("status", ["queued", "running", "retrying"])
def test_a_task_that_has_not_ended(seen, status):
    assert kinds(replace(seen, tasks=[task("one", status), *seen.tasks[1:]])) == {"unfinished"}


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
def test_what_was_left_behind(seen, left):
    assert kinds(replace(seen, **left)) == {"leftover"}


def test_a_worker_that_hears_nothing_any_more(seen):
    assert kinds(replace(seen, hearing=1)) == {"deaf"}
