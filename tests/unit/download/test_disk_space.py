"""The disk space of files in process, and the connections of one user to a host."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from handlers.download import Downloader
from handlers.settings import MediaSettings
from tests.hostile.raw_server import RawServer, head, send
from tests.time_limits import WAIT_SECONDS

MIB = 1 << 20


class Files:
    """A source of files of 1 MiB. It holds the content below `/held` until `gate` is set; with `breaks`, it then breaks
    the connection in the middle. `/moved` redirects to `/file`. `/grows` has 2 MiB when it is requested again.

    `asked` has the paths of the requests in their order, `ranges` the ranges that were requested.
    """

    def __init__(self, *, known_size=True, breaks=False):
        self.asked = []
        self.ranges = set()
        self.gate = asyncio.Event()
        self._known_size = known_size
        self._breaks = breaks

    async def __call__(self, writer, request):
        path = request["path"]
        self.asked.append(path)
        if "range" in request:
            self.ranges.add(request["range"])
            content_range = f"bytes {MIB // 2}-{MIB - 1}/{MIB}"
            headers = head("206 Partial Content", content_length=MIB // 2, content_range=content_range, etag='"1"')
            await send(writer, headers, b"x" * (MIB // 2))
        elif path == "/moved":
            await send(writer, head("302 Found", location="/file", content_length=0))
        else:
            size = 2 * MIB if path == "/grows" and self.asked.count(path) > 1 else MIB
            await send(writer, head(content_length=size if self._known_size else None, etag='"1"'))
            await self._send_content(writer, size, held=path.startswith("/held"))

    async def _send_content(self, writer, size, *, held):
        if held and self._breaks:
            await send(writer, b"x" * (size // 2))
        if held:
            await self.gate.wait()
        if not (held and self._breaks):
            await send(writer, b"x" * size)


async def wait_until(condition):
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def downloading(files, tmp_path, **settings):
    """Yield a function that starts the download of a path for a user, within its own disk space, and the downloader."""
    async with RawServer(files) as source:
        limits = MediaSettings(_env_file=None, source_allowlist=source.url, max_file_size_mb=2, **settings)
        async with Downloader(limits) as downloader, asyncio.timeout(WAIT_SECONDS), asyncio.TaskGroup() as group:

            async def download(user, path):
                with downloader.disk_space(user) as space:
                    return await downloader.fetch(source.url + path, tmp_path / path[1:], space=space)

            yield lambda user, path: group.create_task(download(user, path)), downloader
            files.gate.set()


@pytest.mark.parametrize("known_size", [True, False], ids=["known size", "unknown size"])
async def test_a_download_waits_until_there_is_space_for_it(tmp_path, known_size):
    files = Files(known_size=known_size)
    async with downloading(files, tmp_path, temp_disk_mb=8) as (download, downloader):
        first = download("a", "/held")
        await wait_until(lambda: files.asked == ["/held"])
        second = download("b", "/file")
        await wait_until(lambda: downloader.waiting()["disk"] == 1)
        assert files.asked == ["/held", "/file"]
        assert not second.done()
        files.gate.set()
        assert (await first).size == (await second).size == MIB


async def test_one_user_takes_half_of_the_space(tmp_path):
    files = Files()
    async with downloading(files, tmp_path, temp_disk_mb=24) as (download, downloader):
        own = [download("a", "/held1"), download("a", "/held2"), download("a", "/file")]
        await wait_until(lambda: downloader.waiting()["disk"] == 1)
        assert (await download("b", "/other")).size == MIB
        assert not any(task.done() for task in own)


async def test_a_file_that_takes_all_of_the_space_keeps_it_when_it_reserves_again():
    settings = MediaSettings(_env_file=None, temp_disk_mb=8)
    async with Downloader(settings) as downloader, asyncio.timeout(WAIT_SECONDS), asyncio.TaskGroup() as group:
        with downloader.disk_space("a") as large, downloader.disk_space("b") as other:
            await large.reserve(50 * MIB)
            waiting = group.create_task(other.reserve(MIB))
            await wait_until(lambda: downloader.waiting()["disk"] == 1)
            await large.reserve(50 * MIB)
            assert not waiting.done()
            large.release()
            await waiting


async def test_one_user_takes_half_of_the_connections_to_a_host(tmp_path):
    files = Files()
    async with downloading(files, tmp_path, max_connections_per_host=4) as (download, downloader):
        for number in range(4):
            download("a", f"/held{number}")
        await wait_until(lambda: downloader.waiting()["connection"] == 2 and len(files.asked) == 2)
        assert (await download("b", "/other")).size == MIB
        assert sorted(files.asked) == ["/held0", "/held1", "/other"]


async def test_a_download_that_resumes_gets_a_connection_while_others_wait_for_its_space(tmp_path):
    files = Files(breaks=True)
    async with downloading(files, tmp_path, temp_disk_mb=8, max_connections_per_host=2) as (download, downloader):
        first = download("a", "/held")
        await wait_until(lambda: files.asked == ["/held"])
        others = [download("b", "/file1"), download("b", "/file2"), download("c", "/file3")]
        await wait_until(lambda: sum(downloader.waiting().values()) == 3)
        files.gate.set()
        assert [file.size for file in await asyncio.gather(first, *others)] == [MIB] * 4


async def test_a_download_that_waits_for_space_requests_its_first_url_again(tmp_path):
    files = Files()
    async with downloading(files, tmp_path, temp_disk_mb=8) as (download, downloader):
        first = download("a", "/held")
        await wait_until(lambda: files.asked == ["/held"])
        moved = download("b", "/moved")
        await wait_until(lambda: downloader.waiting()["disk"] == 1)
        files.gate.set()
        assert (await first).size == (await moved).size == MIB
        assert files.asked == ["/held", *["/moved", "/file"] * 2]
        assert files.ranges == set()


async def test_a_file_that_has_grown_while_its_download_waited_waits_for_more_space(tmp_path):
    files = Files()
    async with downloading(files, tmp_path, temp_disk_mb=13) as (download, downloader):
        held = [download("a", "/held1"), download("c", "/held2")]
        await wait_until(lambda: len(files.asked) == len(held))
        grown = download("b", "/grows")
        await wait_until(lambda: downloader.waiting()["disk"] == 1)
        held[0].cancel()
        await wait_until(lambda: files.asked[3:] == ["/grows"] and downloader.waiting()["disk"] == 1)
        files.gate.set()
        assert (await grown).size == 2 * MIB


async def test_waiting_for_space_does_not_count_as_download_time(tmp_path):
    async with RawServer(Files()) as source:
        limits = MediaSettings(
            _env_file=None, source_allowlist=source.url, temp_disk_mb=8, download_timeout_seconds=WAIT_SECONDS / 60
        )
        async with Downloader(limits) as downloader, asyncio.timeout(WAIT_SECONDS):
            with downloader.disk_space("a") as held, downloader.disk_space("b") as space:
                await held.reserve(2 * MIB)
                release = asyncio.get_running_loop().call_later(1.5 * limits.download_timeout_seconds, held.release)
                file = await downloader.fetch(f"{source.url}/file", tmp_path / "file", space=space)
    assert file.size == MIB
    assert release.when() < asyncio.get_running_loop().time()
