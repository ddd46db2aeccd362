"""Private files of FAL are downloaded with a signed link. FAL_KEY is sent to FAL's API only."""

import pytest

PUBLIC = "93.184.216.34"
HOSTS = ("v3b.fal.media", "evil.fal.media", "cdn.media.test", "api.fal.ai", "internal.test")
DNS_ANSWERS = {host: [[PUBLIC]] for host in HOSTS}
KEY = "key-id:key-secret"
SIGN = "api.fal.ai/v1/storage/files/sign?url="
FILE = "https://v3b.fal.media/files/private"


async def fetch(isolated_downloader, url, **settings):
    settings = {"fal_key": KEY} | settings
    return await isolated_downloader.fetch(url, "*.fal.media", "*.media.test", answers=DNS_ANSWERS, **settings)


@pytest.mark.parametrize("name", ["private.png", "private-hidden.png", "private%7E-a%2Bb.png"])
async def test_a_private_file_is_downloaded_with_a_signed_link(isolated_downloader, name):
    result = await fetch(isolated_downloader, f"https://v3b.fal.media/files/{name}")
    assert (result.content, result.error) == ("the content", None)
    path = f"v3b.fal.media/files/{name}"
    assert result.requests[0] == path
    assert result.requests[1].startswith(f"{SIGN}https://v3b.fal.media/files/private")
    assert result.requests[2:] == [f"{path}?identity=signed"]
    assert result.keys == [["api.fal.ai", f"key {KEY}"]]


async def test_an_expired_signed_link_is_signed_again(isolated_downloader):
    result = await fetch(isolated_downloader, f"{FILE}?identity=expired")
    assert result.content == "the content"
    assert "expired" not in "".join(result.requests[1:])


async def test_a_public_file_needs_no_signed_link(isolated_downloader):
    result = await fetch(isolated_downloader, "https://v3b.fal.media/files/a.png")
    assert (result.content, result.keys, len(result.requests)) == ("the content", [], 1)


async def test_without_a_key_a_private_file_is_gone(isolated_downloader):
    result = await fetch(isolated_downloader, FILE, fal_key=None)
    assert (result.error, len(result.requests)) == ("SourceGoneError", 1)


@pytest.mark.parametrize(
    "url",
    [
        "https://cdn.media.test/private",
        f"https://cdn.media.test/to?url={FILE}",
        "https://cdn.media.test/private/v3b.fal.media",
    ],
)
async def test_another_hosts_refusal_is_not_a_reason_to_ask_fal(isolated_downloader, url):
    result = await fetch(isolated_downloader, url)
    assert (result.error, result.keys) == ("SourceGoneError", [])
    assert not any(request.startswith("api.fal.ai") for request in result.requests)


async def test_the_key_is_not_sent_across_a_redirect(isolated_downloader):
    result = await fetch(isolated_downloader, "https://v3b.fal.media/to?url=https://cdn.media.test/private")
    assert result.error is not None
    assert {host for host, _ in result.keys} <= {"api.fal.ai"}
    assert not any("cdn.media.test" in request and "identity" in request for request in result.requests)


async def test_a_signed_link_to_another_file_is_not_requested(isolated_downloader):
    result = await fetch(isolated_downloader, "https://v3b.fal.media/files/private-stolen")
    assert result.error == "SourceUnavailableError"
    assert not any(request.startswith("internal.test") for request in result.requests)
    assert KEY not in result.text
