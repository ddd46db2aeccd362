"""`outlast sources`: the hosts with the most files, and how many of them failed."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Final

from handlers.database.notice_records import NoticeRecords
from worker.cli.printing import print_items, print_table
from worker.observability.logs import configure
from worker.resources import Resources
from worker.settings import Settings

PERIOD: Final = timedelta(hours=24)


def run_sources(since: datetime | None, *, as_json: bool) -> None:
    """Print the hosts of tasks that ended since a moment, by default in the last 24 hours.

    Raises DatabaseUnavailableError.
    """
    asyncio.run(_list(since or datetime.now(UTC) - PERIOD, as_json=as_json))


async def _list(since: datetime, *, as_json: bool) -> None:
    settings = Settings.load().for_tasks()
    configure(settings)
    async with Resources(settings) as resources:
        hosts = await NoticeRecords(await resources.supabase()).source_hosts(since)
    rows = [host.model_dump() for host in hosts]
    if as_json:
        print_items(rows)
        return
    print_table([row | {"codes": _codes(row["codes"])} for row in rows], ("host", "files", "failed", "codes"))


def _codes(codes: dict[str, int]) -> str:
    """Return the codes with the most files first: `source_gone 3, corrupted 1`."""
    return ", ".join(f"{code} {files}" for code, files in sorted(codes.items(), key=lambda item: -item[1]))
