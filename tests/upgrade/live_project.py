"""A project in use: workers, an application that inserts rows, sign-ins, uploads and a sweep, all on one database.

Each task repeats short transactions and records its errors and its longest wait.
"""

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from tests.time_limits import WAIT_SECONDS

USERS = 20
PREPARE = """
alter table public.generations add foreign key (user_id) references auth.users (id);
insert into auth.users (id) select md5(n::text)::uuid from generate_series(1, 20) n;
insert into storage.buckets (id, name) values ('generations', 'generations') on conflict do nothing;
"""
INSERT = """
insert into public.generations (user_id, status, output)
values (md5((1 + random() * 19)::int::text)::uuid, 'completed', '{"images": [{"url": "https://v3.fal.media/a.png"}]}')
returning id::text, user_id::text
"""
SIGN_IN = """
with seen as (
  update auth.users set created_at = now() where id = md5((1 + random() * 19)::int::text)::uuid returning id
)
insert into auth.refresh_tokens (user_id, token) select id, 't' from seen
"""
UPLOAD = "insert into storage.objects (bucket_id, name, metadata) values ('generations', gen_random_uuid(), '{}')"


@dataclass(slots=True)
class Activity:
    """What the tasks observed: errors, and by task its longest run in seconds and the number of its runs."""

    errors: list[str] = field(default_factory=list)
    longest: dict[str, float] = field(default_factory=dict)
    done: dict[str, int] = field(default_factory=dict)
    stopping: bool = False


class LiveProject:
    """Runs the tasks. Every connection of the pool has the role `postgres`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self.activity = Activity()

    @contextlib.asynccontextmanager
    async def in_use(self, *, outlast: str | None = "current") -> AsyncIterator[Activity]:
        """Run the project while the block runs; every task has done something before the block starts and ends.

        Workers run too, of the release `outlast`: `first`, `current`, or None for a project without Outlast.
        """
        actions: dict[str, Callable[[], Awaitable[None]]] = {
            "insert": self._insert,
            "sign in": self._sign_in,
            "upload": self._upload,
        }
        if outlast == "first":
            actions |= {"work": self._first_work}
        if outlast == "current":
            actions |= {"work": self._work, "sweep": self._sweep, "delete": self._delete}
        names = [*actions, *(["work"] * 3 if outlast else []), "insert"]
        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(self._repeat(name, actions[name]))
            try:
                await self._wait_for_progress(actions)
                yield self.activity
                await self._wait_for_progress(actions)
            finally:
                self.activity.stopping = True

    async def _wait_for_progress(self, names: Any) -> None:
        before = dict(self.activity.done)
        async with asyncio.timeout(WAIT_SECONDS):
            while any(self.activity.done.get(name, 0) == before.get(name, 0) for name in names):
                await asyncio.sleep(0.01)

    async def _repeat(self, name: str, action: Callable[[], Awaitable[None]]) -> None:
        activity = self.activity
        for _ in itertools.count():
            if activity.stopping:
                return
            started = time.monotonic()
            try:
                await action()
            except asyncpg.PostgresError as error:
                activity.errors.append(f"{name}: {error!r}")
            activity.longest[name] = max(activity.longest.get(name, 0), time.monotonic() - started)
            activity.done[name] = activity.done.get(name, 0) + 1
            await asyncio.sleep(0.005)

    async def _insert(self) -> None:
        await self._pool.execute(INSERT)

    async def _sign_in(self) -> None:
        await self._pool.execute(SIGN_IN)

    async def _upload(self) -> None:
        await self._pool.execute(UPLOAD)

    async def _delete(self) -> None:
        """Delete a finished generation, as its user does."""
        await self._pool.execute(
            "delete from public.generations where id in (select id from public.generations"
            " where media_status = 'completed' limit 1 for update skip locked)"
        )

    async def _sweep(self) -> None:
        await self._call("outlast_missing", p_idle_seconds=0, p_limit=50)
        await self._call("outlast_release", p_grace_seconds=0)
        await self._call("outlast_heartbeat", p_worker="w", p_leases=[uuid4()], p_stats="{}")

    async def _work(self) -> None:
        """Process one generation, as a worker does: every call is a transaction."""
        generation, user = await self._pool.fetchrow(INSERT)
        job, lease, file = job_for(generation, user), uuid4(), file_for(generation, user)
        await self._begin(job, lease)
        progress = {"task_id": job["task_id"], "lease": str(lease), "progress": {"completed": 1}}
        await self._call("outlast_progress", p_items=json.dumps([progress]))
        await self._call("outlast_claim", p_bucket=file["bucket"], p_path=file["path"], p_user_id=user)
        await self._call("outlast_known", p_user_id=user, p_source_sha256=file["source_sha256"], p_profile="p")
        await self._finish(job, lease, file)

    async def _first_work(self) -> None:
        """Process one generation with the functions of the first release."""
        generation, user = await self._pool.fetchrow(INSERT)
        job, lease = job_for(generation, user), uuid4()
        await self._begin(job, lease)
        await self._finish(job, lease, file_for(generation, user))

    async def _begin(self, job: dict[str, Any], lease: UUID) -> None:
        begun = await self._call("outlast_begin", p_job=json.dumps(job), p_lease=lease, p_worker="w")
        assert begun["state"] == "run", begun

    async def _finish(self, job: dict[str, Any], lease: UUID, file: dict[str, Any]) -> None:
        files, status = json.dumps([file]), "completed"
        finished = await self._call(
            "outlast_finish", p_task_id=job["task_id"], p_lease=lease, p_status=status, p_files=files, p_failed="[]"
        )
        assert finished["state"] == "recorded", finished

    async def _call(self, function: str, **arguments: Any) -> Any:
        names = ", ".join(f"{name} => ${number}" for number, name in enumerate(arguments, 1))
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute("set local role service_role")
            answer = await connection.fetchval(f"select public.{function}({names})", *arguments.values())
            return json.loads(answer or "null")


def job_for(generation: str, user: str) -> dict[str, Any]:
    return {
        "task_id": str(uuid4()),
        "generation_id": generation,
        "user_id": user,
        "source": "supabase",
        "queue": "file_processing",
        "positions": [0],
        "source_keys": ["a"],
        "total_files": 1,
        "output_key": "a",
        "profile": "p",
        "attempt": 1,
    }


def file_for(generation: str, user: str) -> dict[str, Any]:
    """Return a stored file; the files of a user share one object, so that workers meet at its row."""
    return {
        "id": str(uuid4()),
        "source_key": "a",
        "position": 0,
        "original_filename": "a.png",
        "original_size": 10,
        "file_size": 10,
        "content_type": "image/png",
        "bucket": "generations",
        "path": f"{user}/a.png",
        "sha256": generation,
        "source_sha256": generation,
        "profile": "p",
        "deduplicated": False,
    }
