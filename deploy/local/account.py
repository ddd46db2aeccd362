"""The operating system user that PostgreSQL runs as. It refuses to run as root, so root starts it as another user."""

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
TRAVERSAL_CAPABILITIES: Final = ("", "+dac_read_search", "+dac_override")
"""Capabilities that let the user enter a folder inside a closed one, such as /root; the weakest is tried first.

Containers often lack CAP_DAC_READ_SEARCH.
"""


@dataclass(frozen=True, slots=True)
class Account:
    """The user that runs the server. `prefix` is put before its command line; it is empty for the current user."""

    uid: int
    gid: int
    prefix: tuple[str, ...] = ()

    def own(self, path: Path) -> None:
        """Make this user the owner of a file or folder."""
        if self.prefix:
            os.chown(path, self.uid, self.gid)


async def account_for(folder: Path, data: Path) -> Account:
    """Choose the user for the data directory `data` in `folder`, which must exist.

    An existing data directory keeps its owner, so that root can also start a stack that another user created.

    Raises:
        StackError: there is no suitable user, setpriv is not installed, or the user cannot enter the folder.
    """
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid())
    uid, gid = _owner(data) or _unprivileged_user()
    return Account(uid, gid, await setpriv_prefix(uid, gid, folder))


def _owner(data: Path) -> tuple[int, int] | None:
    """Return uid and gid of the owner of `data`; None when it does not exist or belongs to root."""
    if not data.exists():
        return None
    found = data.stat()
    return (found.st_uid, found.st_gid) if found.st_uid != 0 else None


def _unprivileged_user() -> tuple[int, int]:
    for name in ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return entry.pw_uid, entry.pw_gid
    raise StackError("PostgreSQL refuses to run as root, and there is no user `postgres` or `nobody`: create one.")


async def setpriv_prefix(uid: int, gid: int, folder: Path) -> tuple[str, ...]:
    """Return the setpriv command that switches to a user, with the fewest capabilities it needs to enter `folder`."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise StackError("The program setpriv is missing: run `make setup`, or: apt-get install util-linux")
    for capability in TRAVERSAL_CAPABILITIES:
        caps = (f"--inh-caps={capability}", f"--ambient-caps={capability}") if capability else ()
        prefix = (setpriv, f"--reuid={uid}", f"--regid={gid}", "--clear-groups", *caps)
        if await _succeeds((*prefix, "test", "-d", f"{folder}/.")):
            return prefix
    raise StackError(f"The user with uid {uid} cannot enter {folder}: choose another --data-dir.")


async def _succeeds(argv: Sequence[str]) -> bool:
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*argv, stdin=quiet, stdout=quiet, stderr=quiet)
    return await process.wait() == 0
