import asyncio

import pytest

from handlers.errors import StorageUnavailableError
from tests.time_limits import WAIT_SECONDS
from worker.consume import circuit as module
from worker.consume.circuit import TRIPS, Circuit, Dependency
from worker.observability.metrics import Metrics

CODE = "storage_unavailable"


class Probe:
    """A dependency as its probe sees it."""

    def __init__(self, *, away=False):
        self.away = away
        self.asked = 0

    async def __call__(self):
        self.asked += 1
        if self.away:
            raise StorageUnavailableError("no answer")


class Taps:
    """Whether jobs are taken."""

    def __init__(self):
        self.open = True

    async def pause(self):
        self.open = False

    async def resume(self):
        self.open = True


@pytest.fixture
def probe():
    return Probe()


@pytest.fixture
async def taps():
    return Taps()


@pytest.fixture
async def circuit(probe, taps, monkeypatch):
    monkeypatch.setattr(module, "FIRST_PAUSE_SECONDS", 0.01)
    made = Circuit([Dependency("storage", CODE, probe, pause=0.01)], Metrics("test"))
    watching = asyncio.create_task(made.watch(taps.pause, taps.resume))
    yield made
    watching.cancel()


async def until(condition):
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_failure_that_the_probe_does_not_confirm_is_the_jobs_own(circuit, taps, probe):
    assert not await circuit.is_outage(CODE)
    assert probe.asked == 1
    assert circuit.problem("storage") is None
    assert taps.open


async def test_an_outage_is_nobodys_fault_and_pauses_until_it_is_over(circuit, taps, probe):
    probe.away = True
    assert await circuit.is_outage(CODE)
    assert await circuit.is_outage(CODE)
    await until(lambda: not taps.open)
    assert "no answer" in circuit.problem("storage")
    probe.away = False
    await until(lambda: taps.open)
    assert circuit.problem("storage") is None


async def test_other_failures_are_none_of_its_business(circuit, probe):
    probe.away = True
    assert not await circuit.is_outage("source_unavailable")
    assert probe.asked == 0


async def test_failures_in_a_row_open_it_though_the_probe_succeeds(circuit, taps):
    for _ in range(TRIPS):
        assert not await circuit.is_outage(CODE)
    assert "in a row" in circuit.problem("storage")
    await until(lambda: not taps.open)


async def test_a_success_in_between_starts_the_count_anew(circuit):
    for _ in range(3 * TRIPS):
        assert not await circuit.is_outage(CODE)
        circuit.record_success(CODE)
    assert circuit.problem("storage") is None


async def test_after_a_pause_one_failure_counts_and_opens_it_again(circuit, taps):
    for _ in range(TRIPS):
        await circuit.is_outage(CODE)
    await until(lambda: not taps.open)
    await until(lambda: taps.open)
    assert not await circuit.is_outage(CODE), "the trial pays, so that a job which is the trouble comes to an end"
    assert circuit.problem("storage") is not None
    assert await circuit.is_outage(CODE), "the others do not"


async def test_many_at_once_ask_once(circuit, probe):
    probe.away = True
    assert all(await asyncio.gather(*(circuit.is_outage(CODE) for _ in range(20))))
    assert probe.asked == 1


async def test_a_probe_that_hangs_is_an_outage(circuit, probe, monkeypatch):
    monkeypatch.setattr(module, "PROBE_SECONDS", 0.05)

    async def hang(_self):
        await asyncio.sleep(60)

    monkeypatch.setattr(Probe, "__call__", hang)
    assert await circuit.is_outage(CODE)
    assert "0.05 s" in circuit.problem("storage")
    assert probe.asked == 0
