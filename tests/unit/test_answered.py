"""A codec process answers with data: nothing it sends makes its caller run anything."""

import io
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from handlers.answered import load
from handlers.errors import DecoderLimitError
from handlers.media import Prepared
from handlers.media.logbook import Answer, Line
from tests.codec_bench import good_picture, pool, works


class Hostile:
    """Becomes a call when it is read."""

    def __init__(self, function: Any, *args: object) -> None:
        self.call = function, args

    def __reduce__(self) -> Any:
        return self.call


def forged(*lines: str) -> bytes:
    """A pickle written by hand: names that no honest one has."""
    return ("\n".join(lines) + "\n.").encode()


@pytest.mark.parametrize(
    "answer",
    [
        (True, Answer([Line("PIL", 30, "odd", 7)], Prepared(Path("/a"), "image/png", "png", 1, "0", "1"))),
        (True, Answer([], error=DecoderLimitError("too many pixels"))),
        (False, ValueError("no number")),
        (True, 7),
    ],
)
def test_what_codec_processes_answer_is_read(answer: Any) -> None:
    assert repr(load(io.BytesIO(pickle.dumps(answer)))) == repr(answer)


@pytest.mark.parametrize(
    "answer",
    [
        pickle.dumps(Hostile(os.system, "exit 3")),
        pickle.dumps(Hostile(eval, "1 + 1")),
        pickle.dumps(Hostile(getattr, "a", "upper")),
        pickle.dumps(Hostile(Path.unlink, Path("/nowhere"))),
        forged("chandlers.errors", "Path"),
        forged("chandlers.errors", "__builtins__"),
        forged("chandlers.scratch", "remove"),
        forged("chandlers.media", "Prepared.__init__"),
        forged("cbuiltins", "exec"),
        forged("cpathlib", "os"),
    ],
)
def test_nothing_else_is(answer: bytes) -> None:
    with pytest.raises(pickle.UnpicklingError, match="nothing that a codec process answers"):
        load(io.BytesIO(answer))


async def test_a_process_that_sends_something_else_is_ended(tmp_path: Path) -> None:
    picture, marker = good_picture(tmp_path), tmp_path / "marker"
    async with pool(codec_processes=1) as codec:
        with pytest.raises(Exception, match="cannot be read") as caught:
            await codec._run(Hostile, Path.touch, marker)
        assert getattr(caught.value, "code", None) == "decoder_crashed"
        assert not marker.exists()
        assert await works(codec, picture)
