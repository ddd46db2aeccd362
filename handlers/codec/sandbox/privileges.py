"""Privileges of a codec process: what it inherits, its capabilities, and which processes may inspect it."""

import ctypes
import os
from collections.abc import Mapping
from typing import Final

PR_SET_DUMPABLE: Final = 4
PR_SET_NO_NEW_PRIVS: Final = 38
CAPABILITY_VERSION: Final = 0x20080522
STANDARD_STREAMS: Final = 3
ALLOWED_VARIABLES: Final = frozenset(
    {"GLIBC_TUNABLES", "LANG", "LANGUAGE", "LD_LIBRARY_PATH", "LD_PRELOAD", "TZ", "TMPDIR"}
)
ALLOWED_PREFIXES: Final = ("LC_", "MALLOC_", "PYTHON", "VIPS_")


class _Header(ctypes.Structure):
    """struct __user_cap_header_struct."""

    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


def allowed_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that libraries and the interpreter read. No setting of ours is among them."""
    return {
        name: value
        for name, value in environment.items()
        if name in ALLOWED_VARIABLES or name.startswith(ALLOWED_PREFIXES)
    }


def forbid_inspection() -> None:
    """Prevent other processes of this user from reading this process's memory, environment and descriptors.

    Only root can then read them in `/proc` or attach a debugger, and there are no core dumps.
    """
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def drop_capabilities() -> None:
    """Drop all capabilities and set `no_new_privs`, so that none can be gained. Root can still access root's files.

    The kernel requires `no_new_privs` before it accepts a seccomp filter or Landlock rules.
    """
    libc = ctypes.CDLL(None)
    header, none = _Header(CAPABILITY_VERSION, 0), (ctypes.c_uint32 * 6)()
    libc.capset(ctypes.byref(header), none)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def keep_only(descriptor: int) -> None:
    """Close all open files but this one; standard input, output and error become `/dev/null`."""
    os.closerange(STANDARD_STREAMS, descriptor)
    os.closerange(descriptor + 1, os.sysconf("SC_OPEN_MAX"))
    null = os.open(os.devnull, os.O_RDWR)
    for stream in range(STANDARD_STREAMS):
        os.dup2(null, stream)
    os.close(null)
