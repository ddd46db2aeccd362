"""Acts as a worker whose decoder is taken over: `python -m tests.hostile.takeover_worker FOLDER [--without-sandbox]`.

Runs the probes of `takeover_probes` in a codec process, or in an ordinary child process, and prints the outcomes as
JSON. The environment variable SUPABASE_SERVICE_ROLE_KEY has the secret to search for.
"""

import asyncio
import contextlib
import ctypes
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from unittest import mock

from handlers.codec.codec import Codec
from handlers.settings import MediaSettings
from schemas.jobs import Profile
from tests.hostile import takeover_probes

PROBES = "tests.hostile.takeover_probes"
PROCESSES = 2


async def main(folder: Path, *, is_sandboxed: bool) -> None:
    temp_dir, secret = folder / "tmp", os.environ["SUPABASE_SERVICE_ROLE_KEY"]
    other_file, env_file = temp_dir / "outlast-other" / "source", folder / ".env"
    other_file.parent.mkdir(parents=True)
    other_file.write_text("the file of another user")
    env_file.write_text(f"FAL_KEY={secret}")
    memory = ctypes.create_string_buffer(secret.encode())
    with contextlib.ExitStack() as stack:
        target = {
            **listeners(stack, folder),
            "worker": os.getpid(),
            "secret": secret,
            "address": ctypes.addressof(memory),
            "env_file": str(env_file),
            "other_file": str(other_file),
            "temp_dir": str(temp_dir),
        }
        if is_sandboxed:
            outcomes = await in_a_codec_process(target, temp_dir)
        else:
            outcomes = in_an_ordinary_process(target)
    outcomes["processes left"] = children_left()
    outcomes["files left"] = " ".join(sorted(str(path.relative_to(folder)) for path in folder.rglob("*")))
    print(json.dumps(outcomes))  # noqa: T201


def listeners(stack: contextlib.ExitStack, folder: Path) -> dict[str, object]:
    """Open servers that a codec process could connect to."""
    tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    addresses: dict[str, object] = {"port": tcp.getsockname()[1]}
    for name, address in (("unix", str(folder / "socket")), ("abstract", f"\0outlast-{os.getpid()}")):
        server = stack.enter_context(socket.socket(socket.AF_UNIX))
        server.bind(address)
        server.listen()
        addresses[name] = address
    return addresses


async def in_a_codec_process(target: dict[str, object], temp_dir: Path) -> dict[str, str]:
    """Run the probes in one codec process beside another one."""
    from handlers.codec.sandbox import privileges  # noqa: PLC0415 - as `run_worker` does

    privileges.forbid_inspection()
    settings = MediaSettings(_env_file=None, codec_processes=PROCESSES, temp_dir=temp_dir)
    file, result = temp_dir / "taken-over", temp_dir / "outcomes"
    with (
        mock.patch("handlers.codec.codec.START", f"{PROBES}:start"),
        mock.patch("handlers.codec.operations.PREPARE", f"{PROBES}:run_on_file"),
    ):
        codec = Codec(settings)
        try:
            siblings: set[object] = set()
            while len(siblings) < PROCESSES:
                siblings |= set(await asyncio.gather(*(codec.call("os:getpid") for _ in range(PROCESSES))))
            file.write_text(json.dumps({**target, "siblings": list(siblings)}))
            prepared = await codec.prepare(file, result, "image/png", Profile())
            outcomes: dict[str, str] = json.loads(prepared.path.read_text())
        finally:
            await codec.aclose()
    file.unlink()
    result.unlink()
    return outcomes


def in_an_ordinary_process(target: dict[str, object]) -> dict[str, str]:
    """Run the probes in a child process with the worker's environment and an open file of it."""
    program = f"import json, sys; from {PROBES} import run; print(json.dumps(run(json.loads(sys.argv[1]))))"
    with socket.socket() as inherited, socket.socket() as second:
        completed = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-c", program, json.dumps({**target, "siblings": [os.getpid()]})],
            pass_fds=[inherited.fileno(), second.fileno()],
            capture_output=True,
            text=True,
            check=True,
        )
    outcomes: dict[str, str] = json.loads(completed.stdout)
    return outcomes


def children_left() -> str:
    """Return the children of this process, and orphans that it adopted."""
    try:
        return str(os.waitpid(-1, os.WNOHANG))
    except ChildProcessError:
        return ""


if __name__ == "__main__":
    takeover_probes.LIBC.prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: orphans of the codec processes come to us
    asyncio.run(main(Path(sys.argv[1]), is_sandboxed="--without-sandbox" not in sys.argv))
