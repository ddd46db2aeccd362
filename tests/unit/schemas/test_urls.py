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


AZURE = "https://acct.blob.core.windows.net/c/a.png?sv=2024-11-04&sp=r&sr=b"
FAL = "https://v3b.fal.media/files/b/0a1b/a.png"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (f"{AZURE}&st=2026-01-01T00%3A00Z&se=2026-01-02&sig=a%2Bb%3D", f"{AZURE}&se=2026-02-02&spr=https&sig=c"),
        (
            f"{AZURE}&skoid=1&sktid=2&skt=3&ske=4&sks=b&skv=5&se=6&sig=7",
            f"{AZURE}&skoid=8&sktid=9&skt=a&ske=b&sks=b&skv=c&se=d&sig=e",
        ),
        ("https://b.s3.amazonaws.com/a?AWSAccessKeyId=A&Expires=1&Signature=s", "https://b.s3.amazonaws.com/a"),
        (f"{FAL}?identity=one", f"{FAL}?identity=two"),
        (f"{FAL}?identity=one", FAL),
        (FAL.replace("v3b", "v3"), FAL),
        (f"{FAL.replace('v3b', 'V3')}?identity=x", FAL),
        (f"{FAL}?v=1", FAL),
        (f"{FAL}?v=1", f"{FAL}?v=2"),
    ],
)
def test_a_renewed_link_is_the_same_file(first, second):
    assert source_key(first) == source_key(second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("https://h.test/a?se=1", "https://h.test/a?se=2"),
        ("https://h.test/a?sig=1", "https://h.test/a?sig=2"),
        ("https://h.test/a?sr=1&sp=2", "https://h.test/a?sr=2&sp=2"),
        (f"{AZURE}&se=1&sig=1&snapshot=a", f"{AZURE}&se=1&sig=1&snapshot=b"),
        ("https://h.test/a?identity=1", "https://h.test/a?identity=2"),
        ("https://h.test/a?v=1", "https://h.test/a?v=2"),
        ("https://notfal.media/a?v=1", "https://notfal.media/a?v=2"),
        ("https://fal.media.test/a?v=1", "https://fal.media.test/a?v=2"),
        ("https://v2.fal.media/a", "https://v3.fal.media/a"),
        (f"{FAL}?page=1", f"{FAL}?page=2"),
    ],
)
def test_a_parameter_that_may_select_another_file_makes_another_key(first, second):
    assert source_key(first) != source_key(second)


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("https://fal.media/files/a.png", "203213c14c5224876297b3814b197119"),
        ("https://v3b.fal.media/files/b/0a1b/a.png?page=2", "219023f9f6edc72bcb60e01dc51a9c33"),
        ("https://storage.googleapis.com/b/ü a.png?X-Goog-Signature=aa&x=%2F", "42560074c11bf75aaeb09939dcfd4707"),
        ("https://h.test/%7Ea?token=x&v=1&sig=2", "77ded376036ace1852fd4adfce859aee"),
        ("HTTPS://H.test:443/a?B=1&a=2#f", "8a4fc6941c9bbdb2e7069dea2ee8e6eb"),
        ("http://[", "0e5178f5dcc20d0b0c03a2996580308b"),
    ],
)
def test_keys_are_those_of_version_0_1_0(url, key):
    assert source_key(url) == key


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
