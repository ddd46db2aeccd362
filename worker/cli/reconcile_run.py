"""Run `outlast reconcile`: one sweep on request."""

import json
import sys
from datetime import datetime

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from handlers.database.reconcile_records import ReconcileRecords
from worker.broker.connection import Broker
from worker.observability.logs import configure
from worker.observability.metrics import Metrics
from worker.periodic.reconcile import Reconciler, SweepResult
from worker.resources import Resources
from worker.settings import Settings


async def reconcile_once(since: datetime | None, *, dry_run: bool, as_json: bool) -> int:
    """Sweep, print what was found and enqueued; return exit code 0.

    Raises:
        FileProcessingError: the database does not answer.
        BrokerUnavailableError: the broker accepts no jobs. The next sweep finds the same entries again.
    """
    settings = Settings.load().for_worker()
    configure(settings)
    metrics = Metrics("command")
    async with Resources(settings, metrics) as resources:
        supabase = await resources.supabase()
        # A dry run publishes nothing, so its broker is not started and RabbitMQ may be unavailable.
        broker = Broker(settings, metrics, "reconcile") if dry_run else await resources.broker("reconcile")
        reconciler = Reconciler(settings, ReconcileRecords(supabase), broker, metrics)
        with _progress(shown=sys.stderr.isatty() and not as_json) as progress:
            bar = progress.add_task("found" if dry_run else "checked")
            if dry_run:
                found = await reconciler.count_missing(since, lambda entries: progress.advance(bar, entries))
                swept = SweepResult(found=found)
            else:
                swept = await reconciler.sweep(since, on_checked=lambda: progress.advance(bar))
    _print(swept, dry_run=dry_run, as_json=as_json)
    return 0


def _progress(*, shown: bool) -> Progress:
    """Return a progress display on standard error. Without a terminal, the log has a line for each page."""
    columns = (SpinnerColumn(), TextColumn("{task.completed:.0f} {task.description}"), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), disable=not shown)


def _print(swept: SweepResult, *, dry_run: bool, as_json: bool) -> None:
    total = swept.found.total()
    if as_json:
        result = {"found": total, "reasons": dict(swept.found), "enqueued": swept.enqueued, "ended": swept.ended}
        sys.stdout.write(json.dumps(result | {"dry_run": dry_run}) + "\n")
        return
    if not total:
        sys.stdout.write("nothing is missing\n")
        return
    meanings = {
        "no_task": "completed, but has no task",
        "incomplete": "completed, but some of its tasks are missing",
        "idle": "a task without progress",
    }
    table = Table("found", "reason", "meaning")
    for reason, number in swept.found.most_common():
        table.add_row(str(number), reason, meanings.get(reason, ""))
    Console().print(table)
    done = "dry run: nothing was changed" if dry_run else f"{swept.enqueued} enqueued, {swept.ended} set to failed"
    sys.stdout.write(done + "\n")
