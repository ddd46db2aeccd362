"""What code inside a codec process tries to reach. Standard library only, so that it also runs in older versions.

A probe returns what it reached, as text; an empty text, None or an OSError means that it reached nothing.
`run` calls them all and returns the outcome of each. `target` describes what is there to reach; see `Target`. They call
the kernel as directly as they can, so without pathlib.
"""

# ruff: noqa: PTH101, PTH104, PTH116, PTH123, PTH208
import contextlib
import ctypes
import errno
import fcntl
import json
import mmap
import os
import resource
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.syscall.restype = ctypes.c_long
NUMBERS = {  # x86_64, aarch64
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138),
    "clone": (56, 220),
    "clone3": (435, 435),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "execveat": (322, 281),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "add_key": (248, 217),
    "io_uring_setup": (425, 425),
    "ioprio_set": (251, 30),
}
Probe = Callable[["Target"], Any]


class Target(TypedDict):
    """What there is to reach.

    `worker` is a process id, `siblings` are those of codec processes, ours included; `secret` is text in the worker's
    environment, and in its memory at `address`; `env_file` and `other_file` belong to the worker and to another user;
    `port`, `unix` and `abstract` are listeners.
    """

    worker: int
    siblings: list[int]
    secret: str
    address: int
    env_file: str
    other_file: str
    temp_dir: str
    port: int
    unix: str
    abstract: str


def call(name: str, *arguments: Any) -> int:
    """Call the kernel; raise OSError if it refuses."""
    number = NUMBERS[name][os.uname().machine == "aarch64"]
    return checked(
        LIBC.syscall(number, *[ctypes.c_long(item) if isinstance(item, int) else item for item in arguments])
    )


def checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def packed(format_: str, *values: int) -> Any:
    """Return a structure in 128 bytes of memory."""
    return ctypes.create_string_buffer(struct.pack(format_, *values), 128)


def read(path: str | Path) -> str:
    with open(path, "rb") as file:
        return f"{len(file.read(4096))} bytes"


def write(path: str | Path) -> str:
    descriptor = os.open(path, os.O_WRONLY)
    os.close(descriptor)
    return "opened for writing"


def process_files(pid: int) -> dict[str, Probe]:
    return {
        f"read {name}": lambda _, name=name: read(f"/proc/{pid}/{name}")
        for name in ("environ", "maps", "cmdline", "root/etc/passwd")
    } | {
        "read mem": lambda _: os.close(os.open(f"/proc/{pid}/mem", os.O_RDONLY)) or "opened",
        "write mem": lambda _: write(f"/proc/{pid}/mem"),
        "write oom_score_adj": lambda _: write(f"/proc/{pid}/oom_score_adj"),
        "list fd": lambda _: len(os.listdir(f"/proc/{pid}/fd")),
    }


def secrets_in_environment(target: Target) -> str:
    return " ".join(sorted(name for name, value in os.environ.items() if target["secret"] in value))


def secrets_in_initial_environment(target: Target) -> str:
    """Search this process's own memory, in which the kernel placed the environment at its start."""
    environment = ctypes.POINTER(ctypes.c_char_p).in_dll(LIBC, "environ")
    found, at = [], 0
    while (entry := environment[at]) is not None:
        at += 1
        if target["secret"].encode() in entry:
            found.append(entry.partition(b"=")[0].decode())
    with contextlib.suppress(OSError):
        if target["secret"].encode() in Path("/proc/self/environ").read_bytes():
            found.append("/proc/self/environ")
    return " ".join(found)


def inherited_descriptors(_: Target) -> str:
    """Return open descriptors other than the connection to the worker (one socket) and `/dev/null`."""
    null, found, sockets = os.stat(os.devnull).st_rdev, [], 0
    for number in range(1024):
        try:
            state = os.fstat(number)
        except OSError:
            continue
        sockets += stat.S_ISSOCK(state.st_mode)
        is_null = stat.S_ISCHR(state.st_mode) and state.st_rdev == null
        if not is_null and not (stat.S_ISSOCK(state.st_mode) and sockets == 1):
            found.append(f"{number}: {stat.filemode(state.st_mode)}")
    return ", ".join(found)


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))


def memory_call(name: str, target: Target) -> str:
    size = len(target["secret"])
    buffer = ctypes.create_string_buffer(target["secret"].encode() if name.endswith("writev") else size, size)
    local, remote = _Vector(ctypes.addressof(buffer), size), _Vector(target["address"], size)
    moved = call(name, target["worker"], ctypes.byref(local), 1, ctypes.byref(remote), 1, 0)
    return f"{moved} bytes"


def attach(pid: int) -> str:
    seize, detach = 0x4206, 17
    checked(LIBC.ptrace(seize, pid, None, None))
    LIBC.ptrace(detach, pid, None, None)
    return "attached"


def run_program(_: Target) -> str:
    return subprocess.run(["/bin/echo", "ran"], capture_output=True, check=True).stdout.decode()


def run_program_from_memory(_: Target) -> str:
    """Replace this process by a program in memory; do it in a new process if there can be one."""
    child = None
    with contextlib.suppress(OSError):
        child = os.fork()
    if child:
        return "ran" if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 else ""
    memory = os.memfd_create("program", 0)
    os.write(memory, b"#!/bin/true\n")
    arguments = (ctypes.c_char_p * 2)(b"true", None)
    try:
        call("execveat", memory, ctypes.c_char_p(b""), arguments, None, 0x1000)
    finally:
        if child == 0:
            os._exit(1)
    return "ran"


def fork_many(_: Target) -> str:
    made = 0
    for _ in range(300):
        with contextlib.suppress(OSError):
            child = os.fork()
            if not child:
                os._exit(0)
            os.waitpid(child, 0)
            made += 1
    return f"{made} processes" if made else ""


def child_in_new_session(_: Target) -> str:
    child = os.fork()
    if not child:
        os.setsid()
        os._exit(0)
    return f"exit code {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}"


def clone(flags: int) -> str:
    child = call("clone", flags | signal.SIGCHLD, 0, 0, 0, 0)
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    return f"process {child}"


def clone3(_: Target) -> str:
    arguments = struct.pack("11Q", 0, 0, 0, 0, signal.SIGCHLD, *[0] * 6)
    child = call("clone3", ctypes.create_string_buffer(arguments), len(arguments))
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    return f"process {child}"


def signal_by_descriptor(target: Target) -> str:
    """Have the kernel send a signal to the worker when a descriptor is readable."""
    reader, writer = os.pipe()
    with os.fdopen(reader), os.fdopen(writer):
        fcntl.fcntl(reader, fcntl.F_SETOWN, target["worker"])
        return "owner set"


def steal_descriptor(target: Target) -> str:
    return f"descriptor {call('pidfd_getfd', call('pidfd_open', target['worker'], 0), 1, 0)}"


def signal_by_pidfd(target: Target) -> str:
    call("pidfd_send_signal", call("pidfd_open", target["worker"], 0), 0, None, 0)
    return "sent"


def connect(family: int, address: Any) -> str:
    with socket.socket(family) as connection:
        connection.settimeout(5)
        connection.connect(address)
    return "connected"


def bind(family: int, address: Any) -> str:
    with socket.socket(family) as connection:
        connection.bind(address)
    return "bound"


def send_datagram(_: Target) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection:
        return f"{connection.sendto(b'x', ('127.0.0.1', 9))} byte"


def pass_descriptor(_: Target) -> str:
    """Send a descriptor over the connection to the worker."""
    for number in range(3, 64):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                duplicate = socket.socket(fileno=os.dup(number))
                socket.send_fds(duplicate, [b""], [number])
                return "sent"
    raise OSError(errno.EPERM, "no connection to send over")


def own_source(_: Target) -> Path:
    return Path(os.environ.get("TMPDIR", "/nowhere")).parent / "in" / "source"


def make_file(folder: str) -> str:
    path = Path(folder) / f"probe-{os.getpid()}"
    path.touch()
    path.unlink()
    return "made"


def set_affinity(target: Target) -> str:
    os.sched_setaffinity(target["worker"], os.sched_getaffinity(target["worker"]))
    return "set"


def set_resource_limit(target: Target) -> str:
    resource.prlimit(target["worker"], resource.RLIMIT_CORE, resource.prlimit(target["worker"], resource.RLIMIT_CORE))
    return "set"


def set_scheduler(target: Target) -> str:
    os.sched_setscheduler(target["worker"], os.SCHED_OTHER, os.sched_param(0))
    return "set"


def shared_memory(_: Target) -> str:
    LIBC.shmget.restype = ctypes.c_int
    identifier = checked(LIBC.shmget(0, ctypes.c_size_t(4096), 0o1600))
    LIBC.shmctl(identifier, 0, None)
    return "made"


def named_shared_memory(_: Target) -> str:
    return make_file("/dev/shm")  # noqa: S108 - the probe is about this folder


def set_process_option(option: int, value: int) -> str:
    checked(LIBC.prctl(option, value, 0, 0, 0))
    return "set"


def change_mode(path: str) -> str:
    os.chmod(path, stat.S_IMODE(os.stat(path).st_mode))
    return "changed"


def change_times(path: str) -> str:
    os.utime(path)
    return "changed"


def truncate(path: str) -> str:
    os.truncate(path, os.stat(path).st_size)
    return "truncated"


def second_name(path: str) -> str:
    own = Path(os.environ.get("TMPDIR", "/tmp")) / f"probe-{os.getpid()}"  # noqa: S108 - the probe's own file
    own.hardlink_to(path)
    own.unlink()
    return "linked"


def device_file(_: Target) -> str:
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"fifo-{os.getpid()}"  # noqa: S108 - the probe's own file
    os.mkfifo(path)
    path.unlink()
    return "made"


def read_in_a_thread(target: Target) -> str:
    results: list[str] = []

    def attempt() -> None:
        with contextlib.suppress(OSError):
            results.append(read(target["env_file"]))

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    return " ".join(results)


def probes(target: Target) -> dict[str, Probe]:
    """Return all probes by name."""
    worker, server = target["worker"], os.getppid()
    [sibling] = set(target["siblings"]) - {os.getpid()}
    of_processes = {
        f"{who}: {name}": probe
        for who, pid in (("worker", worker), ("fork server", server), ("sibling", sibling), ("process 1", 1))
        for name, probe in process_files(pid).items()
    }
    return of_processes | {
        "environment": secrets_in_environment,
        "initial environment": secrets_in_initial_environment,
        "descriptors": inherited_descriptors,
        "process_vm_readv": lambda t: memory_call("process_vm_readv", t),
        "process_vm_writev": lambda t: memory_call("process_vm_writev", t),
        "ptrace worker": lambda t: attach(t["worker"]),
        "ptrace fork server": lambda _: attach(server),
        "ptrace sibling": lambda _: attach(sibling),
        "pidfd_getfd": steal_descriptor,
        "pidfd_send_signal": signal_by_pidfd,
        "kill worker": lambda t: os.kill(t["worker"], 0) or "sent",
        "kill fork server": lambda _: os.kill(server, 0) or "sent",
        "kill sibling": lambda _: os.kill(sibling, 0) or "sent",
        "kill group": lambda _: os.killpg(0, 0) or "sent",
        "kill everything": lambda _: os.kill(-1, 0) or "sent",
        "tkill worker": lambda t: f"sent {call('tkill', t['worker'], 0)}",
        "tgkill worker": lambda t: f"sent {checked(LIBC.tgkill(t['worker'], t['worker'], 0))}",
        "rt_sigqueueinfo worker": lambda t: f"sent {call('rt_sigqueueinfo', t['worker'], 0, packed('3i', 0, 0, -1))}",
        "F_SETOWN worker": signal_by_descriptor,
        "execve": run_program,
        "execveat": run_program_from_memory,
        "fork": fork_many,
        "clone": lambda _: clone(0),
        "clone with a user namespace": lambda _: clone(0x10000000),
        "clone3": clone3,
        "setsid child": child_in_new_session,
        "setpgid": lambda _: os.setpgid(0, 0) or "set",
        "connect TCP": lambda t: connect(socket.AF_INET, ("127.0.0.1", t["port"])),
        "connect Unix": lambda t: connect(socket.AF_UNIX, t["unix"]),
        "connect abstract": lambda t: connect(socket.AF_UNIX, t["abstract"]),
        "bind TCP": lambda _: bind(socket.AF_INET, ("127.0.0.1", 0)),
        "bind abstract": lambda _: bind(socket.AF_UNIX, f"\0probe-{os.getpid()}"),
        "send UDP": send_datagram,
        "socketpair": lambda _: [end.close() for end in socket.socketpair()] and "made",
        "pass a descriptor": pass_descriptor,
        "io_uring": lambda _: f"descriptor {call('io_uring_setup', 8, ctypes.create_string_buffer(256))}",
        "read /etc/passwd": lambda _: read("/etc/passwd"),
        "read /etc/hosts": lambda _: read("/etc/hosts"),
        "read the worker's .env": lambda t: read(t["env_file"]),
        "read the worker's .env in a thread": read_in_a_thread,
        "read another user's file": lambda t: read(t["other_file"]),
        "map another user's file": lambda t: mmap.mmap(os.open(t["other_file"], os.O_RDONLY), 0, prot=1)[:1],
        "list TEMP_DIR": lambda t: f"{len(os.listdir(t['temp_dir']))} entries",
        "list /": lambda _: f"{len(os.listdir('/'))} entries",
        "list /proc": lambda _: f"{len(os.listdir('/proc'))} entries",
        "list the working directory": lambda t: f"{len(os.listdir(Path(t['env_file']).parent))} entries",
        "write another user's file": lambda t: write(t["other_file"]),
        "truncate another user's file": lambda t: truncate(t["other_file"]),
        "chmod another user's file": lambda t: change_mode(t["other_file"]),
        "utime another user's file": lambda t: change_times(t["other_file"]),
        "rename another user's file": lambda t: os.rename(t["other_file"], t["other_file"]) or "renamed",
        "setxattr another user's file": lambda t: os.setxattr(t["other_file"], "user.probe", b"1") or "set",
        "link another user's file": lambda t: second_name(t["other_file"]),
        "make a file in TEMP_DIR": lambda t: make_file(t["temp_dir"]),
        "make a file in the working directory": lambda t: make_file(str(Path(t["env_file"]).parent)),
        "write its own source": lambda t: write(own_source(t)),
        "make a FIFO": device_file,
        "named shared memory": named_shared_memory,
        "shared memory": shared_memory,
        "be dumpable again": lambda _: set_process_option(4, 1),
        "outlive the fork server": lambda _: set_process_option(1, 0),
        "prlimit worker": set_resource_limit,
        "setpriority worker": lambda t: os.setpriority(os.PRIO_PROCESS, t["worker"], 0) or "set",
        "sched_setaffinity worker": set_affinity,
        "sched_setscheduler worker": set_scheduler,
        "ioprio_set worker": lambda t: f"set {call('ioprio_set', 1, t['worker'], 2 << 13 | 4)}",
        "bpf": lambda _: f"map {call('bpf', 0, packed('4I', 2, 4, 4, 1), 128)}",
        "perf_event_open": lambda t: (
            f"descriptor {call('perf_event_open', packed('2I', 1, 128), t['worker'], -1, -1, 0)}"
        ),
        "userfaultfd": lambda _: f"descriptor {call('userfaultfd', 1)}",
        "add_key": lambda _: (
            f"key {call('add_key', ctypes.c_char_p(b'user'), ctypes.c_char_p(b'p'), ctypes.c_char_p(b'p'), 1, -2)}"
        ),
        "unshare": lambda _: f"new {checked(LIBC.unshare(0x10000000))}",
        "unshare mounts": lambda _: f"new {checked(LIBC.unshare(0x00020000))}",
        "mount": lambda _: f"mounted {checked(LIBC.mount(b'none', b'/mnt', b'tmpfs', 0, None))}",
        "chroot": lambda _: os.chroot("/") or "changed",
    }


def run(target: Target) -> dict[str, str]:
    """Try everything; return for each probe what it reached ("REACHED ..."), or how it was denied."""
    outcomes = {}
    for name, probe in probes(target).items():
        try:
            reached = probe(target)
        except OSError as error:
            outcomes[name] = errno.errorcode.get(error.errno or 0, str(error))
        else:
            outcomes[name] = f"REACHED {reached}" if reached else "nothing"
    return outcomes


def start(folder: str, limits: dict[str, Any]) -> None:
    """Start a codec process as usual. This module must be loaded before: afterwards it cannot be read."""
    from handlers.codec import decoder_main  # noqa: PLC0415 - for codec processes only

    decoder_main.start(folder, limits)


def run_on_file(folder: str, *_: object) -> dict[str, str]:
    """Replace `decoder_main.prepare`: the file to decode is the target as JSON, the result has the outcomes."""
    target: Target = json.loads(Path(folder, "in", "source").read_text())
    outcomes = run(target) | {f"can use: {name}": str(can) for name, can in can_work().items()}
    Path(folder, "out", "prepared").write_text(json.dumps(outcomes))
    return {"file": "target", "content_type": "image/png"}


def can_work() -> dict[str, bool]:
    """Return what a codec process still can do: threads, its folder, and libraries."""
    thread = threading.Thread(target=str)
    thread.start()
    thread.join()
    path = Path(os.environ["TMPDIR"]) / "own"
    path.write_bytes(b"x")
    renamed = path.rename(path.with_name("renamed"))
    renamed.unlink()
    import zipfile  # noqa: PLC0415 - loaded from the disk now

    return {"thread": not thread.is_alive(), "folder": not renamed.exists(), "library": zipfile.__name__ in sys.modules}
