"""A binding with a public bucket and folders of its own: where a worker stores, what it writes, and what it removes."""

from uuid import uuid4

import aiohttp
import pytest

from handlers.database.object_records import ObjectRecords
from handlers.storage.orphans import OrphanRemover

USER = "auth0|5f7c"


@pytest.fixture
async def shown(worker_env, tmp_path):
    """The folder with the objects of the binding's bucket."""
    key, sql = worker_env.gateway.service_role_key, worker_env.sql
    async with (
        aiohttp.ClientSession(headers={"apikey": key, "Authorization": f"Bearer {key}"}) as session,
        session.post(f"{worker_env.gateway.url}/storage/v1/bucket", json={"id": "shown", "public": True}) as response,
    ):
        assert response.status == 200
    await sql.execute("alter table generations add column stored_url text, add column owner text, add column org int")
    await sql.execute(
        "update outlast_bindings set bucket = 'shown', object_path = 'orgs/{org}/{user_id}', owner_column = 'owner',"
        """ write_urls = '{"output": "stored_url"}'"""
    )
    await worker_env.records.note_public_url(worker_env.gateway.url)
    return tmp_path / "objects" / "shown"


async def job_of(env, url, org=7):
    generation = str(uuid4())
    sql = "insert into generations (id, owner, org, status) values ($1, $2, $3, 'completed')"
    await env.sql.execute(sql, generation, USER, org)
    return env.job(url, generation_id=generation, user_id=USER)


async def test_files_are_stored_in_the_bucket_and_folders_of_the_binding(worker_env, source, shown):
    env, url = worker_env, f"{source.url}/files/tone.wav"
    first, same, elsewhere = await job_of(env, url), await job_of(env, url), await job_of(env, url, org=8)
    for number, job in enumerate((first, same, elsewhere), start=1):
        await env.send(job)
        await env.wait_for_outcome("completed", number)
    stored = {str(path.relative_to(shown)) for path in shown.rglob("*") if path.is_file()}
    rows = await env.sql.fetch("select bucket, path, deduplicated, org from outlast_files join generations g"
                               " on g.id::text = generation_id order by org, deduplicated")  # fmt: skip
    assert {row["path"] for row in rows} == stored
    assert [(row["bucket"], row["path"].rsplit("/", 2)[0], row["deduplicated"]) for row in rows] == [
        ("shown", "orgs/7/auth0=7C5f7c", False),
        ("shown", "orgs/7/auth0=7C5f7c", True),
        ("shown", "orgs/8/auth0=7C5f7c", False),
    ]

    # The URL in the application's column is the file, for everybody.
    public = await env.sql.fetchval("select stored_url from generations where id::text = $1", first.generation_id)
    async with aiohttp.ClientSession() as session, session.get(public) as response:
        assert (response.status, response.content_type) == (200, "audio/wav")

    await env.sql.execute("delete from generations")
    await env.sql.execute("update outlast_deletions set due_at = now(), deleted_at = now() - interval '2 days'")
    records = ObjectRecords(env.parts.supabase)
    remover = OrphanRemover(records, env.parts.supabase, env.settings.orphan_grace_seconds)
    await records.release_deleted_generations(env.settings.orphan_grace_seconds)
    await env.sql.execute("update outlast_objects set updated_at = now() - interval '2 days'")
    assert await remover.count() == 2
    assert (await remover.remove(60)).objects == 2
    assert not [path for path in shown.rglob("*") if path.is_file()]
