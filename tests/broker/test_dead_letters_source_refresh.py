"""Dead letters with an expired source: replay checks the source again and asks FAL's queue for new URLs."""

import asyncio
from uuid import uuid4

import asyncpg
import pytest
from pydantic import SecretStr

from deploy.local.fal_queue import KEY
from deploy.local.gateway import Gateway
from deploy.local.source import Source
from schemas.dead_letters import DeadLetterFilter
from schemas.jobs import Job
from tests.broker.dead_letter_vhost import dead_letter_vhost
from tests.time_limits import WAIT_SECONDS
from worker.dead_letters.service import DeadLetterService


@pytest.fixture
async def vhost(rabbitmq_url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    async with dead_letter_vhost(rabbitmq_url) as found:
        yield found


class SourceRefreshEnv:
    """Dead letters with a database, a source server and FAL's queue."""

    def __init__(self, vhost, source, gateway, sql):
        self.vhost, self.source, self.gateway, self.sql = vhost, source, gateway, sql
        self.key = SecretStr(KEY)

    def settings(self, **more):
        update = {
            "supabase_url": self.gateway.url,
            "supabase_service_role_key": SecretStr(self.gateway.service_role_key),
            "source_allowlist": (self.source.url,),
            "fal_queue_url": self.source.url,
            "fal_key": self.key,
        }
        return self.vhost.settings.model_copy(update=update | more)

    async def generation(self, **row):
        name = str(uuid4())
        row = {"request_id": f"r-{name}", "model": "fal-ai/flux/dev", "status": "completed"} | row
        await self.sql.execute(
            "insert into generations (id, user_id, status, request_id, model) values ($1, $2, $3, $4, $5)",
            name, str(uuid4()), row["status"], row["request_id"], row["model"],
        )  # fmt: skip
        return name, row["request_id"]

    async def replay(self, **more):
        service = DeadLetterService(self.settings(**more), "test")
        async with service.batch("replay", await service.find(DeadLetterFilter())) as batch:
            return await batch.run()

    async def replayed(self):
        return [Job.model_validate_json(message.body) for message in await self.vhost.drain()]


@pytest.fixture
async def refresh_env(vhost, source, database_url, tmp_path):
    source.queue.results.clear()
    source.queue.requests.clear()
    sql = await asyncpg.connect(database_url)
    await sql.execute("alter table generations add column if not exists model text; notify pgrst, 'reload schema'")
    async with Gateway(database_url=database_url, storage_dir=tmp_path / "objects") as gateway:
        yield SourceRefreshEnv(vhost, source, gateway, sql)
    await sql.close()


async def test_recovered_source_is_replayed_unchanged(refresh_env):
    job = refresh_env.vhost.job(f"{refresh_env.source.url}/files/tone.wav", "data:image/png;base64,AAAA")
    await refresh_env.vhost.dead_letter(job, "source_gone")
    assert (await refresh_env.replay(fal_key=None, supabase_url=None)).done == 1
    assert await refresh_env.replayed() == [job]
    assert refresh_env.source.queue.requests == []


async def test_gone_urls_are_replaced_by_the_urls_of_fals_queue(refresh_env):
    generation, request = await refresh_env.generation()
    base = f"{refresh_env.source.url}/files"
    job = refresh_env.vhost.job(
        f"{base}/old.wav", f"{base}/tone.wav?keep=1", generation_id=generation, request_id=request
    )
    refresh_env.source.queue.results[request] = {
        "audio": {"url": f"{base}/tone.wav?fresh=1"},
        "images": [{"url": f"{base}/tone.mp3"}],
    }
    await refresh_env.vhost.dead_letter(job, "source_gone", attempt=4)
    outcome = await refresh_env.replay()
    assert (outcome.done, outcome.kept) == (1, ())
    [again] = await refresh_env.replayed()
    assert [file.url for file in again.files] == [f"{base}/tone.wav?fresh=1", f"{base}/tone.wav?keep=1"]
    assert again.model_copy(update={"files": job.files}) == job
    assert [(file.position, file.source_key) for file in again.files] == [
        (file.position, file.source_key) for file in job.files
    ]
    assert refresh_env.source.queue.requests == [(f"/fal-ai/flux/requests/{request}", f"Key {KEY}")]


async def test_moved_file_is_matched_by_its_file_name(refresh_env):
    generation, request = await refresh_env.generation()
    base = f"{refresh_env.source.url}/files"
    job = refresh_env.vhost.job(
        "https://127.0.0.1/1.png",
        "https://127.0.0.1/2.png",
        f"{base}/x/tone.wav",
        request_id=request,
        generation_id=generation,
    )
    job = job.limited_to([job.files[2].source_key])
    refresh_env.source.queue.results[request] = {"audio": {"url": f"{base}/tone.wav"}}
    await refresh_env.vhost.dead_letter(job, "source_gone")
    assert (await refresh_env.replay()).done == 1
    [again] = await refresh_env.replayed()
    assert [(file.position, file.url) for file in again.files] == [(2, f"{base}/tone.wav")]


async def test_missing_payload_is_fetched_from_fals_queue(refresh_env):
    _, request = await refresh_env.generation()
    job = refresh_env.vhost.job(source="fal", generation_id=None, request_id=request, total_files=0)
    job = job.model_copy(update={"generation_id": None})
    refresh_env.source.queue.results[request] = {"audio": {"url": f"{refresh_env.source.url}/files/tone.wav"}}
    await refresh_env.vhost.dead_letter(job, "no_files")
    assert (await refresh_env.replay()).done == 1
    [planned] = await refresh_env.replayed()
    assert [file.url for file in planned.files] == [f"{refresh_env.source.url}/files/tone.wav"]
    assert (planned.request_id, planned.total_files, planned.source) == (request, 1, "fal")


@pytest.mark.parametrize(
    ("result", "settings", "row", "expected_reason"),
    [
        ({"images": []}, {}, {}, "no file at position 0"),
        ({"images": [{"url": "SOURCE/files/gone.wav"}]}, {}, {}, "and the URLs in FAL's result are gone as well"),
        (404, {}, {}, "no longer has the result"),
        (202, {}, {}, "still running"),
        (503, {}, {}, "answered 503"),
        ({}, {"fal_key": None}, {}, "gone at 127.0.0.1; set FAL_KEY"),
        ({}, {"fal_key": SecretStr("wrong-and-secret")}, {}, "does not accept FAL_KEY"),
        ({}, {"supabase_url": None}, {}, "set SUPABASE_URL"),
        ({}, {"fal_queue_url": "http://127.0.0.1:1"}, {}, "failed: ClientConnectorError"),
        ({}, {"generations_model_column": "nothing"}, {}, "GENERATIONS_MODEL_COLUMN"),
        ({}, {"generations_table": "nothing"}, {}, "nothing"),
        ({}, {}, {"model": "just-a-name"}, "owner/app"),
        ({}, {}, {"model": "../../etc"}, "owner/app"),
    ],
)
async def test_dead_letter_that_cannot_be_refreshed_is_kept_with_the_reason(
    refresh_env, result, settings, row, expected_reason
):
    generation, request = await refresh_env.generation(**row)
    if isinstance(result, dict):
        for image in result.get("images", []):
            image["url"] = image["url"].replace("SOURCE", refresh_env.source.url)
    refresh_env.source.queue.results[request] = result
    gone = refresh_env.vhost.job(
        f"{refresh_env.source.url}/files/gone.wav?token=hidden", generation_id=generation, request_id=request
    )
    await refresh_env.vhost.dead_letter(gone, "source_gone")
    outcome = await refresh_env.replay(**settings)
    assert outcome.done == 0
    assert expected_reason in outcome.kept[0].reason
    assert "hidden" not in outcome.kept[0].reason
    assert "wrong-and-secret" not in outcome.kept[0].reason
    assert await refresh_env.vhost.count() == 1
    assert await refresh_env.replayed() == []


@pytest.mark.parametrize("still_has_it", [True, False])
async def test_a_request_id_copied_from_another_row_is_not_requested_from_fal(refresh_env, still_has_it):
    _, victims = await refresh_env.generation()
    copied, request = await refresh_env.generation(request_id=victims if still_has_it else "other")
    gone = refresh_env.vhost.job(f"{refresh_env.source.url}/files/gone.wav", generation_id=copied, request_id=victims)
    await refresh_env.vhost.dead_letter(gone, "source_gone")
    outcome = await refresh_env.replay()
    assert outcome.done == 0, request
    assert "is not that of the generation's row alone" in outcome.kept[0].reason
    assert refresh_env.source.queue.requests == []


async def test_fal_key_is_sent_only_to_fal(refresh_env, tmp_path):
    async with Source(tmp_path) as stranger:
        for address in (stranger.url, stranger.url.replace("http", "https"), f"{refresh_env.source.url}@127.0.0.1:1"):
            generation, request = await refresh_env.generation(model=f"{address}/fal-ai/flux/requests/r")
            gone = refresh_env.vhost.job(
                f"{refresh_env.source.url}/files/gone.wav", generation_id=generation, request_id=request
            )
            await refresh_env.vhost.dead_letter(gone, "source_gone")
        outcome = await refresh_env.replay()
        assert ["sent to no other host" in kept.reason for kept in outcome.kept] == [True] * 3
        assert stranger.queue.requests == refresh_env.source.queue.requests == []


async def test_a_response_url_of_another_request_is_not_requested(refresh_env):
    generation, _ = await refresh_env.generation(model=f"{refresh_env.source.url}/fal-ai/flux/requests/elsewhere")
    refresh_env.source.queue.results["elsewhere"] = {"audio": {"url": f"{refresh_env.source.url}/files/tone.wav"}}
    await refresh_env.vhost.dead_letter(
        refresh_env.vhost.job(f"{refresh_env.source.url}/files/gone.wav", generation_id=generation), "source_gone"
    )
    outcome = await refresh_env.replay()
    assert ["sent to no other path" in kept.reason for kept in outcome.kept] == [True]
    assert refresh_env.source.queue.requests == []


async def test_the_response_url_of_the_rows_request_is_requested(refresh_env):
    address = f"{refresh_env.source.url}/workflows/me/mine/requests/r-1"
    generation, request = await refresh_env.generation(model=address, request_id="r-1")
    refresh_env.source.queue.results[request] = {"audio": {"url": f"{refresh_env.source.url}/files/tone.wav"}}
    await refresh_env.vhost.dead_letter(
        refresh_env.vhost.job(f"{refresh_env.source.url}/files/gone.wav", generation_id=generation), "source_gone"
    )
    assert (await refresh_env.replay()).done == 1
    assert [path for path, _ in refresh_env.source.queue.requests] == ["/workflows/me/mine/requests/r-1"]


async def test_many_sources_are_checked_concurrently(refresh_env):
    slow = f"{refresh_env.source.url}/files/tone.wav?redirect={refresh_env.source.url}/files/tone.wav"
    for n in range(24):
        await refresh_env.vhost.dead_letter(refresh_env.vhost.job(f"{slow}&n={n}"), "source_gone")
    async with asyncio.timeout(WAIT_SECONDS):
        assert (await refresh_env.replay()).done == 24
