import asyncio
import json
import os
import pwd
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg
import psutil
import pytest

import deploy.local.postgres as module
from deploy.local.account import account_for, setpriv_prefix
from deploy.local.postgres import Postgres
from deploy.local.processes import StackError

pytestmark = pytest.mark.service

ORDINARY = """
import asyncio, ctypes, json, os, sys, asyncpg, psutil
from pathlib import Path
from deploy.local.postgres import Postgres

# What let us read the interpreter must not reach the server.
ctypes.CDLL(None).prctl(47, 4, 0, 0, 0)

async def main():
    server = Postgres(Path(sys.argv[1]), durable=False)
    await server.start()
    connection = await asyncpg.connect(await server.create_database("x"))
    found = await connection.fetchval("select count(*) from public.outlast_settings")
    await connection.close()
    status = Path(f"/proc/{server._child.process.pid}/status").read_text()
    await server.stop()
    print(json.dumps({"uid": os.geteuid(), "settings": found, "status": status}))

asyncio.run(main())
"""


def servers_in(data_dir: Path) -> list[int]:
    """Every process of a server works in its data directory."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(data_dir / "postgres"):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


async def test_stopping_leaves_no_process_and_starting_again_keeps_data(tmp_path: Path) -> None:
    server = Postgres(tmp_path, durable=False)
    await server.start()
    connection = await asyncpg.connect(await server.create_database("app"))
    await connection.execute("insert into public.outlast_workers (worker) values ('w')")
    await connection.close()
    assert servers_in(tmp_path)
    await server.stop()
    assert servers_in(tmp_path) == []

    again = Postgres(tmp_path, durable=False)
    await again.start()
    try:
        connection = await asyncpg.connect(await again.create_database("app"))
        assert await connection.fetchval("select worker from public.outlast_workers") == "w"
        await connection.close()
    finally:
        await again.stop()
    assert servers_in(tmp_path) == []


async def test_a_killed_server_starts_again_with_what_was_committed(tmp_path: Path) -> None:
    server = Postgres(tmp_path, durable=False)
    await server.start()
    connection = await asyncpg.connect(await server.create_database("app"))
    await connection.execute("insert into public.outlast_workers (worker) values ('w')")
    child = server._child
    assert child is not None
    os.kill(child.process.pid, signal.SIGKILL)
    await child.process.wait()
    connection.terminate()
    assert (tmp_path / "postgres" / "postmaster.pid").exists()

    again = Postgres(tmp_path, durable=False)
    await again.start()
    try:
        connection = await asyncpg.connect(await again.create_database("app"))
        assert await connection.fetchval("select worker from public.outlast_workers") == "w"
        await connection.close()
    finally:
        await again.stop()
    assert servers_in(tmp_path) == []


async def test_a_pid_file_that_names_a_stranger_does_not_block_the_start(tmp_path: Path) -> None:
    server = Postgres(tmp_path, durable=False)
    await server.start()
    await server.stop()
    stranger = await asyncio.create_subprocess_exec("sleep", "60")
    try:
        pid_file = tmp_path / "postgres" / "postmaster.pid"
        pid_file.write_text(f"{stranger.pid}\n{tmp_path / 'postgres'}\n")
        await server.start()
        connection = await asyncpg.connect(server.url)
        assert await connection.fetchval("select 1") == 1
        await connection.close()
        await server.stop()
    finally:
        stranger.kill()
        await stranger.wait()


async def test_the_password_is_for_us_alone(postgres: Postgres, stack_dir: Path) -> None:
    assert (stack_dir / "postgres.password").stat().st_mode & 0o777 == 0o600
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(postgres.url, password="wrong")


async def test_an_ordinary_user_may_run_it() -> None:
    with TemporaryDirectory(prefix="outlast-") as folder:
        prefix: tuple[str, ...] = ()
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
            require = [Path(sys.base_prefix), Path(sys.prefix), Path(module.__file__).parent]
            prefix = max([await setpriv_prefix(nobody.pw_uid, nobody.pw_gid, path) for path in require], key=len)
        process = await asyncio.create_subprocess_exec(
            *(*prefix, sys.executable, "-B", "-c", ORDINARY, folder), stdout=asyncio.subprocess.PIPE, cwd="/"
        )
        output = (await process.communicate())[0]
        assert process.returncode == 0
        said = json.loads(output)
        assert said["settings"] > 0
        assert said["uid"] != 0
        assert f"Uid:\t{said['uid']}\t" in said["status"]
        assert "CapEff:\t0000000000000000" in said["status"]
        assert servers_in(Path(folder)) == []


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder anybody may enter; pytest's own temporary folders are closed to others."""
    with TemporaryDirectory(prefix="outlast-") as folder:
        path = Path(folder)
        path.chmod(0o755)
        yield path


async def test_root_lends_no_more_than_is_needed(tmp_path: Path, open_folder: Path) -> None:
    at_open = await account_for(open_folder, open_folder / "postgres")
    at_closed = await account_for(tmp_path, tmp_path / "postgres")
    assert at_open.uid != 0
    if os.geteuid() == 0:
        assert not any("caps" in word for word in at_open.prefix)
        assert any("caps" in word for word in at_closed.prefix)
    else:
        assert at_open.prefix == at_closed.prefix == ()


async def test_a_missing_program_is_told_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEBIAN", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StackError, match="apt-get install postgresql"):
        await Postgres(tmp_path / "data").start()


async def test_a_server_that_will_not_start_shows_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Postgres(tmp_path, durable=False)
    await server.start()
    await server.stop()
    (tmp_path / "postgres" / "PG_VERSION").write_text("9.6\n")
    monkeypatch.setattr(module, "STARTS", 1)
    with pytest.raises(StackError, match="incompatible"):
        await server.start()
