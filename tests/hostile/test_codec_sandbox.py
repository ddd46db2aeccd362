"""What a codec process is not allowed to do, and where its temporary files are."""

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import pyvips

from handlers.codec import decoder_main
from handlers.codec.sandbox import seccomp
from handlers.errors import DecoderLimitError, FileProcessingError
from handlers.media import Limits
from schemas.jobs import Profile
from tests.codec_processes import codec_pool, codec_process_pids, make_picture, prepares_picture, wait_until
from tests.hostile import compromised_decoder

ROOT = Path(__file__).parents[2]
MIB = 1 << 20


@pytest.fixture(scope="module")
async def codec():
    async with codec_pool(codec_processes=1, codec_memory_mb=256) as codec:
        yield codec


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX], ids=["IPv4", "IPv6", "Unix"])
@pytest.mark.parametrize("attempt", ["socket_in_c", "socket_in_a_thread", "io_uring"])
async def test_a_codec_process_cannot_create_a_socket(codec, attempt, family):
    assert getattr(compromised_decoder, attempt)(family) == 0, "it succeeds outside a codec process"
    assert await codec.call(f"tests.hostile.compromised_decoder:{attempt}", int(family)) == errno.EPERM


async def test_a_codec_process_cannot_connect_to_a_local_server(codec):
    with socket.create_server(("127.0.0.1", 0)) as server:
        with pytest.raises(FileProcessingError, match="PermissionError"):
            await codec.call("socket:create_connection", server.getsockname())
        server.settimeout(0)
        with pytest.raises(BlockingIOError):
            server.accept()


async def test_seccomp_is_active_in_every_codec_process_and_not_in_the_worker():
    before = codec_process_pids()
    async with codec_pool() as codec:
        await codec.call("os:getpid")
        await wait_until(lambda: all(is_sandboxed(pid) for pid in codec_process_pids() - before))
        assert codec.stats().network == "kernel"
    assert seccomp.is_available()
    assert not is_sandboxed(os.getpid()), "the worker itself is not restricted"


def is_sandboxed(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return "Seccomp:\t2\n" in status and "NoNewPrivs:\t1\n" in status


WITHOUT_SECCOMP = """
import socket
from handlers.codec.sandbox import seccomp
seccomp.ARCHITECTURES.clear()
assert not seccomp.is_available()
socket.socket().close()
seccomp.deny_system_calls()
try:
    socket.socket()
except PermissionError as error:
    print(error.strerror)
"""


def test_without_seccomp_python_sockets_are_refused():
    completed = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", WITHOUT_SECCOMP], capture_output=True, text=True, check=True, cwd=ROOT, timeout=60
    )
    assert completed.stdout == "a codec process has no network and starts no process\n"


async def test_missing_seccomp_is_logged_and_reported(monkeypatch, caplog, tmp_path):
    monkeypatch.setattr(seccomp, "ARCHITECTURES", {})
    async with codec_pool(codec_processes=1) as codec:
        assert await prepares_picture(codec, make_picture(tmp_path))
        assert codec.stats().network == "python"
    assert "seccomp is not available" in caplog.text


async def test_a_codec_process_cannot_write_more_than_the_file_limit(codec):
    function = "tests.hostile.compromised_decoder:make_file"
    assert await codec.call(function, 256 * MIB) == 256 * MIB
    with pytest.raises(FileProcessingError, match="File too large"):
        await codec.call(function, 256 * MIB + 1)


def test_exceeding_the_file_limit_is_a_decoder_limit_error():
    limit_error = OSError(errno.EFBIG, "File too large")
    error = decoder_main.translate_error(limit_error, Limits(1, 1, 256 * MIB, 256 * MIB, 1))
    assert isinstance(error, DecoderLimitError)
    assert "256 MiB" in str(error)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("unable to copy to memory\nVipsJpeg: Quantization table 0x01 was not defined", "corrupted"),
        ("unable to copy to memory\nVipsImage: out of memory --- size == 900MB", "decoder_limit"),
        ("unable to call heifload\nheif: Memory allocation error: Security limit exceeded", "decoder_limit"),
    ],
)
def test_only_a_failed_allocation_is_a_memory_limit(message, code):
    error = decoder_main.translate_error(pyvips.Error(message), Limits(1, 1, 256 * MIB, 256 * MIB, 1))
    assert error.code == code


async def test_libvips_temporary_files_are_unnamed_and_in_the_work_folder(tmp_path, monkeypatch):
    """libvips writes decoded images over 100 MB to disk; this one is 6,000 x 6,000 x 4 bytes."""
    source, target = tmp_path / "source", tmp_path / "prepared"
    pyvips.Image.black(6000, 6000, bands=4).copy(interpretation="srgb").pngsave(str(source), compression=1)
    async with codec_pool(codec_processes=1, temp_dir=tmp_path) as codec:
        monkeypatch.setattr("handlers.codec.operations.PREPARE", "tests.hostile.compromised_decoder:prepare_watched")
        assert (await codec.prepare(source, target, "image/png", Profile())).width == 6000
        files = await codec.call("tests.hostile.compromised_decoder:seen_files")
        [out] = tmp_path.glob("outlast-*/*/out")
        device = out.stat().st_dev
        assert list(out.iterdir()) == []
        assert {(device, "unnamed")} == {tuple(file) for file in files if file[1] == "unnamed"}
    assert {path.name for path in tmp_path.iterdir()} == {"source", "prepared"}
