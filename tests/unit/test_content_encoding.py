import gzip
import itertools
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from handlers.download.content_encoding import PIECE_BYTES, inflater_for
from handlers.errors import SourceUnavailableError

COMPRESS = {"gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress}


def headers(*codings):
    return CIMultiDictProxy(CIMultiDict(("Content-Encoding", coding) for coding in codings))


@pytest.mark.parametrize("codings", [(), ("identity",), ("Identity ",)])
def test_no_decoder_without_content_encoding(codings):
    assert inflater_for(headers(*codings)) is None


@pytest.mark.parametrize(
    "codings", [("br",), ("zstd",), ("gzip, gzip",), ("gzip", "gzip"), ("compress",), ("gzip;q=1",)]
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


@pytest.mark.parametrize("coding", sorted(COMPRESS))
def test_bytes_after_the_end_of_the_stream_are_refused(coding):
    inflater = inflater_for(headers(coding))
    with pytest.raises(SourceUnavailableError, match="data after its end"):
        list(inflater.feed(COMPRESS[coding](b"one") + b"two"))
    with pytest.raises(SourceUnavailableError, match="data after its end"):
        list(inflater.feed(b"three"))


@pytest.mark.parametrize("coding", sorted(COMPRESS))
def test_a_truncated_stream_is_refused(coding):
    inflater = inflater_for(headers(coding))
    assert b"".join(inflater.feed(COMPRESS[coding](b"content")[:-1])) in {b"content", b""}
    with pytest.raises(SourceUnavailableError, match="incomplete"):
        inflater.finish()


def test_an_invalid_stream_is_refused():
    with pytest.raises(SourceUnavailableError, match="does not inflate"):
        list(inflater_for(headers("gzip")).feed(b"plain text"))
