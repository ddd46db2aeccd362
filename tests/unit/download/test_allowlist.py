import asyncio
import socket

import pytest

from handlers.download.allowlist import Allowlist, GuardedResolver
from handlers.errors import DenialReason, SourceForbiddenError
from handlers.observer import Observer
from handlers.settings import FAL_SOURCES

DEFAULT = Allowlist(FAL_SOURCES)


class DenialObserver(Observer):
    def __init__(self):
        self.reasons = []

    def denied(self, reason):
        self.reasons.append(reason)


@pytest.mark.parametrize(
    "url",
    [
        "https://fal.media/files/a.png",
        "https://v3.fal.media/files/a.png?sig=1",
        "https://V3B.FAL.MEDIA/a",
        "https://fal.ai/files/example.jpg",
        "https://storage.googleapis.com/falserverless/x/y.mp4",
    ],
)
def test_fal_urls_are_allowed_by_default(url):
    assert str(DEFAULT.check(url)).startswith("https://")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://fal.media/a", "scheme"),
        ("https://fal.media:8443/a", "port"),
        ("https://fal.media./a", "malformed"),
        ("https://2130706433/a", "address"),
        ("https://evilfal.media/a", "not_allowed"),
        ("https://fal.media.evil.com/a", "not_allowed"),
        ("https://storage.googleapis.com/other/x", "not_allowed"),
        ("https://storage.googleapis.com/falserverless/../other/x", "not_allowed"),
        ("https://fal.ai/files/%2e%2e/secret", "not_allowed"),
        ("https://fal.ai/files/%252e%252e/secret", "path"),
        ("https://fal.ai/files/..\\secret", "path"),
        ("https://fal.ai/pricing", "not_allowed"),
        ("https://user@fal.media/a", "userinfo"),
        ("ftp://fal.media/a", "scheme"),
        ("file:///etc/passwd", "scheme"),
        ("https://127.0.0.1/a", "not_allowed"),
        ("https://[::1]/a", "not_allowed"),
        ("https://fal.media:99999/a", "malformed"),
        ("//fal.media/a", "scheme"),
        ("https:fal.media/a", "malformed"),
    ],
)
def test_a_forbidden_url_is_refused_with_its_reason(url, reason):
    with pytest.raises(SourceForbiddenError) as refused:
        DEFAULT.check(url)
    assert refused.value.reason == reason


def test_an_origin_allows_only_its_scheme_host_and_port():
    allowlist = Allowlist(("http://127.0.0.1:4711",))
    assert allowlist.contains("http://127.0.0.1:4711/files/a.png")
    assert not allowlist.contains("http://127.0.0.1:4712/files/a.png")
    assert not allowlist.contains("https://127.0.0.1:4711/files/a.png")
    assert not allowlist.contains("http://localhost:4711/files/a.png")


@pytest.mark.parametrize(
    ("url", "permitted"),
    [
        ("https://host.test/files", True),
        ("https://host.test/files/a", True),
        ("https://host.test/%66iles/a", True),
        ("https://host.test/files%2Fa", False),
        ("https://host.test/files-of-others/a", False),
        ("https://host.test/fil", False),
    ],
)
def test_a_path_entry_allows_only_urls_below_it(url, permitted):
    assert Allowlist(("host.test/files",)).contains(url) is permitted


@pytest.mark.parametrize(
    "entry",
    [
        "*",
        "*.",
        "a.*.com",
        "ftp://x",
        "http://",
        "127.0.0.1",
        "[::1]",
        "2130706433",
        "host.test:8443",
        "http://u@x",
        "",
    ],
)
def test_an_unusable_entry_is_refused_by_the_name_of_the_setting(entry):
    with pytest.raises(ValueError, match="SOURCE_ALLOWLIST"):
        Allowlist((entry,))


def test_report_mode_disables_the_list_but_no_other_rule():
    observer = DenialObserver()
    allowlist = Allowlist(FAL_SOURCES, mode="report", observer=observer)
    assert str(allowlist.check("https://elsewhere.test/a")) == "https://elsewhere.test/a"
    assert observer.reasons == [DenialReason.NOT_ALLOWED_REPORTED]
    for url in (
        "http://elsewhere.test/",
        "https://elsewhere.test:22/",
        "https://127.0.0.1/",
        "https://a@elsewhere.test/",
    ):
        with pytest.raises(SourceForbiddenError):
            allowlist.check(url)
    allowlist.check("https://fal.media/a")
    assert len(observer.reasons) == 1, "refused and listed URLs are not reported"
    assert not allowlist.contains("https://elsewhere.test/a"), "the list still decides which strings are files"


def test_a_reported_url_is_logged_without_its_query(caplog):
    Allowlist((), mode="report").check("https://elsewhere.test/a?token=secret")
    assert "elsewhere.test/a is not on SOURCE_ALLOWLIST" in caplog.text
    assert "secret" not in caplog.text


async def test_an_unlisted_name_is_refused_before_resolution():
    resolver = GuardedResolver(Allowlist(("*.fal.media", "http://127.0.0.1:4711")))
    with pytest.raises(SourceForbiddenError) as refused:
        await resolver.resolve("nobody.invalid", 443)
    assert refused.value.reason == "not_allowed"
    await resolver.close()


async def test_a_name_with_an_internal_address_is_refused_at_resolution():
    resolver = GuardedResolver(Allowlist(("localhost",)))
    with pytest.raises(SourceForbiddenError):
        await resolver.resolve("localhost", 443)
    await resolver.close()


def resolving_to(monkeypatch, *addresses):
    """Make getaddrinfo return these addresses; a scope id follows `%`."""
    infos = []
    for address in addresses:
        text, _, scope = address.partition("%")
        is_ipv6 = ":" in text
        family = socket.AF_INET6 if is_ipv6 else socket.AF_INET
        socket_address = (text, 443, 0, int(scope or 0)) if is_ipv6 else (text, 443)
        infos.append((family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", socket_address))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_kwargs: infos)


@pytest.mark.parametrize(
    "address",
    [
        *("10.0.0.1", "::ffff:10.0.0.1", "::ffff:a00:1", "::10.0.0.1", "64:ff9b::a00:1", "64:ff9b:1::a00:1"),
        *("2002:a00:1::1", "2001:0:4136:e378:8000:63bf:f5ff:fffe", "fe80::1", "fe80::1%1", "2606:4700::1%1", "::1"),
        "2606:4700::5efe:a00:1",
    ],
)
@pytest.mark.parametrize("others", [(), ("93.184.216.34",), ("2606:2800:220:1::34", "93.184.216.34")])
def test_one_internal_address_among_those_resolved_refuses_the_name(monkeypatch, address, others):
    """Uses asyncio's own loop, which calls socket.getaddrinfo, so that the test can replace it."""
    resolving_to(monkeypatch, *others, address)

    async def resolve():
        await GuardedResolver(Allowlist(("*.test",))).resolve("turn.media.test", 443)

    with asyncio.Runner() as runner, pytest.raises(SourceForbiddenError) as refused:
        runner.run(resolve())
    assert refused.value.reason == "address"


def test_public_addresses_are_returned_as_resolved(monkeypatch):
    public = ("93.184.216.34", "2606:2800:220:1::34", "64:ff9b::5db8:d822")
    resolving_to(monkeypatch, *public)

    async def resolve():
        return await GuardedResolver(Allowlist(("*.test",))).resolve("turn.media.test", 443)

    with asyncio.Runner() as runner:
        assert [found["host"] for found in runner.run(resolve())] == list(public)
