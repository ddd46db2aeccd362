"""Run `outlast try`. Exit codes: 0 every step was passed, 1 it stopped at one."""

import asyncio
import logging
import sys
from pathlib import Path
from typing import Any

from handlers.database.client import Supabase
from handlers.database.object_records import ObjectRecords
from handlers.database.task_records import TaskRecords
from handlers.errors import FileProcessingError
from handlers.tempdirs import scratch
from worker.cli.printing import DONE, FAILED, print_json
from worker.cli.trial.follow import TrialFollower
from worker.cli.trial.send import Sender
from worker.cli.trial.steps import SentGeneration, StoppedError, TrialOptions
from worker.observability.logs import configure
from worker.periodic.schedule import MIN_AGE_SECONDS
from worker.resources import Resources
from worker.settings import Settings


class Trial:
    """One run of `outlast try`. `passed` maps each step that was passed to what was seen."""

    def __init__(self, settings: Settings, supabase: Supabase, options: TrialOptions, *, quiet: bool) -> None:
        self.passed: dict[str, str] = {}
        self._settings = settings
        self._supabase = supabase
        self._options = options
        self._quiet = quiet

    async def run(self) -> None:
        """Send, follow and remove the test generation. Raises StoppedError."""
        try:
            health: dict[str, Any] = await self._supabase.call("outlast_health", {})
        except FileProcessingError as error:
            remedy = "check SUPABASE_URL, SUPABASE_SERVICE_ROLE_KEY and the SQL: `outlast doctor`"
            raise StoppedError("database", str(error), remedy) from error
        names = [found.get("binding") for found in health.get("bindings", [])]
        if self._options.binding not in names:
            problem = f"there is no binding {self._options.binding!r}; the database has: {', '.join(map(str, names))}"
            raise StoppedError("database", problem, "name another one with --binding, or make it with `outlast init`")
        self._pass("database", f"version {health.get('version')}")
        sent = await Sender(self._settings, self._supabase, health, self._note).send(self._options)
        self._pass("send", f"{'row' if sent.has_row else 'signed webhook'}, generation {sent.generation_id}")
        follower = TrialFollower(self._supabase, sent, self._options.seconds, health["now"], self._announce)
        try:
            async with scratch(self._settings.temp_dir) as folder:
                await self._follow(follower, sent, folder)
        except FileProcessingError as error:
            raise StoppedError("database", str(error), "see `outlast doctor`") from error
        finally:
            await self._remove(follower, sent)

    async def _follow(self, follower: TrialFollower, sent: SentGeneration, folder: Path) -> None:
        extra = self._settings.reconcile_every_seconds + MIN_AGE_SECONDS if sent.awaits_sweep else 0.0
        self._pass("begin", await follower.wait_for_task(extra))
        self._pass("process", await follower.wait_for_end())
        self._pass("read", await follower.read_back(folder))
        if sent.has_row:
            self._pass("row", await follower.check_row())

    async def _remove(self, follower: TrialFollower, sent: SentGeneration) -> None:
        """Remove row, task, file and object. If that fails, say what is left."""
        try:
            state = await follower.state()
            for task in state.tasks:
                if not task.status.ready:
                    await TaskRecords(self._supabase).cancel(task.task_id)
            supabase = self._supabase.in_bucket(state.files[0].bucket) if state.files else self._supabase
            arguments = sent.arguments | {"p_bucket": supabase.bucket}
            paths: list[str] = (await self._supabase.call("outlast_try_remove", arguments))["paths"]
            if paths:
                await supabase.remove(paths)
                await ObjectRecords(supabase).forget_objects(paths)
        except FileProcessingError as error:
            self._note(f"the test generation {sent.generation_id} was not removed completely: {error}")
        else:
            self._pass("remove", "row, task and file are removed" if sent.has_row else "task and file are removed")

    def _pass(self, step: str, seen: str) -> None:
        self.passed[step] = seen
        if not self._quiet:
            sys.stdout.write(f"ok       {step:<9} {seen}\n")
            sys.stdout.flush()

    def _announce(self, text: str) -> None:
        if not self._quiet:
            self._note(text)

    def _note(self, text: str) -> None:
        sys.stderr.write(f"note: {text}\n")


def run_try(options: TrialOptions, *, as_json: bool) -> int:
    """Run the command; return its exit code."""
    settings = Settings.load()
    configure(settings)
    logging.getLogger("async_file_processor").setLevel(logging.WARNING)
    return asyncio.run(_run(settings, options, as_json=as_json))


async def _run(settings: Settings, options: TrialOptions, *, as_json: bool) -> int:
    stopped: StoppedError | None = None
    async with Resources(settings) as resources:
        trial = Trial(settings, await resources.supabase(), options, quiet=as_json)
        try:
            await trial.run()
        except StoppedError as error:
            stopped = error
    if as_json:
        where = {"stopped_at": stopped.step, "problem": stopped.problem, "remedy": stopped.remedy} if stopped else {}
        print_json({"ok": stopped is None, "steps": trial.passed, **where})
    elif stopped is not None:
        sys.stdout.write(f"stopped  {stopped.step:<9} {stopped.problem}\n         remedy:   {stopped.remedy}\n")
    return FAILED if stopped else DONE
