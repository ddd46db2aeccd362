"""Odd values in the addresses of all pages and API routes are answered with a page or a message, never with 500."""

import itertools

import aiohttp
import pytest
from pydantic import SecretStr
from yarl import URL

from tests.broker.conftest import worker_env  # noqa: F401 - the fixture
from tests.console.conftest import TOKEN
from worker.runtime import serve
from worker.web.receiver import Receiver

ID = "2f0e1a5c-52d5-4f0e-9d8e-0a6b7c1d2e3f"
API_TOKEN = "the-api-token-of-the-test"
TIMES = (
    *("9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00", "9999-12-31T23:59:59.999999Z", "2026-W01-1"),
    *("2026-01-01T00:00:00 00:00", "20260101", "-infinity", "infinity", "now", "12026-01-01", "2026-02-30"),
)
TEXTS = (
    *("%00", "%ED%A0%80", "%FF", "%", "%25", "'", '"', "\\", "{", "~", "~~", "x" * 5000, "%F0%9F%92%A9", "%E2%80%AE"),
    *("-1", "0", "9" * 5000, "1e309", "NaN", "null", "true", "()", "*", "_", "%0A", "../..", ID),
)
POSITIONS = tuple(f"{at}~{end}" for at, end in itertools.product((*TIMES, "2026-01-01"), ("x", "", ID, "%00")))
PAGES = {
    "console/": ("from",),
    "console/tasks": ("status", "queue", "code", "since", "until", "q", "before"),
    f"console/tasks/{ID}": ("from", "done"),
    "console/dead": ("from",),
    "console/dead/letters": ("code", "stage", "host", "since", "until", "generation", "user", "task", "from"),
    "console/dead/confirm": ("verb", "since", "until", "task", "ids"),
    "console/dead/archive": ("before", "done"),
    "console/history": ("before",),
    "dead-letters": ("ids", "code", "since", "until", "generation", "task", "limit", "unknown"),
    "dead-letters/groups": ("since", "limit"),
}
PATHS = ("console/tasks/{}", "console/tasks/{}/live", "console/generations/{}", "console/history/{}", "tasks/{}")


def _values(name):
    return (*TIMES, *TEXTS, *(POSITIONS if name == "before" else ()))


@pytest.fixture
async def ask(worker_env):  # noqa: F811 - the fixture
    tokens = {"console_token": SecretStr(TOKEN), "api_token": SecretStr(API_TOKEN)}
    settings = worker_env.settings.model_copy(update=tokens)
    app = Receiver(settings, [], worker_env.broker, worker_env.metrics, worker_env.parts.supabase).app()
    async with (
        serve(app, "127.0.0.1", 0) as (address,),
        aiohttp.ClientSession(
            cookie_jar=aiohttp.CookieJar(unsafe=True), headers={"Authorization": f"Bearer {API_TOKEN}"}
        ) as session,
    ):
        async with session.post(f"http://{address}/console/sign-in", data={"token": TOKEN}) as answer:
            assert answer.status == 200

        async def ask(path):
            async with session.get(URL(f"http://{address}/{path}", encoded=True)) as answer:
                return answer.status, await answer.text()

        yield ask


@pytest.mark.parametrize("page", PAGES)
async def test_odd_query_values_are_no_server_error(ask, page):
    asked = [f"{page}?{name}={value.replace(' ', '+')}" for name in PAGES[page] for value in _values(name)]
    answers = {path: await ask(path) for path in asked}
    assert [(path[:200], *answer) for path, answer in answers.items() if answer[0] >= 500] == []


async def test_odd_path_segments_are_no_server_error(ask):
    answers = {
        path: await ask(path) for value in TEXTS if "/" not in value for path in [p.format(value) for p in PATHS]
    }
    assert [(path[:200], *answer) for path, answer in answers.items() if answer[0] >= 500] == []


@pytest.mark.parametrize(
    "path",
    ["console/tasks?since=9999-12-31T23:59:59-12:00", "console/dead/archive?before=2026-01-01~x"],
)
async def test_an_invalid_filter_is_answered_with_its_name_and_the_remedy(ask, path):
    status, text = await ask(path)
    assert status == 422
    assert path.split("?")[1].split("=")[0] + ":" in text
