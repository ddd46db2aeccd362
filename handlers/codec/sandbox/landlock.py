"""Files of a codec process: it reads the libraries and its input folder, and writes to its output folder only.

The kernel enforces it with Landlock (Linux 5.13 and newer), which needs no privilege. It applies to the calling thread
and the threads that it starts, and cannot be removed. It also denies TCP (6.7), ptrace of
processes outside, and signals to them (6.12). It does not restrict the metadata of files; `seccomp.py` does.
https://docs.kernel.org/userspace-api/landlock.html
"""

import contextlib
import ctypes
import functools
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import Final

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same numbers on all architectures
GET_VERSION: Final = 1
PATH_BENEATH: Final = 1
WRITE_FILE, READ_FILE, READ_FOLDER = 1 << 1, 1 << 2, 1 << 3
REMOVE_FILE, MAKE_FILE, TRUNCATE = 1 << 5, 1 << 8, 1 << 14
FILE_RIGHTS: Final = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 5: 0xFFFF}
"""All rights on files that the kernel knows, by the first version that has them."""
NETWORK_RIGHTS: Final = {4: 0b11}
SCOPES: Final = {6: 0b11}
"""Abstract Unix sockets and signals."""
READ: Final = READ_FILE | READ_FOLDER
WRITE: Final = READ | WRITE_FILE | REMOVE_FILE | MAKE_FILE | TRUNCATE
ON_FILES: Final = WRITE_FILE | READ_FILE | TRUNCATE
"""The rights that a rule for a file, not a folder, may have."""
SYSTEM_FOLDERS: Final = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/sys/devices/system/cpu")
SYSTEM_FILES: Final = ("/etc/ld.so.cache", "/proc/cpuinfo", "/dev/urandom", "/dev/null")
DECODERS: Final = ("pyvips", "av", "PIL", "pillow_heif")
OWN_PACKAGES: Final = ("handlers", "schemas")


class _Ruleset(ctypes.Structure):
    """struct landlock_ruleset_attr."""

    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    """struct landlock_path_beneath_attr."""

    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32))


def version() -> int:
    """Return the version of Landlock that the kernel has; 0 if none."""
    if sys.platform != "linux":
        return 0
    return max(int(_libc().syscall(CREATE_RULESET, None, ctypes.c_size_t(0), GET_VERSION)), 0)


def restrict_files(readable: Iterable[Path], writable: Iterable[Path]) -> None:
    """Deny this process all files except these paths and what is below them. No effect if the kernel has no Landlock.

    Raises:
        OSError: the kernel refuses a rule.
    """
    found = version()
    if not found:
        return
    rights = _for_version(FILE_RIGHTS, found)
    ruleset = _Ruleset(rights, _for_version(NETWORK_RIGHTS, found), _for_version(SCOPES, found))
    descriptor = _call(CREATE_RULESET, ctypes.byref(ruleset), ctypes.c_size_t(ctypes.sizeof(ruleset)), 0)
    try:
        for allowed, paths in ((READ & rights, readable), (WRITE & rights, writable)):
            for path in paths:
                _allow(descriptor, path, allowed)
        _call(RESTRICT_SELF, descriptor, 0)
    finally:
        os.close(descriptor)


@functools.cache
def library_paths() -> tuple[Path, ...]:
    """Return the folders and files that decoders read: Python's modules, shared libraries, and ours.

    They are not taken from `sys.path`, which often contains the working directory, where a `.env` may be.
    """
    folders = {*SYSTEM_FOLDERS, *SYSTEM_FILES, *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib"))}
    for name in OWN_PACKAGES:
        folders.update(_package_folders(name))
    for name in DECODERS:
        folders.update(str(Path(folder).parent) for folder in _package_folders(name))  # also the libraries beside it
    return tuple(Path(folder) for folder in sorted(folders))


def _package_folders(name: str) -> list[str]:
    spec = importlib.util.find_spec(name)
    return [] if spec is None else list(spec.submodule_search_locations or [])


def _allow(ruleset: int, path: Path, rights: int) -> None:
    with contextlib.ExitStack() as stack:
        try:
            folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:  # another distribution does not have it
            return
        stack.callback(os.close, folder)
        allowed = rights if path.is_dir() else rights & ON_FILES
        rule = _PathBeneath(allowed, folder)
        _call(ADD_RULE, ruleset, PATH_BENEATH, ctypes.byref(rule), 0)


def _for_version(table: dict[int, int], found: int) -> int:
    """Return the newest value that this version of Landlock knows; 0 if none."""
    return max((value for first, value in table.items() if first <= found), default=0)


def _call(number: int, *arguments: object) -> int:
    result = int(_libc().syscall(number, *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"Landlock: {os.strerror(code)}")
    return result


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc
