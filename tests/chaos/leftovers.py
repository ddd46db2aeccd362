"""Find processes and temporary files that a stopped stack has left behind."""

from pathlib import Path

import psutil


def leftovers(data_dir: Path) -> list[str]:
    """Return what still runs or exists after everything in `data_dir` has stopped."""
    running = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("OUTLAST_STACK") == str(data_dir):
                running.append(str(process))
        except (psutil.Error, OSError):
            continue
    # Folders that a killed worker left in TEMP_DIR must have been removed by the next worker.
    return running + [str(path) for path in (data_dir / "tmp").iterdir()]


def processes_of_session(leader: int) -> list[str]:
    """Return the running processes of the session that an ended child led; a session has its leader's pid."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        try:
            stat = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        state, session = stat[0], int(stat[3])
        if session == leader and state != "Z":
            found.append(f"{process.pid} of session {leader}: {' '.join(process.info['cmdline'] or [])[:150]}")
    return found
