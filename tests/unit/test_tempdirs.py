import asyncio
import os
import signal
import sys
from functools import partial
from pathlib import Path

import pytest

from handlers.pipeline import tempdirs as module
from handlers.pipeline.tempdirs import SMALL_FOLDER_BYTES, remove_abandoned, scratch

OWNER = """
import asyncio, sys
from pathlib import Path
from handlers.pipeline.tempdirs import scratch
async def main():
    async with scratch(Path(sys.argv[1])) as folder:
        (folder / "half").write_bytes(b"x")
        print(folder, flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


async def test_nothing_is_left_after_use_or_failure(tmp_path):
    async with scratch(tmp_path) as folder:
        (folder / "file").write_bytes(b"x")
        assert remove_abandoned(tmp_path) == 0
        assert folder.exists()
    with pytest.raises(ZeroDivisionError):
        async with scratch(tmp_path) as folder:
            1 / ((folder / "file").write_bytes(b"x") - 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [0, SMALL_FOLDER_BYTES, SMALL_FOLDER_BYTES + 1])
async def test_only_what_is_large_is_removed_in_a_thread(tmp_path, monkeypatch, size):
    threads = []
    monkeypatch.setattr(module.asyncio, "to_thread", partial(noted, threads, asyncio.to_thread))
    async with scratch(tmp_path) as folder:
        (folder / "0").mkdir()
        with (folder / "0" / "source").open("wb") as file:
            file.truncate(size)
    assert list(tmp_path.iterdir()) == []
    assert len(threads) == (size > SMALL_FOLDER_BYTES)


async def test_what_is_written_while_it_is_removed_goes_as_well(tmp_path, monkeypatch):
    """As by a decoder whose end was asked for a moment ago."""
    rmtree = module.shutil.rmtree

    def and_one_file_more(folder, **options):
        monkeypatch.setattr(module.shutil, "rmtree", rmtree)
        rmtree(folder, **options)
        folder.mkdir()
        (folder / "prepared").touch()

    monkeypatch.setattr(module.shutil, "rmtree", and_one_file_more)
    async with scratch(tmp_path) as folder:
        (folder / "source").touch()
    assert list(tmp_path.iterdir()) == []


async def noted(threads, to_thread, function, *args):
    threads.append(function)
    return await to_thread(function, *args)


async def test_what_a_killed_process_left_is_swept_and_only_that(tmp_path):
    async with scratch(tmp_path) as mine:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", OWNER, str(tmp_path), stdout=asyncio.subprocess.PIPE
        )
        theirs = Path((await process.stdout.readline()).decode().strip())
        assert remove_abandoned(tmp_path) == 0
        os.kill(process.pid, signal.SIGKILL)
        await process.wait()
        assert theirs.exists()
        assert remove_abandoned(tmp_path) == 1
        assert not theirs.exists()
        assert mine.exists()
    assert list(tmp_path.iterdir()) == []


async def test_what_is_not_ours_is_left_alone(tmp_path):
    for name in ("outlast-backup", "outlast-" + "0" * 32, "other"):
        (tmp_path / name).mkdir()
    assert remove_abandoned(tmp_path) == 0
    assert len(list(tmp_path.iterdir())) == 3


async def test_a_lock_whose_owner_was_killed_before_it_made_its_folder_is_swept(tmp_path):
    lock = tmp_path / f"outlast-{'0' * 32}.lock"
    lock.touch()
    (tmp_path / "outlast-mine.lock").touch()
    assert remove_abandoned(tmp_path) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["outlast-mine.lock"]
