"""User programs that decode: they run once, need no `__main__` guard and leave no process."""

import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent

import psutil
import pytest

from tests.codec_processes import is_running, make_picture
from tests.time_limits import LONG_WAIT_SECONDS, WAIT_SECONDS

pytestmark = pytest.mark.slow


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return make_picture(tmp_path)


SCRIPT = """
    import asyncio, sys
    from pathlib import Path
    from handlers.codec.codec import Codec
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
def test_program_without_main_guard_can_decode(picture: Path, tmp_path: Path, how: str) -> None:
    program = dedent(SCRIPT).format(picture=str(picture))
    if how == "closed":
        program += "asyncio.run(codec.aclose())\n"
    script = tmp_path / "script.py"
    script.write_text(program)
    argv = {"command": ["-c", program], "standard input": ["-"]}.get(how, [str(script)])
    given = program if how == "standard input" else None
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, *argv],
        input=given,
        capture_output=True,
        text=True,
        timeout=LONG_WAIT_SECONDS,
        check=False,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["run", "image/jpeg"]  # run once: no child repeats the program


PARENT = """
    import asyncio, os, time
    from handlers.codec.codec import Codec
    from handlers.settings import MediaSettings

    async def main():
        codec = Codec(MediaSettings(codec_processes=2))
        await codec.call("os:getpid")
        busy = asyncio.create_task(codec.call("time:sleep", 600))
        while not codec._processes.busy:
            await asyncio.sleep(0.02)
        if {forks}:
            if not os.fork():
                time.sleep(600)
        print("ready", flush=True)
        await busy

    asyncio.run(main())
"""


@pytest.mark.parametrize("forks", [False, True])
def test_child_processes_end_when_their_parent_is_killed(tmp_path: Path, *, forks: bool) -> None:
    """Also if the parent has forked, so that the fork holds its sockets open."""
    parent = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-c", dedent(PARENT).format(forks=forks)], stdout=subprocess.PIPE, text=True, cwd=tmp_path
    )
    assert parent.stdout is not None
    with parent, parent.stdout:
        assert parent.stdout.readline() == "ready\n"
        servers = [process for process in psutil.Process(parent.pid).children() if "-P" in process.cmdline()]
        children = [*servers, *servers[0].children()]
        assert len(children) == 2
        others = set(psutil.Process(parent.pid).children()) - set(servers)
        parent.kill()
    deadline = time.monotonic() + WAIT_SECONDS
    while any(map(is_running, children)) and time.monotonic() < deadline:
        time.sleep(0.02)
    alive = [child for child in children if is_running(child)]
    for process in others:
        process.kill()
    assert not alive
    assert len(others) == forks


@pytest.mark.parametrize(
    ("program", "unwanted"),
    [
        (
            "import worker.cli.main, worker.app",
            {
                "rich",
                "pygments",
                "pyvips",
                "av",
                "PIL",
                "cryptography",
                "jwt",
                "jinja2",
                "supabase",
                "httpx",
                "multiprocessing",
            },
        ),
        (
            "import handlers.codec.decoder_main, handlers.media.image",
            {"ssl", "http", "pydantic", "asyncio", "av", "PIL"},
        ),
    ],
)
def test_process_imports_no_unneeded_library(program: str, unwanted: set[str]) -> None:
    """Each takes a megabyte or more in every worker or codec process."""
    code = f"{program}; import sys; print(*sys.modules)"
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=LONG_WAIT_SECONDS, check=True
    )
    assert set(done.stdout.split()) & unwanted == set()
