import gzip
import itertools
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from handlers.download.content_encoding import PIECE, inflater_for
from handlers.errors import SourceUnavailableError

PACK = {"gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress}


def answer(*codings):
    return CIMultiDictProxy(CIMultiDict(("Content-Encoding", coding) for coding in codings))


@pytest.mark.parametrize("codings", [(), ("identity",), ("Identity ",)])
def test_nothing_is_undone_where_nothing_was_done(codings):
    assert inflater_for(answer(*codings)) is None


@pytest.mark.parametrize(
    "codings", [("br",), ("zstd",), ("gzip, gzip",), ("gzip", "gzip"), ("compress",), ("gzip;q=1",)]
)
def test_what_was_not_asked_for_and_cannot_be_undone_is_refused(codings):
    with pytest.raises(SourceUnavailableError, match="Content-Encoding"):
        inflater_for(answer(*codings))


@given(
    st.sampled_from(sorted(PACK)),
    st.sampled_from([0, 1, 1000, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE]),
    st.integers(1, 5000),
)
def test_content_comes_out_as_it_went_in_whatever_the_pieces(coding, size, step):
    content = (b"the same again and again, " * (size // 26 + 1))[:size]
    packed = PACK[coding](content)
    inflater = inflater_for(answer(coding))
    pieces = [list(inflater.feed(packed[at : at + step])) for at in range(0, len(packed), step)]
    inflater.finish()
    assert b"".join(itertools.chain(*pieces)) == content
    assert all(len(piece) <= PIECE for piece in itertools.chain(*pieces))


@pytest.mark.parametrize("coding", sorted(PACK))
def test_a_stream_has_one_end(coding):
    inflater = inflater_for(answer(coding))
    with pytest.raises(SourceUnavailableError, match="behind its end"):
        list(inflater.feed(PACK[coding](b"one") + b"two"))
    with pytest.raises(SourceUnavailableError, match="behind its end"):
        list(inflater.feed(b"three"))


@pytest.mark.parametrize("coding", sorted(PACK))
def test_a_stream_that_was_cut_is_noticed(coding):
    inflater = inflater_for(answer(coding))
    assert b"".join(inflater.feed(PACK[coding](b"content")[:-1])) in {b"content", b""}
    with pytest.raises(SourceUnavailableError, match="cut short"):
        inflater.finish()


def test_a_stream_that_is_none_is_noticed():
    with pytest.raises(SourceUnavailableError, match="does not inflate"):
        list(inflater_for(answer("gzip")).feed(b"plain text"))
