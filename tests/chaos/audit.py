"""Compares what was observed after a chaos run with what must be. Pure functions over data."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.chaos.fingerprint import Fingerprint
from tests.chaos.generation_plan import Generation

FINAL = {"completed", "partial", "failed", "cancelled"}


@dataclass(frozen=True)
class ObservedDeadLetter:
    """A dead letter: its task, its error code, and the URLs of its files."""

    task_id: str
    code: str
    urls: tuple[str, ...]


FindingKind = Literal[
    "lost", "unfinished", "twice", "orphan", "wrong", "reason", "leftover", "not_listening", "traceback"
]


@dataclass(frozen=True)
class Finding:
    """Something that is not as it must be."""

    kind: FindingKind
    what: str


@dataclass
class Observed:
    """Everything observed from outside. Objects are named `bucket/path`."""

    generations: Sequence[Generation]
    rows: Mapping[str, Mapping[str, Any]]  # of `generations`, by id
    tasks: Sequence[Mapping[str, Any]]
    files: Sequence[Mapping[str, Any]]
    objects: Sequence[Mapping[str, Any]]
    dead_letters: Sequence[ObservedDeadLetter]
    served: Mapping[str, Fingerprint]  # content from the Storage API for each object that a file references
    on_disk: set[str]
    in_storage: set[str]  # rows of storage.objects
    expected: Mapping[str, Fingerprint]  # by sample
    waiting: Mapping[str, int] = field(default_factory=dict)  # messages by queue, without the dead letters
    undeclared_queues: Sequence[str] = ()
    temp: Sequence[str] = ()
    processes: Sequence[str] = ()
    exit_errors: Sequence[str] = ()
    workers: int = 0  # running at the end of the load
    listening: int = 0  # queues bound to outlast.control then: one for each worker
    tracebacks: Sequence[str] = ()  # log lines of receivers and workers
    worker_logs: str = ""  # the last log lines, when a worker does not listen


def audit(observed: Observed) -> list[Finding]:
    """Return all deviations."""
    tasks, files = defaultdict(list), defaultdict(list)
    for task in observed.tasks:
        tasks[task["generation_id"]].append(task)
    for file in observed.files:
        files[file["generation_id"]].append(file)
    findings: list[Finding] = []
    for generation in observed.generations:
        findings += _generation(observed, generation, tasks[generation.id], files[generation.id])
    return [*findings, *_dead_letters(observed), *_objects(observed), *_duplicates(observed), *_leftovers(observed)]


def _generation(
    observed: Observed, generation: Generation, tasks: Sequence[Mapping[str, Any]], files: Sequence[Mapping[str, Any]]
) -> Iterator[Finding]:
    name = generation.id
    if generation.id not in observed.rows:
        yield Finding("lost", f"{name}: the row does not exist")
        return
    if len(tasks) != 1:
        yield Finding("twice" if tasks else "lost", f"{name}: {len(tasks)} tasks")
        return
    task = tasks[0]
    if task["status"] not in FINAL:
        yield Finding("unfinished", f"{name}: task {task['task_id']} is {task['status']}, attempt {task['attempt']}")
        return
    yield from _ending(generation, task, observed.rows[name])
    yield from _stored(observed, generation, files)


def _ending(generation: Generation, task: Mapping[str, Any], row: Mapping[str, Any]) -> Iterator[Finding]:
    """Compare the status in the task and in the row with the expected one."""
    name = generation.id
    status = (
        "completed" if len(generation.good) == len(generation.files) else "partial" if generation.good else "failed"
    )
    if task["status"] != status:
        yield Finding("wrong", f"{name}: the task is {task['status']} ({task['error_code']}), not {status}")
    if row["media_status"] != status:
        yield Finding("wrong", f"{name}: media_status is {row['media_status']}, not {status}")
    recorded = {failed["position"]: failed["code"] for failed in task["failed"]}
    expected = {at: file.code for at, file in enumerate(generation.files) if file.code}
    if recorded != expected:
        yield Finding("reason", f"{name}: the task's failures are {recorded}, not {expected}")


def _stored(observed: Observed, generation: Generation, files: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """Compare the recorded files with the expected ones, and the row's media list with the recorded files."""
    name = generation.id
    by_position = {file["position"]: file for file in files}
    if len(by_position) != len(files):
        yield Finding("twice", f"{name}: {len(files)} files at {len(by_position)} positions")
    for position in sorted(set(by_position) - set(generation.good)):
        yield Finding("wrong", f"{name}: position {position} is stored and should have failed")
    stored = [entry for entry in observed.rows[name]["media"] or [] if entry["status"] == "stored"]
    yield from _media(name, stored, [by_position[at] for at in sorted(by_position)])
    if len(observed.rows[name]["media"] or []) != len(generation.files):
        yield Finding("wrong", f"{name}: media does not have one entry for each of {len(generation.files)} files")
    for position in generation.good:
        if position in by_position:
            yield from _content(observed, name, generation.files[position].sample, by_position[position])
        else:
            yield Finding("lost", f"{name}: file {position}, {generation.files[position].url}, is not stored")


def _media(name: str, media: Sequence[Mapping[str, Any]], files: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """Compare the row's media list with the recorded files, which are ordered by position."""
    fields = ("id", "bucket", "path", "content_type", "width", "height", "sha256", "file_size")
    listed = [tuple(str(entry.get(key)) for key in fields) for entry in media]
    stored = [tuple(str(file[key]) for key in fields) for file in files]
    if listed != stored:
        yield Finding(
            "wrong", f"{name}: media has {[entry[2] for entry in listed]}, not {[entry[2] for entry in stored]}"
        )


def _content(observed: Observed, name: str, sample: str, file: Mapping[str, Any]) -> Iterator[Finding]:
    path = f"{file['bucket']}/{file['path']}"
    stored, expected = observed.served.get(path), observed.expected[sample]
    if stored is None:
        yield Finding("lost", f"{name}: {path} is recorded, but Storage does not serve it")
        return
    if stored.sha256 != file["sha256"]:
        yield Finding("wrong", f"{name}: {path} is served with sha256 {stored.sha256}")
    if not expected.matches(stored):
        yield Finding("wrong", f"{name}: {path}, from {sample}, looks like {stored}, not {expected}")
    if stored.picture and stored.picture[:2] != (file["width"], file["height"]):
        yield Finding("wrong", f"{name}: {path} is {stored.picture}, recorded as {file['width']} x {file['height']}")


def _dead_letters(observed: Observed) -> Iterator[Finding]:
    """Every bad file must have a dead letter with the expected code, and no dead letter may have another one."""
    task_ids = {str(task["task_id"]): task["generation_id"] for task in observed.tasks}
    expected = {(g.id, file.url): file.code for g in observed.generations for file in g.files if file.code}
    recorded = set()
    for dead_letter in observed.dead_letters:
        for url in dead_letter.urls or ("no file",):
            key = (task_ids.get(dead_letter.task_id, dead_letter.task_id), url)
            recorded.add(key)
            if expected.get(key) != dead_letter.code:
                should = expected.get(key, "none")
                yield Finding("reason", f"{key[0]}: {url} has a dead letter with {dead_letter.code}, expected {should}")
    for key in expected.keys() - recorded:
        yield Finding("reason", f"{key[0]}: {key[1]} has no dead letter, expected {expected[key]}")


def _objects(observed: Observed) -> Iterator[Finding]:
    """Disk, storage.objects, outlast_objects and outlast_files must agree."""
    refs = Counter(f"{file['bucket']}/{file['path']}" for file in observed.files)
    recorded = {f"{entry['bucket']}/{entry['path']}": entry for entry in observed.objects}
    for path in sorted(observed.on_disk - set(refs)):
        yield Finding("orphan", f"{path} is in Storage, but no file references it")
    for path in sorted(set(refs) - observed.on_disk):
        yield Finding("lost", f"{path} is recorded, but not in Storage")
    for path in sorted(observed.in_storage ^ observed.on_disk):
        yield Finding("wrong", f"{path} is in one of storage.objects and the disk only")
    for path in sorted(set(recorded) ^ set(refs)):
        yield Finding("wrong", f"{path} is in one of outlast_objects and outlast_files only")
    for path in sorted(set(recorded) & set(refs)):
        entry = recorded[path]
        if entry["refs"] != refs[path] or entry["state"] != "live":
            yield Finding("wrong", f"{path}: {entry['refs']} references, {entry['state']}; expected {refs[path]}")


def _duplicates(observed: Observed) -> Iterator[Finding]:
    """The same source of one user with one profile is one object, and no content is stored twice for a user."""
    made, content = defaultdict(set), defaultdict(set)
    for file in observed.files:
        path = f"{file['bucket']}/{file['path']}"
        made[file["user_id"], file["source_sha256"], file["profile"]].add(path)
        if path in observed.served:
            content[file["user_id"], observed.served[path].sha256].add(path)
    for paths in [*made.values(), *content.values()]:
        if len(paths) > 1:
            yield Finding("twice", f"one content in {sorted(paths)}")


def _leftovers(observed: Observed) -> Iterator[Finding]:
    for queue, count in observed.waiting.items():
        if count:
            yield Finding("leftover", f"{count} messages in {queue}")
    for kind, found in (
        ("queue", observed.undeclared_queues),
        ("temporary file", observed.temp),
        ("process", observed.processes),
    ):
        yield from (Finding("leftover", f"{kind} {name}") for name in found)
    yield from (Finding("leftover", end) for end in observed.exit_errors)
    yield from (Finding("traceback", line) for line in observed.tracebacks)
    if observed.listening < observed.workers:
        yield Finding(
            "not_listening",
            f"{observed.listening} of {observed.workers} workers listen on outlast.control\n{observed.worker_logs}",
        )
