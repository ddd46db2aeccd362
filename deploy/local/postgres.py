"""A private PostgreSQL server with its own data directory and free port; its databases have the real migrations."""

import asyncio
import contextlib
import hashlib
import os
import secrets
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import asyncpg
import psutil

from deploy.local.account import Account, account_for
from deploy.local.processes import Child, StackError, free_port

BOOTSTRAP: Final = Path(__file__).parent / "sql" / "bootstrap.sql"
MIGRATIONS: Final = Path(__file__).parents[1] / "supabase" / "migrations"
DEBIAN: Final = Path("/usr/lib/postgresql")
SUPERUSER: Final = "supabase_admin"
"""As on Supabase, where `postgres` is the owner of the application's tables and no superuser."""
OWNER: Final = "postgres"
MISSING: Final = "PostgreSQL is missing: run `make setup`, or: apt-get install postgresql"
SETTINGS: Final = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "32MB",
    "max_connections": "100",
    "jit": "off",
    "wal_level": "logical",  # as in Supabase; with another level, creating a publication warns
    "max_wal_size": "256MB",
    "log_checkpoints": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
NOT_DURABLE: Final = {"fsync": "off", "full_page_writes": "off"}
WITH_STRATEGY: Final = 15
"""The first version of PostgreSQL with a choice of how a database is copied."""
MAX_STARTS: Final = 5
READY_SECONDS: Final = 240.0


class Postgres:
    """One private server. With `durable=False` it is faster, but a crash of the machine may lose data.

    The data directory is `<data_dir>/postgres`. It is created at the first start and kept.
    """

    def __init__(self, data_dir: Path, *, durable: bool = True) -> None:
        self._data_dir = data_dir.resolve()
        self._data = self._data_dir / "postgres"
        self._settings = SETTINGS if durable else SETTINGS | NOT_DURABLE
        self._password_file = self._data_dir / "postgres.password"
        self._port = 0
        self._child: Child | None = None
        self._admin: asyncpg.Connection | None = None
        self._administration = asyncio.Lock()  # one at a time, because all databases of the server share their roles

    @property
    def url(self) -> str:
        """DSN of the superuser, database `postgres`."""
        return self._login(SUPERUSER, "postgres")

    def database_url(self, name: str) -> str:
        """DSN for a database of this server. Statements run as the role `postgres`, until another role is set."""
        return f"{self._login(SUPERUSER, name)}?options=-crole%3D{OWNER}"

    def _login(self, user: str, database: str) -> str:
        return f"postgresql://{user}:{self._password_file.read_text().strip()}@127.0.0.1:{self._port}/{database}"

    async def start(self) -> None:
        """Start the server and wait until it accepts connections. Raises StackError with the end of its log."""
        programs = _debian() or await _from_pg_config()
        self._data_dir.mkdir(parents=True, exist_ok=True)
        account = await account_for(self._data_dir, self._data)
        if not self._data.exists():
            await self._initialise(programs / "initdb", account)
        self._remove_stale_pid_file()
        for _ in range(MAX_STARTS):
            # Retry: another program may have taken the port, or processes of a killed server may not have ended yet.
            self._port = free_port()
            self._child = await self._spawn(programs / "postgres", account)
            if await self._ready(self._child):
                return
            silent = self._child.running
            await self._child.stop()
            if silent:
                break
            await asyncio.sleep(0.5)
        log = self._child.tail() if self._child else ""
        self._child = None
        raise StackError(f"PostgreSQL does not start in {self._data}. Its log ends:\n{log}")

    async def stop(self) -> None:
        """Stop the server. Open connections are closed; committed data is kept."""
        if self._admin is not None:
            self._admin.terminate()
            self._admin = None
        if self._child is not None:
            await self._child.stop()
            self._child = None

    async def create_database(self, name: str) -> str:
        """Return the DSN of database `name`, with Supabase's roles and schemas and all migrations applied.

        A new database is copied from a template. In an existing one the migrations are applied again, which keeps its
        data.
        """
        async with self._connected() as admin:
            if await admin.fetchval("select true from pg_database where datname = $1", name):
                await apply_migrations(self.database_url(name))
                return self.database_url(name)
            template = await self._template(admin)
            # Copying the files takes half of the processor time of writing each page to the log, the default since 15.
            strategy = "strategy file_copy" if admin.get_server_version().major >= WITH_STRATEGY else ""
            await admin.execute(f'create database "{name}" template "{template}" owner {OWNER} {strategy}')
        return self.database_url(name)

    async def drop_database(self, name: str) -> None:
        """Close the connections to a database and remove it."""
        async with self._connected() as admin:
            await admin.execute(f'drop database "{name}" with (force)')

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[asyncpg.Connection]:
        """Yield the superuser's connection to the database `postgres`, which is kept until `stop`."""
        async with self._administration:
            if self._admin is None or self._admin.is_closed():
                self._admin = await asyncpg.connect(self.url)
            yield self._admin

    async def _template(self, admin: asyncpg.Connection) -> str:
        name = f"outlast_template_{_digest()}"
        if not await admin.fetchval("select true from pg_database where datname = $1", name):
            # Created under a temporary name, so that an incomplete template is never used.
            await admin.execute("drop database if exists outlast_template_new with (force)")
            await admin.execute("create database outlast_template_new")
            await apply_migrations(self.database_url("outlast_template_new"))
            await admin.execute(f'alter database outlast_template_new rename to "{name}"')
        return name

    async def _initialise(self, initdb: Path, account: Account) -> None:
        """Create the data directory under a temporary name, and rename it when it is complete."""
        new = self._data.with_name("postgres.new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        self._choose_password()
        account.own(new)
        account.own(self._password_file)
        await _run(
            *account.prefix,
            str(initdb),
            *("-D", str(new), "-U", SUPERUSER, f"--pwfile={self._password_file}", "--auth=scram-sha-256"),
            *("--encoding=UTF8", "--no-locale", "--no-sync"),
        )
        new.rename(self._data)

    def _choose_password(self) -> None:
        self._password_file.unlink(missing_ok=True)
        self._password_file.touch(mode=0o600)
        self._password_file.write_text(secrets.token_hex(16) + "\n")

    def _remove_stale_pid_file(self) -> None:
        """Remove the pid file of a crashed server: another process may have that pid now."""
        pid_file = self._data / "postmaster.pid"
        if not pid_file.exists():
            return
        with contextlib.suppress(psutil.Error, ValueError, IndexError):
            if Path(psutil.Process(int(pid_file.read_text().split()[0])).cwd()) == self._data:
                return  # the server still runs; PostgreSQL refuses to start a second one
        pid_file.unlink()

    async def _spawn(self, postgres: Path, account: Account) -> Child:
        options = [f"--{name}={value}" for name, value in (self._settings | {"port": str(self._port)}).items()]
        return await Child.spawn(
            "postgres",
            [*account.prefix, str(postgres), "-D", str(self._data), *options],
            data_dir=self._data_dir,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            cwd=Path("/"),
            stop_signal=signal.SIGINT,
        )

    async def _ready(self, child: Child) -> bool:
        """Wait until the server accepts connections; False if it ended or did not within READY_SECONDS."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READY_SECONDS):
                while child.process.returncode is None:
                    with contextlib.suppress(OSError, asyncpg.PostgresError):
                        await self._create_roles()
                        return True
                    await asyncio.sleep(0.05)
        return False

    async def _create_roles(self) -> None:
        """Create the role `postgres`; in a data directory of an earlier version, where it is the superuser, SUPERUSER.

        Raises OSError and asyncpg.PostgresError while the server starts.
        """
        try:
            admin = await asyncpg.connect(self.url)
        except asyncpg.InvalidAuthorizationSpecificationError:
            admin = await asyncpg.connect(self._login(OWNER, "postgres"))
            password = self._password_file.read_text().strip()
            await admin.execute(f"create role {SUPERUSER} superuser login password '{password}'")
        try:
            if not await admin.fetchval("select true from pg_roles where rolname = $1", OWNER):
                await admin.execute(f"create role {OWNER} createdb createrole bypassrls")
        finally:
            await admin.close()


async def apply_migrations(url: str) -> None:
    """Apply bootstrap.sql (Supabase's roles and schemas), then all migrations, one transaction per file. Repeatable.

    `url` is a DSN of the superuser. The first file ends with the role `postgres`, which applies the migrations.
    """
    connection = await asyncpg.connect(url)
    try:
        for file in _sql_files():
            await connection.execute(file.read_text())
    finally:
        await connection.close()


def _sql_files() -> list[Path]:
    return [BOOTSTRAP, *sorted(MIGRATIONS.glob("*.sql"))]


def _digest() -> str:
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in _sql_files())).hexdigest()[:12]


def _debian() -> Path | None:
    """Return the folder with Debian's newest `postgres` and `initdb`; None if Debian's is not installed."""
    folders = [folder for folder in DEBIAN.glob("*/bin") if (folder / "postgres").exists()]
    return max(folders, key=lambda folder: float(folder.parent.name), default=None)


async def _from_pg_config() -> Path:
    """Return the folder that pg_config prints. Raises StackError if it has no server."""
    pg_config = shutil.which("pg_config")
    folder = (await _run(pg_config, "--bindir")).strip() if pg_config else None
    if folder is None or shutil.which("postgres", path=folder) is None:
        raise StackError(MISSING)
    return Path(folder)


async def _run(*argv: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd="/"
    )
    try:
        output = (await process.communicate())[0].decode(errors="replace")
    finally:
        if process.returncode is None:  # cancelled: end the process
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise StackError(f"{argv[0]} failed: {output[-2000:]}")
    return output
