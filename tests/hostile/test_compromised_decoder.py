"""Compromised decoders: what they send is never executed, fails their own file only, and ends their process."""

import json
import os
import pickle
import signal
import struct
from pathlib import Path
from typing import Any

import pytest

from handlers.codec.framing import LENGTH, MAX_BYTES, frame
from handlers.errors import DecoderLimitError, FileProcessingError
from schemas.jobs import Profile
from tests.codec_answers import RESULT, WRONG_CONTENTS, content
from tests.codec_processes import codec_pool, codec_process_pids, make_picture, prepares_picture, wait_until

GOOD = frame(content(result=RESULT))
RUN_ORDERS = "tests.hostile.compromised_decoder:run_orders"


class CallOnUnpickle:
    """Calls a function when it is unpickled."""

    def __init__(self, function: Any, *args: object) -> None:
        self.call = function, args

    def __reduce__(self) -> Any:
        return self.call


def raw(sent: bytes, then: str = "wait") -> dict[str, str]:
    return {"raw": sent.hex(), "then": then}


INVALID = {
    "a pickled path": raw(frame(pickle.dumps(Path("/etc/passwd")))),
    "a pickled path of Python 3.13": raw(frame(b"cpathlib._local\nPosixPath\n(S'/etc/passwd'\ntR.")),
    "a pickle without a length": raw(pickle.dumps((True, Path("/etc/passwd")))),
    "an empty response": raw(frame(b"")),
    "a response that is too large": raw(LENGTH.pack(MAX_BYTES + 1) + b"{"),
    "the largest length": raw(struct.pack("!I", 0xFFFFFFFF)),
    "a length only, then exit": raw(LENGTH.pack(100), "exit"),
    "half a length, then exit": raw(LENGTH.pack(100)[:2], "exit"),
    "half a response, then exit": raw(GOOD[:-10], "exit"),
    "half a response, then a closed connection": raw(GOOD[:-10], "close"),
    "two responses": raw(GOOD * 2),
    "a response and another byte": raw(GOOD + b"+"),
    "a result that names another file": {"result": RESULT | {"file": "/etc/passwd"}},
    "a content type that is not stored": {"result": RESULT | {"content_type": "text/html"}},
    "a result of null": {"result": None},
    "a width that is a string": {"result": RESULT | {"width": "10"}},
    "a hash": {"result": RESULT | {"sha256": "../" + "0" * 61}},
    "a duration that is not a number": {"result": RESULT | {"duration": float("nan")}},
}


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return make_picture(tmp_path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The file to prepare: the orders for its decoder."""
    return tmp_path / "orders"


async def prepare_compromised(codec: Any, file: Path, orders: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Prepare a file whose decoder follows `orders`; return the result or the error."""
    file.write_text(json.dumps(orders))
    with monkeypatch.context() as patch:
        patch.setattr("handlers.codec.operations.PREPARE", RUN_ORDERS)
        try:
            return await codec.prepare(file, file.with_name("out"), "image/png", Profile())
        except FileProcessingError as error:
            return error


async def test_a_valid_response_is_accepted(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shows that the other tests fail because of the content, not because of how it is sent."""
    async with codec_pool(codec_processes=1) as codec:
        for orders in ({"result": RESULT}, raw(GOOD)):
            prepared = await prepare_compromised(codec, file, orders, monkeypatch)
            assert (prepared.path, prepared.width) == (file.with_name("out"), 4)
        assert codec.stats().restarts == {}


@pytest.mark.parametrize("case", INVALID)
async def test_an_invalid_response_is_decoder_failed_and_the_next_file_works(
    case: str, picture: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with codec_pool(codec_processes=1) as codec:
        before = await codec.call("os:getpid")
        error = await prepare_compromised(codec, file, INVALID[case], monkeypatch)
        assert (error.code, error.retryable) == ("decoder_failed", True), error
        assert str(error).startswith("the decoder's answer is invalid: ")
        assert codec.stats().restarts == {"invalid_answer": 1}
        assert await prepares_picture(codec, picture)
        assert before not in codec_process_pids()


async def test_invalid_responses_of_one_process_do_not_fail_files_of_others(
    picture: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with codec_pool() as codec:
        for sent in WRONG_CONTENTS.values():
            error = await prepare_compromised(codec, file, raw(frame(sent)), monkeypatch)
            assert error.code == "decoder_failed"
        assert codec.stats().restarts == {"invalid_answer": len(WRONG_CONTENTS)}
        assert await prepares_picture(codec, picture)


@pytest.mark.parametrize("function", [os.mkdir, Path.touch], ids=["os", "pathlib"])
async def test_a_pickle_in_a_response_is_not_executed(
    function: Any, picture: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = file.with_name("marker")
    pickled = pickle.dumps(CallOnUnpickle(function, marker))
    pickle.loads(pickled)  # noqa: S301 - shows that unpickling calls the function
    assert marker.exists()
    marker.rmdir() if marker.is_dir() else marker.unlink()
    async with codec_pool(codec_processes=1) as codec:
        for sent in (pickled, frame(pickled), frame(pickle.dumps((True, CallOnUnpickle(function, marker))))):
            error = await prepare_compromised(codec, file, raw(sent), monkeypatch)
            assert error.code == "decoder_failed"
        assert not marker.exists()
        assert await prepares_picture(codec, picture)


async def test_a_process_that_exits_before_its_response_is_decoder_crashed(
    picture: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with codec_pool(codec_processes=1) as codec:
        error = await prepare_compromised(codec, file, raw(b"", "exit"), monkeypatch)
        assert error.code == "decoder_crashed"
        assert codec.stats().restarts == {"crashed": 1}
        assert await prepares_picture(codec, picture)


async def test_a_response_sent_byte_by_byte_does_not_extend_the_time_limit(
    picture: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte arrives within the limit; the whole response would take minutes."""
    async with codec_pool(codec_processes=1, codec_timeout_seconds=8) as codec:
        error = await prepare_compromised(codec, file, {"raw": GOOD.hex(), "every": 0.5}, monkeypatch)
        assert isinstance(error, DecoderLimitError)
        assert codec.stats().restarts == {"timeout": 1}
        assert await prepares_picture(codec, picture)


async def test_bytes_sent_between_two_files_fail_neither_file(
    picture: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise they would be read as the next file's response."""
    async with codec_pool(codec_processes=1) as codec:
        process = await codec.call("os:getpid")
        late = {"raw": GOOD.hex(), "late": True, "result": RESULT}
        made = await prepare_compromised(codec, file, late, monkeypatch)
        assert made.width == 4
        os.kill(process, signal.SIGUSR1)
        await wait_until(lambda: not codec._processes._idle[0].is_usable)
        assert await prepares_picture(codec, picture)
        assert await codec.call("os:getpid") != process
        assert codec.stats().restarts == {}
