"""Detection does not depend on libmagic's version: these tests replace libmagic's answer."""

import magic
import pytest

from handlers.detect import detect
from tests.media_samples import MAKERS, detected_types, media_sample
from tests.unit.media.test_detect import MARKUP, PROGRAMS, REFUSED, STORED, zipped

UNKNOWN = ("application/octet-stream", "text/plain")
NEWER = ("application/zip", "model/vnd.usdz+zip", "image/vnd.mozilla.apng", "image/x-tiff", "application/x-riff")
"""Names that other versions of libmagic return, or may return."""
SPECIAL_ZIPS = (
    *("word/document.xml", "[Content_Types].xml", "_rels/.rels", "xl/workbook.xml", "docProps/app.xml", "mimetype"),
    *("META-INF/MANIFEST.MF", "classes.dex", "AndroidManifest.xml", "Payload/App.app/Info.plist"),
    "archive/data.pkl",
)


@pytest.fixture
def libmagic_returns(monkeypatch):
    return lambda name: monkeypatch.setattr(magic, "from_buffer", lambda _head, *, mime: name if mime else "")


@pytest.mark.parametrize("name", UNKNOWN)
@pytest.mark.parametrize("sample", MAKERS)
def test_a_sample_of_every_type_is_detected_when_libmagic_does_not_know_it(libmagic_returns, sample, name):
    libmagic_returns(name)
    found = detect(media_sample(sample).content[:4096])
    assert found.media is not None
    assert found.media.content_type in detected_types(media_sample(sample).content_type)


@pytest.mark.parametrize("name", UNKNOWN)
@pytest.mark.parametrize("case", STORED)
def test_a_signature_is_detected_when_libmagic_does_not_know_it(libmagic_returns, case, name):
    libmagic_returns(name)
    content, content_type = STORED[case]
    assert detect(content).mime_type == content_type


@pytest.mark.parametrize("sample", [sample for sample in MAKERS if not sample.startswith("tiff")])
def test_another_name_from_libmagic_does_not_change_the_type(libmagic_returns, sample):
    for name in NEWER:
        libmagic_returns(name)
        found = detect(media_sample(sample).content[:4096])
        assert found.mime_type in detected_types(media_sample(sample).content_type)


@pytest.mark.parametrize("case", [*REFUSED, *PROGRAMS, *MARKUP])
def test_a_refused_type_is_refused_when_libmagic_does_not_know_it(libmagic_returns, case):
    content = (PROGRAMS | MARKUP | {name: content for name, (content, _) in REFUSED.items()})[case]
    for name in (*UNKNOWN, "application/zip"):
        libmagic_returns(name)
        assert detect(content).media is None, name


@pytest.mark.parametrize("name", [*UNKNOWN, "application/zip", "application/java-archive"])
@pytest.mark.parametrize("member", SPECIAL_ZIPS)
def test_documents_programs_and_weights_in_a_zip_are_refused_for_any_libmagic_answer(libmagic_returns, member, name):
    libmagic_returns(name)
    assert detect(zipped(member)).media is None


def test_a_canon_raw_photo_is_not_detected_as_tiff(libmagic_returns):
    libmagic_returns("image/x-canon-cr2")
    assert detect(b"II\x2a\0\x10\0\0\0CR\x02\0" + bytes(64)).media is None
    libmagic_returns("application/octet-stream")
    assert detect(b"II\x2a\0\x10\0\0\0CR\x02\0" + bytes(64)).media is None


@pytest.mark.parametrize(
    "head",
    [
        b"\xff\xd8\xff\xf7\0\x0b\x08",  # JPEG-LS
        b"\x89PNG\r\n\x1a\n\0\0\0\x0dCgBI",
        b"GIF88a" + bytes(10),
        b"RIFF\x24\0\0\0CDDAfmt ",
        b"\xff\xf1\xf4\x80\0\x1f\xfc",  # AAC at a reserved sampling rate
        b"\xff\xf1\x50\x80\0\x1f"[:6],
        b"PK\x07\x08PK\x03\x04" + bytes(30),
    ],
)
def test_without_a_known_signature_libmagics_answer_is_used(libmagic_returns, head):
    libmagic_returns("application/x-something")
    assert detect(head).mime_type == "application/x-something"
