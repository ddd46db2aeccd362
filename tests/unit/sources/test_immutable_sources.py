"""Which files of a job are taken for immutable: those of IMMUTABLE_SOURCES that may be downloaded."""

import pytest

from handlers.download.immutable import ImmutableSources
from handlers.settings import MediaSettings
from handlers.sources.refusals import Refusal, placeholder
from schemas.jobs import JobFile
from schemas.urls import data_reference, source_key

DATA_URI = "data:image/png;base64,iVBORw0KGgo="


def immutable(*urls, **settings):
    """Return those of the URLs that are immutable with these settings."""
    files = [JobFile(position=n, url=url, source_key=source_key(url)) for n, url in enumerate(urls)]
    keys = ImmutableSources(MediaSettings(_env_file=None, **settings)).keys(files)
    assert set(keys) <= {file.source_key for file in files}
    return [file.url for file in files if file.source_key in keys]


@pytest.mark.parametrize(
    "url",
    [
        "https://fal.media/files/a/b.png",
        "https://v3.fal.media/files/panda/x_y.png",
        "https://v3b.fal.media/files/b/panda/x.mp4?identity=abc",
        "https://fal.ai/files/x.png",
        "https://v3.fal.media/files/x.png#part",
    ],
)
def test_fals_files_are_immutable(url):
    assert immutable(url) == [url]


@pytest.mark.parametrize(
    "url",
    [
        "https://storage.googleapis.com/falserverless/gallery/cat.png",  # a name that can be used again
        "https://v3.fal.media/other/x.png",
        "https://fal.media.example.com/files/x.png",
        "http://v3.fal.media/files/x.png",
        "https://v3.fal.media:8443/files/x.png",
        "https://u@v3.fal.media/files/x.png",
        "https://v3.fal.media/files/../x.png",
        "https://v3.fal.media/files/%2e%2e/x.png",
        DATA_URI,
        data_reference(DATA_URI),
        placeholder(Refusal.TOO_MANY_FILES, 0).url,
        "not a url",
    ],
)
def test_other_sources_are_not_immutable(url):
    assert immutable(url) == []


def test_a_source_that_may_not_be_downloaded_is_not_immutable():
    sources = {"immutable_sources": "a.example.com b.example.com", "source_allowlist": "b.example.com c.example.com"}
    urls = [f"https://{host}.example.com/x.png" for host in "abc"]
    assert immutable(*urls, **sources) == [urls[1]]
    assert immutable(*urls, **sources, source_allowlist_mode="report") == [urls[1]]


def test_no_source_is_immutable_if_the_setting_says_so():
    assert immutable("https://v3.fal.media/files/x.png", "https://none/x", immutable_sources="none") == []


def test_an_exact_origin_can_be_immutable():
    origin = "http://127.0.0.1:4711"
    assert immutable(f"{origin}/x", immutable_sources=origin, source_allowlist=origin) == [f"{origin}/x"]


def test_an_unusable_entry_is_refused_by_the_name_of_the_setting():
    with pytest.raises(ValueError, match=r"IMMUTABLE_SOURCES: 'a.\*.com' has no usable host"):
        ImmutableSources(MediaSettings(_env_file=None, immutable_sources="a.*.com"))


@pytest.mark.parametrize(
    ("url", "other"),
    [
        ("https://v3.fal.media/files/a/x.png", "https://v3.fal.media/files/a/X.png"),
        ("https://v3.fal.media/files/a/x.png", "https://v3.fal.media/files/b/x.png"),
        ("https://v3.fal.media/files/a/x.png", "https://v3.fal.media/files/a/x.png?width=64"),
        ("https://v3.fal.media/files/a/x.png", "https://v2.fal.media/files/a/x.png"),
        ("https://v3.fal.media/files/a/x.png", "https://v3.fal.media/files/a/x.png/"),
        ("https://v3.fal.media/files/a%2Fx.png", "https://v3.fal.media/files/a/x.png"),
        ("https://v3.fal.media/files/a%20x.png", "https://v3.fal.media/files/a%2520x.png"),
    ],
)
def test_immutable_urls_of_different_files_have_different_keys(url, other):
    assert immutable(url, other) == [url, other]
    assert source_key(url) != source_key(other)
