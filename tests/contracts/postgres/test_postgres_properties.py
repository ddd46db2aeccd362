"""Stateful property test: the database agrees with a small model after any sequence of calls and lost leases."""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

OPEN = ("queued", "running", "retrying")
PROFILE = "auto-q85-strip"
# The rows of an example; the model is compared with them after each step.
STATE = """
select jsonb_build_object(
  'tasks', (select coalesce(jsonb_object_agg(task_id, to_jsonb(t) || jsonb_build_object(
              'alive', lease is not null and lease_until > clock_timestamp())), '{}') from public.outlast_tasks t
            where task_id = any ($1)),
  'files', (select coalesce(jsonb_agg(to_jsonb(f)), '[]') from public.outlast_files f where generation_id = any ($2)),
  'objects', (select coalesce(jsonb_object_agg(path, refs), '{}') from public.outlast_objects
              where starts_with(path, $3)),
  'media', (select media from public.generations where id::text = $2[1]),
  'media_status', (select media_status from public.generations where id::text = $2[1]))
"""
EXPIRE = "update public.outlast_tasks set lease_until = clock_timestamp() - interval '1 s' where task_id = $1"
IN_STORAGE = """
    with bucket as (insert into storage.buckets (id, name) values ('generations', 'generations') on conflict do nothing)
    insert into storage.objects (bucket_id, name) values ('generations', $1) on conflict do nothing
"""
AGE = "update public.outlast_objects set updated_at = now() - interval '1 day' where starts_with(path, $1)"
# The tasks of an example: all of them, or a few with longer histories.
FOCUS = [(0, 1, 2, 3, 4), (0, 0, 0, 0, 0), (4, 4, 4, 4, 4), (0, 1, 0, 1, 2), (0, 2, 0, 2, 2), (0, 3, 0, 3, 0)]
TASKS, LEASES, KEYS = (
    st.integers(0, 4),
    st.sampled_from(["held", "former", "unknown"]),
    st.sampled_from([{0, 1}, {0}, {1}, set()]),
)
RESTS = st.sampled_from(["failed", "lost", "retrying", "dead"])


class Driver:
    """A connection on an event loop in its own thread, because Hypothesis calls rules synchronously."""

    def __init__(self, url: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._connection: asyncpg.Connection = self._wait(self._connect(url))

    async def _connect(self, url: str) -> asyncpg.Connection:
        connection = await asyncpg.connect(url)
        await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)
        return connection

    def _wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def value(self, sql: str, *values: Any) -> Any:
        return self._wait(self._connection.fetchval(sql, *values))

    def call(self, function: str, **arguments: Any) -> Any:
        names = ", ".join(f"{name} => ${index}" for index, name in enumerate(arguments, 1))
        return self.value(f"select public.outlast_{function}({names})", *arguments.values())

    def close(self) -> None:
        self._wait(self._connection.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@dataclass
class Task:
    job: dict[str, Any]
    status: str | None = None
    recorded: bool = False  # its job is recorded; not so if it was cancelled before its start
    recorded_at: int = 0  # the step in which it was recorded
    lease: str | None = None
    last_lease: str | None = None
    alive: bool = False
    former: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    result: dict[str, Any] | None = None

    @property
    def keys(self) -> list[str]:
        return list(self.job["source_keys"])

    @property
    def generation(self) -> str:
        return str(self.job["generation_id"])

    @property
    def fal(self) -> bool:
        return bool(self.job["source"] == "fal")


def named(
    keys: list[str], first: int = 0, *, skipped: str | None = None, with_fields: bool = True
) -> list[dict[str, Any]]:
    """Return what a worker sends of the files of an output, and of one that is skipped."""
    files: list[dict[str, Any]] = [{"source_key": key, "position": at} for at, key in enumerate(keys, first)]
    if with_fields:
        files = [file | {"field": f"{file['source_key']}.url"} for file in files]
    if skipped is not None:
        files.append({"source_key": skipped, "position": len(keys), "field": "link", "code": "source_forbidden"})
    return files


class TaskMachine(RuleBasedStateMachine):
    """Two generations: one with a row, two outputs (one of them split) and a FAL event; the other without a row."""

    def __init__(self, driver: Driver, make_job: Callable[..., Any], make_file: Any, make_failure: Any) -> None:
        super().__init__()
        self.driver, self.make_job, self.make_file, self.make_failure = driver, make_job, make_file, make_failure

    @initialize(focus=st.sampled_from(FOCUS))
    def begin_example(self, focus: tuple[int, ...]) -> None:
        self.user, self.generation, self.rowless = (str(uuid4()) for _ in range(3))
        self.request = f"r-{self.generation}"
        insert = "insert into public.generations (id, user_id, status, output, request_id) values ($1, $2, $3, $4, $5)"
        self.driver.value(insert, self.generation, self.user, "pending", {}, self.request)
        for content in range(4):
            self.driver.value(IN_STORAGE, f"{self.user}/{content}.jpg")
        parts, other = {"all_keys": ["a", "b", "c"], "user_id": self.user}, {"user_id": self.user}
        newer = {"event_at": "2026-11-01T11:00:00Z", "files": named(["d", "a"], skipped="s"), **other}
        from_fal = {"source": "fal", "request_id": self.request, "files": named(["a", "m"]), **other}
        self.tasks = [
            Task(self.make_job(self.generation, ["a", "b"], files=named(["a", "b"]), **parts)),
            Task(self.make_job(self.generation, ["c"], first=2, **parts)),  # of a release that sent no entries
            Task(self.make_job(self.generation, ["d", "a"], **newer)),
            Task(self.make_job(self.generation, ["a", "m"], **from_fal)),
            Task(self.make_job(self.rowless, ["x", "y"], **other)),
        ]
        self.all_tasks = list(self.tasks)
        self.tasks = [self.all_tasks[number] for number in focus]
        self.files: dict[tuple[str, str], tuple[str, int]] = {}  # (generation, key) -> (path, position)
        self.paths: set[str] = set()
        self.media: list[tuple[str, str | None]] | None = None
        self.media_status: str | None = None
        self.before: dict[str, str] = {}
        self.steps = 0

    # Calls of workers and users.

    @rule(number=TASKS)
    def enqueue(self, number: int) -> None:
        task = self.record(number)
        if task.status in ("failed", "partial", "cancelled"):
            self.before.pop(task.job["task_id"], None)
            self.drop_lease(task)
            task.status, task.last_lease, task.failed, task.result = "queued", None, [], None
        self.write(task)
        answer = self.driver.call("enqueue", p_job=task.job)
        assert answer == {"task_id": task.job["task_id"], "status": task.status}

    @rule(number=TASKS, again=st.booleans())
    def begin(self, number: int, again: bool) -> None:  # noqa: FBT001 - drawn
        retry = self.tasks[number].status == "retrying"
        task = self.record(number)
        lease = task.lease if again and task.lease else str(uuid4())
        answer = self.driver.call("begin", p_job=task.job, p_lease=lease, p_worker=f"w{self.steps % 3}")
        if task.status in ("completed", "cancelled"):
            assert answer["state"] == {"completed": "done", "cancelled": "cancelled"}[task.status]
            self.write(task)
        elif task.alive and task.lease != lease:
            assert answer["state"] == "busy"
        else:
            assert answer["state"] == "run"
            stored = [key for key in task.keys if (task.generation, key) in self.files]
            assert sorted(file["source_key"] for file in answer["files"]) == sorted(stored)
            self.drop_lease(task)
            task.status, task.lease, task.last_lease, task.alive = "running", lease, None, True
            self.write(task, status_only=retry)

    @rule(number=TASKS, whose=LEASES, stored=KEYS, failed=KEYS, content=st.integers(0, 2), data=st.data())
    def finish(self, number: int, whose: str, stored: set[int], failed: set[int], content: int, data: Any) -> None:
        """Report a result with the held lease, a former one, or an unknown one."""
        status = data.draw(st.sampled_from(["completed", "partial", "failed", "retrying"]))
        self.report(number, whose, status, stored, failed, content)

    @rule(number=TASKS, stored=KEYS, rest=RESTS, content=st.integers(0, 2))
    def attempt(self, number: int, stored: set[int], rest: str, content: int) -> None:
        """Begin and finish without interruption, because random rules seldom do both in this order."""
        self.begin(number, again=True)
        missing = set() if rest == "lost" else {0, 1} - stored
        status = "retrying" if rest in ("retrying", "dead") and missing else "partial" if missing else "completed"
        self.report(number, "held", status, stored, set() if rest == "dead" else missing, content)
        if rest == "dead":
            self.record_dead_letters([number])

    def report(self, number: int, whose: str, status: str, stored: set[int], failed: set[int], content: int) -> None:
        task = self.tasks[number]
        lease = self.pick(task, whose)
        kept = [key for index, key in enumerate(task.keys) if index in stored]
        gone = [key for index, key in enumerate(task.keys) if index in failed - stored]
        paths = {key: f"{self.user}/{content + index % 2}.jpg" for index, key in enumerate(kept)}
        answer = self.driver.call(
            "finish",
            p_task_id=task.job["task_id"],
            p_lease=lease,
            p_status=status,
            p_files=[
                self.make_file(task.generation, key, task.job, path=paths[key], content=paths[key]) for key in kept
            ],
            p_failed=[self.make_failure(key) for key in gone],
        )
        ended = status != "retrying"
        if task.status == "cancelled":
            assert answer["state"] == "cancelled"
        elif not task.lease and task.last_lease == lease and not (task.status == "retrying" and ended):
            assert answer == {"state": "recorded", "status": task.status}
        elif (task.lease or task.last_lease) != lease:
            assert answer["state"] == "lost"
        else:
            self.store(task, paths)
            task.failed = [key for key in self.still_failed(task) if key not in gone] + gone
            task.status = self.final_status(task, status)
            self.drop_lease(task)
            task.last_lease = lease
            self.end(task, ended=ended)
            assert answer == {"state": "recorded", "status": task.status}

    @rule(numbers=st.sets(TASKS, min_size=1), worker=st.integers(0, 2))
    def heartbeat(self, numbers: set[int], worker: int) -> None:
        chosen = [task for task in self.all_tasks if any(self.tasks[number] is task for number in numbers)]
        held = [task for task in chosen if task.lease]
        former = [lease for task in chosen for lease in task.former[-1:]]
        leases = [task.lease for task in held] + former
        answer = self.driver.call("heartbeat", p_worker=f"w{worker}", p_leases=leases, p_stats={})
        known = {lease for task in self.all_tasks for lease in (task.lease, task.last_lease)}
        assert sorted(answer["lost"]) == sorted(lease for lease in former if lease not in known)
        assert sorted(answer["cancelled"]) == sorted(t.job["task_id"] for t in held if t.status == "cancelled")
        for task in held:
            task.alive = task.alive or task.status == "running"

    @rule(number=TASKS)
    def cancel(self, number: int) -> None:
        task = self.tasks[number]
        if task.status is None or task.status in OPEN:
            task.status = "cancelled"
            if task.recorded:
                self.write(task)
        answer = self.driver.call("cancel", p_task_id=task.job["task_id"])
        assert answer == {"cancelled": task.status == "cancelled", "status": task.status}

    @rule(number=TASKS)
    def expire(self, number: int) -> None:
        self.driver.value(EXPIRE, self.tasks[number].job["task_id"])
        self.tasks[number].alive = False

    @rule(numbers=st.lists(TASKS, min_size=1, max_size=4))
    def record_dead_letters(self, numbers: list[int]) -> None:
        messages = [{"task_id": self.tasks[n].job["task_id"], "code": "worker_killed", "error": "e"} for n in numbers]
        answer = self.driver.call("bury", p_letters=messages)
        named = [task for task in self.all_tasks if any(self.tasks[number] is task for number in numbers)]
        dead = [task for task in named if task.status in OPEN and not task.alive]
        assert sorted(answer["changed"]) == sorted(task.job["task_id"] for task in dead)
        for task in dead:
            stored = [key for key in task.keys if (task.generation, key) in self.files]
            still_failed = self.still_failed(task)
            task.failed = still_failed + [key for key in task.keys if key not in {*stored, *still_failed}]
            task.status = "partial" if stored else "failed"
            self.drop_lease(task)
            self.end(task, ended=True)

    @rule(content=st.integers(0, 3))
    def known(self, content: int) -> None:
        path = f"{self.user}/{content}.jpg"
        digest = self.make_file("g", "k", content=path)["source_sha256"]
        answer = self.driver.call("known", p_user_id=self.user, p_source_sha256=digest, p_profile=PROFILE)
        stored = any(path == other for other, _ in self.files.values())
        assert (answer and answer["path"]) == (path if stored else None)

    @rule(with_row=st.booleans())
    def drop_files(self, with_row: bool) -> None:  # noqa: FBT001 - drawn
        generation = self.generation if with_row else self.rowless
        self.driver.value("delete from public.outlast_files where generation_id = $1", generation)
        self.files = {name: file for name, file in self.files.items() if name[0] != generation}

    @rule()
    def remove_orphans(self) -> None:
        self.driver.value(AGE, self.user)
        taken = self.driver.call("take_orphans", p_bucket="generations", p_grace_seconds=3600)
        assert set(taken) == self.paths - {path for path, _ in self.files.values()}
        self.driver.call("forget_objects", p_bucket="generations", p_paths=taken)
        self.paths -= set(taken)

    # The model.

    def record(self, number: int) -> Task:
        task = self.tasks[number]
        if task.status is None:
            task.status = "queued"
        if not task.recorded:
            task.recorded = True
        if not task.recorded_at:
            task.recorded_at = self.steps + 1
        return task

    def pick(self, task: Task, whose: str) -> str:
        if whose == "held" and task.lease:
            return task.lease
        if whose != "unknown" and task.former:
            return task.former[-1]
        return str(uuid4())

    def drop_lease(self, task: Task) -> None:
        """Remove the task's lease, if it has one; the worker may still use it."""
        if task.lease:
            task.former.append(task.lease)
        task.lease, task.alive = None, False

    def store(self, task: Task, paths: dict[str, str]) -> None:
        positions = dict(zip(task.keys, task.job["positions"], strict=True))
        for key, path in paths.items():
            self.files[task.generation, key] = (path, positions[key])
            self.paths.add(path)

    def still_failed(self, task: Task) -> list[str]:
        return [key for key in task.failed if (task.generation, key) not in self.files]

    def final_status(self, task: Task, status: str) -> str:
        if status == "retrying":
            return status
        if status == "completed" and not task.failed:
            return status
        return "partial" if any((task.generation, key) in self.files for key in task.keys) else "failed"

    def end(self, task: Task, *, ended: bool) -> None:
        stored = sum((task.generation, key) in self.files for key in task.keys)
        counts = {"successful_files": stored, "total_files": len(task.keys), "failed": task.failed}
        task.result = counts if ended else None
        self.write(task)

    def write(self, task: Task, *, status_only: bool = False) -> None:
        """Update the generation's media from the tasks of its current output."""
        if task.generation != self.generation:
            return
        chosen = [one for one in self.all_tasks if one.recorded and one.generation == self.generation]
        newest = max(
            chosen, key=lambda one: (one.status != "cancelled", not one.fal, one.job["event_at"], one.recorded_at)
        )
        output = (newest.job["output_key"], newest.fal)
        current = [one for one in chosen if (one.job["output_key"], one.fal) == output or (one.fal and not newest.fal)]
        own = [one for one in current if one.fal == newest.fal]
        entries = self.entries(current)
        covered = {position for one in own for position in one.job["positions"]}
        stored = sum(status == "stored" for status, _ in entries)
        skipped = sum(status == "skipped by plan" for status, _ in entries)
        if newest.status == "cancelled":
            self.media_status = None
        elif any(one.status in OPEN for one in current) or len(covered) < newest.job["total_files"]:
            self.media_status = "pending"
        else:
            self.media_status = "completed" if stored + skipped == len(entries) else "partial" if stored else "failed"
        if not status_only:
            self.media = [(status.removesuffix(" by plan"), path) for status, path in entries]

    def entries(self, current: list[Task]) -> list[tuple[str, str | None]]:
        """Return status and path of each file that the tasks name."""
        places: dict[str, list[tuple[Any, ...]]] = {}
        for one in current:
            for file in one.job.get("files") or named(one.keys, one.job["positions"][0], with_fields=False):
                preference = ("code" in file, one.status == "cancelled", one.fal, file["position"])
                place = (file.get("field", "~"), file["position"], one.fal, file["source_key"])
                places.setdefault(file["source_key"], []).append((preference, place, one, "code" in file))
        found = []
        for key, candidates in places.items():
            _, place, chosen, skipped = min(candidates, key=lambda candidate: candidate[0])
            awaited = any(one.status in OPEN for _, _, one, skip in candidates if not skip)
            path, _ = self.files.get((self.generation, key), (None, 0))
            status = "stored" if path else "skipped by plan" if skipped else "pending" if awaited else "failed"
            found.append((place, "skipped" if (status, chosen.status) == ("failed", "cancelled") else status, path))
        return [(status, path) for _, status, path in sorted(found)]

    # Invariants.

    @invariant()
    def the_database_agrees(self) -> None:
        if not hasattr(self, "tasks"):
            return
        self.steps += 1
        ids = [task.job["task_id"] for task in self.all_tasks]
        state = self.driver.value(STATE, ids, [self.generation, self.rowless], self.user)
        for task in self.all_tasks:
            self.check_task(task, state["tasks"].get(task.job["task_id"]))
        found = [(file["generation_id"], file["source_key"]) for file in state["files"]]
        assert len(found) == len(set(found))
        positions = {(f["generation_id"], f["source_key"]): (f["path"], f["position"]) for f in state["files"]}
        assert positions == self.files
        assert state["objects"] == dict.fromkeys(self.paths, 0) | Counter(path for path, _ in self.files.values())
        media = state["media"] and [(entry["status"], entry.get("path")) for entry in state["media"]]
        assert media == self.media
        assert state["media_status"] == self.media_status

    def check_task(self, task: Task, row: dict[str, Any] | None) -> None:
        if row is None:
            assert task.status is None
            return
        before = self.before.get(row["task_id"])
        if before in ("completed", "cancelled"):
            assert row["status"] == before
        self.before[row["task_id"]] = row["status"]
        assert (row["status"], row["lease"], row["last_lease"]) == (task.status, task.lease, task.last_lease)
        assert [one["source_key"] for one in row["failed"]] == task.failed
        assert row["alive"] == task.alive
        result = row["result"]
        assert (row["status"] in OPEN) == (row["finished_at"] is None)
        if row["status"] in ("completed", "partial", "failed"):
            assert task.result is not None
            assert result["successful_files"] == len(result["processed_file_ids"]) == task.result["successful_files"]
            assert result["total_files"] == task.result["total_files"]
            assert [one["source_key"] for one in result["failed_files"]] == task.result["failed"]


@pytest.fixture
def driver(database_url: str) -> Iterator[Driver]:
    created = Driver(database_url)
    yield created
    created.close()


def test_the_database_agrees_with_the_model_in_200_examples(
    driver: Driver, make_job: Callable[..., Any], make_file: Any, make_failure: Any
) -> None:
    """The examples are the same in each run. They share a database; each has its own ids."""
    run_state_machine_as_test(
        lambda: TaskMachine(driver, make_job, make_file, make_failure),
        settings=settings(
            derandomize=True,
            database=None,
            max_examples=200,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert driver.value("select count(distinct generation_id) from public.outlast_tasks") > 100
