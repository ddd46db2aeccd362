import asyncio
import os
import signal
import sys
from functools import partial
from pathlib import Path

import pytest

from handlers import tempdirs as module
from handlers.tempdirs import SMALL_FOLDER_BYTES, remove_abandoned, scratch

OWNER = """
import asyncio, sys
from pathlib import Path
from handlers.tempdirs import scratch
async def main():
    async with scratch(Path(sys.argv[1])) as folder:
        (folder / "half").write_bytes(b"x")
        print(folder, flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


async def test_the_folder_is_removed_after_use_and_after_an_error(tmp_path):
    async with scratch(tmp_path) as folder:
        (folder / "file").write_bytes(b"x")
        assert remove_abandoned(tmp_path) == 0
        assert folder.exists()
    with pytest.raises(ZeroDivisionError):
        async with scratch(tmp_path) as folder:
            1 / ((folder / "file").write_bytes(b"x") - 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [0, SMALL_FOLDER_BYTES, SMALL_FOLDER_BYTES + 1])
async def test_only_large_folders_are_removed_in_a_thread(tmp_path, monkeypatch, size):
    threads = []
    monkeypatch.setattr(module.asyncio, "to_thread", partial(recorded, threads, asyncio.to_thread))
    async with scratch(tmp_path) as folder:
        with (folder / "source").open("wb") as file:
            file.truncate(size)
    assert list(tmp_path.iterdir()) == []
    assert len(threads) == (size > SMALL_FOLDER_BYTES)


async def test_files_written_during_the_removal_are_removed_too(tmp_path, monkeypatch):
    """As by a codec process that was asked to stop a moment ago."""
    unlink = module.os.unlink

    def unlink_and_write_a_file(entry):
        monkeypatch.setattr(module.os, "unlink", unlink)
        unlink(entry)
        (folder / "prepared").touch()

    async with scratch(tmp_path) as folder:
        (folder / "source").touch()
        monkeypatch.setattr(module.os, "unlink", unlink_and_write_a_file)
    assert list(tmp_path.iterdir()) == []


async def test_a_folder_with_subfolders_is_removed(tmp_path):
    async with scratch(tmp_path) as folder:
        (folder / "0" / "in").mkdir(parents=True)
        (folder / "0" / "in" / "source").touch()
    assert list(tmp_path.iterdir()) == []


async def recorded(threads, to_thread, function, *args):
    threads.append(function)
    return await to_thread(function, *args)


async def test_only_folders_of_dead_processes_are_removed(tmp_path):
    async with scratch(tmp_path) as own:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", OWNER, str(tmp_path), stdout=asyncio.subprocess.PIPE
        )
        other = Path((await process.stdout.readline()).decode().strip())
        assert remove_abandoned(tmp_path) == 0
        os.kill(process.pid, signal.SIGKILL)
        await process.wait()
        assert other.exists()
        assert remove_abandoned(tmp_path) == 1
        assert not other.exists()
        assert own.exists()
    assert list(tmp_path.iterdir()) == []


async def test_other_folders_are_not_removed(tmp_path):
    for name in ("outlast-backup", "outlast-" + "0" * 32, "other"):
        (tmp_path / name).mkdir()
    assert remove_abandoned(tmp_path) == 0
    assert len(list(tmp_path.iterdir())) == 3


async def test_a_lock_file_without_a_folder_is_removed(tmp_path):
    lock = tmp_path / f"outlast-{'0' * 32}.lock"
    lock.touch()
    (tmp_path / "outlast-own.lock").touch()
    assert remove_abandoned(tmp_path) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["outlast-own.lock"]
