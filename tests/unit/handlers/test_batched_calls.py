"""Calls wait while requests are pending or files wait for a codec, and then go together. The database is scripted."""

import asyncio
import json
from collections import Counter
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from handlers.database import batched_calls
from handlers.database.batched_calls import BATCH_CALLS, BATCH_FROM_PENDING, MAX_CALL_BYTES, BatchedCalls
from handlers.errors import DatabaseUnavailableError, RowRejectedError
from handlers.observer import Observer
from tests.time_limits import WAIT_SECONDS


class Database:
    """Records requests, as (function, arguments); each waits for `release`. Stands for RpcClient."""

    def __init__(self):
        self.requests = []
        self.answer_many = lambda calls: (200, [{"result": call["n"]} for call in calls])
        self.refused = {}  # errors of single calls by number
        self._open = asyncio.Event()
        self._ends = asyncio.Condition()

    def release(self):
        """Let requests end, also those that come later."""
        self._open.set()

    def hold(self):
        self._open.clear()

    async def send(self, function, body):
        call = json.loads(body)
        self.requests.append((function, call))
        await self._open.wait()
        if call["n"] in self.refused:
            raise self.refused[call["n"]]
        return call["n"]

    async def request(self, function, body):
        arguments = json.loads(body)
        self.requests.append((function, arguments))
        await self._open.wait()
        answer = self.answer_many(arguments["p_calls"])
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def batches(self):
        """The requests for several calls: the function and the numbers of the calls."""
        return [
            (arguments["p_function"], [call["n"] for call in arguments["p_calls"]])
            for function, arguments in self.requests
            if function == "outlast_many"
        ]

    @property
    def singles(self):
        """The numbers of the calls that were sent alone, in order."""
        return [arguments["n"] for function, arguments in self.requests if function != "outlast_many"]


class Counts(Observer):
    def __init__(self):
        self.requests = Counter()

    def called(self, calls):
        self.requests[calls] += 1


@pytest.fixture
def database():
    return Database()


@pytest.fixture
def counts():
    return Counts()


@pytest.fixture
def waiting_files():
    """Set `exist` to let files wait for a codec process."""
    return SimpleNamespace(exist=False)


@pytest.fixture
async def calls(database, counts, waiting_files, monkeypatch):
    """However slow this machine is, no request takes long, unless a test says so."""
    for name in ("WAIT_SECONDS", "BUSY_WAIT_SECONDS", "SLOW_SECONDS"):
        monkeypatch.setattr(batched_calls, name, 3600.0)
    created = BatchedCalls(database, counts, lambda: waiting_files.exist)
    yield created
    await created.aclose()


async def start(calls, numbers, function="outlast_claim", user="user {}"):
    """Start a call for each number; return the tasks when all have been sent or wait."""
    users = [user.format(f"{number:03}") for number in numbers]
    tasks = [
        asyncio.create_task(calls.call(function, {"n": number}, user))
        for number, user in zip(numbers, users, strict=True)
    ]
    await asyncio.sleep(0)
    return tasks


async def fill(calls):
    """Make BATCH_FROM_PENDING requests pending, with calls whose numbers are negative."""
    return await start(calls, [-n for n in range(1, BATCH_FROM_PENDING + 1)])


def free_all(calls):
    """Stop counting all requests, as when they take long."""
    for request in list(calls._pending._timers):
        calls._pending.end(request)


async def test_a_call_while_few_requests_are_pending_is_sent_at_once_and_alone(calls, database, counts):
    tasks = await start(calls, range(BATCH_FROM_PENDING))
    assert database.singles == list(range(BATCH_FROM_PENDING))
    database.release()
    assert await asyncio.gather(*tasks) == list(range(BATCH_FROM_PENDING))
    assert (database.batches, counts.requests) == ([], {1: BATCH_FROM_PENDING})


async def test_waiting_calls_go_together_in_the_order_of_users(calls, database, counts):
    await fill(calls)
    tasks = await start(calls, [3, 1, 2])
    assert len(database.singles) == BATCH_FROM_PENDING
    database.release()
    assert await asyncio.gather(*tasks) == [3, 1, 2]
    assert database.batches == [("outlast_claim", [1, 2, 3])]
    assert counts.requests == {1: BATCH_FROM_PENDING, 3: 1}


async def test_a_single_waiting_call_goes_as_a_plain_call(calls, database):
    await fill(calls)
    tasks = await start(calls, [1])
    database.release()
    assert await asyncio.gather(*tasks) == [1]
    assert (database.batches, database.singles[-1]) == ([], 1)


async def test_a_batch_has_calls_of_one_function_and_the_oldest_go_first(calls, database):
    await fill(calls)
    tasks = await start(calls, [1, 2], "outlast_finish")
    tasks += await start(calls, [3, 4], "outlast_begin")
    tasks += await start(calls, [5], "outlast_finish")
    database.release()
    assert await asyncio.gather(*tasks) == [1, 2, 3, 4, 5]
    assert database.batches == [("outlast_finish", [1, 2, 5]), ("outlast_begin", [3, 4])]


async def test_a_full_batch_does_not_wait(calls, database):
    await fill(calls)
    tasks = await start(calls, range(BATCH_CALLS + 2))
    assert database.singles[BATCH_FROM_PENDING:] == []
    await asyncio.sleep(0)
    assert database.batches == [("outlast_claim", list(range(BATCH_CALLS)))]
    database.release()
    assert await asyncio.gather(*tasks) == list(range(BATCH_CALLS + 2))
    assert [len(numbers) for _, numbers in database.batches] == [BATCH_CALLS, 2]


async def test_calls_that_wait_are_not_overtaken(calls, database):
    first, *others = await fill(calls)
    tasks = await start(calls, [1])
    first.cancel()
    await asyncio.wait([first])
    tasks += await start(calls, [2])
    assert database.singles[BATCH_FROM_PENDING:] == []
    database.release()
    assert await asyncio.gather(*others, *tasks) == [-2, -3, -4, 1, 2]
    assert database.batches == [("outlast_claim", [1, 2])]


async def test_a_second_call_of_a_user_does_not_wait(calls, database):
    await fill(calls)
    await start(calls, [1, 2], user="Same")
    await start(calls, [3], user="same ")  # the database compares users so
    assert database.singles[BATCH_FROM_PENDING:] == [2, 3]
    await start(calls, [4], "outlast_finish", user="same")
    assert database.singles[BATCH_FROM_PENDING:] == [2, 3]


async def test_calls_that_only_read_go_together_for_one_user_or_none(calls, database):
    await fill(calls)
    tasks = await start(calls, [1, 2], "outlast_known", user="same")
    tasks += [asyncio.create_task(calls.call("outlast_known", {"n": 3}, None))]
    await asyncio.sleep(0)
    database.release()
    assert await asyncio.gather(*tasks) == [1, 2, 3]
    [(function, numbers)] = database.batches
    assert (function, sorted(numbers)) == ("outlast_known", [1, 2, 3])


async def test_calls_of_an_unknown_user_and_large_calls_are_sent_alone(calls, database):
    await fill(calls)
    large = {"n": 2, "text": "x" * MAX_CALL_BYTES}
    others = [calls.call("outlast_begin", {"n": 1}, None), calls.call("outlast_finish", large, "user")]
    tasks = [asyncio.create_task(other) for other in others]
    await asyncio.sleep(0)
    assert database.singles[BATCH_FROM_PENDING:] == [1, 2]
    database.release()
    assert await asyncio.gather(*tasks) == [1, 2]


async def test_no_call_waits_long_while_requests_are_under_way(calls, database, monkeypatch):
    await fill(calls)
    monkeypatch.setattr(batched_calls, "WAIT_SECONDS", 0.0)
    await start(calls, [1, 2])
    await start(calls, [3], "outlast_finish")
    while len(database.batches) + len(database.singles) < BATCH_FROM_PENDING + 2:
        await asyncio.sleep(0)
    assert (database.batches, database.singles[BATCH_FROM_PENDING:]) == ([("outlast_claim", [1, 2])], [3])


async def test_a_request_that_takes_long_does_not_count_as_under_way(database, monkeypatch):
    monkeypatch.setattr(batched_calls, "WAIT_SECONDS", 0.0)
    calls = BatchedCalls(database, Observer(), lambda: False)
    await fill(calls)
    while len(calls._pending):
        await asyncio.sleep(0)
    await start(calls, [1])
    assert database.singles[BATCH_FROM_PENDING:] == [1]


async def test_while_files_wait_for_a_codec_all_calls_wait_also_if_no_request_is_under_way(
    calls, database, waiting_files
):
    waiting_files.exist = True
    tasks = await start(calls, range(BATCH_CALLS - 1))
    assert database.requests == []
    tasks += await start(calls, [BATCH_CALLS - 1])
    database.release()
    assert await asyncio.gather(*tasks) == list(range(BATCH_CALLS))
    assert database.batches == [("outlast_claim", list(range(BATCH_CALLS)))]


async def test_a_request_that_ends_sends_no_calls_while_files_wait_for_a_codec(calls, database, waiting_files):
    [first] = await start(calls, [-1])
    waiting_files.exist = True
    tasks = await start(calls, [0, 1])
    database.release()
    await first
    assert database.batches == []
    tasks += await start(calls, range(2, BATCH_CALLS))
    assert await asyncio.gather(*tasks) == list(range(BATCH_CALLS))


async def test_no_call_waits_long_while_files_wait_for_a_codec(calls, database, waiting_files, monkeypatch):
    monkeypatch.setattr(batched_calls, "BUSY_WAIT_SECONDS", 0.0)
    waiting_files.exist = True
    database.release()
    assert await asyncio.gather(*await start(calls, [1, 2])) == [1, 2]
    assert database.batches == [("outlast_claim", [1, 2])]


async def test_a_failed_call_is_sent_alone_and_so_are_the_next_of_its_user(calls, database):
    database.answer_many = lambda calls: (
        200,
        [{"code": "P0001", "message": "no"} if call["n"] == 2 else {"result": call["n"]} for call in calls],
    )
    database.refused[2] = RowRejectedError("no")
    await fill(calls)
    tasks = await start(calls, [1, 2, 3])
    database.release()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert (results[0], type(results[1]), results[2]) == (1, RowRejectedError, 3)
    assert database.singles[BATCH_FROM_PENDING:] == [2]
    database.hold()
    await fill(calls)
    await start(calls, [2, 3])
    assert database.singles[-1] == 2


async def test_calls_after_a_slow_one_are_sent_alone_and_so_are_the_next_of_its_user(calls, database):
    database.answer_many = lambda calls: (200, [{"result": call["n"]} for call in calls[:2]])
    await fill(calls)
    tasks = await start(calls, [1, 2, 3, 4])
    database.release()
    assert await asyncio.gather(*tasks) == [1, 2, 3, 4]
    assert sorted(database.singles[BATCH_FROM_PENDING:]) == [3, 4]
    database.hold()
    await fill(calls)
    await start(calls, [1, 2, 3])
    assert database.singles[-1] == 2


@pytest.mark.parametrize(("seconds", "sent"), [(3600.0, [1]), (-1.0, [])])
async def test_calls_of_a_user_whose_call_was_slow_go_alone_for_a_while(calls, database, monkeypatch, seconds, sent):
    monkeypatch.setattr(batched_calls, "ALONE_SECONDS", seconds)
    monkeypatch.setattr(batched_calls, "SLOW_SECONDS", -1.0)
    database.release()
    assert await asyncio.gather(*await start(calls, [1])) == [1]
    monkeypatch.setattr(batched_calls, "SLOW_SECONDS", 3600.0)
    database.hold()
    await fill(calls)
    await start(calls, [1, 2])
    assert database.singles[1 + BATCH_FROM_PENDING :] == sent


@pytest.mark.parametrize(("status", "code"), [(500, "57014"), (409, "23505"), (400, "PGRST102")])
async def test_if_a_batch_is_refused_each_call_is_sent_once_more_alone(calls, database, status, code):
    database.answer_many = lambda _: (status, {"code": code, "message": "no"})
    database.refused[2] = DatabaseUnavailableError("still no")
    await fill(calls)
    tasks = await start(calls, [1, 2, 3])
    database.release()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert (results[0], str(results[1]), results[2]) == (1, "still no", 3)
    assert database.singles[BATCH_FROM_PENDING:] == [1, 2, 3]
    assert len(database.batches) == 1


@pytest.mark.parametrize(
    "answer",
    [
        DatabaseUnavailableError("outlast_many: the server closed the connection"),
        (503, {"code": "PGRST001", "message": "Database client error"}),
        (200, {"message": "not of the database"}),
    ],
)
async def test_without_an_answer_each_call_raises_its_own_error_and_none_is_repeated(calls, database, answer):
    database.answer_many = lambda _: answer
    await fill(calls)
    tasks = await start(calls, [1, 2, 3])
    database.release()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(result) for result in results} == {DatabaseUnavailableError}
    assert all("outlast_claim" in str(result) for result in results)
    assert len({id(result) for result in results}) == 3
    assert len(database.requests) == BATCH_FROM_PENDING + 1


async def test_a_database_without_outlast_many_gets_plain_calls_and_that_is_logged_once(calls, database):
    database.answer_many = lambda _: (404, {"code": "PGRST202", "message": "Could not find the function"})
    with capture_logs() as logs:
        await fill(calls)
        tasks = await start(calls, [1, 2])
        tasks += await start(calls, [3, 4], "outlast_finish")  # the next batch, which is not sent any more
        database.release()
        assert await asyncio.gather(*tasks) == [1, 2, 3, 4]
        database.hold()
        await fill(calls)
        tasks = await start(calls, [1, 2])
        assert database.singles[-2:] == [1, 2]
        database.release()
        assert await asyncio.gather(*tasks) == [1, 2]
    assert len(database.batches) == 1
    assert [entry["log_level"] for entry in logs] == ["warning"]


async def test_calls_go_together_once_the_database_has_outlast_many(calls, database, monkeypatch):
    monkeypatch.setattr(batched_calls, "UNSUPPORTED_SECONDS", -1.0)
    answer, database.answer_many = database.answer_many, lambda _: (404, {"code": "PGRST202", "message": "unknown"})
    with capture_logs() as logs:
        for numbers in ([1, 2], [3, 4]):
            database.hold()
            await fill(calls)
            tasks = await start(calls, numbers)
            database.release()
            assert await asyncio.gather(*tasks) == numbers
    assert len(logs) == 1
    database.answer_many = answer
    database.hold()
    await fill(calls)
    tasks = await start(calls, [5, 6])
    database.release()
    assert await asyncio.gather(*tasks) == [5, 6]
    assert database.batches == [("outlast_claim", numbers) for numbers in ([1, 2], [3, 4], [5, 6])]
    assert database.singles[-1] < 5


async def test_a_cancelled_waiting_call_is_not_sent_and_the_others_are(calls, database):
    await fill(calls)
    tasks = await start(calls, [1, 2, 3])
    tasks[1].cancel()
    await asyncio.wait([tasks[1]])
    database.release()
    assert await asyncio.gather(tasks[0], tasks[2]) == [1, 3]
    assert database.batches == [("outlast_claim", [1, 3])]


async def test_if_a_caller_is_cancelled_while_its_batch_is_under_way_the_others_are_answered(calls, database):
    await fill(calls)
    tasks = await start(calls, [1, 2])
    free_all(calls)
    while not database.batches:
        await asyncio.sleep(0)
    tasks[0].cancel()
    await asyncio.wait([tasks[0]])
    database.release()
    assert await tasks[1] == 2


async def test_cancelled_calls_are_no_longer_pending(calls, database):
    filled = await fill(calls)
    await start(calls, [1])
    for task in filled:
        task.cancel()
    await asyncio.wait(filled)
    while database.singles[-1] != 1:
        await asyncio.sleep(0)


async def test_closing_fails_calls_that_wait_and_batches_under_way(calls, database):
    await fill(calls)
    under_way = await start(calls, [1, 2])
    free_all(calls)
    while not database.batches:
        await asyncio.sleep(0)
    await fill(calls)
    waiting = await start(calls, [3, 4])
    assert 3 not in database.singles
    await calls.aclose()
    results = await asyncio.gather(*under_way, *waiting, return_exceptions=True)
    assert [str(result) for result in results] == ["the connection to Supabase was closed"] * 4
    database.release()
    assert await asyncio.gather(*await start(calls, [5])) == [5]


async def test_closing_fails_the_calls_of_a_batch_that_has_not_begun(calls, database):
    await fill(calls)
    tasks = await start(calls, range(BATCH_CALLS))
    assert database.batches == []
    await calls.aclose()
    results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), WAIT_SECONDS)
    assert [str(result) for result in results] == ["the connection to Supabase was closed"] * BATCH_CALLS
