"""URLs that take a parser long. Planning an event and reading a redirect must not stop the event loop."""

import time

import pytest
from pydantic import SecretStr
from yarl import URL

from handlers.download.allowlist import Allowlist
from handlers.download.source_url import redirect_target
from handlers.errors import SourceForbiddenError, SourceGoneError
from handlers.sources.fal_queue import FalQueueClient
from handlers.sources.plan import plan_jobs
from schemas.events import CompletedGeneration
from schemas.urls import name_from_url, redact_url, source_key
from tests.time_limits import FACTOR, FAST_SECONDS
from worker.dead_letters.summary import host_of
from worker.settings import Settings

MAX_SECONDS = 0.3 * FACTOR
"""For one URL. Each of these hosts would take yarl up to eight seconds."""
EVENT_CHARACTERS = 16_000_000
LIGATURE = "\N{ARABIC LIGATURE SALLALLAHOU ALAYHE WASALLAM}"  # stands for 18 characters

HOSTS = {
    "ligatures": LIGATURE * 5000,
    "parts of ligatures": f"{LIGATURE * 60}." * 4,
    "many parts": "\u00fc." * 3900,
    "a long part": "\u00fc" * 7900,
    "combining characters": "a" + "\u0300\u0316" * 3900,
    "punycode": "xn--" + "a" * 7900,
    "many parts of punycode": "xn--bcher-kva." * 560,
}
AUTHORITIES = {
    **HOSTS,
    "behind a user": "user:word@" + HOSTS["ligatures"],
    "before a port": HOSTS["ligatures"] + ":443",
    "between line breaks": "ht\ntps:/\n/" + HOSTS["ligatures"],
}


@pytest.mark.parametrize("authority", AUTHORITIES.values(), ids=list(AUTHORITIES))
async def test_a_host_that_is_no_name_is_refused_at_once(authority):
    url = f"{authority}/a.png" if authority.startswith("ht") else f"https://{authority}/a.png"
    allowlist = Allowlist(("fal.media",))
    started = time.process_time()
    assert len(source_key(url)) == 32
    assert name_from_url(url)
    assert "user" not in redact_url(url)
    host_of(url)
    assert not allowlist.contains(url)
    with pytest.raises(SourceForbiddenError):
        allowlist.check(redirect_target(URL("https://fal.media/a"), url))
    with pytest.raises(SourceGoneError):
        await FalQueueClient("https://queue.fal.run", SecretStr("key")).result(url, "r")
    assert time.process_time() - started < MAX_SECONDS


URLS = {
    "parents": lambda number: f"https://fal.media/{number}/" + "../" * 2600,
    "percents": lambda number: f"https://fal.media/{number}/" + "%25" * 2600,
    "parameters": lambda number: f"https://fal.media/{number}?" + "&a" * 3900,
    "encoded": lambda number: f"https://fal.media/{number}/" + "<" * 7900,
    "not ascii": lambda number: f"https://fal.media/{number}/" + "\u00fc" * 3900,
    "international hosts": lambda number: "https://" + f"{LIGATURE * 3}{number}." * 3 + "test/",
    "punycode hosts": lambda number: "https://" + "xn--bcher-kva." * 16 + f"a{number}.test/",
}


@pytest.mark.parametrize("as_object", [False, True])
@pytest.mark.parametrize("make", URLS.values(), ids=list(URLS))
def test_an_event_of_slow_urls_is_planned_in_time(make, as_object):
    urls = [make(number) for number in range(EVENT_CHARACTERS // len(make(0)))]
    output = [{"url": url} for url in urls] if as_object else urls
    event = CompletedGeneration(source="supabase", generation_id="1", output=output)
    settings = Settings()
    allowlist = Allowlist(settings.source_allowlist)
    started = time.process_time()
    jobs = plan_jobs(event, settings, allowlist)
    assert time.process_time() - started < FAST_SECONDS
    assert jobs[-1].files[-1].url == "urn:outlast:too_many_files"
