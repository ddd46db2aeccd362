"""A worker knows the tasks and sources that it has seen lately, and forgets the oldest."""

from uuid import uuid4

from worker.consume.context import MAX_RECENT, Recent


def test_a_task_is_new_once():
    recent, task = Recent(), uuid4()
    assert [recent.add(task), recent.add(task), recent.add(uuid4())] == [True, False, True]


def test_the_oldest_tasks_are_forgotten():
    recent, first, last = Recent(), uuid4(), uuid4()
    for task in (first, *(uuid4() for _ in range(MAX_RECENT - 1)), last):
        assert recent.add(task)
    assert not recent.add(last)
    assert recent.add(first)
