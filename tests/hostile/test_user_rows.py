"""What a signed-in user can do with rows that they may write, under an ordinary "own rows" policy, over REST."""

import json
from typing import Any
from uuid import uuid4

import aiohttp
import asyncpg
import jwt
import pytest

from deploy.local.gateway import Gateway
from deploy.local.postgres import apply_migrations

OWN_ROWS = """
create policy "own rows" on public.generations to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));
"""
FORGED = {"media": [{"bucket": "generations", "path": "victim/secret.jpg"}], "media_status": "completed"}
RECORDED = {"media": [{"path": "recorded.jpg"}], "media_status": "completed"}


class Users:
    """Requests to the gateway as a signed-in user or as the service role."""

    def __init__(self, gateway: Gateway, session: aiohttp.ClientSession, sql: asyncpg.Connection) -> None:
        self.gateway, self.session, self.sql = gateway, session, sql
        self.user = str(uuid4())

    async def send(self, method: str, path: str, body: Any = None, role: str = "authenticated") -> tuple[int, Any]:
        claims = {"role": role, "sub": self.user}
        token = jwt.encode(claims, self.gateway.jwt_secret, algorithm="HS256")
        headers = {"apikey": token, "Authorization": f"Bearer {token}", "Prefer": "return=representation"}
        url = f"{self.gateway.url}/rest/v1/{path}"
        async with self.session.request(method, url, json=body, headers=headers) as response:
            return response.status, await response.json()

    async def row(self, identity: str) -> dict[str, Any]:
        row = await self.sql.fetchrow("select * from generations where id = $1", identity)
        return dict(row) | {"media": row["media"] and json.loads(row["media"])}

    async def recorded_row(self) -> str:
        """Insert a row of the user, with media, as the application and Outlast do; return its id."""
        row = {"id": str(uuid4()), "user_id": self.user, "prompt": "old", **RECORDED}
        status, _ = await self.send("POST", "generations", row, role="service_role")
        assert status == 201
        return row["id"]


@pytest.fixture
async def users(database_url, tmp_path):
    sql = await asyncpg.connect(database_url)
    await sql.execute(OWN_ROWS)
    async with (
        Gateway(database_url=database_url, storage_dir=tmp_path) as gateway,
        aiohttp.ClientSession() as session,
    ):
        yield Users(gateway, session, sql)
    await sql.close()


async def test_a_user_cannot_change_media_and_the_rest_of_the_update_is_written(users):
    identity = await users.recorded_row()
    status, _ = await users.send("PATCH", f"generations?id=eq.{identity}", {"prompt": "new", **FORGED})
    assert status == 200
    row = await users.row(identity)
    assert (row["prompt"], row["media"], row["media_status"]) == ("new", RECORDED["media"], "completed")


async def test_a_user_cannot_insert_media_and_the_row_is_inserted(users):
    identity = str(uuid4())
    body = {"id": identity, "user_id": users.user, "prompt": "p", **FORGED}
    assert (await users.send("POST", "generations", body))[0] == 201
    row = await users.row(identity)
    assert (row["prompt"], row["media"], row["media_status"]) == ("p", None, None)


async def test_an_upsert_cannot_replace_media(users):
    identity = await users.recorded_row()
    body = {"id": identity, "user_id": users.user, "prompt": "new", **FORGED}
    token = jwt.encode({"role": "authenticated", "sub": users.user}, users.gateway.jwt_secret, algorithm="HS256")
    headers = {"apikey": token, "Authorization": f"Bearer {token}", "Prefer": "resolution=merge-duplicates"}
    url = f"{users.gateway.url}/rest/v1/generations?on_conflict=id"
    async with users.session.post(url, json=body, headers=headers) as response:
        assert response.status < 300, await response.text()
    row = await users.row(identity)
    assert (row["prompt"], row["media"]) == ("new", RECORDED["media"])


async def test_a_user_cannot_clear_media(users):
    identity = await users.recorded_row()
    cleared = {"media": None, "media_status": None}
    assert (await users.send("PATCH", f"generations?id=eq.{identity}", cleared))[0] == 200
    row = await users.row(identity)
    assert (row["media"], row["media_status"]) == (RECORDED["media"], RECORDED["media_status"])


async def test_the_service_role_may_write_media(users):
    identity = await users.recorded_row()
    await users.send("PATCH", f"generations?id=eq.{identity}", FORGED, role="service_role")
    assert (await users.row(identity))["media"] == FORGED["media"]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("media jsonb not null default '[]'", []),
        ("media jsonb not null", []),
        ("media jsonb default '{\"mine\": 1}'", {"mine": 1}),
    ],
)
async def test_an_insert_gets_the_default_of_an_existing_media_column(users, column, expected):
    await users.sql.execute("alter table public.generations drop column media, drop column media_status")
    await users.sql.execute(
        f"alter table public.generations add {column}, add media_status text not null default 'none'"
    )
    await users.sql.execute("select public.outlast_install()")
    identity = str(uuid4())
    status, body = await users.send("POST", "generations", {"id": identity, "user_id": users.user, **FORGED})
    assert status == 201, body
    row = await users.row(identity)
    assert (row["media"], row["media_status"]) == (expected, "none")


async def test_a_statement_of_the_user_succeeds_when_the_trigger_cannot_work(users):
    await users.sql.execute("alter table public.generations rename column media to pictures")
    identity = str(uuid4())
    assert (await users.send("POST", "generations", {"id": identity, "user_id": users.user, "prompt": "p"}))[0] == 201
    assert (await users.send("PATCH", f"generations?id=eq.{identity}", {"prompt": "q"}))[0] == 200


async def test_binding_another_table_moves_the_trigger_and_applying_again_changes_nothing(users, database_url):
    tables = "select array_agg(distinct tgrelid::regclass::text) from pg_trigger where tgname = 'outlast_keep_media'"
    assert await users.sql.fetchval(tables) == ["generations"]
    before = await users.sql.fetch("select oid, xmin::text from pg_trigger order by oid")
    await users.sql.execute("select public.outlast_install_triggers('generations')")
    assert await users.sql.fetch("select oid, xmin::text from pg_trigger order by oid") == before
    await users.sql.execute("create table public.renders (like public.generations including all)")
    await users.sql.execute("select public.outlast_install(p_table => 'renders')")
    assert await users.sql.fetchval(tables) == ["renders"]
    await apply_migrations(database_url)
    assert await users.sql.fetchval(tables) == ["renders"]


async def begin_fal_job(users: Users, request_id: str) -> dict[str, Any]:
    """Begin a job of FAL's webhook, as a worker does."""
    job = {"task_id": str(uuid4()), "request_id": request_id, "source": "fal", "source_keys": ["k"], "positions": [0]}
    body = {"p_job": job, "p_lease": str(uuid4()), "p_worker": "w"}
    status, answer = await users.send("POST", "rpc/outlast_begin", body, role="service_role")
    assert status == 200, answer
    return answer


async def test_a_copied_request_id_belongs_to_no_row(users):
    victim = {"id": str(uuid4()), "user_id": str(uuid4()), "request_id": "r-1"}
    await users.send("POST", "generations", victim, role="service_role")
    begun = await begin_fal_job(users, "r-1")
    assert (begun["state"], begun["generation_id"], begun["user_id"]) == ("run", victim["id"], victim["user_id"])
    copied = {"user_id": users.user, "request_id": "r-1", "created_at": "2099-01-01T00:00:00Z"}
    assert (await users.send("POST", "generations", copied))[0] == 201
    begun = await begin_fal_job(users, "r-1")
    assert begun == {"state": "no_generation", "shared": True}
    assert await begin_fal_job(users, "unknown") == {"state": "no_generation", "shared": False}


async def test_users_have_no_privilege_on_any_object_except_reading_their_tasks_and_files(users):
    """Under Supabase's default privileges, which grant everything on every new object."""
    rows = await users.sql.fetch(
        """
        select c.relname, r.role, p.privilege from pg_class c
        cross join unnest(array['anon', 'authenticated']) as r (role)
        cross join unnest(case c.relkind when 'S' then array['USAGE', 'SELECT', 'UPDATE']
          else array['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER'] end) as p (privilege)
        where c.relnamespace = 'public'::regnamespace and starts_with(c.relname, 'outlast_')
          and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
          and case c.relkind when 'S' then has_sequence_privilege(r.role, c.oid, p.privilege)
            else has_table_privilege(r.role, c.oid, p.privilege) end
        union all
        select p.proname, r.role, 'EXECUTE' from pg_proc p cross join unnest(array['anon', 'authenticated']) as r (role)
        where p.pronamespace = 'public'::regnamespace and starts_with(p.proname, 'outlast_')
          and has_function_privilege(r.role, p.oid, 'EXECUTE')
        """
    )
    readable = {(table, "authenticated", "SELECT") for table in ("outlast_tasks", "outlast_files")}
    assert {tuple(row) for row in rows} == readable
    assert await users.sql.fetchval(
        "select count(*) from pg_class where relkind = 'S' and starts_with(relname, 'outlast_')"
    )
