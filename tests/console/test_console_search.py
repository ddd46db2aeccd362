"""The search in the header, and the page of a generation: what is known, why nothing was done, and fetch now."""

import json
from urllib.parse import quote
from uuid import uuid4

import pytest

from tests.console.conftest import READ_TOKEN, TOKEN, signed_in

NOTHING = (
    "",
    "ü" * 600,
    "x" * 3500,
    "a\x00b",
    "00000000-0000-0000-0000-00000000000g",
    "'; drop table x; --",
    "%",
    "u/ab/none.png",
)


async def find(session, console, text):
    """Return where the search leads to, and the text of that page."""
    async with session.get(f"{console}find?q={quote(text, safe='')}") as answer:
        return answer.url.path, await answer.text(), answer.status


@pytest.fixture
async def row(worker_env, source):
    """A completed row whose webhook was lost."""
    await worker_env.sweep_rows_of_every_age()
    generation, user, request = str(uuid4()), str(uuid4()), f"request-{uuid4()}"
    url = f"{source.url}/files/photo.png"
    await worker_env.sql.execute("alter table generations disable trigger user")
    await worker_env.sql.execute(
        "insert into generations (id, user_id, request_id, status, output) values ($1, $2, $3, 'completed', $4)",
        *(generation, user, request, json.dumps({"images": [{"url": url}]})),
    )
    return {"generation": generation, "user": user, "request": request, "url": url}


async def test_every_id_leads_to_the_generation_and_fetch_now_stores_its_files(console, worker_env, row):
    path = f"/console/generations/{row['generation']}"
    async with signed_in(console, TOKEN) as (session, form_token):
        for name in ("generation", "user", "request"):
            assert (await find(session, console, row[name]))[0] == path, name
        _, text, _ = await find(session, console, row["generation"])
        for told in ("No webhook of this row has arrived", "no trigger of Outlast", "names 1 files", "Fetch now"):
            assert told in text
        fields = {"binding": "generations", "id": row["generation"]}
        assert (await session.post(f"{console}generation/fetch", data=fields)).status == 403
        answer = await session.post(f"{console}generation/fetch", data={**fields, "form_token": form_token})
        assert "task: 1 being fetched now" in await answer.text()
        await worker_env.wait_for_outcome("completed")
        task = dict(await worker_env.sql.fetchrow("select * from outlast_tasks"))
        assert (task["source"], task["queue"], task["user_id"]) == ("supabase", "file_processing", row["user"])
        stored = await worker_env.sql.fetchval("select path from outlast_files")
        for wanted in (str(task["task_id"]), stored, f"generations/{stored}", row["url"], f"{row['url']}?token=x"):
            found, text, _ = await find(session, console, wanted)
            assert found == path, wanted
            assert "Its file is stored." in text
        assert text.count("<img ") == 1
        answer = await session.post(f"{console}generation/fetch", data={**fields, "form_token": form_token})
        assert "task: 1 stored already" in await answer.text()
        history = await (await session.get(f"{console}history")).text()
        assert history.count(f'href="{path}"') == 2


async def test_the_search_answers_whatever_is_typed_and_readers_may_not_fetch(console, row):
    async with signed_in(console, READ_TOKEN) as (session, form_token):
        for text in NOTHING:
            path, answer, status = await find(session, console, text)
            assert (path, status) == ("/console/find", 200), text
            assert ("Nothing is known of it" in answer) == bool(text), text
        assert (await find(session, console, "x" * 10_240))[2] in {400, 414}  # the server's limit of a request line
        _, text, _ = await find(session, console, row["generation"])
        assert "Fetch now</button>" not in text
        fields = {"binding": "generations", "id": row["generation"], "form_token": form_token}
        assert (await session.post(f"{console}generation/fetch", data=fields)).status == 403
