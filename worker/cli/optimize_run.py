"""Run `outlast optimize`. Exit codes: 0 done, 1 failed, 2 usage error, 3 partly done."""

import asyncio
import json
import sys
from datetime import UTC, datetime
from typing import Final

import typer

from handlers.database.object_records import ObjectRecords
from handlers.storage.orphans import OrphanRemover, RemovalResult
from schemas.jobs import Profile
from schemas.objects import ObjectCount
from worker.cli.printing import DONE, FAILED, PARTLY, USAGE, count_of, show_progress
from worker.observability.logs import configure
from worker.observability.metrics import Metrics
from worker.periodic.optimize import Optimizer, OptimizeResult
from worker.resources import Resources
from worker.runtime import stop_on_signals
from worker.settings import Settings

NO_TIME_LIMIT: Final = 1e9


def read_since(text: str) -> datetime:
    """Read ISO 8601; a time without an offset is UTC. Raises ValueError."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"--since: {text!r} is not an ISO 8601 date or time, for example 2026-11-01") from None
    return moment.replace(tzinfo=moment.tzinfo or UTC)


async def optimize_once(
    since: datetime | None, profile: Profile | None, *, dry_run: bool, yes: bool, as_json: bool
) -> int:
    """Count, ask for confirmation, compress, remove unreferenced objects, print; return the exit code.

    Raises:
        FileProcessingError: database or Storage do not answer. The same command continues where this one stopped.
    """
    settings = Settings.load().for_worker()
    configure(settings)
    target = profile or settings.profile
    async with Resources(settings, Metrics("command")) as resources:
        supabase, codec = await resources.supabase(), resources.codec()
        objects = ObjectRecords(supabase)
        orphans = OrphanRemover(objects, supabase, settings.orphan_grace_seconds)
        found, unused = await objects.count_suboptimal(target.key, since), await orphans.count()
        sys.stderr.write(_plan(found, unused, target) + "\n")
        if dry_run:
            return _print_result(found, unused, OptimizeResult(), RemovalResult(), as_json=as_json, dry_run=True)
        if found.objects + unused and not yes:
            if not sys.stdin.isatty():
                sys.stderr.write("outlast: nothing was changed: without a terminal, add --yes to confirm\n")
                return USAGE
            if not await asyncio.to_thread(typer.confirm, "Continue?", err=True):
                return _print_result(
                    found, unused, OptimizeResult(), RemovalResult(complete=False), as_json=as_json, dry_run=False
                )
        stop = stop_on_signals()
        with show_progress("optimized") as progress:
            optimizer = Optimizer(settings, supabase, objects, codec, target)
            done = await optimizer.run(since, lambda seen: progress(seen, max(seen, found.objects)), stop.is_set)
        removed = RemovalResult(complete=False) if stop.is_set() else await orphans.remove(NO_TIME_LIMIT)
    return _print_result(found, unused, done, removed, as_json=as_json, dry_run=False)


def _plan(found: ObjectCount, unused: int, target: Profile) -> str:
    return (
        f"to process: {count_of(found.objects, 'image')} ({_megabytes(found.bytes)}) stored with another profile than "
        f"{target.key}, or duplicated ({count_of(found.duplicates, 'duplicate')}); "
        f"to remove: {count_of(unused, 'unreferenced object')}"
    )


def _print_result(
    found: ObjectCount, unused: int, done: OptimizeResult, removed: RemovalResult, *, as_json: bool, dry_run: bool
) -> int:
    failed = done.failed.total()
    if as_json:
        result = {
            "found": found.objects,
            "duplicates": found.duplicates,
            "orphans": unused,
            "smaller": done.smaller,
            "merged": done.merged,
            "kept": done.kept,
            "failed": failed,
            "reasons": dict(done.failed),
            "bytes_saved": done.bytes_saved,
            "orphans_removed": removed.objects,
            "dry_run": dry_run,
        }
        sys.stdout.write(json.dumps(result) + "\n")
    elif dry_run:
        sys.stdout.write("dry run: nothing was changed\n")
    else:
        reasons = "".join(f", {count} failed ({code})" for code, count in done.failed.most_common())
        sys.stdout.write(
            f"{done.smaller} compressed, {done.merged} merged with a duplicate, {done.kept} kept unchanged{reasons}; "
            f"{_megabytes(done.bytes_saved)} saved; {count_of(removed.objects, 'unreferenced object')} removed\n"
        )
    if failed and failed == done.total:
        return FAILED
    return DONE if dry_run or (removed.complete and not failed) else PARTLY


def _megabytes(size: int) -> str:
    return f"{size / 1024 / 1024:.1f} MiB"
