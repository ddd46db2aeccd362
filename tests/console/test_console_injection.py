"""HTML and scripts in ids, URLs, error texts and headers are shown as text and never run."""

import json

import aiohttp
import pytest

from handlers.database.task_records import task_row
from tests.console.conftest import RECORD_VIOLATIONS, TOKEN, another_operator

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'><svg onload=alert(3)>{{'x'*7}}"
LINK = "javascript:alert(4)"
INJECTED = """() => [...document.querySelectorAll("*")].filter((element) =>
  [...element.attributes].some((a) => a.name.startsWith("on") || /^\\s*(javascript|data):/i.test(a.value)) ||
  (element.tagName === "SCRIPT" && !element.getAttribute("src")?.startsWith("/console/static/")) ||
  (element.tagName === "IMG" && element.getAttribute("src") === "x") || element.hasAttribute("style") ||
  ["IFRAME", "OBJECT", "EMBED", "STYLE", "BASE"].includes(element.tagName)).map((element) => element.outerHTML)"""


@pytest.fixture
async def hostile_records(worker_env, vhost):
    """Create a task, dead letters, an archive, a history, a note and a worker with hostile texts; return the job."""
    await worker_env.worker.stop(0)
    job = worker_env.job(f"https://fal.media/{EVIL}.png", generation_id=f"g{EVIL}", user_id=f"u{EVIL}", source="api")
    await vhost.dead_letter(job, f"corrupted{EVIL}", EVIL, f"download{EVIL}")
    await vhost.dead_letter_raw(EVIL.encode(), message_type=EVIL, code=EVIL)
    await worker_env.parts.supabase.call("outlast_enqueue", {"p_job": task_row(job)})
    sql = worker_env.sql
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


async def pages(worker_env, job):
    operation = await worker_env.sql.fetchval("select id from outlast_operations limit 1")
    task, generation = f"tasks/{job.task_id}", f"generations/{aiohttp.helpers.quote(job.generation_id)}"
    return [
        *("", "tasks", task, generation, "dead", "dead/letters", "dead/archive", "history", f"history/{operation}"),
        *(f"dead/confirm?verb=replay&host={EVIL}", f"tasks?q={EVIL}", f"tasks/{EVIL}", f"nowhere/{EVIL}"),
        *("dead/confirm?verb=discard", f"{task}?done={EVIL}", f"dead/letters?code={EVIL}&stage=&host="),
    ]


async def test_hostile_texts_do_not_run_on_any_page(operator, worker_env, hostile_records):
    await operator.open(f"tasks?q={EVIL}")
    assert await operator.page.evaluate(INJECTED) == []
    await operator.sign_in(who=EVIL)
    for path in await pages(worker_env, hostile_records):
        answer = await operator.open(path)
        assert "script-src 'self';" in (await answer.all_headers())["content-security-policy"], path
        assert await operator.page.evaluate(INJECTED) == [], path
        assert await operator.page.evaluate("violations") == [], path
        assert "xxxxxxx" not in await operator.page.inner_text("h1"), path
    await operator.open(f"tasks/{hostile_records.task_id}")
    assert EVIL in await operator.page.inner_text("main")
    await operator.open()
    await operator.page.evaluate("window.live = new Promise((d) => new EventSource('now/live').onmessage = d)")
    assert "<b>" in await operator.page.evaluate("window.live.then((event) => event.data)")
    assert await operator.page.evaluate(INJECTED) == []


async def test_an_injected_script_is_detected_and_blocked_by_the_policy(chromium, console):
    async with another_operator(chromium, console) as operator:
        await operator.page.add_init_script(RECORD_VIOLATIONS)
        await operator.open()
        await operator.page.evaluate("(evil) => { document.querySelector('h1').innerHTML = evil; }", EVIL)
        assert await operator.page.evaluate(INJECTED) != []
        await operator.until("violations.some((directive) => directive.startsWith('script-src'))")
        load_image = "document.querySelector('h1').innerHTML = '<img src=https://evil.example/a.png>'"
        await operator.page.evaluate(load_image)
        await operator.until("violations.includes('img-src')")


async def test_request_headers_are_never_returned_as_markup(console):
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
