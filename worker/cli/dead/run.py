"""Run the commands of `outlast dead`. Exit codes: 0 done, 1 failed, 2 usage error, 3 partly done."""

import asyncio
import contextlib
import getpass
import logging
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final
from uuid import UUID

import typer

from handlers.errors import FileProcessingError
from schemas.base import Frozen
from schemas.dead_letters import BatchOutcome, BatchRequest, DeadLetterFilter
from worker.broker.errors import BrokerUnavailableError
from worker.cli.printing import (
    DONE,
    FAILED,
    PARTLY,
    USAGE,
    count_of,
    print_items,
    print_json,
    print_table,
    show_progress,
)
from worker.dead_letters.operation import Operation, recorded_batch, results_text
from worker.dead_letters.queue_lock import BusyError
from worker.dead_letters.service import PAST_TENSE, DeadLetterService, NoArchiveError, Verb
from worker.dead_letters.summary import DeadLetterSummary
from worker.observability.logs import configure
from worker.settings import Settings

RESULTS_SECONDS: Final = 1.0
"""Seconds between two readings of the results of a replay, with --wait."""
ITEM_COLUMNS: Final = (
    *("id", "failed_at", "code", "stage", "host", "attempts", "replays", "binding", "generation_id"),
    "error",
)
GROUP_COLUMNS: Final = ("count", "code", "stage", "host", "first_seen", "last_seen")


def run(command: Callable[[DeadLetterService], Awaitable[int]]) -> int:
    """Run a command with a `DeadLetterService`; return its exit code."""
    settings = Settings.load()
    configure(settings)
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)  # it logs errors that are also raised, and printed below

    async def run_command() -> int:
        return await command(DeadLetterService(settings, f"{getpass.getuser()}@{socket.gethostname()}"))

    try:
        return asyncio.run(run_command())
    except (BusyError, BrokerUnavailableError, NoArchiveError) as error:
        sys.stderr.write(f"outlast: {error}\n")
        return FAILED


async def print_list(service: DeadLetterService, filters: DeadLetterFilter, *, wide: bool, as_json: bool) -> int:
    """Print the dead letters that match."""
    items, total = await service.items(filters)
    _print_rows(items, total, ITEM_COLUMNS, "dead letter", wide=wide, as_json=as_json)
    return DONE


async def print_groups(service: DeadLetterService, filters: DeadLetterFilter, *, wide: bool, as_json: bool) -> int:
    """Print the number of dead letters by error code, step and host."""
    groups, total = await service.groups(filters)
    _print_rows(groups, total, GROUP_COLUMNS, "group", wide=wide, as_json=as_json)
    return DONE


async def print_item(service: DeadLetterService, item_id: UUID, *, as_json: bool) -> int:
    """Print all details of one dead letter; exit code 1 if there is none with this id."""
    item = await service.show(item_id)
    if item is None:
        sys.stderr.write(f"outlast: there is no dead letter {item_id}; `outlast dead list` prints the ids\n")
        return FAILED
    if as_json:
        print_json(item)
        return DONE
    files, headers = item.pop("files"), item.pop("headers")
    lines = [f"{name:<14} {'' if value is None else value}" for name, value in item.items()]
    lines += [f"file {file['position']:<9} {file['url']}" for file in files]
    lines += [f"header         {name}: {value}" for name, value in headers.items()]
    sys.stdout.write("\n".join(lines) + "\n")
    return DONE


async def run_batch(
    service: DeadLetterService, verb: Verb, request: BatchRequest, *, yes: bool, wait: bool = False, as_json: bool
) -> int:
    """Replay or discard the dead letters that match, after a confirmation; print the result.

    With `wait`, the result of a replay is printed when all of its tasks have ended.
    """
    selected = await service.find(request)
    matched = len({summary.item.id for summary in selected})
    sys.stderr.write(f"{count_of(matched, 'dead letter')} {'matches' if matched == 1 else 'match'}\n")
    if not matched or request.dry_run:
        return _print_outcome(verb, BatchOutcome(matched=matched), dry_run=request.dry_run, as_json=as_json)
    if not yes:
        if not sys.stdin.isatty():
            sys.stderr.write(f"outlast: nothing was {PAST_TENSE[verb]}: without a terminal, add --yes to confirm\n")
            return USAGE
        if not await asyncio.to_thread(typer.confirm, f"{verb} {count_of(matched, 'dead letter')}?", err=True):
            return _print_outcome(verb, BatchOutcome(matched=matched, aborted=True), dry_run=False, as_json=as_json)
    outcome, results = await _run_with_progress(service, verb, request, selected, wait=wait)
    return _print_outcome(verb, outcome, results, dry_run=False, as_json=as_json)


async def _run_with_progress(
    service: DeadLetterService,
    verb: Verb,
    request: BatchRequest,
    selected: Sequence[DeadLetterSummary],
    *,
    wait: bool,
) -> tuple[BatchOutcome, dict[str, Any] | None]:
    """Replay or discard; return the outcome, and the results of replayed tasks; None if they are not recorded.

    Ctrl-C stops after the current dead letter, a second Ctrl-C at once.
    """
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def on_signal(sign: signal.Signals) -> None:
        stop.set()
        loop.remove_signal_handler(sign)

    for sign in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(sign, on_signal, sign)
    with show_progress(PAST_TENSE[verb]) as progress:
        async with recorded_batch(service, verb, request, selected, should_abort=stop.is_set, progress=progress) as (
            batch,
            operation,
        ):
            try:
                outcome = await batch.run()
            except Exception:
                outcome = batch.outcome()
                sys.stderr.write(f"{outcome.done} of {outcome.matched} {PAST_TENSE[verb]} before this error:\n")
                raise
            return outcome, None if operation is None else await _results(operation, stop, wait=wait)


async def _results(operation: Operation, stop: asyncio.Event, *, wait: bool) -> dict[str, Any] | None:
    """Return what became of the replayed dead letters; None while the database does not answer.

    With `wait`, return when none is waiting any more, or after Ctrl-C.
    """
    try:
        while (results := await operation.results()) and results["waiting"] and wait and not stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), RESULTS_SECONDS)
    except FileProcessingError:
        return None
    return results


def _print_outcome(
    verb: Verb, outcome: BatchOutcome, results: dict[str, Any] | None = None, *, dry_run: bool, as_json: bool
) -> int:
    if as_json:
        result = outcome.model_dump(mode="json")
        result[PAST_TENSE[verb]] = result.pop("done")
        print_json(result | {"dry_run": dry_run} | ({} if results is None else {"results": results}))
    else:
        for kept in outcome.kept:
            sys.stdout.write(f"{kept.id} kept: {kept.reason}\n")
        summary = "dry run: nothing was changed" if dry_run else f"{outcome.done} {PAST_TENSE[verb]}"
        kept_count = f", {len(outcome.kept)} kept" if outcome.kept else ""
        aborted = ", then stopped" if outcome.aborted else ""
        became = "" if results is None else f": {results_text(results)}"
        sys.stdout.write(f"{summary}{kept_count}{aborted}{became}\n")
    return PARTLY if outcome.kept or outcome.aborted else DONE


def _print_rows(
    models: Sequence[Frozen], total: int, columns: Sequence[str], noun: str, *, wide: bool, as_json: bool
) -> None:
    rows: list[dict[str, Any]] = [model.model_dump(mode="json") for model in models]
    if as_json:
        print_items(rows, total)
        return
    print_table(rows, columns, wide=wide)
    part = f"{len(rows)} of " if len(rows) != total else ""
    sys.stderr.write(f"{part}{count_of(total, noun)}\n")
