import asyncio
import json
import os
import pwd
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

RUN_SERVER = """
import asyncio, ctypes, json, os, sys, asyncpg, psutil
from pathlib import Path
from deploy.local.postgres import Postgres

# The capabilities that this process needed to read the interpreter must not be passed to the server.
ctypes.CDLL(None).prctl(47, 4, 0, 0, 0)

async def main():
    server = Postgres(Path(sys.argv[1]), durable=False)
    await server.start()
    connection = await asyncpg.connect(await server.create_database("x"))
    found = await connection.fetchval("select count(*) from public.outlast_settings")
    await connection.close()
    pid = (Path(sys.argv[1]) / "postgres/postmaster.pid").read_text().split()[0]
    status = Path(f"/proc/{pid}/status").read_text()
    await server.stop()
    print(json.dumps({"uid": os.geteuid(), "settings": found, "status": status}))

asyncio.run(main())
"""


def servers_in(data_dir: Path) -> list[int]:
    """Return the processes of the server; their working directory is its data directory."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(data_dir / "postgres"):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


async def test_a_stop_leaves_no_process_and_a_restart_keeps_the_data(tmp_path: Path) -> None:
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


async def test_a_data_directory_in_which_postgres_is_the_superuser_can_still_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module, "SUPERUSER", "postgres")
        earlier = Postgres(tmp_path, durable=False)
        await earlier.start()
        connection = await asyncpg.connect(await earlier.create_database("app"))
        await connection.execute("insert into public.outlast_workers (worker) values ('w')")
        await connection.close()
        await earlier.stop()

    server = Postgres(tmp_path, durable=False)
    await server.start()
    try:
        connection = await asyncpg.connect(await server.create_database("app"))
        assert await connection.fetchval("select worker from public.outlast_workers") == "w"
        await connection.close()
    finally:
        await server.stop()


async def test_a_killed_server_starts_again_with_the_committed_data(tmp_path: Path) -> None:
    server = Postgres(tmp_path, durable=False)
    await server.start()
    connection = await asyncpg.connect(await server.create_database("app"))
    await connection.execute("insert into public.outlast_workers (worker) values ('w')")
    process = psutil.Process(int((tmp_path / "postgres" / "postmaster.pid").read_text().split()[0]))
    process.kill()
    await asyncio.to_thread(process.wait)
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


async def test_a_pid_file_with_another_programs_pid_does_not_prevent_the_start(tmp_path: Path) -> None:
    server = Postgres(tmp_path, durable=False)
    await server.start()
    await server.stop()
    other_process = await asyncio.create_subprocess_exec("sleep", "60")
    try:
        pid_file = tmp_path / "postgres" / "postmaster.pid"
        pid_file.write_text(f"{other_process.pid}\n{tmp_path / 'postgres'}\n")
        await server.start()
        connection = await asyncpg.connect(server.url)
        assert await connection.fetchval("select 1") == 1
        await connection.close()
        await server.stop()
    finally:
        other_process.kill()
        await other_process.wait()


async def test_the_password_file_is_private_and_a_wrong_password_is_refused(
    postgres: Postgres, stack_dir: Path
) -> None:
    assert (stack_dir / "postgres.password").stat().st_mode & 0o777 == 0o600
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(postgres.url, password="wrong")


async def test_an_unprivileged_user_can_run_a_server() -> None:
    with TemporaryDirectory(prefix="outlast-") as folder:
        prefix: tuple[str, ...] = ()
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
            require = [Path(sys.base_prefix), Path(sys.prefix), Path(module.__file__).parent]
            prefix = max([await setpriv_prefix(nobody.pw_uid, nobody.pw_gid, path) for path in require], key=len)
        process = await asyncio.create_subprocess_exec(
            *(*prefix, sys.executable, "-B", "-c", RUN_SERVER, folder), stdout=asyncio.subprocess.PIPE, cwd="/"
        )
        output = (await process.communicate())[0]
        assert process.returncode == 0
        report = json.loads(output)
        assert report["settings"] > 0
        assert report["uid"] != 0
        assert f"Uid:\t{report['uid']}\t" in report["status"]
        assert "CapEff:\t0000000000000000" in report["status"]
        assert servers_in(Path(folder)) == []


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter; pytest's temporary folders are private."""
    with TemporaryDirectory(prefix="outlast-") as folder:
        path = Path(folder)
        path.chmod(0o755)
        yield path


async def test_root_grants_capabilities_only_for_private_folders(tmp_path: Path, open_folder: Path) -> None:
    at_open = await account_for(open_folder, open_folder / "postgres")
    at_closed = await account_for(tmp_path, tmp_path / "postgres")
    assert at_open.uid != 0
    if os.geteuid() == 0:
        assert not any("caps" in word for word in at_open.prefix)
        assert any("caps" in word for word in at_closed.prefix)
    else:
        assert at_open.prefix == at_closed.prefix == ()


async def test_a_missing_program_is_an_error_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEBIAN", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StackError, match="apt-get install postgresql"):
        await Postgres(tmp_path / "data").start()


async def test_a_failed_start_shows_the_servers_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Postgres(tmp_path, durable=False)
    await server.start()
    await server.stop()
    (tmp_path / "postgres" / "PG_VERSION").write_text("9.6\n")
    monkeypatch.setattr(module, "MAX_STARTS", 1)
    with pytest.raises(StackError, match="incompatible"):
        await server.start()
