"""Uploads of large files over an unreliable connection: resumed, also by another worker, with little sent twice."""

import asyncio
import contextlib
import hashlib
import json
import os
import sys
from urllib.parse import urlsplit

import aiohttp
import asyncpg
import pytest
from pydantic import SecretStr

from deploy.local.gateway import Gateway
from handlers.database.client import Supabase
from handlers.errors import StorageUnavailableError
from handlers.settings import MediaSettings
from handlers.storage import object_path
from handlers.storage.upload_file import UploadFile
from tests.chaos.tcp_proxy import TcpProxy

MIB = 1024 * 1024
MAX_TRAFFIC = 1.2
"""Bytes sent and received for each byte of the file."""


class CountingProxy(TcpProxy):
    """A proxy that counts bytes, and calls `action` after every `every` bytes."""

    def __init__(self, target, every=None, action=None):
        super().__init__(target)
        self.bytes = 0
        self.actions = 0
        self._every = every
        self._action = action
        self._due = asyncio.Event()
        self._task = asyncio.create_task(self._run_actions()) if action else None

    async def _run_actions(self):
        while True:
            await self._due.wait()
            self._due.clear()
            self.actions += 1
            await self._action(self)

    async def _pump(self, reader, writer):
        while data := await reader.read(65536):
            self.bytes += len(data)
            if self._every and self.bytes > (self.actions + 1) * self._every:
                self._due.set()
            writer.write(data)
            await writer.drain()

    async def close(self):
        if self._task:
            self._task.cancel()
        await self.stop()


class UploadEnv:
    """A gateway with a bucket, and files to upload."""

    def __init__(self, gateway, folder):
        self.gateway = gateway
        self.port = urlsplit(gateway.url).port
        self._folder = folder

    def file(self, size):
        """Make a file of `size` MiB; return it and its object path."""
        file = self._folder / "file"
        digest = hashlib.sha256()
        with file.open("wb") as out:
            for _ in range(size):
                piece = os.urandom(MIB)
                digest.update(piece)
                out.write(piece)
        return file, object_path("u", digest.hexdigest(), "mp4")

    @contextlib.asynccontextmanager
    async def proxy(self, every=None, action=None):
        proxy = CountingProxy(self.port, every, action)
        await proxy.start()
        yield proxy
        await proxy.close()

    def supabase(self, proxy=None, observer=None):
        url = self.gateway.url if proxy is None else f"http://127.0.0.1:{proxy.port}"
        key = SecretStr(self.gateway.service_role_key)
        return Supabase(MediaSettings(_env_file=None, supabase_url=url, supabase_service_role_key=key), observer)

    async def worker(self, proxy, file, path):
        url = f"http://127.0.0.1:{proxy.port}"
        arguments = (url, self.gateway.service_role_key, "generations", str(file), path)
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.contracts.upload_process", *arguments), stdout=asyncio.subprocess.PIPE
        )

    def check(self, file, path):
        """Check that the stored object has the file's content."""
        stored = self._folder / "objects" / "generations" / path
        assert stored.stat().st_size == file.stat().st_size
        with stored.open("rb") as content:
            assert hashlib.file_digest(content, "sha256").hexdigest() in path


@pytest.fixture
async def env(database_url, tmp_path):
    async with Gateway(database_url=database_url, storage_dir=tmp_path / "objects") as gateway:
        key = gateway.service_role_key
        async with (
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}", "apikey": key}) as http,
            http.post(f"{gateway.url}/storage/v1/bucket", json={"id": "generations", "name": "generations"}) as made,
        ):
            assert made.status == 200
        yield UploadEnv(gateway, tmp_path)


@pytest.fixture
async def sql(database_url):
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def test_200_mb_over_a_breaking_connection_needs_little_memory_and_traffic(env):
    file, path = env.file(200)

    async def break_connection(proxy):
        await (proxy.refuse(0.3) if proxy.actions % 3 == 0 else proxy.cut())

    async with env.proxy(25 * MIB, break_connection) as proxy:
        worker = await env.worker(proxy, file, path)
        result = json.loads((await worker.communicate())[0])
    assert result["new"]
    assert result["growth"] < 20 * MIB
    assert proxy.actions >= 8
    assert proxy.bytes < MAX_TRAFFIC * 200 * MIB, f"{proxy.bytes / MIB:.1f} MiB"
    env.check(file, path)


async def test_another_worker_resumes_the_upload_of_a_killed_worker(env, sql):
    file, path = env.file(60)
    killed = asyncio.Event()

    async def kill(_):
        worker.kill()
        killed.set()

    async with env.proxy(40 * MIB, kill) as proxy:
        worker = await env.worker(proxy, file, path)
        await killed.wait()
        await worker.communicate()
        assert await sql.fetchval("select path from outlast_uploads") == path
        before = proxy.bytes
        async with env.supabase(proxy) as supabase:
            assert await supabase.put(path, UploadFile.from_path(file, "video/mp4"))
        assert proxy.bytes - before < 30 * MIB
        assert proxy.bytes < MAX_TRAFFIC * 60 * MIB
    env.check(file, path)
    assert await sql.fetchval("select count(*) from outlast_uploads") == 0


async def test_concurrent_uploads_of_one_file_store_one_object(env, sql):
    file, path = env.file(20)
    async with env.supabase() as one, env.supabase() as two:
        await asyncio.gather(
            one.put(path, UploadFile.from_path(file, "video/mp4")),
            two.put(path, UploadFile.from_path(file, "video/mp4")),
        )
        assert await one.put(path, UploadFile.from_path(file, "video/mp4")) is False
    env.check(file, path)
    assert await sql.fetchval("select count(*) from storage.objects") == 1
    assert await sql.fetchval("select count(*) from outlast_uploads") == 0


async def test_an_upload_that_storage_does_not_know_starts_again(env, sql):
    file, path = env.file(8)
    await sql.execute("select outlast_upload('generations', $1, 'bm90L3RoZXJlL2FueSBtb3Jl')", path)
    async with env.supabase() as supabase:
        assert await supabase.put(path, UploadFile.from_path(file, "video/mp4"))
    env.check(file, path)


async def test_without_the_upload_function_a_worker_resumes_its_own_uploads(env, sql):
    await sql.execute("drop function outlast_upload")
    file, path = env.file(30)
    async with env.proxy(10 * MIB, CountingProxy.cut) as proxy, env.supabase(proxy) as supabase:
        assert await supabase.put(path, UploadFile.from_path(file, "video/mp4"))
        assert proxy.bytes < MAX_TRAFFIC * 30 * MIB
    env.check(file, path)


async def test_an_upload_over_a_dead_connection_is_unavailable_and_resumed_later(env, sql, monkeypatch):
    monkeypatch.setattr("handlers.storage.tus.ATTEMPTS", 3)
    file, path = env.file(20)
    async with env.proxy(10 * MIB, TcpProxy.stop) as proxy, env.supabase(proxy) as supabase:
        with pytest.raises(StorageUnavailableError):
            await supabase.put(path, UploadFile.from_path(file, "video/mp4"))
    assert await sql.fetchval("select count(*) from outlast_uploads") == 1
    async with env.proxy() as proxy, env.supabase(proxy) as supabase:
        assert await supabase.put(path, UploadFile.from_path(file, "video/mp4"))
        assert proxy.bytes < 15 * MIB
    env.check(file, path)


@pytest.mark.parametrize(("tag", "reads"), [('"abc-2"', False), ('"abc"', True)])
async def test_an_object_with_a_multipart_etag_is_compared_by_its_recorded_hash(env, sql, tag, reads):
    file, path = env.file(8)
    async with env.proxy() as proxy, env.supabase(proxy) as supabase:
        await supabase.put(path, UploadFile.from_path(file, "video/mp4"))
        await sql.execute("update storage.objects set metadata = metadata || jsonb_build_object('eTag', $1::text)", tag)
        before = proxy.bytes
        assert await supabase.put(path, UploadFile.from_path(file, "video/mp4")) is False
        assert (proxy.bytes - before > 8 * MIB) is reads


async def test_uploads_older_than_a_day_are_not_resumed(sql):
    await sql.execute("select outlast_upload('b', 'one', 'first')")
    assert json.loads(await sql.fetchval("select outlast_upload('b', 'one', 'second')"))["upload_id"] == "first"
    assert json.loads(await sql.fetchval("select outlast_upload('b', 'one', null, 'other')"))["upload_id"] == "first"
    assert (
        json.loads(await sql.fetchval("select outlast_upload('b', 'one', 'second', 'first')"))["upload_id"] == "second"
    )
    await sql.execute("update outlast_uploads set created_at = now() - interval '25 hours'")
    assert json.loads(await sql.fetchval("select outlast_upload('b', 'one')"))["upload_id"] is None
