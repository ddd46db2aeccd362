"""Run the commands of `outlast dead`. Exit codes: 0 done, 1 failed, 2 usage error, 3 partly done."""

import asyncio
import getpass
import json
import logging
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final
from uuid import UUID

import typer

from schemas.base import Frozen
from schemas.dead_letters import BatchOutcome, BatchRequest, DeadLetterFilter
from worker.broker.connection import BrokerUnavailableError
from worker.cli.dead_printing import follow
from worker.cli.printing import DONE, FAILED, PARTLY, USAGE, print_table
from worker.dead_letters.queue_lock import BusyError
from worker.dead_letters.service import PAST, DeadLetterService, NoArchiveError, Verb
from worker.dead_letters.summary import DeadLetterMessage
from worker.observability.logs import configure
from worker.settings import Settings

LISTED: Final = ("id", "failed_at", "code", "stage", "host", "attempts", "replays", "generation_id", "error")
GROUPED: Final = ("count", "code", "stage", "host", "first_seen", "last_seen")


def run(command: Callable[[DeadLetterService], Awaitable[int]]) -> int:
    """Run a command with a connected `DeadLetterService`; return its exit code."""
    settings = Settings.load()
    configure(settings)
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)  # it logs errors that are also raised, and printed below

    async def at_desk() -> int:
        return await command(DeadLetterService(settings, f"{getpass.getuser()}@{socket.gethostname()}"))

    try:
        return asyncio.run(at_desk())
    except (BusyError, BrokerUnavailableError, NoArchiveError) as error:
        sys.stderr.write(f"outlast: {error}\n")
        return FAILED


async def print_list(desk: DeadLetterService, choice: DeadLetterFilter, *, as_json: bool) -> int:
    """Print the dead letters that match."""
    items, total = await desk.items(choice)
    _print(items, total, LISTED, "dead letters", as_json=as_json)
    return DONE


async def print_groups(desk: DeadLetterService, choice: DeadLetterFilter, *, as_json: bool) -> int:
    """Print the number of dead letters by error code, step and host."""
    groups, total = await desk.groups(choice)
    _print(groups, total, GROUPED, "groups", as_json=as_json)
    return DONE


async def print_one(desk: DeadLetterService, name: UUID, *, as_json: bool) -> int:
    """Print all details of one dead letter; exit code 1 if there is none with this id."""
    found = await desk.show(name)
    if found is None:
        sys.stderr.write(f"outlast: there is no dead letter {name}; `outlast dead list` prints the ids\n")
        return FAILED
    if as_json:
        sys.stdout.write(json.dumps(found) + "\n")
        return DONE
    files, headers = found.pop("files"), found.pop("headers")
    lines = [f"{name:<14} {'' if value is None else value}" for name, value in found.items()]
    lines += [f"file {file['position']:<9} {file['url']}" for file in files]
    lines += [f"header         {name}: {value}" for name, value in headers.items()]
    sys.stdout.write("\n".join(lines) + "\n")
    return DONE


async def remove(desk: DeadLetterService, verb: Verb, errand: BatchRequest, *, yes: bool, as_json: bool) -> int:
    """Replay or discard the dead letters that match, after a confirmation; print the result."""
    chosen = await desk.find(errand)
    matched = len({letter.item.id for letter in chosen})
    sys.stderr.write(f"{matched} dead letters match\n")
    if not matched or errand.dry_run:
        return _print_outcome(verb, BatchOutcome(matched=matched), dry_run=errand.dry_run, as_json=as_json)
    if not yes:
        if not sys.stdin.isatty():
            sys.stderr.write(f"outlast: nothing was {PAST[verb]}: without a terminal, add --yes to confirm\n")
            return USAGE
        if not await asyncio.to_thread(typer.confirm, f"{verb} {matched} dead letters?", err=True):
            return _print_outcome(verb, BatchOutcome(matched=matched, aborted=True), dry_run=False, as_json=as_json)
    return _print_outcome(verb, await _remove(desk, verb, chosen, errand.rate), dry_run=False, as_json=as_json)


async def _remove(
    desk: DeadLetterService, verb: Verb, chosen: Sequence[DeadLetterMessage], rate: float | None
) -> BatchOutcome:
    """Run with progress. Ctrl-C stops after the current dead letter, a second Ctrl-C at once."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def on_signal(sign: signal.Signals) -> None:
        stop.set()
        loop.remove_signal_handler(sign)

    for sign in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(sign, on_signal, sign)
    with follow(PAST[verb]) as progress:
        async with desk.removal(verb, chosen, rate=rate, abort=stop.is_set, progress=progress) as removal:
            try:
                return await removal.run()
            except Exception:
                sys.stderr.write(
                    f"{removal.outcome().done} of {removal.outcome().matched} {PAST[verb]} before this error:\n"
                )
                raise


def _print_outcome(verb: Verb, outcome: BatchOutcome, *, dry_run: bool, as_json: bool) -> int:
    if as_json:
        result = outcome.model_dump(mode="json")
        result[PAST[verb]] = result.pop("done")
        sys.stdout.write(json.dumps(result | {"dry_run": dry_run}) + "\n")
    else:
        for kept in outcome.kept:
            sys.stdout.write(f"{kept.id} kept: {kept.reason}\n")
        summary = "dry run: nothing was changed" if dry_run else f"{outcome.done} {PAST[verb]}"
        aborted = ", then stopped" if outcome.aborted else ""
        sys.stdout.write(f"{summary}{f', {len(outcome.kept)} kept' if outcome.kept else ''}{aborted}\n")
    return PARTLY if outcome.kept or outcome.aborted else DONE


def _print(rows: Sequence[Frozen], total: int, columns: Sequence[str], what: str, *, as_json: bool) -> None:
    found: list[dict[str, Any]] = [row.model_dump(mode="json") for row in rows]
    if as_json:
        sys.stdout.write(json.dumps({"items": found, "total": total}) + "\n")
        return
    print_table(found, columns)
    sys.stderr.write(f"{len(found)} of {total} {what}\n" if len(found) != total else f"{total} {what}\n")
