"""All checks, each on its own as soon as those it needs are well; told in the order of the list."""

import asyncio
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from rich.console import Console

from handlers.settings import SettingsError
from worker.doctor import broker, cluster, database, machine, project, storage, webhooks
from worker.doctor.context import CheckContext
from worker.doctor.result import Check, Concern, Failure, State, Verdict
from worker.settings import Settings

COLOURS: Final = {State.OK: "green", State.WARNING: "yellow", State.FAILED: "red", State.SKIPPED: "dim"}
MIGRATED: Final = ("version",)
CHECKS: Final = (
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
    Check("bucket", storage.bucket, ("key",)),
    Check("functions", database.functions, ("key",)),
    Check("version", database.version, ("functions",)),
    Check("tables", database.tables, MIGRATED),
    Check("grants", database.grants, MIGRATED),
    Check("database clock", database.database_clock, MIGRATED),
    Check("generations", database.generations, MIGRATED),
    Check("media columns", database.media_columns, ("generations",)),
    Check("sweep index", database.sweep_index, ("generations",)),
    Check("rows over rest", database.rest_schema, ("generations",)),
    Check("triggers", database.triggers, ("generations",)),
    Check("webhook secret", webhooks.webhook_secret),
    Check("signing", webhooks.signing, ("version", "webhook secret")),
    Check("webhook url", webhooks.webhook_url, MIGRATED),
    Check("receiver", webhooks.receiver, ("signing", "webhook url")),
    Check("realtime", database.realtime, MIGRATED),
    Check("bucket policy", storage.bucket_policy, MIGRATED),
    Check("fal keys", webhooks.fal_keys),
)


async def examine(*, as_json: bool) -> int:
    """Print the verdicts; return the exit code: 1 when any check failed, unreadable settings included."""
    logging.disable(logging.CRITICAL)  # what libraries log is told by the checks
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    verdicts: list[Verdict] = []
    try:
        site = CheckContext.of(Settings.load())
    except SettingsError as error:
        verdicts = _unreadable(error)
        for verdict in [] if as_json else verdicts:
            console.print(verdict.line(), style=COLOURS[verdict.state])
    else:
        console.quiet = as_json
        try:
            with console.status("examining"):
                verdicts = await _examine(site, CHECKS, console)
        finally:
            await site.aclose()
    failed = sum(verdict.state is State.FAILED for verdict in verdicts)
    if as_json:
        rows = [verdict.row() for verdict in verdicts]
        sys.stdout.write(json.dumps({"items": rows, "total": len(rows), "failed": failed}) + "\n")
    return 1 if failed else 0


async def _examine(site: CheckContext, checks: Sequence[Check], console: Console) -> list[Verdict]:
    running: dict[str, asyncio.Task[Verdict]] = {}
    for check in checks:
        require = {name: running[name] for name in check.needs}
        running[check.name] = asyncio.create_task(_one(check, site, require), name=check.name)
    verdicts = []
    for task in running.values():
        verdicts.append(await task)
        console.print(verdicts[-1].line(), style=COLOURS[verdicts[-1].state])
    return verdicts


async def _one(check: Check, site: CheckContext, require: Mapping[str, asyncio.Task[Verdict]]) -> Verdict:
    """Wait for what is needed, then look, for a limited time."""
    for name, task in require.items():
        if (await task).state in {State.FAILED, State.SKIPPED}:
            return Verdict(check.name, State.SKIPPED, f"needs `{name}` to be well")
    try:
        async with asyncio.timeout(check.seconds):
            return Verdict(check.name, State.OK, site.masked(await check.look(site)))
    except Failure as found:
        state = State.WARNING if isinstance(found, Concern) else State.FAILED
        return Verdict(check.name, state, site.masked(str(found)), site.masked(found.remedy))
    except TimeoutError:
        remedy = "see whether something between here and there swallows packets, and run this again"
        return Verdict(check.name, State.FAILED, f"no answer within {check.seconds:g} s", remedy)
    except Exception as error:  # noqa: BLE001 - whatever one check meets, the others are told
        remedy = "report this, please: a check of the doctor's own failed"
        return Verdict(check.name, State.FAILED, site.masked(repr(error)), remedy)


def _unreadable(error: SettingsError) -> list[Verdict]:
    """Return a verdict for each setting that cannot be read; without them nothing else can be looked at."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = [line.partition(" Remedy: ") for line in (lines[1:] or lines)]
    wrong = [
        Verdict("settings", State.FAILED, detail, remedy or "mend the environment or .env")
        for detail, _, remedy in told
    ]
    return wrong + [Verdict(check.name, State.SKIPPED, "needs `settings` to be well") for check in CHECKS]
