"""Files in `data:` URIs."""

import base64
import hashlib
import random
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.download import Downloader, data_uri
from handlers.download.file_writer import FileWriter
from handlers.errors import FileCorruptedError, FileSizeExceededError
from handlers.settings import MediaSettings

LIMIT = 1024 * 1024


def data_uri_of(content):
    return "data:image/png;base64," + base64.b64encode(content).decode()


@pytest.fixture
async def downloader():
    async with Downloader(MediaSettings(_env_file=None, max_file_size_mb=1)) as made:
        yield made


@pytest.mark.parametrize(
    "uri",
    [
        data_uri_of(b"hello"),
        "data:text/plain,hel%6Co",
        "data:text/plain,hello",
        "DATA:;BASE64,aGVsbG8=",
        "data:image/png;charset=x;base64 ,aGVs%0D%0A bG8%3D\n",
    ],
)
async def test_a_data_uri_is_decoded(downloader, tmp_path, uri):
    calls, heads = [], []
    written = await downloader.fetch(uri, tmp_path / "f", None, lambda *now: calls.append(now), heads.append)
    assert (tmp_path / "f").read_bytes() == b"hello"
    assert (written.size, written.sha256) == (5, hashlib.sha256(b"hello").hexdigest())
    assert (calls, heads) == ([(5, 5)], [b"hello"])


@pytest.mark.parametrize(
    "uri",
    [
        "data:image/png;base64,!",
        "data:image/png;base64,aGVsbG8",
        "data:image/png;base64,aGVs\ud800bG8=",
        "data:image/png;base64,é",
        "data:,\ud800",
        "data:image/png;base64",
        "data:,",
    ],
)
async def test_an_invalid_data_uri_is_corrupted(downloader, tmp_path, uri):
    with pytest.raises(FileCorruptedError):
        await downloader.fetch(uri, tmp_path / "f")


@pytest.mark.parametrize("size", [LIMIT - 2, LIMIT - 1, LIMIT])
async def test_content_up_to_the_size_limit_is_accepted(downloader, tmp_path, size):
    content = random.Random(size).randbytes(size)  # noqa: S311 - any bytes
    await downloader.fetch(data_uri_of(content), tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == content


@pytest.mark.parametrize("newline", ["\r\n", "%0D%0A"])
async def test_line_breaks_in_base64_do_not_count_as_size(downloader, tmp_path, newline):
    lines = base64.encodebytes(bytes(LIMIT)).decode().replace("\n", newline)
    written = await downloader.fetch(f"data:;base64,{lines}", tmp_path / "f")
    assert written.size == LIMIT


@pytest.mark.parametrize("prefix", ["data:image/png;base64,", "data:,"])
async def test_a_too_large_data_uri_is_refused_before_it_is_decoded(downloader, tmp_path, prefix):
    with pytest.raises(FileSizeExceededError, match=str(LIMIT)):
        await downloader.fetch(prefix + "A" * (3 * LIMIT), tmp_path / "f")
    assert (tmp_path / "f").stat().st_size == 0


@pytest.mark.parametrize("letter", ["%41", "A\n\n\n"])
async def test_escaped_content_is_refused_at_the_size_limit(downloader, tmp_path, letter):
    with pytest.raises(FileSizeExceededError):
        await downloader.fetch("data:;base64," + letter * (4 * LIMIT // 3 + 8), tmp_path / "f")
    assert (tmp_path / "f").stat().st_size <= LIMIT


@given(content=st.binary(min_size=1, max_size=300), is_base64=st.booleans(), escaped=st.booleans())
def test_content_is_the_same_when_decoded_in_pieces(content, is_base64, escaped, tmp_path_factory):
    text = base64.b64encode(content).decode() if is_base64 else quote(content, safe="")
    if escaped and is_base64:
        text = "".join(f"%{ord(letter):02x}" for letter in text)
    with pytest.MonkeyPatch.context() as patch, FileWriter(tmp_path_factory.getbasetemp() / "piece", 300) as writer:
        patch.setattr(data_uri, "PIECE_BYTES", 7)
        written = data_uri.write_data_uri(f"data:{';base64' if is_base64 else ''},{text}", writer)
        assert written.path.read_bytes() == content
