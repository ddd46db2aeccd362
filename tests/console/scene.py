"""Sample data for screenshots: at least one of everything that each page can show."""

import json
from datetime import UTC, datetime

from tests.broker.dead_letter_vhost import START

LAST_HOUR = (
    "insert into outlast_tasks (task_id, generation_id, user_id, source, status, queue, attempt, error, error_code,"
    " total_files, event_at, created_at, started_at, finished_at)"
    " select gen_random_uuid(), gen_random_uuid()::text, 'user-' || i % 7, 'supabase',"
    " case when i % 9 = 0 then 'failed' else 'completed' end, 'file_processing', 1 + i % 3,"
    " case when i % 9 = 0 then 'https://v3.fal.media/files/lion/' || i || '.png answered 503' end,"
    " case when i % 9 = 0 then 'source_unavailable' end, 1 + i % 4, at, at, at, at + (1 + i % 11) * interval '1 s'"
    " from (select i, now() - interval '10 s' - i * interval '23 s' as at from generate_series(1, 140) i) t"
)


LAST_WEEK = (
    "insert into outlast_tasks (task_id, generation_id, user_id, source, status, queue, event_at, created_at,"
    " finished_at) select gen_random_uuid(), gen_random_uuid()::text, 'user-' || i % 7, 'supabase',"
    " case when i % 11 = 0 or i between 300 and 330 then 'failed' else 'completed' end, 'file_processing', at, at, at"
    " from (select i, now() - interval '1 h' - i * interval '10 min' as at from generate_series(1, 900) i) t"
)


class Scene:
    """Tasks: `completed`, its `duplicate`, `running` and `failed`; the ids of a `missed` row and of an `operation`."""

    def __init__(self, worker_env, vhost, source):
        self.worker_env, self.vhost, self.source = worker_env, vhost, source
        self.operation = None

    async def create(self):
        worker_env, files = self.worker_env, f"{self.source.url}/files"
        await worker_env.sql.execute(LAST_HOUR)
        await worker_env.sql.execute(LAST_WEEK)
        self.completed = worker_env.job(f"{files}/photo.png", f"{files}/tone.mp3")
        await worker_env.sql.execute(
            "insert into generations (id, user_id, status) values ($1, gen_random_uuid(), 'completed')",
            self.completed.generation_id,
        )
        self.missed = await worker_env.sql.fetchval(
            "insert into generations (id, user_id, request_id, status, output) values"
            " (gen_random_uuid(), gen_random_uuid(), 'request-1', 'completed', $1) returning id",
            json.dumps({"images": [{"url": f"{files}/photo.png"}, {"url": f"{files}/tone.mp3"}]}),
        )
        self.failed = worker_env.job(f"{files}/photo.png?truncate=1000")
        await worker_env.send(self.completed)
        await worker_env.wait_for_outcome("completed")
        self.duplicate = worker_env.job(f"{files}/photo.png", user_id=self.completed.user_id)
        await worker_env.send(self.duplicate)
        await worker_env.wait_for_outcome("completed", count=2)
        await worker_env.send(self.failed, attempt=2)
        await worker_env.wait_for_outcome("failed")
        self.running = worker_env.job(f"{files}/photo.png?slow=1000")
        await worker_env.send(self.running)
        await worker_env.wait_until_running()
        await worker_env.records.heartbeat("test-worker", [], worker_env.worker.stats())
        await self.add_dead_letters()
        await self.add_note()
        await self.add_history()
        return self

    async def add_dead_letters(self):
        since_start = (datetime.now(UTC) - START).total_seconds() / 60
        for n in range(60):
            code, stage, error, minutes_ago = (
                ("source_unavailable", "download", "v3.fal.media answered 503 after 30 s", n / 9),
                ("type_not_supported", "download", "a PDF (application/pdf) is never stored", 20 + n),
                ("storage_rejected", "upload", "the bucket does not take image/avif: mime type not allowed", 2 * n),
                ("source_gone", "download", "v3.fal.media answered 404: the link has expired", 3 * n),
            )[n % 4 if n % 8 else 0]
            job = self.vhost.job(f"https://v3.fal.media/files/lion/{n}.png", generation_id=f"gen-{n:04}")
            await self.vhost.dead_letter(job, code, error, stage, minutes=since_start - minutes_ago, attempt=3)

    async def add_note(self):
        about = "source_unavailable\ndownload\nv3.fal.media"
        text = "Their status page says: partial outage since 02:40. Replay at 5/s when it is green."
        await self.worker_env.sql.execute(
            "insert into outlast_notes (about, note, by) values ($1, $2, 'Grace')", about, text
        )

    async def add_history(self):
        kept = [
            {
                "id": str(self.running.task_id),
                "reason": "gone at v3.fal.media, and the URLs in FAL's result are gone as well",
            }
        ] * 2
        operations = (
            ("replay", "Grace", "done", 42, 40, kept, None),
            ("discard", "Ada", "done", 7, 7, [], None),
            ("replay", "Ada", "aborted", 300, 118, [], "aborted by Ada"),
            ("restore", "Ada", "done", 2, 2, [], None),
        )
        for ago, (verb, by, state, matched, done, left, detail) in enumerate(operations, start=1):
            target = {"code": "source_unavailable", "rate": 5.0} if verb == "replay" else {"selected": matched}
            await self.worker_env.sql.execute(
                "insert into outlast_operations (id, verb, by, target, state, matched, done, kept, detail, started_at,"
                " ended_at) values (gen_random_uuid(), $1, $2, $3, $4, $5, $6, $7, $8, now() - $9 * interval '17 min',"
                " now() - $9 * interval '16 min')",
                *(verb, by, json.dumps(target), state, matched, done, json.dumps(left), detail, ago),
            )
        self.operation = await self.worker_env.sql.fetchval(
            "select id from outlast_operations order by started_at desc limit 1"
        )
        await self.worker_env.sql.execute(
            "insert into outlast_replayed (operation_id, letter_id, task_id, source_keys, outcome) select $1,"
            " gen_random_uuid(), gen_random_uuid(), '{}', (array['stored', 'stored', 'stored', 'source_gone', null])[1"
            " + i % 5] from generate_series(1, 40) i",
            self.operation,
        )
        await self.worker_env.sql.execute(
            "insert into outlast_dead_archive (id, task_id, code, item, body, discarded_by, gone_after) select"
            " gen_random_uuid(), gen_random_uuid(), 'corrupted', $1, '', 'Ada', now() + interval '30 d'"
            " from generate_series(1, 5)",
            json.dumps({"error": "the PNG ends in the middle"}),
        )
