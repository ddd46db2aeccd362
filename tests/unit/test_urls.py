import pytest

from schemas.urls import base_name, data_reference, is_data_reference, name_from_url, redact_url, source_key

PNG = "data:image/png;base64,iVBORw0KGgo="


def test_another_signature_has_the_same_source_key():
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
def test_another_host_scheme_path_or_query_has_another_source_key(other):
    assert source_key("https://fal.media/files/a.png") != source_key(other)


def test_a_redacted_url_has_no_user_query_or_fragment():
    assert redact_url("https://user:pw@fal.media/a.png?sig=topsecret#x") == "https://fal.media/a.png"
    assert "topsecret" not in redact_url("::invalid::?token=topsecret")


def test_a_data_uri_is_shown_as_its_hash():
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
        ("https://fal.media/..%2F..%2Fetc%2Fpasswd", "passwd"),
        ("https://fal.media/%2e%2e", "file"),
        (PNG, "file"),
    ],
)
def test_the_file_name_comes_from_the_path(url, name):
    assert name_from_url(url) == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("cat.png", "cat.png"),
        ("../../../etc/passwd", "passwd"),
        ("C:\\Windows\\win.ini", "win.ini"),
        ("..", ""),
        ("a/..", ""),
        ("a/", ""),
        ("", ""),
        (" a\x00\r\n\u202e.png ", "a.png"),
        ("x" * 5000, "x" * 255),
        ("/" * 5000, ""),
    ],
)
def test_a_base_name_has_no_folder_and_no_control_character(text, name):
    assert base_name(text) == name
