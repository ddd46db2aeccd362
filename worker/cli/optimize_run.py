"""Run `outlast optimize`. Exit codes: 0 done, 1 failed, 2 usage error, 3 partly done."""

import asyncio
import json
import sys
from datetime import datetime
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
from worker.periodic.vary import VariantMaker, VaryResult
from worker.resources import Resources
from worker.runtime import stop_on_signals
from worker.settings import Settings

NO_TIME_LIMIT: Final = 1e9


async def optimize_once(
    since: datetime | None, profile: Profile | None, *, dry_run: bool, yes: bool, as_json: bool
) -> int:
    """Count, ask for confirmation, compress, remove unreferenced objects, print; return the exit code.

    Raises:
        FileProcessingError: the database or Storage does not answer. The same command continues where this one stopped.
    """
    settings = Settings.load().for_worker()
    configure(settings)
    target = profile or settings.profile
    async with Resources(settings, Metrics("command")) as resources:
        supabase, codec = await resources.supabase(), resources.codec()
        objects = ObjectRecords(supabase)
        orphans = OrphanRemover(objects, supabase, settings.orphan_grace_seconds)
        optimizer = Optimizer(settings, supabase, objects, codec, target)
        found, unused = await optimizer.count(since), await orphans.count()
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
            done = await optimizer.run(since, lambda seen: progress(seen, max(seen, found.objects)), stop.is_set)
        removed = RemovalResult(complete=False) if stop.is_set() else await orphans.remove(NO_TIME_LIMIT)
    return _print_result(found, unused, done, removed, as_json=as_json, dry_run=False)


async def vary_once(since: datetime | None, *, dry_run: bool, yes: bool, as_json: bool) -> int:
    """Count the files with other variants than wanted, ask, make the variants, print; return the exit code.

    Raises:
        FileProcessingError: the database does not answer. The same command continues where this one stopped.
    """
    settings = Settings.load().for_worker()
    configure(settings)
    async with Resources(settings, Metrics("command")) as resources:
        supabase = await resources.supabase()
        maker = VariantMaker(settings, supabase, ObjectRecords(supabase), resources.codec())
        found = await maker.count(since)
        sys.stderr.write(f"to process: {count_of(found.objects, 'file')} with other variants than wanted\n")
        if dry_run:
            return _print_varied(found, VaryResult(), as_json=as_json, dry_run=True)
        if found.objects and not yes:
            if not sys.stdin.isatty():
                sys.stderr.write("outlast: nothing was changed: without a terminal, add --yes to confirm\n")
                return USAGE
            if not await asyncio.to_thread(typer.confirm, "Continue?", err=True):
                return _print_varied(found, VaryResult(), as_json=as_json, dry_run=False, complete=False)
        stop = stop_on_signals()
        with show_progress("varied") as progress:
            done = await maker.run(since, lambda seen: progress(seen, max(seen, found.objects)), stop.is_set)
    return _print_varied(found, done, as_json=as_json, dry_run=False, complete=not stop.is_set())


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


def _print_varied(found: ObjectCount, done: VaryResult, *, as_json: bool, dry_run: bool, complete: bool = True) -> int:
    failed = done.failed.total()
    if as_json:
        result = {"found": found.objects, "varied": done.varied, "failed": failed, "reasons": dict(done.failed)}
        sys.stdout.write(json.dumps(result | {"dry_run": dry_run}) + "\n")
    elif dry_run:
        sys.stdout.write("dry run: nothing was changed\n")
    else:
        reasons = "".join(f", {count} failed ({code})" for code, count in done.failed.most_common())
        sys.stdout.write(f"variants of {count_of(done.varied, 'file')} made{reasons}\n")
    if failed and failed == done.total:
        return FAILED
    return DONE if dry_run or (complete and not failed) else PARTLY


def _megabytes(size: int) -> str:
    return f"{size / 1024 / 1024:.1f} MiB"
