"""Starts `outlast` commands from a process that has imported it before: the imports take longer than most commands."""

import asyncio
import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import BinaryIO, Self

from worker.cli.main import main

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["worker.cli.main", "worker.app", "worker.periodic.reconcile"])


class Command:
    """A command that runs as a child process, with the methods of `asyncio.subprocess.Process` that tests use."""

    def __init__(self, process: multiprocessing.Process, stdout: asyncio.StreamReader, stderr: asyncio.StreamReader):
        self.stdout, self.stderr = stdout, stderr
        self._process = process
        self._ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(process.sentinel, self._note_end)

    @classmethod
    async def start(
        cls, *arguments: str, env: Mapping[str, str], cwd: Path | None = None, log: BinaryIO | None = None
    ) -> Self:
        """Start `outlast` with these arguments, in this environment and folder.

        With `log` both outputs go to that file, and nothing is to be read from `stdout` and `stderr`.
        """
        (out, out_end), (err, err_end) = os.pipe(), os.pipe()
        if log is not None:
            os.dup2(log.fileno(), out_end)
            os.dup2(log.fileno(), err_end)
        process = _context.Process(target=_run, args=(arguments, dict(env), cwd, DupFd(out_end), DupFd(err_end)))
        process.start()
        os.close(out_end)
        os.close(err_end)
        return cls(process, await _reader(out), await _reader(err))

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode if self._ended.is_set() else None

    async def wait(self) -> int:
        await self._ended.wait()
        return self._process.exitcode

    async def communicate(self) -> tuple[bytes, bytes]:
        out, err = await asyncio.gather(self.stdout.read(), self.stderr.read())
        await self.wait()
        return out, err

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _note_end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._process.sentinel)
        self._process.join()
        self._ended.set()


async def _reader(pipe: int) -> asyncio.StreamReader:
    loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(pipe, "rb"))
    return reader


def _run(arguments: tuple[str, ...], env: Mapping[str, str], cwd: Path | None, stdout: DupFd, stderr: DupFd) -> None:
    for descriptor, number in ((os.open(os.devnull, os.O_RDONLY), 0), (stdout.detach(), 1), (stderr.detach(), 2)):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(env)
    if cwd is not None:
        os.chdir(cwd)
    sys.argv = ["outlast", *arguments]
    main()
