"""`Turns`: a capacity that is shared out in turn by user."""

import asyncio

import pytest

from handlers.turns import FIRST, Turns


class Line:
    """Files that wait for their turn. `granted` has the users in the order in which they got a part."""

    def __init__(self, turns):
        self.turns = turns
        self.granted = []
        self.tasks = []

    async def wait(self, user, amount=1):
        await self.turns.acquire(user, amount)
        self.granted.append(user)

    async def add(self, *users, amount=1):
        self.tasks += [asyncio.create_task(self.wait(user, amount)) for user in users]
        await settled()


async def settled():
    """Let every task run until it waits."""
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
async def line():
    lines = []

    def make(*arguments):
        lines.append(Line(Turns(*arguments)))
        return lines[-1]

    yield make
    for waiting in lines:
        for task in waiting.tasks:
            task.cancel()
        await asyncio.gather(*waiting.tasks, return_exceptions=True)


async def test_a_user_with_many_files_waits_one_turn_for_another_user(line):
    files = line(1)
    await files.add("a", "a", "a", "a", "b", "c")
    for _ in range(5):
        files.turns.release(files.granted[-1], 1)
        await settled()
    assert files.granted == ["a", "a", "b", "c", "a", "a"]


async def test_first_comes_before_all_users(line):
    files = line(1)
    await files.add("a", "b", FIRST, FIRST)
    for _ in range(3):
        files.turns.release(files.granted[-1], 1)
        await settled()
    assert files.granted == ["a", FIRST, FIRST, "b"]


async def test_one_user_gets_at_most_the_share(line):
    files = line(4, 2)
    await files.add("a", "a", "a", "a")
    assert files.granted == ["a", "a"]
    await files.add("b")
    assert files.granted == ["a", "a", "b"]
    files.turns.release("a", 1)
    await settled()
    assert files.granted == ["a", "a", "b", "a"]


async def test_files_without_a_user_have_no_share(line):
    files = line(4, 2)
    await files.add(None, None, None, None)
    assert files.granted == [None] * 4


async def test_a_large_part_is_granted_while_the_user_has_nothing_else(line):
    files = line(10, 5)
    await files.add("a", amount=8)
    await files.add("a", amount=1)
    assert files.granted == ["a"]
    files.turns.release("a", 8)
    await settled()
    assert files.granted == ["a", "a"]


async def test_a_part_larger_than_the_capacity_takes_all_of_it(line):
    files = line(10)
    assert await files.turns.acquire("a", 50) == 10
    assert files.turns.free == 0


async def test_a_large_part_is_not_overtaken_by_small_ones(line):
    files = line(10)
    await files.add("a", "b", amount=4)
    await files.add("c", amount=6)
    await files.add("d", amount=1)
    assert files.granted == ["a", "b"]
    files.turns.release("a", 4)
    await settled()
    assert files.granted == ["a", "b", "c"]
    files.turns.release("b", 4)
    await settled()
    assert files.granted == ["a", "b", "c", "d"]


async def test_a_cancelled_file_leaves_the_line_and_lets_the_next_one_in(line):
    files = line(10)
    await files.add("a", amount=5)
    await files.add("b", amount=8)
    await files.add("c", amount=5)
    files.tasks[1].cancel()
    await settled()
    assert files.granted == ["a", "c"]


async def test_a_file_that_is_cancelled_as_a_part_becomes_free_is_passed_over(line):
    files = line(1)
    await files.add("a", "b", "b", "c")
    files.tasks[1].cancel()
    files.turns.release("a", 1)  # before the cancelled task runs
    await settled()
    assert files.granted == ["a", "b"]
    files.turns.release("b", 1)
    await settled()
    assert files.granted == ["a", "b", "c"]
    assert files.turns.waiting == 0


async def test_a_part_granted_to_a_file_that_is_cancelled_at_once_is_given_back(line):
    files = line(1)
    await files.add("a", "b")
    files.turns.release("a", 1)  # grants it to "b", whose task has not run yet
    files.tasks[1].cancel()
    await settled()
    assert files.granted == ["a"]
    assert files.turns.free == 1


async def test_the_context_gives_back_what_it_took_also_after_an_error():
    turns = Turns(3)

    async def fail():
        async with turns.take("a", 2):
            assert turns.free == 1
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        await fail()
    assert turns.free == 3
