"""No network for a codec process: whatever a decoder is talked into, it opens no socket.

The kernel refuses, by a seccomp filter: it needs no privilege, works in containers (Docker's and Kubernetes' default
profiles allow it), binds C code and every thread, and cannot be taken off. Where the kernel cannot, an audit hook
refuses instead, which binds Python's own sockets alone; `kernel_can_deny_network` tells which it is.

Refused are sockets, and the ways around: io_uring, which makes sockets of its own, and what reaches into another
process, which has some. It is no full sandbox: files stay readable, and what Python may do else, it may.
https://docs.kernel.org/userspace-api/seccomp_filter.html
"""

import ctypes
import errno
import platform
import sys
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class _Machine:
    """A machine's name in a filter (AUDIT_ARCH_...), and its numbers of system calls (asm/unistd.h)."""

    audit: int
    seccomp: int
    refused: tuple[int, ...]


MACHINES: Final = {  # socket, ptrace, process_vm_writev, io_uring_setup, pidfd_getfd
    "x86_64": _Machine(0xC000003E, 317, (41, 101, 311, 425, 438)),
    "aarch64": _Machine(0xC00000B7, 277, (198, 117, 271, 425, 438)),
}
X32_BIT: Final = 0x40000000  # x86_64 knows every call by a second number, with this bit; no other machine has such
PR_SET_NO_NEW_PRIVS: Final = 38
SET_MODE_FILTER, GET_ACTION_AVAIL = 1, 2
ALL_THREADS, KEEP_SPECULATION = 1, 4  # flags; without the second, kernels before 5.16 slow the decoders down
ALLOW: Final = 0x7FFF0000
REFUSE: Final = 0x00050000 | errno.EPERM
LOAD, RETURN, IF_EQUAL, IF_AT_LEAST = 0x20, 0x06, 0x15, 0x35  # linux/bpf_common.h
CALL_AT, MACHINE_AT = 0, 4  # offsets in struct seccomp_data


class _Step(ctypes.Structure):
    """struct sock_filter: an instruction, how many to skip if true and if not, its value."""

    _fields_ = (("code", ctypes.c_uint16), ("yes", ctypes.c_uint8), ("no", ctypes.c_uint8), ("value", ctypes.c_uint32))


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_uint16), ("steps", ctypes.POINTER(_Step)))


def kernel_can_deny_network() -> bool:
    """Whether `deny_network` will be the kernel's doing here, and so hold for all code; changes nothing."""
    machine = _machine()
    if machine is None:
        return False
    asked = ctypes.c_uint32(REFUSE & 0xFFFF0000)
    return bool(_libc().syscall(machine.seccomp, GET_ACTION_AVAIL, 0, ctypes.byref(asked)) == 0)


def deny_network() -> None:
    """Take the network from this process, for good."""
    if not _refused_by_kernel():
        sys.addaudithook(_refuse_in_python)


def _refused_by_kernel() -> bool:
    machine = _machine()
    if machine is None:
        return False
    steps = _filter(machine)
    program = _Program(len(steps), (_Step * len(steps))(*steps))
    libc = _libc()
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        return False
    flags = ALL_THREADS | KEEP_SPECULATION
    return bool(libc.syscall(machine.seccomp, SET_MODE_FILTER, flags, ctypes.byref(program)) == 0)


def _filter(machine: _Machine) -> list[_Step]:
    """Refuse the listed calls, and every call of another machine's convention, whose numbers differ."""
    count = len(machine.refused)
    return [
        _Step(LOAD, 0, 0, MACHINE_AT),
        _Step(IF_EQUAL, 0, count + 3, machine.audit),
        _Step(LOAD, 0, 0, CALL_AT),
        _Step(IF_AT_LEAST, count + 1, 0, X32_BIT),
        *(_Step(IF_EQUAL, count - at, 0, number) for at, number in enumerate(machine.refused)),
        _Step(RETURN, 0, 0, ALLOW),
        _Step(RETURN, 0, 0, REFUSE),
    ]


def _machine() -> _Machine | None:
    is_wide = sys.maxsize > 1 << 32  # a 32-bit Python on a 64-bit kernel calls by other numbers
    return MACHINES.get(platform.machine()) if sys.platform == "linux" and is_wide else None


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc


def _refuse_in_python(event: str, _: object) -> None:
    if event.startswith("socket."):
        raise PermissionError(errno.EPERM, "a codec process has no network", event)
