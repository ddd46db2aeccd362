"""What is left behind: processes that still run, and temporary files."""

from pathlib import Path

import psutil


def leftovers(data_dir: Path) -> list[str]:
    """What still runs or lies about after everything in `data_dir` has stopped."""
    running = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("OUTLAST_STACK") == str(data_dir):
                running.append(str(process))
        except (psutil.Error, OSError):
            continue
    # What a killed worker left in TEMP_DIR is swept by the next one.
    return running + [str(path) for path in (data_dir / "tmp").iterdir()]


def processes_of_session(leader: int) -> list[str]:
    """The processes a child that has ended left running; it led a session, which is called after its number."""
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
