"""Decoders that were taken over: what they send runs nothing, costs their own file only, and ends their process."""

import json
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest

from handlers.codec.framing import LENGTH, MAX_BYTES, frame
from handlers.errors import DecoderLimitError, FileProcessingError
from schemas.jobs import Profile
from tests.codec_answers import RESULT, WRONG_CONTENTS, content
from tests.codec_processes import make_picture, codec_pool, wait_until, codec_process_pids, prepares_picture

GOOD = frame(content(result=RESULT))
TAKEN_OVER = "tests.hostile.compromised_decoder:taken_over"


class Planted:
    """Becomes a call when it is unpickled."""

    def __init__(self, function: Any, *args: object) -> None:
        self.call = function, args

    def __reduce__(self) -> Any:
        return self.call


def raw(sent: bytes, then: str = "wait") -> dict[str, str]:
    return {"raw": sent.hex(), "then": then}


WRONG = {
    "a pickled path": raw(frame(pickle.dumps(Path("/etc/passwd")))),
    "a pickled path of Python 3.13": raw(frame(b"cpathlib._local\nPosixPath\n(S'/etc/passwd'\ntR.")),
    "a pickle without a length": raw(pickle.dumps((True, Path("/etc/passwd")))),
    "an empty answer": raw(frame(b"")),
    "an answer that is too large": raw(LENGTH.pack(MAX_BYTES + 1) + b"{"),
    "the largest length": raw(struct.pack("!I", 0xFFFFFFFF)),
    "a length only, then its end": raw(LENGTH.pack(100), "exit"),
    "half a length, then its end": raw(LENGTH.pack(100)[:2], "exit"),
    "half an answer, then its end": raw(GOOD[:-10], "exit"),
    "half an answer, then a closed connection": raw(GOOD[:-10], "close"),
    "two answers": raw(GOOD * 2),
    "an answer, and a byte": raw(GOOD + b"+"),
    "a result of another file": {"result": RESULT | {"file": "/etc/passwd"}},
    "a content type that is not stored": {"result": RESULT | {"content_type": "text/html"}},
    "a result for nothing": {"result": None},
    "a size that is no number": {"result": RESULT | {"file_size": "10"}},
    "no number": {"result": RESULT | {"duration": float("nan")}},
}


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return make_picture(tmp_path)


@pytest.fixture
def orders(tmp_path: Path) -> Path:
    return tmp_path / "orders"


async def taken_over(codec: Any, orders: Path, does: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Prepare a file whose decoder does what the file says; return the result or the error."""
    orders.write_text(json.dumps(does))
    with monkeypatch.context() as patch:
        patch.setattr("handlers.codec.codec.PREPARE", TAKEN_OVER)
        try:
            return await codec.prepare(orders, orders.with_name("out"), "image/png", Profile())
        except FileProcessingError as error:
            return error


async def test_an_answer_in_schema_is_accepted(orders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other tests would pass for any answer if this did not."""
    async with codec_pool(codec_processes=1) as codec:
        for does in ({"result": RESULT}, raw(GOOD)):
            made = await taken_over(codec, orders, does, monkeypatch)
            assert (made.path, made.width) == (orders.with_name("out"), 4)
        assert codec.stats().restarts == {}


@pytest.mark.parametrize("case", WRONG)
async def test_a_wrong_answer_is_decoder_failed_and_the_next_file_works(
    case: str, picture: Path, orders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with codec_pool(codec_processes=1) as codec:
        before = await codec.call("os:getpid")
        error = await taken_over(codec, orders, WRONG[case], monkeypatch)
        assert (error.code, error.retryable) == ("decoder_failed", True), error
        assert str(error).startswith("the decoder's answer is invalid: ")
        assert codec.stats().restarts == {"invalid_answer": 1}
        assert await prepares_picture(codec, picture)
        assert before not in codec_process_pids()


async def test_wrong_answers_of_one_process_cost_the_files_of_others_nothing(
    picture: Path, orders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with codec_pool() as codec:
        for sent in WRONG_CONTENTS.values():
            error = await taken_over(codec, orders, raw(frame(sent)), monkeypatch)
            assert error.code == "decoder_failed"
        assert codec.stats().restarts == {"invalid_answer": len(WRONG_CONTENTS)}
        assert await prepares_picture(codec, picture)


@pytest.mark.parametrize("function", [os.mkdir, Path.touch], ids=["os", "pathlib"])
async def test_a_planted_pickle_runs_nothing(
    function: Any, picture: Path, orders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = orders.with_name("marker")
    planted = pickle.dumps(Planted(function, marker))
    pickle.loads(planted)  # noqa: S301 - it does run where pickles are read
    assert marker.exists()
    marker.rmdir() if marker.is_dir() else marker.unlink()
    async with codec_pool(codec_processes=1) as codec:
        for sent in (planted, frame(planted), frame(pickle.dumps((True, Planted(function, marker))))):
            error = await taken_over(codec, orders, raw(sent), monkeypatch)
            assert error.code == "decoder_failed"
        assert not marker.exists()
        assert await prepares_picture(codec, picture)


async def test_a_process_that_ends_before_its_answer_is_decoder_crashed(
    picture: Path, orders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with codec_pool(codec_processes=1) as codec:
        error = await taken_over(codec, orders, raw(b"", "exit"), monkeypatch)
        assert error.code == "decoder_crashed"
        assert codec.stats().restarts == {"crashed": 1}
        assert await prepares_picture(codec, picture)


async def test_an_answer_sent_a_byte_at_a_time_does_not_prolong_the_time_limit(
    picture: Path, orders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte comes well within the limit, all of them would take minutes."""
    async with codec_pool(codec_processes=1, codec_timeout_seconds=2) as codec:
        error = await taken_over(codec, orders, {"raw": GOOD.hex(), "every": 0.5}, monkeypatch)
        assert isinstance(error, DecoderLimitError)
        assert codec.stats().restarts == {"timeout": 1}
        assert await prepares_picture(codec, picture)


async def test_what_a_process_sends_between_two_files_costs_neither(
    picture: Path, orders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the next file would be given an answer that is not about it."""
    async with codec_pool(codec_processes=1) as codec:
        process, signal_file = await codec.call("os:getpid"), orders.with_name("now")
        late = {"raw": GOOD.hex(), "late": str(signal_file), "result": RESULT}
        made = await taken_over(codec, orders, late, monkeypatch)
        assert made.width == 4
        signal_file.touch()
        await wait_until(lambda: not signal_file.exists())
        assert await prepares_picture(codec, picture)
        assert await codec.call("os:getpid") != process
        assert codec.stats().restarts == {}
