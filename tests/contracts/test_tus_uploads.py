"""Large files on a bad line: resumed, by another worker too, and never sent much more often than once."""

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
MOST = 1.2
"""Bytes on the wire, both ways, for each byte of the file."""


class Meter(TcpProxy):
    """Counts the bytes it carries, and does something each time so many have passed."""

    def __init__(self, target, every=None, deed=None):
        super().__init__(target)
        self.bytes = 0
        self.deeds = 0
        self._every = every
        self._deed = deed
        self._due = asyncio.Event()
        self._task = asyncio.create_task(self._act()) if deed else None

    async def _act(self):
        while True:
            await self._due.wait()
            self._due.clear()
            self.deeds += 1
            await self._deed(self)

    async def _pump(self, reader, writer):
        while data := await reader.read(65536):
            self.bytes += len(data)
            if self._every and self.bytes > (self.deeds + 1) * self._every:
                self._due.set()
            writer.write(data)
            await writer.drain()

    async def close(self):
        if self._task:
            self._task.cancel()
        await self.stop()


class Place:
    """A gateway with a bucket, and files to be brought there."""

    def __init__(self, gateway, folder):
        self.gateway = gateway
        self.port = urlsplit(gateway.url).port
        self._folder = folder

    def file(self, size):
        """A file of `size` MiB, and the path it belongs at."""
        file = self._folder / "file"
        digest = hashlib.sha256()
        with file.open("wb") as out:
            for _ in range(size):
                piece = os.urandom(MIB)
                digest.update(piece)
                out.write(piece)
        return file, object_path("u", digest.hexdigest(), "mp4")

    @contextlib.asynccontextmanager
    async def wire(self, every=None, deed=None):
        wire = Meter(self.port, every, deed)
        await wire.start()
        yield wire
        await wire.close()

    def supabase(self, wire=None, observer=None):
        url = self.gateway.url if wire is None else f"http://127.0.0.1:{wire.port}"
        key = SecretStr(self.gateway.service_role_key)
        return Supabase(MediaSettings(_env_file=None, supabase_url=url, supabase_service_role_key=key), observer)

    async def worker(self, wire, file, path):
        url = f"http://127.0.0.1:{wire.port}"
        arguments = (url, self.gateway.service_role_key, "generations", str(file), path)
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.contracts.upload_process", *arguments), stdout=asyncio.subprocess.PIPE
        )

    def check(self, file, path):
        """The object is the file."""
        stored = self._folder / "objects" / "generations" / path
        assert stored.stat().st_size == file.stat().st_size
        with stored.open("rb") as content:
            assert hashlib.file_digest(content, "sha256").hexdigest() in path


@pytest.fixture
async def place(database_url, tmp_path):
    async with Gateway(database_url=database_url, storage_dir=tmp_path / "objects") as gateway:
        key = gateway.service_role_key
        async with (
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}", "apikey": key}) as http,
            http.post(f"{gateway.url}/storage/v1/bucket", json={"id": "generations", "name": "generations"}) as made,
        ):
            assert made.status == 200
        yield Place(gateway, tmp_path)


@pytest.fixture
async def sql(database_url):
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def test_200_mb_over_a_line_that_is_cut_again_and_again_in_little_memory(place):
    file, path = place.file(200)

    async def harm(wire):
        await (wire.refuse(0.3) if wire.deeds % 3 == 0 else wire.cut())

    async with place.wire(25 * MIB, harm) as wire:
        worker = await place.worker(wire, file, path)
        told = json.loads((await worker.communicate())[0])
    assert told["new"]
    assert told["grown"] < 20 * MIB
    assert wire.deeds >= 8
    assert wire.bytes < MOST * 200 * MIB, f"{wire.bytes / MIB:.1f} MiB"
    place.check(file, path)


async def test_another_worker_goes_on_where_one_was_killed(place, sql):
    file, path = place.file(60)
    killed = asyncio.Event()

    async def kill(_):
        worker.kill()
        killed.set()

    async with place.wire(40 * MIB, kill) as wire:
        worker = await place.worker(wire, file, path)
        await killed.wait()
        await worker.communicate()
        assert await sql.fetchval("select path from outlast_uploads") == path
        before = wire.bytes
        async with place.supabase(wire) as supabase:
            assert await supabase.put(path, UploadFile.of(file, "video/mp4"))
        assert wire.bytes - before < 30 * MIB
        assert wire.bytes < MOST * 60 * MIB
    place.check(file, path)
    assert await sql.fetchval("select count(*) from outlast_uploads") == 0


async def test_two_workers_with_the_same_file_store_it_once(place, sql):
    file, path = place.file(20)
    async with place.supabase() as one, place.supabase() as two:
        await asyncio.gather(
            one.put(path, UploadFile.of(file, "video/mp4")), two.put(path, UploadFile.of(file, "video/mp4"))
        )
        assert await one.put(path, UploadFile.of(file, "video/mp4")) is False
    place.check(file, path)
    assert await sql.fetchval("select count(*) from storage.objects") == 1
    assert await sql.fetchval("select count(*) from outlast_uploads") == 0


async def test_an_upload_that_storage_has_forgotten_is_begun_anew(place, sql):
    file, path = place.file(8)
    await sql.execute("select outlast_upload('generations', $1, 'bm90L3RoZXJlL2FueSBtb3Jl')", path)
    async with place.supabase() as supabase:
        assert await supabase.put(path, UploadFile.of(file, "video/mp4"))
    place.check(file, path)


async def test_without_the_database_a_worker_resumes_its_own_uploads(place, sql):
    await sql.execute("drop function outlast_upload")
    file, path = place.file(30)
    async with place.wire(10 * MIB, Meter.cut) as wire, place.supabase(wire) as supabase:
        assert await supabase.put(path, UploadFile.of(file, "video/mp4"))
        assert wire.bytes < MOST * 30 * MIB
    place.check(file, path)


async def test_a_line_that_carries_nothing_any_more_is_given_up_and_taken_up_later(place, sql, monkeypatch):
    monkeypatch.setattr("handlers.storage.tus.TRIES", 3)
    file, path = place.file(20)
    async with place.wire(10 * MIB, TcpProxy.stop) as wire, place.supabase(wire) as supabase:
        with pytest.raises(StorageUnavailableError):
            await supabase.put(path, UploadFile.of(file, "video/mp4"))
    assert await sql.fetchval("select count(*) from outlast_uploads") == 1
    async with place.wire() as wire, place.supabase(wire) as supabase:
        assert await supabase.put(path, UploadFile.of(file, "video/mp4"))
        assert wire.bytes < 15 * MIB
    place.check(file, path)


@pytest.mark.parametrize(("tag", "reads"), [('"abc-2"', False), ('"abc"', True)])
async def test_what_an_etag_cannot_tell_our_note_or_the_bytes_do(place, sql, tag, reads):
    file, path = place.file(8)
    async with place.wire() as wire, place.supabase(wire) as supabase:
        await supabase.put(path, UploadFile.of(file, "video/mp4"))
        await sql.execute("update storage.objects set metadata = metadata || jsonb_build_object('eTag', $1::text)", tag)
        before = wire.bytes
        assert await supabase.put(path, UploadFile.of(file, "video/mp4")) is False
        assert (wire.bytes - before > 8 * MIB) is reads


async def test_uploads_a_day_old_are_forgotten(sql):
    await sql.execute("select outlast_upload('b', 'one', 'first')")
    assert json.loads(await sql.fetchval("select outlast_upload('b', 'one', 'second')"))["upload_id"] == "first"
    assert json.loads(await sql.fetchval("select outlast_upload('b', 'one', null, 'other')"))["upload_id"] == "first"
    assert (
        json.loads(await sql.fetchval("select outlast_upload('b', 'one', 'second', 'first')"))["upload_id"] == "second"
    )
    await sql.execute("update outlast_uploads set created_at = now() - interval '25 hours'")
    assert json.loads(await sql.fetchval("select outlast_upload('b', 'one')"))["upload_id"] is None
