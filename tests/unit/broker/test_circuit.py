import asyncio

import pytest

from handlers.errors import StorageUnavailableError
from tests.time_limits import WAIT_SECONDS
from worker.consume import circuit as module
from worker.consume.circuit import FAILURES_TO_OPEN, Circuit, Dependency
from worker.observability.metrics import Metrics

CODE = "storage_unavailable"


class Probe:
    """The probe of a dependency that can be `down`."""

    def __init__(self):
        self.down = False
        self.calls = 0

    async def __call__(self):
        self.calls += 1
        if self.down:
            raise StorageUnavailableError("no answer")


class Consumers:
    """Records whether consumers run."""

    def __init__(self):
        self.running = True

    async def pause(self):
        self.running = False

    async def resume(self):
        self.running = True


@pytest.fixture
def probe():
    return Probe()


@pytest.fixture
async def consumers():
    return Consumers()


@pytest.fixture
async def circuit(probe, consumers, monkeypatch):
    monkeypatch.setattr(module, "FIRST_PAUSE_SECONDS", 0.01)
    made = Circuit([Dependency("storage", CODE, probe, pause=0.01)], Metrics("test"))
    watching = asyncio.create_task(made.watch(consumers.pause, consumers.resume))
    yield made
    watching.cancel()


async def until(condition):
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_failure_is_the_jobs_own_when_the_probe_succeeds(circuit, consumers, probe):
    assert not await circuit.record_failure(CODE)
    assert probe.calls == 1
    assert circuit.problem("storage") is None
    assert consumers.running


async def test_an_outage_pauses_consumers_until_the_probe_succeeds(circuit, consumers, probe):
    probe.down = True
    assert await circuit.record_failure(CODE)
    assert await circuit.record_failure(CODE)
    await until(lambda: not consumers.running)
    assert "no answer" in circuit.problem("storage")
    probe.down = False
    await until(lambda: consumers.running)
    assert circuit.problem("storage") is None


async def test_failures_with_other_codes_are_not_probed(circuit, probe):
    probe.down = True
    assert not await circuit.record_failure("source_unavailable")
    assert probe.calls == 0


async def test_consecutive_failures_open_the_circuit_although_the_probe_succeeds(circuit, consumers):
    for _ in range(FAILURES_TO_OPEN):
        assert not await circuit.record_failure(CODE)
    assert "in a row" in circuit.problem("storage")
    await until(lambda: not consumers.running)


async def test_a_success_resets_the_count_of_failures(circuit):
    for _ in range(3 * FAILURES_TO_OPEN):
        assert not await circuit.record_failure(CODE)
        circuit.record_success(CODE)
    assert circuit.problem("storage") is None


async def test_after_a_pause_the_first_failure_counts_as_an_attempt_and_opens_the_circuit(circuit, consumers):
    for _ in range(FAILURES_TO_OPEN):
        await circuit.record_failure(CODE)
    await until(lambda: not consumers.running)
    await until(lambda: consumers.running)
    assert not await circuit.record_failure(CODE), "it counts, so that a job that causes the failure ends"
    assert circuit.problem("storage") is not None
    assert await circuit.record_failure(CODE), "further failures do not count"


async def test_concurrent_failures_share_one_probe(circuit, probe):
    probe.down = True
    assert all(await asyncio.gather(*(circuit.record_failure(CODE) for _ in range(20))))
    assert probe.calls == 1


async def test_a_hanging_probe_is_an_outage(circuit, probe, monkeypatch):
    monkeypatch.setattr(module, "PROBE_SECONDS", 0.05)

    async def hang(_self):
        await asyncio.sleep(60)

    monkeypatch.setattr(Probe, "__call__", hang)
    assert await circuit.record_failure(CODE)
    assert "0.05 s" in circuit.problem("storage")
    assert probe.calls == 0
