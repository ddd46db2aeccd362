"""Code that runs inside a codec process reaches nothing of the worker, of other users, or of the machine.

`takeover_probes` has some hundred attempts, `takeover_worker` the process around them.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from handlers.codec.sandbox import landlock, seccomp, system_calls
from handlers.errors import FileProcessingError
from schemas.jobs import Profile
from tests.codec_processes import codec_pool, make_picture, prepares_picture, wait_until
from tests.time_limits import LONG_WAIT_SECONDS, WAIT_SECONDS

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
SECRET = "a-secret-of-the-worker"
FILES = ".env socket tmp tmp/outlast-other tmp/outlast-other/source"
ONLY_IN_A_SANDBOX = {"can use: thread", "can use: folder", "can use: library"}
NEEDS_A_CODEC_PROCESS = {"pass a descriptor", "write its own source"}
"""Probes that have no target in an ordinary process."""
PRIVILEGED = {"bpf", "perf_event_open", "userfaultfd", "setpriority worker", "ptrace fork server", "ptrace sibling"}
"""Probes that depend on the machine or on privileges, or fail because a probe before has attached already."""
WITHOUT_CAPABILITIES = (
    "import sys; from handlers.codec.sandbox import privileges; privileges.drop_capabilities();"
    " print('dropped', flush=True);"
)
CONTAINER_USER = 10001
AS_CONTAINER_USER = """
mkdir "$1/python" && mount --bind "$2" "$1/python"
[ -z "$3" ] || { mount -t tmpfs -o mode=755 none "$3" && mkdir -p "$2" && mount --bind "$1/python" "$2"; } || exit
user=$4; shift 4
exec setpriv --reuid "$user" --regid "$user" --clear-groups -- "$@"
"""


def take_over(folder: Path, *options: str, before: tuple[str, ...] = ()) -> dict[str, str]:
    """Run the probes; return their outcomes."""
    completed = subprocess.run(  # noqa: S603 - our own program
        [*before, sys.executable, "-m", "tests.hostile.takeover_worker", str(folder), *options],
        env={
            "SUPABASE_SERVICE_ROLE_KEY": SECRET,
            "FAL_KEY": SECRET,
            "RABBITMQ_URL": SECRET,
            "PATH": os.environ["PATH"],
        },
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=LONG_WAIT_SECONDS,
    )
    assert completed.returncode == 0, completed.stderr
    outcomes: dict[str, str] = json.loads(completed.stdout)
    return outcomes


def reached(outcomes: dict[str, str]) -> dict[str, str]:
    return {name: outcome for name, outcome in outcomes.items() if outcome.startswith("REACHED")}


def assert_nothing_reached(outcomes: dict[str, str]) -> None:
    assert len(outcomes) > 100
    assert reached(outcomes) == {}
    assert {name for name, outcome in outcomes.items() if outcome == "True"} == ONLY_IN_A_SANDBOX
    assert (outcomes["processes left"], outcomes["files left"]) == ("", FILES)


def test_a_decoder_that_is_taken_over_reaches_nothing(tmp_path: Path) -> None:
    assert_nothing_reached(take_over(tmp_path))


@pytest.mark.machine
def test_a_decoder_that_is_taken_over_reaches_nothing_as_the_user_of_the_image(tmp_path_factory) -> None:
    folder = tmp_path_factory.mktemp("container-user")
    python = Path(sys.base_prefix)
    closed = [path for path in reversed(python.parents) if not path.stat().st_mode & 0o001]
    hidden = str(closed[0]) if closed else ""
    public = Path(f"/run/outlast-takeover-{os.getpid()}")  # pytest's own folders are closed to other users
    public.mkdir(mode=0o777)
    public.chmod(0o777)
    command = ("unshare", "--mount", "sh", "-c", AS_CONTAINER_USER, "sh")
    try:
        work = public / "work"
        work.mkdir()
        os.chown(work, CONTAINER_USER, CONTAINER_USER)
        outcomes = take_over(work, before=(*command, str(folder), str(python), hidden, str(CONTAINER_USER)))
    finally:
        subprocess.run(["rm", "-r", str(public)], check=True)  # noqa: S603, S607 - our own folder
    assert_nothing_reached(outcomes)


def test_the_same_code_reaches_everything_without_the_sandbox(tmp_path: Path) -> None:
    """Otherwise the probes would prove nothing."""
    outcomes = take_over(tmp_path, "--without-sandbox")
    probes = {name for name in outcomes if not name.endswith(" left") and not name.startswith("process 1:")}
    assert probes - set(reached(outcomes)) <= NEEDS_A_CODEC_PROCESS | PRIVILEGED


async def test_a_worker_is_closed_to_other_processes_of_its_user(tmp_path: Path) -> None:
    """The kernel then gives the files of the process in /proc to root.

    The worker has no capabilities here: with some, it would be closed to a process without them in any case.
    """
    settings = {
        "SUPABASE_URL": "http://127.0.0.1:9",
        "SUPABASE_SERVICE_ROLE_KEY": "x" * 40,
        "RABBITMQ_URL": "amqp://127.0.0.1:9/",
        "TEMP_DIR": str(tmp_path),
        "METRICS_PORT": "0",
        "METRICS_HOST": "127.0.0.1",
    }
    environment = settings | {"PATH": os.environ["PATH"]}
    main = "from worker.cli.main import main; main()"
    async with (
        running("sys.stdin.read()", environment, tmp_path) as ordinary,
        running(main, environment, tmp_path) as worker,
    ):
        await wait_until(lambda: is_closed(worker.pid))
        assert worker.returncode is None
        assert not is_closed(ordinary.pid)


@contextlib.asynccontextmanager
async def running(program: str, environment: dict[str, str], folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a Python program with the argument `worker`; return once it has no capabilities."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", WITHOUT_CAPABILITIES + program, "worker"),
        env=environment,
        cwd=folder,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), WAIT_SECONDS) == b"dropped\n"
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def is_closed(pid: int) -> bool:
    """Whether the kernel refuses a codec process: one without capabilities, and with the same user id."""
    program = f"""
import sys
from handlers.codec.sandbox import privileges
privileges.drop_capabilities()
try:
    open("/proc/{pid}/environ").read()
except PermissionError:
    sys.exit(0)
sys.exit(1)
"""
    return subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0  # noqa: S603


@pytest.mark.parametrize("kind", ["symlink", "hard link", "FIFO", "folder", "nothing"])
async def test_a_result_that_is_not_a_regular_file_is_refused(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without Landlock and seccomp, which would refuse most of these before."""
    secret, source = tmp_path / "secret", tmp_path / "kind"
    secret.write_text("of the worker")
    source.write_text(json.dumps({"kind": kind, "path": str(secret)}))
    async with codec_pool(start="tests.hostile.compromised_decoder:start_without_sandbox", codec_processes=1) as codec:
        with monkeypatch.context() as patch:
            patch.setattr("handlers.codec.operations.PREPARE", "tests.hostile.compromised_decoder:leave_result")
            with pytest.raises(FileProcessingError, match="answer is invalid") as caught:
                await codec.prepare(source, tmp_path / "out", "image/png", Profile())
        assert caught.value.code == "decoder_failed"
        assert await prepares_picture(codec, make_picture(tmp_path))
    assert secret.read_text() == "of the worker"


async def test_a_result_that_is_changed_afterwards_is_stored_as_it_was_hashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"takes over its decoder")
    module = "tests.hostile.compromised_decoder"
    async with codec_pool(start=f"{module}:start", codec_processes=1) as codec:
        with monkeypatch.context() as patch:
            patch.setattr("handlers.codec.operations.PREPARE", f"{module}:keep_result")
            made = await codec.prepare(source, tmp_path / "out", "image/png", Profile())
        assert await codec.call(f"{module}:change_kept_result") == made.file_size
        content = made.path.read_bytes()
    assert content == b"what the worker has checked"
    assert made.sha256 == hashlib.sha256(content).hexdigest()


async def test_the_worker_computes_size_and_hashes_of_a_result(tmp_path: Path) -> None:
    async with codec_pool(codec_processes=1) as codec:
        made = await codec.prepare(make_picture(tmp_path), tmp_path / "out", "image/png", Profile())
    content = made.path.read_bytes()
    assert (made.file_size, made.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert made.md5 == hashlib.md5(content, usedforsecurity=False).hexdigest()


async def test_the_work_folders_are_removed_when_the_codec_is_closed(tmp_path: Path) -> None:
    picture, temp_dir = make_picture(tmp_path), tmp_path / "tmp"
    temp_dir.mkdir()
    async with codec_pool(temp_dir=temp_dir) as codec:
        assert await prepares_picture(codec, picture)
        assert [path for path in temp_dir.rglob("*") if path.is_file()] == list(temp_dir.glob("outlast-*.lock"))
        assert len(list(temp_dir.glob("outlast-*/*/in"))) == 1
    assert list(temp_dir.iterdir()) == []


async def test_without_landlock_files_are_prepared_and_the_log_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(landlock, "version", lambda: 0)
    async with codec_pool(codec_processes=1) as codec:
        assert codec.stats().files == "nothing"
        assert await prepares_picture(codec, make_picture(tmp_path))
    assert "Landlock is not available" in caplog.text


def test_every_rule_names_a_call_of_both_architectures_or_of_none() -> None:
    """A wrong column would deny another call on ARM, where these tests seldom run."""
    for name, numbers in (system_calls.DENIED | system_calls.WITH_RULES).items():
        assert numbers[0] is not None, name
        assert all(number is None or 0 <= number < system_calls.FIRST_UNKNOWN for number in numbers), name
    for column in range(len(seccomp.ARCHITECTURES)):
        numbers_of_one = [numbers[column] for numbers in (system_calls.DENIED | system_calls.WITH_RULES).values()]
        known = [number for number in numbers_of_one if number is not None]
        assert len(known) == len(set(known))
