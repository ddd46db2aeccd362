"""An application with a table of its own shape: its schema and what is expected of it, from the files in `shapes/`."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from typer.testing import CliRunner

from deploy.local.postgres import DEBIAN
from handlers.database.task_records import task_row
from handlers.download.allowlist import Allowlist
from handlers.settings import MediaSettings
from handlers.sources.plan import plan_jobs
from handlers.sources.supabase import SupabaseSource
from schemas.events import CompletedGeneration
from schemas.jobs import Job
from tests.contracts.postgres.conftest import Database, stored_file
from worker.cli.main import app

SHAPES: Final = Path(__file__).parent / "shapes"
NAMES: Final = sorted(path.stem for path in SHAPES.glob("*.sql"))
SETTINGS: Final = MediaSettings(_env_file=None)


class Application:
    """The application of one shape, in a schema of its own, with a binding of its own."""

    def __init__(self, name: str, db: Database, url: str) -> None:
        self.name, self.db, self.url = name, db, url
        self.expected: dict[str, Any] = json.loads((SHAPES / f"{name}.json").read_text())
        self.media: str | None = self.expected.get("media", "media")
        self.media_status: str | None = self.expected.get("media_status", "media_status")
        options = self.expected["options"]
        table = options[options.index("--table") + 1] if "--table" in options else "generations"
        self.table = f'{name}."{table}"'

    async def create(self) -> None:
        """Create its schema, as a migration of the application does."""
        await self.db.run(
            f"create schema {self.name}; grant usage on schema {self.name} to authenticated, service_role"
        )
        await self.run((SHAPES / f"{self.name}.sql").read_text())
        for objects in ("tables", "sequences"):
            await self.db.run(f"grant all on all {objects} in schema {self.name} to authenticated, service_role")

    async def run(self, sql: str, role: str = "postgres") -> Any:
        """Run SQL in its schema; return the first value."""
        async with self.db.pool.acquire() as connection, connection.transaction():
            await connection.execute(f"set local role {role}; set local search_path = {self.name}")
            if ";" in sql:
                return await connection.execute(sql)
            return await connection.fetchval(sql)

    def dump(self) -> str:
        """Return its schema as `pg_dump` writes it."""
        argv = [_pg_dump(), "--schema-only", "--schema", self.name, self.url.partition("?")[0]]
        lines = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()  # noqa: S603 - our own arguments
        return "\n".join(line for line in lines if not line.startswith(("\\restrict", "\\unrestrict")))

    def init(self, options: Sequence[str]) -> str:
        """Return the SQL of `outlast init` with these options."""
        argv = ["init", "--binding", self.name, "--schema", self.name, *options, "--receiver-url", "http://x", "--json"]
        result = CliRunner().invoke(app, argv, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return str(json.loads(result.output)["sql"])

    async def events(self) -> list[CompletedGeneration]:
        """Return the events that its trigger has sent, as the receiver reads them."""
        rows = await self.db.pool.fetch("delete from net.http_request_queue returning body, id")
        bodies = [bytes(row["body"]) for row in sorted(rows, key=lambda row: row["id"])]
        events = [SupabaseSource(SETTINGS, []).parse(body) for body in bodies]
        return [event for event in events if isinstance(event, CompletedGeneration)]

    def jobs(self, event: CompletedGeneration) -> tuple[Job, ...]:
        """Return the jobs of an event."""
        return plan_jobs(event, SETTINGS, Allowlist(SETTINGS.source_allowlist))

    async def process(self, job: Job) -> dict[str, Any]:
        """Begin a job and store all of its files, as a worker does; return the answer of `outlast_begin`."""
        lease = uuid4()
        begun: dict[str, Any] = await self.db.call(
            "outlast_begin", p_job=task_row(job), p_lease=lease, p_worker="w", p_lease_seconds=30
        )
        assert begun["state"] == "run", begun
        files = [
            stored_file(self.name + begun["generation_id"], file.source_key, path=f"{self.name}/{file.source_key}")
            | {"position": file.position}
            for file in job.files
        ]
        finished = await self.db.call(
            "outlast_finish",
            p_task_id=job.task_id,
            p_lease=lease,
            p_status="completed",
            p_files=files,
            p_failed=[],
        )
        assert finished == {"state": "recorded", "status": "completed"}
        return begun


def _pg_dump() -> str:
    """Return the program, of the newest PostgreSQL that is installed."""
    paths = sorted(DEBIAN.glob("*/bin/pg_dump"), key=lambda path: float(path.parents[1].name))
    found = paths[-1] if paths else shutil.which("pg_dump")
    assert found is not None
    return str(found)
