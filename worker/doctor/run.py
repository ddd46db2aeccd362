"""Run all checks. They run concurrently, each after the checks it needs; results are printed in the order of CHECKS."""

import asyncio
import contextlib
import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from handlers.settings import SettingsError
from worker.doctor import broker, cluster, columns, database, machine, policies, project, storage, webhooks
from worker.doctor.context import CheckContext
from worker.doctor.result import Check, CheckFailure, CheckResult, CheckWarning, State
from worker.settings import Settings

COLOURS: Final = {State.OK: "green", State.WARNING: "yellow", State.FAILED: "red", State.SKIPPED: "dim"}
NEEDS_MIGRATIONS: Final = ("version",)
CHECKS: Final = (
    Check("setting names", machine.setting_names),
    Check("libmagic", machine.libmagic),
    Check("libvips", machine.libvips, seconds=60),
    Check("temp dir", machine.temp_dir),
    Check("optional keys", machine.optional_keys),
    Check("broker", broker.broker),
    Check("broker version", broker.broker_version, ("broker",)),
    Check("broker rights", broker.broker_rights, ("broker",)),
    Check("topology", broker.broker_topology, ("broker",)),
    Check("queue members", cluster.queue_members, ("broker", "topology")),
    Check("supabase", project.supabase),
    Check("clock", project.clock, ("supabase",)),
    Check("key", project.key, ("supabase",)),
    Check("functions", database.functions, ("key",)),
    Check("bucket", storage.bucket, ("key",), after=("functions",)),
    Check("version", database.migrations_version, ("functions",)),
    Check("tables", database.tables, NEEDS_MIGRATIONS),
    Check("grants", database.grants, NEEDS_MIGRATIONS),
    Check("database clock", database.database_clock, NEEDS_MIGRATIONS),
    Check("generations", database.generations, NEEDS_MIGRATIONS),
    Check("column types", columns.column_types, ("generations",)),
    Check("bindings", columns.bindings, ("version",)),
    Check("media columns", database.media_columns, ("generations",)),
    Check("row update", columns.row_update, ("media columns",)),
    Check("sweep index", database.sweep_index, ("generations",)),
    Check("rows over rest", database.rest_schema, ("generations",)),
    Check("triggers", database.triggers, ("generations",)),
    Check("media trigger", policies.media_trigger, ("media columns",)),
    Check("row security", policies.row_security, ("generations",)),
    Check("owner policies", policies.owner_policies, ("row security",)),
    Check("protected columns", policies.protected_columns, ("row security",)),
    Check("webhook secret", webhooks.webhook_secret),
    Check("signing", webhooks.signing, ("version", "webhook secret")),
    Check("webhook url", webhooks.webhook_url, NEEDS_MIGRATIONS),
    Check("receiver", webhooks.receiver, ("signing", "webhook url")),
    Check("realtime", database.realtime, NEEDS_MIGRATIONS),
    Check("bucket policy", storage.bucket_policy, NEEDS_MIGRATIONS),
    Check("fal keys", webhooks.fal_keys),
)


async def run_doctor(*, as_json: bool) -> int:
    """Print the results; return the exit code: 1 if a check failed or a setting is invalid, otherwise 0."""
    logging.disable(logging.CRITICAL)  # the results already contain what libraries log
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    results: list[CheckResult] = []
    try:
        context = CheckContext.of(Settings.load())
    except SettingsError as error:
        results = _invalid_settings(error)
        for result in [] if as_json else results:
            console.print(result.to_line(), style=COLOURS[result.state])
    else:
        console.quiet = as_json
        try:
            with _progress(console) as done:
                results = await run_checks(context, CHECKS, console, done)
        finally:
            await context.aclose()
    failed = sum(result.state is State.FAILED for result in results)
    if as_json:
        rows = [result.to_dict() for result in results]
        sys.stdout.write(json.dumps({"items": rows, "total": len(rows), "failed": failed}) + "\n")
    return 1 if failed else 0


@contextlib.contextmanager
def _progress(console: Console) -> Iterator[Callable[[], None]]:
    """Show on a terminal how many checks have ended and the time left; yield a function that counts one."""
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("checks, time left"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=console.quiet or not console.is_terminal) as bar:
        task = bar.add_task("checks", total=len(CHECKS))
        yield lambda: bar.advance(task)


async def run_checks(
    context: CheckContext, checks: Sequence[Check], console: Console, on_done: Callable[[], None] = lambda: None
) -> list[CheckResult]:
    """Run checks, print each result, and return all of them. `on_done` is called after each."""
    tasks: dict[str, asyncio.Task[CheckResult]] = {}
    for check in checks:
        earlier = {name: tasks[name] for name in (*check.needs, *check.after)}
        tasks[check.name] = asyncio.create_task(_run_check(check, context, earlier), name=check.name)
        tasks[check.name].add_done_callback(lambda _: on_done())
    results = []
    for task in tasks.values():
        result = await task
        console.print(result.to_line(), style=COLOURS[result.state])
        results.append(result)
    return results


async def _run_check(
    check: Check, context: CheckContext, earlier: Mapping[str, asyncio.Task[CheckResult]]
) -> CheckResult:
    """Wait for earlier checks, then run the check with its time limit, unless one that it needs has failed."""
    for name, task in earlier.items():
        if (await task).state in {State.FAILED, State.SKIPPED} and name in check.needs:
            return CheckResult(check.name, State.SKIPPED, f"needs the check `{name}`")
    try:
        async with asyncio.timeout(check.seconds):
            return CheckResult(check.name, State.OK, context.masked(await check.run(context)))
    except CheckFailure as problem:
        state = State.WARNING if isinstance(problem, CheckWarning) else State.FAILED
        return CheckResult(check.name, state, context.masked(str(problem)), context.masked(problem.remedy))
    except TimeoutError:
        remedy = "check the network and firewalls for dropped packets, then run `outlast doctor` again"
        return CheckResult(check.name, State.FAILED, f"no answer within {check.seconds:g} s", remedy)
    except httpx.HTTPError as error:
        remedy = "check the status of the project, and the network, then run `outlast doctor` again"
        return CheckResult(check.name, State.FAILED, f"the server does not answer: {type(error).__name__}", remedy)
    except Exception as error:  # noqa: BLE001 - a bug in one check must not hide the other results
        remedy = "this is a bug in the check; please report it"
        return CheckResult(check.name, State.FAILED, context.masked(repr(error)), remedy)


def _invalid_settings(error: SettingsError) -> list[CheckResult]:
    """Return a failure for each invalid setting. All checks are skipped, because they need the settings."""
    lines = [line.strip() for line in str(error).splitlines()]
    parts = [line.partition(" Remedy: ") for line in (lines[1:] or lines)]
    failures = [
        CheckResult("settings", State.FAILED, detail, remedy or "correct the environment variable or .env")
        for detail, _, remedy in parts
    ]
    return failures + [CheckResult(check.name, State.SKIPPED, "needs valid settings") for check in CHECKS]
