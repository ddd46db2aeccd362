"""`/dead-letters` over HTTP, on a receiver with a real broker."""

import asyncio
import contextlib

import aiohttp
import pytest
from pydantic import SecretStr

from deploy.local.gateway import Gateway
from tests.broker.dead_letter_vhost import dead_letter_vhost
from tests.time_limits import WAIT_SECONDS
from worker.broker.connection import Broker
from worker.observability.metrics import Metrics
from worker.runtime import serve
from worker.web.receiver import Receiver

TOKEN = "the-api-token"
GOOD = {"Authorization": f"Bearer {TOKEN}"}
ITEM = {
    *("id", "task_id", "binding", "generation_id", "user_id", "queue", "code", "error", "stage", "host"),
    *("failed_at", "first_seen", "attempts", "replays"),
}


class DeadLetterApi:
    """An HTTP client of the dead letter routes."""

    def __init__(self, vhost, url, session, metrics):
        self.vhost, self.url, self.session, self.metrics = vhost, url, session, metrics

    async def request(self, method, path="", headers=GOOD, **more):
        async with self.session.request(method, f"{self.url}/dead-letters{path}", headers=headers, **more) as response:
            return response.status, await response.json(content_type=None)


@contextlib.asynccontextmanager
async def serve_api(vhost, **settings):
    metrics = Metrics("test")
    settings = vhost.settings.model_copy(update={"api_token": SecretStr(TOKEN)} | settings)
    async with (
        Broker(settings, metrics, "test") as broker,
        serve(Receiver(settings, [], broker, metrics).app(), "127.0.0.1", 0) as addresses,
        aiohttp.ClientSession() as session,
    ):
        await broker.wait_ready()
        yield DeadLetterApi(vhost, f"http://{addresses[0]}", session, metrics)


@pytest.fixture
async def vhost(rabbitmq_url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    async with dead_letter_vhost(rabbitmq_url) as found:
        yield found


@pytest.fixture
async def api(vhost):
    async with serve_api(vhost) as found:
        yield found


async def test_dead_letters_are_listed_filtered_and_grouped(api):
    for n in range(5):
        await api.vhost.dead_letter(api.vhost.job(f"https://v3.fal.media/{n}.png"), "source_gone", minutes=n)
    await api.vhost.dead_letter_raw(b"no job")
    status, body = await api.request("GET")
    assert (status, body["total"], len(body["items"])) == (200, 6, 6)
    assert all(set(item) == ITEM for item in body["items"])
    undecodable = next(item for item in body["items"] if item["code"] == "undecodable")
    assert (undecodable["task_id"], undecodable["host"], undecodable["attempts"]) == (None, None, None)
    status, body = await api.request(
        "GET", params={"code": "source_gone", "since": "2026-11-01T12:01:00+00:00", "limit": 2}
    )
    assert (status, body["total"], len(body["items"])) == (200, 4, 2)
    chosen = ",".join(item["id"] for item in body["items"])
    assert (await api.request("GET", params={"ids": chosen}))[1]["total"] == 2
    status, body = await api.request("GET", "/groups")
    assert (status, body["total"]) == (200, 2)
    assert (body["items"][0]["code"], body["items"][0]["count"]) == ("source_gone", 5)
    assert body["items"][0]["last_seen"] == "2026-11-01T12:04:00Z"
    assert await api.vhost.count() == 6


async def test_replay_dry_run_counts_and_replay_sends(api):
    for n in range(5):
        await api.vhost.dead_letter(api.vhost.job(f"https://v3.fal.media/{n}.png"))
    await api.vhost.dead_letter(api.vhost.job("https://127.0.0.1/gone.png"), "source_gone")
    wanted = {"code": "corrupted", "dry_run": True}
    assert await api.request("POST", "/replay", json=wanted) == (200, {"count": 5, "dry_run": True})
    assert await api.request("POST", "/replay", params={"code": "corrupted", "dry_run": "true"}) == (
        200,
        {"count": 5, "dry_run": True},
    )
    done = {"count": 5, "replayed": 5, "kept": [], "aborted": False, "dry_run": False}
    assert await api.request("POST", "/replay", json={"code": "corrupted", "rate": 100}) == (200, done)
    assert len(await api.vhost.drain()) == 5
    status, body = await api.request("POST", "/replay")
    assert (status, body["count"], body["replayed"]) == (200, 1, 0)
    assert "set FAL_KEY" in body["kept"][0]["reason"]
    assert b"outlast_dead_letters_replayed_total 5.0" in api.metrics.render()


async def test_discard_without_an_archive_is_503(api, database_url, tmp_path):
    await api.vhost.dead_letter(api.vhost.job("https://v3.fal.media/a.png"))
    status, body = await api.request("POST", "/discard")
    assert (status, body["code"]) == (503, "archive_unavailable")
    assert await api.vhost.count() == 1
    async with Gateway(database_url=database_url, storage_dir=tmp_path / "objects") as gateway:
        key = SecretStr(gateway.service_role_key)
        async with serve_api(api.vhost, supabase_url=gateway.url, supabase_service_role_key=key) as other:
            assert await other.request("POST", "/discard", json={"dry_run": True}) == (
                200,
                {"count": 1, "dry_run": True},
            )
            done = {"count": 1, "discarded": 1, "kept": [], "aborted": False, "dry_run": False}
            assert await other.request("POST", "/discard", json={}) == (200, done)
        assert await api.vhost.count() == 0
        async with serve_api(api.vhost, supabase_url="http://127.0.0.1:1", supabase_service_role_key=key) as other:
            await api.vhost.dead_letter(api.vhost.job("https://v3.fal.media/a.png"))
            status, body = await other.request("POST", "/discard")
            assert (status, body["code"]) == (503, "archive_unavailable")
    assert await api.vhost.count() == 1


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"params": {"since": "soon"}}, "since"),
        ({"params": {"until": "12"}}, "until"),
        ({"params": {"limit": "0"}}, "limit"),
        ({"params": {"task": "7"}}, "task"),
        ({"params": {"ids": ""}}, "ids"),
        ({"params": {"cod": "source_gone"}}, "cod"),
        ({"params": [("code", "a"), ("code", "b")]}, "code"),
        ({"json": {"ids": []}}, "ids"),
        ({"json": {"ids": ["x"]}}, "ids"),
        ({"json": {"rate": 0}}, "rate"),
        ({"json": {"rate": "fast"}}, "rate"),
        ({"json": {"since": 7}}, "since"),
        ({"json": {"dry_run": "perhaps"}}, "dry_run"),
        ({"json": {"codes": ["source_gone"]}}, "codes"),
        ({"json": ["source_gone"]}, "body"),
        ({"data": b"{"}, "body"),
        ({"data": b"\xff"}, "body"),
    ],
)
async def test_invalid_filter_is_422_and_changes_nothing(api, asked, named):
    await api.vhost.dead_letter(api.vhost.job("https://v3.fal.media/a.png"))
    for path in ("/replay", "/discard"):
        status, body = await api.request("POST", path, **asked)
        assert (status, body["code"]) == (422, "invalid_filter")
        assert body["detail"].startswith(f"{named}: ")
    assert await api.vhost.count() == 1
    if "params" in asked:
        assert (await api.request("GET", **asked))[0] == 422


async def test_requests_without_the_token_are_401(api):
    await api.vhost.dead_letter(api.vhost.job("https://v3.fal.media/a.png"))
    routes = (("GET", ""), ("GET", "/groups"), ("POST", "/replay"), ("POST", "/discard"))
    headers = ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}, {"Authorization": f"Basic {TOKEN}"})
    for method, path in routes:
        for sent in headers:
            status, body = await api.request(method, path, headers=sent)
            assert (status, body["code"]) == (401, "not_authenticated")
    async with serve_api(api.vhost, api_token=None) as closed:
        for sent in (GOOD, {"Authorization": "Bearer "}, {"Authorization": "Bearer None"}):
            status, body = await closed.request("POST", "/replay", headers=sent)
            assert (status, body["hint"]) == (401, "set API_TOKEN for the receiver")
    assert await api.vhost.count() == 1


async def test_request_during_another_operation_is_409(api, monkeypatch):
    monkeypatch.setattr("worker.dead_letters.queue_lock.LOCK_WAIT_SECONDS", 0.5)
    async with api.vhost.dead_letters.open():
        status, body = await api.request("GET")
    assert (status, body["code"]) == (409, "busy")
    assert (await api.request("GET"))[0] == 200


async def test_unreachable_broker_is_reported_without_the_password(api):
    away = api.vhost.settings.model_copy(
        update={"rabbitmq_url": SecretStr("amqp://127.0.0.1:1/"), "api_token": SecretStr(TOKEN)}
    )
    broker = Broker(away, api.metrics, "never started")
    async with serve(Receiver(away, [], broker, api.metrics).app(), "127.0.0.1", 0) as addresses:
        lost = DeadLetterApi(api.vhost, f"http://{addresses[0]}", api.session, api.metrics)
        status, body = await lost.request("POST", "/replay")
    assert (status, body["code"]) == (503, "broker_unavailable")


async def count_later(api):
    """Return the number of dead letters after a second, in which a replay would go on with ten."""
    await asyncio.sleep(1)
    return await api.vhost.count()


async def test_client_disconnect_stops_the_replay(api):
    for n in range(60):
        await api.vhost.dead_letter(api.vhost.job(f"https://v3.fal.media/{n}.png"))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await api.request("POST", "/replay", json={"rate": 10})
    assert (await api.request("GET"))[1]["total"] == await api.vhost.count() >= 40
    async with asyncio.timeout(WAIT_SECONDS):
        while (left := await api.vhost.count()) != await count_later(api):
            pass
    assert left + len(await api.vhost.drain()) == 60
