"""System calls of a codec process: no network, other process or new program, and no change of files' metadata.

A seccomp filter denies them with EPERM. It needs no privilege, works in containers (the default profiles of Docker and
Kubernetes allow it), applies to C code and all threads, and cannot be removed. `system_calls.py` has the list. If
seccomp is not available, an audit hook denies the most important ones instead, which applies to Python code only.
https://docs.kernel.org/userspace-api/seccomp_filter.html
"""

import ctypes
import errno
import fcntl
import os
import platform
import sys
import termios
from dataclasses import dataclass
from typing import Final

from handlers.codec.sandbox.system_calls import DENIED, FIRST_UNKNOWN, WITH_RULES


@dataclass(frozen=True, slots=True)
class _Architecture:
    """The numbers of an architecture in a filter (AUDIT_ARCH_...) and of its call `seccomp`; its column in the list."""

    audit: int
    seccomp: int
    column: int


ARCHITECTURES: Final = {"x86_64": _Architecture(0xC000003E, 317, 0), "aarch64": _Architecture(0xC00000B7, 277, 1)}
SET_MODE_FILTER, GET_ACTION_AVAIL = 1, 2
ALL_THREADS, KEEP_SPECULATION = 1, 4  # flags; without the second, kernels before 5.16 slow decoders down
ALLOW: Final = 0x7FFF0000
ERRNO: Final = 0x00050000
DENY: Final = ERRNO | errno.EPERM
UNKNOWN: Final = ERRNO | errno.ENOSYS
LOAD, RETURN, AND, IF_EQUAL, IF_AT_LEAST = 0x20, 0x06, 0x54, 0x15, 0x35  # linux/bpf_common.h
CALL_OFFSET, ARCHITECTURE_OFFSET, ARGUMENTS_OFFSET = 0, 4, 16  # offsets in struct seccomp_data
CLONE_THREAD: Final = 0x00010000
CLONE_NAMESPACES: Final = 0x7E020000
THREAD_NAME: Final = (15, 16)  # PR_SET_NAME, PR_GET_NAME
NAMED_MEMORY: Final = 0x53564D41  # PR_SET_VMA, which allocators use
SIGNAL_SETTINGS: Final = (fcntl.F_SETOWN, fcntl.F_SETSIG, 15)  # F_SETOWN_EX; the kernel then signals that process
TERMINAL_INPUT: Final = (termios.TIOCSTI, 0x541C, 0x8901, 0x8902)  # TIOCLINUX; FIOSETOWN, SIOCSPGRP, like F_SETOWN
DENIED_IN_PYTHON: Final = ("socket.", "os.fork", "os.exec", "os.posix_spawn", "os.kill", "subprocess.")


class _Instruction(ctypes.Structure):
    """struct sock_filter: an instruction, how many to skip if it is true and if it is false, and its value."""

    _fields_ = (("code", ctypes.c_uint16), ("yes", ctypes.c_uint8), ("no", ctypes.c_uint8), ("value", ctypes.c_uint32))


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_uint16), ("steps", ctypes.POINTER(_Instruction)))


def is_available() -> bool:
    """Whether the kernel supports the filter, which then applies to all code; changes nothing."""
    architecture = _architecture()
    if architecture is None:
        return False
    action = ctypes.c_uint32(ERRNO)
    return bool(_libc().syscall(architecture.seccomp, GET_ACTION_AVAIL, 0, ctypes.byref(action)) == 0)


def deny_system_calls() -> None:
    """Deny the listed system calls to this process permanently. Call `privileges.drop_capabilities` before."""
    if not _install_filter():
        sys.addaudithook(_deny_in_python)


def _install_filter() -> bool:
    architecture = _architecture()
    if architecture is None:
        return False
    instructions = _filter(architecture)
    program = _Program(len(instructions), (_Instruction * len(instructions))(*instructions))
    flags = ALL_THREADS | KEEP_SPECULATION
    return bool(_libc().syscall(architecture.seccomp, SET_MODE_FILTER, flags, ctypes.byref(program)) == 0)


def _filter(architecture: _Architecture) -> list[_Instruction]:
    """Return the filter. The numbers of another architecture's calls differ, so all of those are denied."""
    numbers = {name: number[architecture.column] for name, number in (DENIED | WITH_RULES).items()}
    own_pid = os.getpid()
    return [
        _Instruction(LOAD, 0, 0, ARCHITECTURE_OFFSET),
        _Instruction(IF_EQUAL, 1, 0, architecture.audit),
        _Instruction(RETURN, 0, 0, DENY),
        _Instruction(LOAD, 0, 0, CALL_OFFSET),
        _Instruction(IF_AT_LEAST, 0, 1, FIRST_UNKNOWN),  # includes the calls of x32, a second set on x86_64
        _Instruction(RETURN, 0, 0, UNKNOWN),
        *(step for name in DENIED for step in _always(numbers[name], DENY)),
        *_always(numbers["clone3"], UNKNOWN),  # its flags are in memory; libc uses `clone` instead
        *_clone(numbers["clone"]),
        *_by_argument(numbers["kill"], 0, (own_pid,), ALLOW, DENY),
        *_by_argument(numbers["tgkill"], 0, (own_pid,), ALLOW, DENY),  # `abort` uses it
        *_by_argument(numbers["prlimit64"], 0, (0, own_pid), ALLOW, DENY),
        *_by_argument(numbers["sched_setaffinity"], 0, (0,), ALLOW, DENY),
        *_by_argument(numbers["prctl"], 0, (*THREAD_NAME, NAMED_MEMORY), ALLOW, DENY),
        *_by_argument(numbers["fcntl"], 1, SIGNAL_SETTINGS, DENY, ALLOW),
        *_by_argument(numbers["ioctl"], 1, TERMINAL_INPUT, DENY, ALLOW),
        _Instruction(RETURN, 0, 0, ALLOW),
    ]


def _always(number: int | None, result: int) -> list[_Instruction]:
    """Return the instructions that answer the call of this number with `result`; none if the number is None."""
    if number is None:
        return []
    return [_Instruction(IF_EQUAL, 0, 1, number), _Instruction(RETURN, 0, 0, result)]


def _by_argument(
    number: int | None, position: int, values: tuple[int, ...], found: int, other: int
) -> list[_Instruction]:
    """Return the instructions that answer a call with `found` if its argument is one of the values, else with `other`.

    Only the lower 32 bits of the argument are compared.
    """
    return _block(
        number,
        _Instruction(LOAD, 0, 0, ARGUMENTS_OFFSET + 8 * position),
        *(_Instruction(IF_EQUAL, len(values) - at, 0, value) for at, value in enumerate(values)),
        _Instruction(RETURN, 0, 0, other),
        _Instruction(RETURN, 0, 0, found),
    )


def _clone(number: int | None) -> list[_Instruction]:
    """Return the instructions for `clone`: new threads are allowed, new processes and namespaces denied."""
    return _block(
        number,
        _Instruction(LOAD, 0, 0, ARGUMENTS_OFFSET),
        _Instruction(AND, 0, 0, CLONE_THREAD | CLONE_NAMESPACES),
        _Instruction(IF_EQUAL, 1, 0, CLONE_THREAD),
        _Instruction(RETURN, 0, 0, DENY),
        _Instruction(RETURN, 0, 0, ALLOW),
    )


def _block(number: int | None, *steps: _Instruction) -> list[_Instruction]:
    """Return instructions that run the steps only for the call of this number. The last step must return a result."""
    return [] if number is None else [_Instruction(IF_EQUAL, 0, len(steps), number), *steps]


def _architecture() -> _Architecture | None:
    is_64_bit = sys.maxsize > 1 << 32  # a 32-bit Python on a 64-bit kernel uses other call numbers
    return ARCHITECTURES.get(platform.machine()) if sys.platform == "linux" and is_64_bit else None


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc


def _deny_in_python(event: str, _: object) -> None:
    if event.startswith(DENIED_IN_PYTHON):
        raise PermissionError(errno.EPERM, "a codec process has no network and starts no process", event)
