"""No network for a codec process: a decoder that hostile content has taken over cannot open a socket.

The kernel denies it by a seccomp filter. The filter needs no privilege, works in containers (the default profiles of
Docker and Kubernetes allow it), applies to C code and all threads, and cannot be removed. If seccomp is not available,
an audit hook denies it instead, which applies to Python's own sockets only.

Denied are sockets and the ways around them: io_uring, which creates sockets itself, and calls that control another
process, which may have sockets. This is not a full sandbox: the process can still read files, for example.
https://docs.kernel.org/userspace-api/seccomp_filter.html
"""

import ctypes
import errno
import platform
import sys
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class _Architecture:
    """The number of an architecture in a filter (AUDIT_ARCH_...), and its system call numbers (asm/unistd.h)."""

    audit: int
    seccomp: int
    denied: tuple[int, ...]


ARCHITECTURES: Final = {  # socket, ptrace, process_vm_writev, io_uring_setup, pidfd_getfd
    "x86_64": _Architecture(0xC000003E, 317, (41, 101, 311, 425, 438)),
    "aarch64": _Architecture(0xC00000B7, 277, (198, 117, 271, 425, 438)),
}
X32_BIT: Final = 0x40000000  # on x86_64 every call has a second number with this bit; no other architecture uses it
PR_SET_NO_NEW_PRIVS: Final = 38
SET_MODE_FILTER, GET_ACTION_AVAIL = 1, 2
ALL_THREADS, KEEP_SPECULATION = 1, 4  # flags; without the second, kernels before 5.16 slow decoders down
ALLOW: Final = 0x7FFF0000
DENY: Final = 0x00050000 | errno.EPERM
LOAD, RETURN, IF_EQUAL, IF_AT_LEAST = 0x20, 0x06, 0x15, 0x35  # linux/bpf_common.h
CALL_OFFSET, ARCHITECTURE_OFFSET = 0, 4  # offsets in struct seccomp_data


class _Instruction(ctypes.Structure):
    """struct sock_filter: an instruction, how many to skip if it is true and if it is false, and its value."""

    _fields_ = (("code", ctypes.c_uint16), ("yes", ctypes.c_uint8), ("no", ctypes.c_uint8), ("value", ctypes.c_uint32))


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_uint16), ("steps", ctypes.POINTER(_Instruction)))


def kernel_can_deny_network() -> bool:
    """Whether the kernel supports the filter of `deny_network`, which then applies to all code; changes nothing."""
    architecture = _architecture()
    if architecture is None:
        return False
    action = ctypes.c_uint32(DENY & 0xFFFF0000)
    return bool(_libc().syscall(architecture.seccomp, GET_ACTION_AVAIL, 0, ctypes.byref(action)) == 0)


def deny_network() -> None:
    """Deny network access to this process permanently."""
    if not _install_filter():
        sys.addaudithook(_deny_in_python)


def _install_filter() -> bool:
    architecture = _architecture()
    if architecture is None:
        return False
    instructions = _filter(architecture)
    program = _Program(len(instructions), (_Instruction * len(instructions))(*instructions))
    libc = _libc()
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        return False
    flags = ALL_THREADS | KEEP_SPECULATION
    return bool(libc.syscall(architecture.seccomp, SET_MODE_FILTER, flags, ctypes.byref(program)) == 0)


def _filter(architecture: _Architecture) -> list[_Instruction]:
    """Deny the listed calls, and every call by the convention of another architecture, whose numbers differ."""
    count = len(architecture.denied)
    return [
        _Instruction(LOAD, 0, 0, ARCHITECTURE_OFFSET),
        _Instruction(IF_EQUAL, 0, count + 3, architecture.audit),
        _Instruction(LOAD, 0, 0, CALL_OFFSET),
        _Instruction(IF_AT_LEAST, count + 1, 0, X32_BIT),
        *(_Instruction(IF_EQUAL, count - at, 0, number) for at, number in enumerate(architecture.denied)),
        _Instruction(RETURN, 0, 0, ALLOW),
        _Instruction(RETURN, 0, 0, DENY),
    ]


def _architecture() -> _Architecture | None:
    is_64_bit = sys.maxsize > 1 << 32  # a 32-bit Python on a 64-bit kernel uses other call numbers
    return ARCHITECTURES.get(platform.machine()) if sys.platform == "linux" and is_64_bit else None


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc


def _deny_in_python(event: str, _: object) -> None:
    if event.startswith("socket."):
        raise PermissionError(errno.EPERM, "a codec process has no network", event)
