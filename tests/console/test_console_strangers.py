"""What strangers wrote, in names, addresses, error texts, user ids and headers: it is shown, and never runs."""

import json

import aiohttp
import pytest

from handlers.database.task_records import task_row
from tests.console.conftest import TOKEN, WATCH, somebody_else

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'><svg onload=alert(3)>{{7*7}}"
LINK = "javascript:alert(4)"
STRANGE = """() => [...document.querySelectorAll("*")].filter((one) =>
  [...one.attributes].some((a) => a.name.startsWith("on") || /^\\s*(javascript|data):/i.test(a.value)) ||
  (one.tagName === "SCRIPT" && !one.getAttribute("src")?.startsWith("/console/static/")) ||
  (one.tagName === "IMG" && one.getAttribute("src") === "x") || one.hasAttribute("style") ||
  ["IFRAME", "OBJECT", "EMBED", "STYLE", "BASE"].includes(one.tagName)).map((one) => one.outerHTML)"""


@pytest.fixture
async def haunted(bench, yard):
    """A task, a letter, an archive, a history, a note and a worker, all of them hostile."""
    await bench.worker.stop(0)
    job = bench.job(f"https://fal.media/{EVIL}.png", generation_id=f"g{EVIL}", user_id=f"u{EVIL}", source="api")
    await yard.bury(job, f"corrupted{EVIL}", EVIL, f"download{EVIL}")
    await yard.bury_raw(EVIL.encode(), message_type=EVIL, code=EVIL)
    await bench.parts.supabase.call("outlast_enqueue", {"p_job": task_row(job)})
    sql = bench.sql
    await sql.execute(
        "insert into outlast_files (id, generation_id, source_key, task_id, original_filename, content_type, bucket,"
        " path, source_url) values (gen_random_uuid(), $1, 'k', $2, $3, $3, 'generations', $3, $4)",
        *(job.generation_id, job.task_id, EVIL, LINK),
    )
    await sql.execute(
        "insert into outlast_workers (worker, stats) values ($1, $2)", EVIL, json.dumps({"paused": {EVIL: EVIL}})
    )
    await sql.execute(
        "update outlast_tasks set status = 'running', lease = gen_random_uuid(), worker = $1, request_id = $1,"
        " lease_until = now() + interval '1 h'",
        EVIL,
    )
    failed = [{"url": LINK, "code": EVIL, "error": EVIL, "stage": EVIL}, {"url": f"https://{EVIL}/", "code": EVIL}]
    await sql.execute(
        "update outlast_tasks set status = 'failed', error = $1, error_code = $1, failed = $2", EVIL, json.dumps(failed)
    )
    await sql.execute("insert into outlast_notes (about, note, by) values ($1, $2, $2)", f"{EVIL}\n\n", EVIL)
    await sql.execute(
        "insert into outlast_operations (id, verb, by, target, state, kept, detail) values"
        " (gen_random_uuid(), $1, $1, $2, 'running', $3, $1)",
        *(EVIL, json.dumps({EVIL: EVIL, "task": EVIL}), json.dumps([{"id": EVIL, "reason": EVIL}])),
    )
    await sql.execute(
        "insert into outlast_dead_archive (id, code, item, body, discarded_by, gone_after) values"
        " (gen_random_uuid(), $1, $2, '', $1, now() + interval '1 d')",
        *(EVIL, json.dumps({"error": EVIL})),
    )
    return job


async def pages(bench, job):
    operation = await bench.sql.fetchval("select id from outlast_operations limit 1")
    task, generation = f"tasks/{job.task_id}", f"generations/{aiohttp.helpers.quote(job.generation_id)}"
    return [
        *("", "tasks", task, generation, "dead", "dead/letters", "dead/archive", "history", f"history/{operation}"),
        *(f"dead/confirm?verb=replay&host={EVIL}", f"tasks?q={EVIL}", f"tasks/{EVIL}", f"nowhere/{EVIL}"),
        *("dead/confirm?verb=discard", f"{task}?done={EVIL}", f"dead/letters?code={EVIL}&stage=&host="),
    ]


async def test_nothing_of_it_runs_on_any_page(operator, bench, haunted):
    await operator.open(f"tasks?q={EVIL}")
    assert await operator.page.evaluate(STRANGE) == []
    await operator.sign_in(who=EVIL)
    for path in await pages(bench, haunted):
        answer = await operator.open(path)
        assert "script-src 'self';" in (await answer.all_headers())["content-security-policy"], path
        assert await operator.page.evaluate(STRANGE) == [], path
        assert await operator.page.evaluate("refused") == [], path
        assert "49" not in await operator.page.inner_text("h1"), path
    await operator.open(f"tasks/{haunted.task_id}")
    assert EVIL in await operator.page.inner_text("main")
    await operator.open()
    await operator.page.evaluate("window.live = new Promise((d) => new EventSource('now/live').onmessage = d)")
    assert "<b>" in await operator.page.evaluate("window.live.then((event) => event.data)")
    assert await operator.page.evaluate(STRANGE) == []


async def test_the_trap_that_would_catch_it_is_set(chromium, console):
    async with somebody_else(chromium, console) as operator:
        await operator.page.add_init_script(WATCH)
        await operator.open()
        await operator.page.evaluate("(evil) => { document.querySelector('h1').innerHTML = evil; }", EVIL)
        assert await operator.page.evaluate(STRANGE) != []
        await operator.until("refused.some((one) => one.startsWith('script-src'))")
        elsewhere = "document.querySelector('h1').innerHTML = '<img src=https://evil.example/a.png>'"
        await operator.page.evaluate(elsewhere)
        await operator.until("refused.includes('img-src')")


async def test_no_header_of_a_request_comes_back_as_markup(console):
    names = ("User-Agent", "Referer", "X-Forwarded-For", "X-Forwarded-Host", "Accept-Language", "X-Request-Id")
    evil = {**dict.fromkeys(names, EVIL), "Cookie": f"outlast_console={EVIL}"}
    async with aiohttp.ClientSession() as session:
        for path in ("", "tasks", f"sign-in?next={EVIL}"):
            async with session.get(f"{console}{path}", headers=evil) as answer:
                assert "alert(" not in await answer.text()
        async with session.post(f"{console}sign-in", data={"token": EVIL, "next": EVIL}, headers=evil) as answer:
            assert answer.status == 401
            assert "alert(" not in await answer.text()
        lines = {"token": TOKEN, "next": "/console/\r\nSet-Cookie: a=b"}
        async with session.post(f"{console}sign-in", data=lines, allow_redirects=False) as answer:
            assert answer.headers["Location"] == "/console/"
            assert "a" not in answer.cookies
