"""Which account PostgreSQL runs as: it refuses root, so root lends it an ordinary one."""

import asyncio
import os
import pwd
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.local.processes import StackError

ACCOUNTS: Final = ("postgres", "nobody")
TRAVERSAL: Final = ("", "+dac_read_search", "+dac_override")
"""Capabilities that let the account reach a folder below one closed to it, such as /root; least privilege first.

Containers often lack the middle one.
"""


@dataclass(frozen=True, slots=True)
class Account:
    """Who runs the server. `prefix` goes before its command line; it is empty where we run it as ourselves."""

    uid: int
    gid: int
    prefix: tuple[str, ...] = ()

    def own(self, path: Path) -> None:
        """Hand a file or folder over to the account."""
        if self.prefix:
            os.chown(path, self.uid, self.gid)


async def account_for(folder: Path, data: Path) -> Account:
    """Choose the account for the data directory `data` in `folder`, which must exist.

    An existing data directory keeps its owner, so that what an ordinary user made also runs when root comes along.
    """
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid())
    uid, gid = _owner(data) or _ordinary()
    return Account(uid, gid, await become(uid, gid, folder))


def _owner(data: Path) -> tuple[int, int] | None:
    """Return whose directory `data` is, if it exists and is not root's."""
    if not data.exists():
        return None
    found = data.stat()
    return (found.st_uid, found.st_gid) if found.st_uid != 0 else None


def _ordinary() -> tuple[int, int]:
    for name in ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return entry.pw_uid, entry.pw_gid
    raise StackError("PostgreSQL refuses to run as root, and there is no user `postgres` or `nobody`; add one.")


async def become(uid: int, gid: int, folder: Path) -> tuple[str, ...]:
    """Return the command that becomes the account with the fewest capabilities that let it look into `folder`."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise StackError("The program setpriv is missing: run `make setup`, or: apt-get install util-linux")
    for capability in TRAVERSAL:
        caps = (f"--inh-caps={capability}", f"--ambient-caps={capability}") if capability else ()
        prefix = (setpriv, f"--reuid={uid}", f"--regid={gid}", "--clear-groups", *caps)
        if await _succeeds((*prefix, "test", "-d", f"{folder}/.")):
            return prefix
    raise StackError(f"The user with uid {uid} cannot reach {folder}; choose a --data-dir it can enter.")


async def _succeeds(argv: Sequence[str]) -> bool:
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*argv, stdin=quiet, stdout=quiet, stderr=quiet)
    return await process.wait() == 0
