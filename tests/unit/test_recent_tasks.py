"""A worker knows the tasks that it has seen lately, and forgets the oldest."""

from uuid import uuid4

from worker.consume.context import MAX_RECENT_TASKS, RecentTasks


def test_a_task_is_new_once():
    recent, task = RecentTasks(), uuid4()
    assert [recent.add(task), recent.add(task), recent.add(uuid4())] == [True, False, True]


def test_the_oldest_tasks_are_forgotten():
    recent, first, last = RecentTasks(), uuid4(), uuid4()
    for task in (first, *(uuid4() for _ in range(MAX_RECENT_TASKS - 1)), last):
        assert recent.add(task)
    assert not recent.add(last)
    assert recent.add(first)
