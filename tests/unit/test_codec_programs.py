"""Programs of users' own that decode: run once, without a guard, and leaving no process behind."""

import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent

import psutil
import pytest

from tests.codec_bench import good_picture, lives


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return good_picture(tmp_path)


SCRIPT = """
    import asyncio, sys
    from pathlib import Path
    from handlers.codec import Codec
    from handlers.settings import MediaSettings
    from schemas.jobs import Profile

    print("run")
    source = Path({picture!r})
    codec = Codec(MediaSettings(codec_processes=2))
    made = asyncio.run(codec.prepare(source, source.with_name("out"), "image/png", Profile()))
    codec.check(source, "image/png")
    print(made.content_type)
"""


@pytest.mark.parametrize("how", ["script", "command", "standard input", "closed"])
def test_an_unguarded_program_may_decode(picture: Path, tmp_path: Path, how: str) -> None:
    program = dedent(SCRIPT).format(picture=str(picture))
    if how == "closed":
        program += "asyncio.run(codec.aclose())\n"
    script = tmp_path / "script.py"
    script.write_text(program)
    argv = {"command": ["-c", program], "standard input": ["-"]}.get(how, [str(script)])
    given = program if how == "standard input" else None
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, *argv], input=given, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["run", "image/jpeg"]  # run once: no child repeats the program


PARENT = """
    import asyncio, os, time
    from handlers.codec import Codec
    from handlers.settings import MediaSettings

    async def main():
        codec = Codec(MediaSettings(codec_processes=2))
        await codec._run(os.getpid)
        busy = asyncio.create_task(codec._run(time.sleep, 600))
        while not any(future.running() for future in codec._processes.waiting):
            await asyncio.sleep(0.02)
        print("ready", flush=True)
        await busy

    asyncio.run(main())
"""


def test_children_end_with_a_killed_parent(tmp_path: Path) -> None:
    parent = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-c", dedent(PARENT)], stdout=subprocess.PIPE, text=True, cwd=tmp_path
    )
    assert parent.stdout is not None
    with parent, parent.stdout:
        assert parent.stdout.readline() == "ready\n"
        children = psutil.Process(parent.pid).children(recursive=True)
        assert len(children) >= 2
        parent.kill()
    deadline = time.monotonic() + 5
    while any(map(lives, children)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not [child for child in children if lives(child)]
