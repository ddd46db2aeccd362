import pytest

from schemas.urls import data_reference, is_data_reference, name_from_url, redact_url, source_key

PNG = "data:image/png;base64,iVBORw0KGgo="


def test_a_refreshed_signature_is_the_same_file():
    first = "https://storage.googleapis.com/b/a.png?X-Goog-Signature=aa&X-Goog-Expires=60"
    second = "https://storage.googleapis.com/b/a.png?X-Goog-Signature=bb&X-Goog-Expires=90"
    assert source_key(first) == source_key(second)


@pytest.mark.parametrize(
    "other",
    [
        "https://fal.media/files/b.png",
        "https://v3.fal.media/files/a.png",
        "http://fal.media/files/a.png",
        "https://fal.media/files/a.png?page=2",
    ],
)
def test_another_place_is_another_file(other):
    assert source_key("https://fal.media/files/a.png") != source_key(other)


def test_what_is_shown_holds_no_secret():
    assert redact_url("https://user:pw@fal.media/a.png?sig=topsecret#x") == "https://fal.media/a.png"
    assert "topsecret" not in redact_url("::no url::?token=topsecret")


def test_inline_content_is_named_not_shown():
    reference = data_reference(PNG)
    assert reference.startswith("data:image/png;sha256=")
    assert len(reference.partition("=")[2]) == 64
    assert redact_url(PNG) == reference
    assert redact_url(reference) == reference
    assert is_data_reference(reference)
    assert not is_data_reference(PNG)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://fal.media/files/x/cat.png?e=1", "cat.png"),
        ("https://fal.media/", "file"),
        ("https://fal.media/a%00b.png", "ab.png"),
        (PNG, "file"),
    ],
)
def test_file_names(url, name):
    assert name_from_url(url) == name
