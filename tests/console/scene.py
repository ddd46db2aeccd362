"""A bad night in Outlast, for somebody to look at: something of everything each page can show."""

import json
from datetime import UTC, datetime

from tests.broker.graves import START

PAST_HOUR = (
    "insert into outlast_tasks (task_id, generation_id, user_id, source, status, queue, attempt, error, error_code,"
    " total_files, event_at, created_at, started_at, finished_at)"
    " select gen_random_uuid(), gen_random_uuid()::text, 'user-' || i % 7, 'supabase',"
    " case when i % 9 = 0 then 'failed' else 'completed' end, 'file_processing', 1 + i % 3,"
    " case when i % 9 = 0 then 'https://v3.fal.media/files/lion/' || i || '.png answered 503' end,"
    " case when i % 9 = 0 then 'source_unavailable' end, 1 + i % 4, at, at, at, at + (1 + i % 11) * interval '1 s'"
    " from (select i, now() - interval '10 s' - i * interval '23 s' as at from generate_series(1, 140) i) t"
)


class Scene:
    """What was made: `whole` completed, `again` its duplicate, `slow` runs, `broken` failed; an `operation`."""

    def __init__(self, bench, yard, source):
        self.bench, self.yard, self.source = bench, yard, source
        self.operation = None

    async def set(self):
        bench, files = self.bench, f"{self.source.url}/files"
        await bench.sql.execute(PAST_HOUR)
        self.whole = bench.job(f"{files}/photo.png", f"{files}/tone.mp3")
        await bench.sql.execute(
            "insert into generations (id, user_id, status) values ($1, gen_random_uuid(), 'completed')",
            self.whole.generation_id,
        )
        self.broken = bench.job(f"{files}/photo.png?truncate=1000")
        await bench.send(self.whole)
        await bench.outcome("completed")
        self.again = bench.job(f"{files}/photo.png", user_id=self.whole.user_id)
        await bench.send(self.again)
        await bench.outcome("completed", count=2)
        await bench.send(self.broken, attempt=2)
        await bench.outcome("failed")
        self.slow = bench.job(f"{files}/photo.png?slow=9000")
        await bench.send(self.slow)
        await bench.running()
        await bench.records.heartbeat("bench", [], bench.worker.stats())
        await self.bury()
        await self.note()
        await self.past()
        return self

    async def bury(self):
        since_start = (datetime.now(UTC) - START).total_seconds() / 60
        for n in range(60):
            code, stage, error, minutes_ago = (
                ("source_unavailable", "download", "v3.fal.media answered 503 after 30 s", n / 9),
                ("type_not_supported", "download", "an SVG (image/svg+xml) is never stored", 20 + n),
                ("storage_rejected", "upload", "the bucket does not take image/avif: mime type not allowed", 2 * n),
                ("source_gone", "download", "v3.fal.media answered 404: the link has expired", 3 * n),
            )[n % 4 if n % 8 else 0]
            job = self.yard.job(f"https://v3.fal.media/files/lion/{n}.png", generation_id=f"gen-{n:04}")
            await self.yard.bury(job, code, error, stage, minutes=since_start - minutes_ago, attempt=3)

    async def note(self):
        about = "source_unavailable\ndownload\nv3.fal.media"
        text = "Their status page says: partial outage since 02:40. Replay at 5/s when it is green."
        await self.bench.sql.execute(
            "insert into outlast_notes (about, note, by) values ($1, $2, 'Grace')", about, text
        )

    async def past(self):
        kept = [{"id": str(self.slow.task_id), "reason": "its source is gone, and FAL knows nothing newer"}] * 2
        deeds = (
            ("replay", "Grace", "done", 42, 40, kept, None),
            ("discard", "Ada", "done", 7, 7, [], None),
            ("replay", "Ada", "aborted", 300, 118, [], "aborted by Ada"),
            ("restore", "Ada", "done", 2, 2, [], None),
        )
        for ago, (verb, by, state, matched, done, left, detail) in enumerate(deeds, start=1):
            target = {"code": "source_unavailable", "rate": 5.0} if verb == "replay" else {"letters": matched}
            await self.bench.sql.execute(
                "insert into outlast_operations (id, verb, by, target, state, matched, done, kept, detail, started_at,"
                " ended_at) values (gen_random_uuid(), $1, $2, $3, $4, $5, $6, $7, $8, now() - $9 * interval '17 min',"
                " now() - $9 * interval '16 min')",
                *(verb, by, json.dumps(target), state, matched, done, json.dumps(left), detail, ago),
            )
        self.operation = await self.bench.sql.fetchval(
            "select id from outlast_operations order by started_at desc limit 1"
        )
        await self.bench.sql.execute(
            "insert into outlast_dead_archive (id, task_id, code, item, body, discarded_by, gone_after) select"
            " gen_random_uuid(), gen_random_uuid(), 'corrupted', $1, '', 'Ada', now() + interval '30 d'"
            " from generate_series(1, 5)",
            json.dumps({"error": "the PNG ends in the middle"}),
        )
