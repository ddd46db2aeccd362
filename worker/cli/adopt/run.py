"""Run `outlast adopt`: count, estimate, ask, enqueue and follow, report."""

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import typer
from rich.progress import TimeRemainingColumn

from handlers.database.reconcile_records import ReconcileRecords
from handlers.database.task_queries import TaskQueries
from schemas.formats import SKIPPED
from worker.cli.adopt.adopter import Adopter, AdoptResult
from worker.cli.adopt.estimate import Estimate, make_estimate
from worker.cli.adopt.past import AdoptedTotals, PastRecords, PastSelection
from worker.cli.printing import DONE, FAILED, PARTLY, count_of, print_json, progress_bar
from worker.observability.logs import configure
from worker.observability.metrics import Metrics
from worker.periodic.sweep_plan import SweepPlanner
from worker.resources import Resources
from worker.runtime import stop_on_signals
from worker.settings import Settings

LINE_SECONDS: Final = 5.0
SECONDS_UP_TO: Final = 90
MINUTES_UP_TO: Final = 5400
GIGABYTE: Final = 1e9
LINK_PROBLEMS: Final = ("source_gone", "source_forbidden", "source_unavailable")


def run_adopt(selection: PastSelection, *, dry_run: bool, yes: bool, as_json: bool) -> int:
    """Run the command; return its exit code."""
    settings = Settings.load().for_worker()
    configure(settings)
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)  # it logs errors that are also raised, and printed
    return asyncio.run(_adopt(settings, selection, dry_run=dry_run, yes=yes, as_json=as_json))


async def _adopt(settings: Settings, selection: PastSelection, *, dry_run: bool, yes: bool, as_json: bool) -> int:
    async with Resources(settings, Metrics("command")) as resources:
        supabase = await resources.supabase()
        records, tasks = PastRecords(supabase), TaskQueries(supabase)
        planner = SweepPlanner(settings, adopt=True)
        count, workers = await records.count(selection), await tasks.workers()
        if selection.binding not in count.bindings:
            names = ", ".join(count.bindings)
            raise typer.BadParameter(f"there is no binding {selection.binding!r}; the database has: {names}")
        estimate = await make_estimate(count, selection, planner, await resources.downloader(), workers)
        sys.stderr.write(plan_text(estimate, count.oldest, count.newest))
        if dry_run:
            return _report(estimate, AdoptResult(), None, as_json=as_json, dry_run=True)
        if not await _confirmed(estimate, yes=yes):
            return _report(estimate, AdoptResult(aborted=True), None, as_json=as_json, dry_run=False)
        stop = stop_on_signals()
        broker = await resources.broker("adopt")
        with _progress(estimate.generations, hidden=as_json) as on_done:
            adopter = Adopter(ReconcileRecords(supabase), tasks, broker, planner, stop, on_done)
            try:
                result = await adopter.run(selection)
            except Exception:
                sys.stderr.write(f"{adopter.result.enqueued} enqueued before this error; run it again to continue:\n")
                raise
        return _report(estimate, result, await records.totals(selection.binding), as_json=as_json, dry_run=False)


async def _confirmed(estimate: Estimate, *, yes: bool) -> bool:
    if yes or not estimate.generations or not sys.stdin.isatty():
        return True
    return await asyncio.to_thread(typer.confirm, "Continue?", err=True)


def plan_text(estimate: Estimate, oldest: str | None, newest: str | None) -> str:
    """Return what is printed before the confirmation: generations, sampled links, files, size and duration."""
    if not estimate.generations:
        return "no generation is older than the installation, or all have been adopted\n"
    found = f"{count_of(estimate.generations, 'generation')} from before the installation"
    period = f", created from {oldest} to {newest}" if oldest else ""
    links = ", ".join(f"{number} {code}" for code, number in estimate.links.most_common()) or "no link"
    size = "size unknown" if estimate.bytes is None else f"about {megabytes(estimate.bytes)} to download"
    workers = count_of(estimate.workers, "worker") if estimate.workers else "no worker is running; with one"
    return (
        f"{found}{period}\n"
        f"sample of {count_of(estimate.links.total(), 'link')}: {links}\n"
        f"about {count_of(estimate.files, 'file')}, of which {round(estimate.files * estimate.live_share)} can be "
        f"downloaded: {size}, {duration(estimate.seconds)} ({workers})\n"
    )


def _report(
    estimate: Estimate, result: AdoptResult, totals: AdoptedTotals | None, *, as_json: bool, dry_run: bool
) -> int:
    if as_json:
        print_json(_to_dict(estimate, result, totals) | {"dry_run": dry_run})
    elif dry_run:
        sys.stdout.write("dry run: nothing was changed\n")
    else:
        sys.stdout.write(report_text(result, totals))
    if result.refused and result.refused >= result.enqueued:
        return FAILED
    return PARTLY if result.aborted or result.retrying or result.refused else DONE


def _to_dict(estimate: Estimate, result: AdoptResult, totals: AdoptedTotals | None) -> dict[str, Any]:
    return {
        "expected": estimate.to_dict(),
        "enqueued": result.enqueued,
        "done": result.done,
        "retrying": result.retrying,
        "refused": result.refused,
        "stored_files": result.stored_files,
        "failed_files": result.failed.total() - result.failed[SKIPPED],
        "dead_links": sum(result.failed[code] for code in LINK_PROBLEMS),
        "codes": dict(result.failed),
        "all_runs": None if totals is None else totals.model_dump(),
        "aborted": result.aborted,
    }


def report_text(result: AdoptResult, totals: AdoptedTotals | None) -> str:
    """Return the report of one run, and what all runs together have done."""
    lines = [f"{count_of(result.done, 'generation')} done: {count_of(result.stored_files, 'file')} stored"]
    lines += [f"{number} not stored: {code}" for code, number in result.failed.most_common()]
    if result.retrying:
        lines.append(f"{count_of(result.retrying, 'task')} will be retried; workers continue with them")
    if result.refused:
        lines.append(f"{count_of(result.refused, 'generation')} refused by the database; see the log")
    if result.aborted:
        waiting = result.enqueued - result.done
        lines.append(f"stopped; workers still process {waiting} enqueued; run it again to continue")
    if totals is not None and totals.tasks:
        dead = sum(totals.codes.get(code, 0) for code in LINK_PROBLEMS)
        failed = sum(totals.codes.values()) - totals.codes.get(SKIPPED, 0)
        lines.append(f"all runs: {totals.stored_files} stored, {dead} dead links, {failed} failed")
    return "\n".join(lines) + "\n"


def megabytes(size: int) -> str:
    """Return a size in MB or GB."""
    return f"{size / GIGABYTE:.1f} GB" if size >= GIGABYTE else f"{size / 1e6:.1f} MB"


def duration(seconds: float) -> str:
    """Return a duration as `about 40 s`, `about 12 min` or `about 3.5 h`."""
    if seconds < SECONDS_UP_TO:
        return f"about {max(1, round(seconds))} s"
    return f"about {round(seconds / 60)} min" if seconds < MINUTES_UP_TO else f"about {seconds / 3600:.1f} h"


@contextlib.contextmanager
def _progress(total: int, *, hidden: bool) -> Iterator[Callable[[int], None]]:
    """Show how many generations are done and the time left: a bar on a terminal, otherwise a line every few seconds."""
    if not sys.stderr.isatty() or hidden:
        yield _progress_lines(total)
        return
    bar = progress_bar()
    bar.columns = (*bar.columns, TimeRemainingColumn())
    with bar:
        task = bar.add_task("adopted", total=total)
        yield lambda done: bar.update(task, completed=done, total=max(total, done))


def _progress_lines(total: int) -> Callable[[int], None]:
    started = printed_at = time.monotonic()

    def report(done: int) -> None:
        nonlocal printed_at
        now = time.monotonic()
        if now - printed_at >= LINE_SECONDS or done >= total:
            printed_at = now
            left = duration((now - started) / done * max(0, total - done))
            sys.stderr.write(f"{done} of {total} generations done, {left} left\n")

    return report
