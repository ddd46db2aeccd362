"""Replaces systemctl where systemd does not run: `daemon-reload`, `enable --now`, `restart`.

A unit's commands, user, environment and folders are applied, but not its sandbox. Logs are written to the folder
UNIT_LOGS. Must run as root in its own namespaces.
"""

import os
import pwd
import shlex
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

UNITS = Path("/etc/systemd/system")
ROOTS = {"StateDirectory": "/var/lib", "CacheDirectory": "/var/cache"}
BECOME = ("setpriv", "--clear-groups", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all")


def read(name):
    """Return the unit's [Service] settings, each a list, with %i replaced."""
    stem, _, instance = name.removesuffix(".service").partition("@")
    text = (UNITS / f"{stem}{'@' if instance else ''}.service").read_text()
    service = text.partition("[Service]")[2].partition("\n[")[0]
    found = defaultdict(list)
    for line in service.splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found[key].append(value.replace("%i", instance))
    return found


def environment(unit, user):
    values = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
    values |= {"USER": user.pw_name, "LOGNAME": user.pw_name, "HOME": user.pw_dir, "SHELL": user.pw_shell}
    files = [line for name in unit["EnvironmentFile"] for line in Path(name).read_text().splitlines()]
    assignments = [*unit["Environment"], *(line for line in files if line.strip() and not line.startswith("#"))]
    return values | dict(word.split("=", 1) for line in assignments for word in shlex.split(line))


def start(name):
    unit = read(name)
    user = pwd.getpwnam(unit["User"][0])
    for key, root in ROOTS.items():
        for folder in unit[key]:
            path = Path(root) / folder
            path.mkdir(parents=True, exist_ok=True)
            for each in (path, *path.parents):
                if each != Path(root) and root in str(each.parent):
                    os.chown(each, user.pw_uid, user.pw_gid)
    become = (*BECOME, f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}")
    options = {"env": environment(unit, user), "cwd": unit["WorkingDirectory"][0], "umask": int(unit["UMask"][0], 8)}
    log = (Path(os.environ["UNIT_LOGS"]) / f"{name}.log").open("a")
    options |= {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": subprocess.STDOUT}
    for command in unit["ExecStartPre"]:
        completed = subprocess.run([*become, *shlex.split(command.removeprefix("-"))], check=False, **options)  # noqa: S603
        if completed.returncode and not command.startswith("-"):
            sys.exit(f"{name}: {command} failed")
    main = subprocess.Popen([*become, *shlex.split(unit["ExecStart"][0])], start_new_session=True, **options)  # noqa: S603
    pid_file(name).write_text(str(main.pid))


def pid_file(name):
    return Path("/mnt") / f"{name}.pid"


def stop(name):
    """Stop the main process, as with KillMode=mixed; kill the process group after TimeoutStopSec."""
    pid, deadline = int(pid_file(name).read_text()), time.monotonic() + float(read(name)["TimeoutStopSec"][0])
    os.kill(pid, signal.SIGTERM)
    while Path(f"/proc/{pid}").exists() and " Z " not in Path(f"/proc/{pid}/stat").read_text():
        if time.monotonic() > deadline:
            os.killpg(pid, signal.SIGKILL)
            sys.exit(f"{name} did not stop in time")
        time.sleep(0.05)


if __name__ == "__main__":
    if sys.argv[1:3] == ["enable", "--now"]:
        for unit_name in sys.argv[3:]:
            start(unit_name)
    elif sys.argv[1:2] == ["restart"]:
        for unit_name in sys.argv[2:]:
            stop(unit_name)
            start(unit_name)
    elif sys.argv[1:] != ["daemon-reload"]:
        sys.exit(f"systemctl {sys.argv[1:]}: not supported")
