import pytest

from handlers.errors import SourceForbiddenError
from handlers.netguard import Allowlist, GuardedResolver
from handlers.settings import FAL_SOURCES

DEFAULT = Allowlist(FAL_SOURCES)


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
def test_fal_is_permitted(url):
    assert str(DEFAULT.check(url)).startswith("https://")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://fal.media/a", "not_allowed"),
        ("https://fal.media:8443/a", "not_allowed"),
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
    ],
)
def test_everything_else_is_refused_with_its_reason(url, reason):
    with pytest.raises(SourceForbiddenError) as refused:
        DEFAULT.check(url)
    assert refused.value.reason == reason


def test_an_origin_permits_exactly_that():
    allowlist = Allowlist(("http://127.0.0.1:4711",))
    assert allowlist.lists("http://127.0.0.1:4711/files/a.png")
    assert not allowlist.lists("http://127.0.0.1:4712/files/a.png")
    assert not allowlist.lists("https://127.0.0.1:4711/files/a.png")
    assert not allowlist.lists("http://localhost:4711/files/a.png")


@pytest.mark.parametrize("entry", ["*", "*.", "a.*.com", "ftp://x", "http://"])
def test_unusable_entries_are_named(entry):
    with pytest.raises(ValueError, match="SOURCE_ALLOWLIST"):
        Allowlist((entry,))


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "240.0.0.1",
        "::1",
        "::ffff:10.0.0.1",
        "fe80::1%eth0",
        "fd00::1",
        "2002:0a00:0001::",
        "64:ff9b::7f00:1",
        "not an address",
    ],
)
def test_inner_addresses_are_never_connected_to(address):
    with pytest.raises(SourceForbiddenError) as refused:
        DEFAULT.check_address(address)
    assert refused.value.reason == "address"


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111"])
def test_public_addresses_pass(address):
    DEFAULT.check_address(address)


async def test_a_name_that_points_inside_is_refused_at_resolution():
    resolver = GuardedResolver(Allowlist(("localhost",)))
    with pytest.raises(SourceForbiddenError):
        await resolver.resolve("localhost", 443)
    await resolver.close()
