import gzip
import itertools
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from handlers.download.content_encoding import MAX_GZIP_MEMBERS, PIECE_BYTES, inflater_for
from handlers.errors import SourceUnavailableError

EMPTY_GZIP = gzip.compress(b"", mtime=0)
COMPRESS = {"gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress}


def raw_deflate(content):
    """Compress without zlib's header, as some servers do."""
    return zlib.compress(content)[2:-4]


def decode(inflater, body, step=1000):
    """Return the content of a body that arrives in pieces of `step` bytes."""
    pieces = [b"".join(inflater.feed(body[at : at + step])) for at in range(0, len(body), step)]
    inflater.finish()
    return b"".join(pieces)


def headers(*codings):
    return CIMultiDictProxy(CIMultiDict(("Content-Encoding", coding) for coding in codings))


@pytest.mark.parametrize(
    "codings",
    [
        *((), ("",), ("identity",), ("Identity ",), ("identity, identity",), ("identity;q=1",)),
        *(("aws-chunked",), ("UTF-8",), ("none",), ("binary",), ("aws-chunked,identity", "utf-8"), ("7bit",)),
    ],
)
def test_a_name_that_is_no_coding_needs_no_decoder(codings):
    assert inflater_for(headers(*codings)) is None


@pytest.mark.parametrize(
    "codings",
    [("gzip, identity",), ("identity", "gzip"), ("aws-chunked, gzip",), ("gzip;q=1",), ("GZIP",), (",gzip,",)],
)
def test_one_coding_among_other_names_is_decoded(codings):
    assert decode(inflater_for(headers(*codings)), gzip.compress(b"content")) == b"content"


@pytest.mark.parametrize(
    "codings", [("br",), ("zstd",), ("gzip, gzip",), ("gzip", "gzip"), ("compress",), ("gzip, br",)]
)
def test_unsupported_codings_are_refused(codings):
    with pytest.raises(SourceUnavailableError, match="Content-Encoding"):
        inflater_for(headers(*codings))


@given(
    st.sampled_from(sorted(COMPRESS)),
    st.sampled_from([0, 1, 1000, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES]),
    st.integers(1, 5000),
)
def test_content_is_decoded_from_pieces_of_any_size(coding, size, step):
    content = (b"a text that is repeated, " * (size // 25 + 1))[:size]
    compressed = COMPRESS[coding](content)
    inflater = inflater_for(headers(coding))
    pieces = [list(inflater.feed(compressed[at : at + step])) for at in range(0, len(compressed), step)]
    inflater.finish()
    assert b"".join(itertools.chain(*pieces)) == content
    assert all(len(piece) <= PIECE_BYTES for piece in itertools.chain(*pieces))


@pytest.mark.parametrize("step", [1, 7, 1000])
@pytest.mark.parametrize("zeros", [0, 1, 500])
@pytest.mark.parametrize("coding", sorted(COMPRESS))
def test_zeros_after_the_end_are_ignored(coding, zeros, step):
    body = COMPRESS[coding](b"content") + bytes(zeros)
    assert decode(inflater_for(headers(coding)), body, step) == b"content"


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_gzip_members_are_joined(step):
    body = gzip.compress(b"one, ") + gzip.compress(b"") + bytes(3) + gzip.compress(b"two") + bytes(3)
    assert decode(inflater_for(headers("gzip")), body, step) == b"one, two"


@pytest.mark.parametrize("step", [1, 1000])
@pytest.mark.parametrize("content", [b"", b"x", bytes(range(256)) * 300])
def test_deflate_without_zlibs_header_is_decoded(content, step):
    assert decode(inflater_for(headers("deflate")), raw_deflate(content), step) == content


@pytest.mark.parametrize("level", range(10))
@pytest.mark.parametrize("window", [9, 15])
def test_deflate_with_any_zlib_header_is_decoded(level, window):
    coder = zlib.compressobj(level, wbits=window)
    body = coder.compress(b"content") + coder.flush()
    assert decode(inflater_for(headers("deflate")), body) == b"content"


@pytest.mark.parametrize("garbage", [b"two", b"\0\0two", b"\0" * 300_000 + b"two", EMPTY_GZIP[:-1] + b"x"])
@pytest.mark.parametrize("coding", sorted(COMPRESS))
def test_other_bytes_after_the_end_are_refused(coding, garbage):
    with pytest.raises(SourceUnavailableError, match="data after its end"):
        decode(inflater_for(headers(coding)), COMPRESS[coding](b"one") + garbage)


@pytest.mark.parametrize("coding", sorted(COMPRESS))
def test_bytes_that_arrive_after_the_end_are_refused(coding):
    inflater = inflater_for(headers(coding))
    assert b"".join(inflater.feed(COMPRESS[coding](b"one"))) == b"one"
    with pytest.raises(SourceUnavailableError, match="data after its end"):
        list(inflater.feed(b"three"))


def test_an_incomplete_last_member_is_refused():
    with pytest.raises(SourceUnavailableError, match="incomplete"):
        decode(inflater_for(headers("gzip")), gzip.compress(b"one") + gzip.compress(b"two")[:-1])


def test_the_number_of_gzip_members_is_limited():
    assert decode(inflater_for(headers("gzip")), gzip.compress(b"x") * MAX_GZIP_MEMBERS, 10**6)
    with pytest.raises(SourceUnavailableError, match="more than 10000 gzip members"):
        decode(inflater_for(headers("gzip")), gzip.compress(b"x") * (MAX_GZIP_MEMBERS + 1), 10**6)


@pytest.mark.parametrize("coding", sorted(COMPRESS))
def test_a_truncated_stream_is_refused(coding):
    inflater = inflater_for(headers(coding))
    assert b"".join(inflater.feed(COMPRESS[coding](b"content")[:-1])) in {b"content", b""}
    with pytest.raises(SourceUnavailableError, match="incomplete"):
        inflater.finish()


def test_an_invalid_stream_is_refused():
    with pytest.raises(SourceUnavailableError, match="does not inflate"):
        list(inflater_for(headers("gzip")).feed(b"plain text"))
