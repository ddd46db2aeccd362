"""The auditor's verdict: what was observed against what must be. Pure: it looks at data and touches nothing."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.looks import Look
from tests.chaos.plan import Generation

FINAL = {"completed", "partial", "failed", "cancelled"}


@dataclass(frozen=True)
class Letter:
    """A dead letter: its task, its code, and the files it is about."""

    task_id: str
    code: str
    urls: tuple[str, ...]


@dataclass(frozen=True)
class Finding:
    """Something that is not as it must be. `kind`: lost, unfinished, twice, orphan, wrong, reason, leftover, deaf."""

    kind: str
    what: str


@dataclass
class Observed:
    """All that was seen from outside. Objects are named `bucket/path`."""

    generations: Sequence[Generation]
    rows: Mapping[str, Mapping[str, Any]]  # of `generations`, by id
    tasks: Sequence[Mapping[str, Any]]
    files: Sequence[Mapping[str, Any]]
    objects: Sequence[Mapping[str, Any]]
    letters: Sequence[Letter]
    served: Mapping[str, Look]  # what the Storage API gave for each object that a file names
    on_disk: set[str]
    in_storage: set[str]  # rows of storage.objects
    expected: Mapping[str, Look]  # by sample
    waiting: Mapping[str, int] = field(default_factory=dict)  # messages by queue, the dead letters apart
    strange_queues: Sequence[str] = ()
    temp: Sequence[str] = ()
    processes: Sequence[str] = ()
    bad_ends: Sequence[str] = ()
    workers: int = 0  # that ran when all was done
    hearing: int = 0  # queues at outlast.control then: one for each of them
    said: str = ""  # the ends of their logs, where one does not hear


def judge(seen: Observed) -> list[Finding]:
    """Return everything that is not as it must be."""
    tasks, files = defaultdict(list), defaultdict(list)
    for task in seen.tasks:
        tasks[task["generation_id"]].append(task)
    for file in seen.files:
        files[file["generation_id"]].append(file)
    findings: list[Finding] = []
    for generation in seen.generations:
        findings += _generation(seen, generation, tasks[generation.id], files[generation.id])
    return [*findings, *_letters(seen), *_objects(seen), *_doubles(seen), *_leftovers(seen)]


def _generation(
    seen: Observed, generation: Generation, tasks: Sequence[Mapping[str, Any]], files: Sequence[Mapping[str, Any]]
) -> Iterator[Finding]:
    name = generation.id
    if generation.id not in seen.rows:
        yield Finding("lost", f"{name}: the row itself is gone")
        return
    if len(tasks) != 1:
        yield Finding("twice" if tasks else "lost", f"{name}: {len(tasks)} tasks")
        return
    task = tasks[0]
    if task["status"] not in FINAL:
        yield Finding("unfinished", f"{name}: task {task['task_id']} is {task['status']}, attempt {task['attempt']}")
        return
    yield from _ending(generation, task, seen.rows[name])
    yield from _stored(seen, generation, files)


def _ending(generation: Generation, task: Mapping[str, Any], row: Mapping[str, Any]) -> Iterator[Finding]:
    """Compare what task and row say came of the generation as a whole with what must have."""
    name = generation.id
    status = (
        "completed" if len(generation.good) == len(generation.files) else "partial" if generation.good else "failed"
    )
    if task["status"] != status:
        yield Finding("wrong", f"{name}: the task is {task['status']} ({task['error_code']}), not {status}")
    if row["media_status"] != status:
        yield Finding("wrong", f"{name}: media_status is {row['media_status']}, not {status}")
    told = {failed["position"]: failed["code"] for failed in task["failed"]}
    wanted = {at: file.code for at, file in enumerate(generation.files) if file.code}
    if told != wanted:
        yield Finding("reason", f"{name}: the task tells of failures {told}, not {wanted}")


def _stored(seen: Observed, generation: Generation, files: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """Compare the files on record with those that must be stored, and the row's list with the files on record."""
    name = generation.id
    by_position = {file["position"]: file for file in files}
    if len(by_position) != len(files):
        yield Finding("twice", f"{name}: {len(files)} files at {len(by_position)} positions")
    for position in sorted(set(by_position) - set(generation.good)):
        yield Finding("wrong", f"{name}: position {position} is stored and should have failed")
    yield from _media(name, seen.rows[name]["media"] or [], [by_position[at] for at in sorted(by_position)])
    for position in generation.good:
        if position in by_position:
            yield from _content(seen, name, generation.files[position].sample, by_position[position])
        else:
            yield Finding("lost", f"{name}: file {position}, {generation.files[position].url}, is not stored")


def _media(name: str, media: Sequence[Mapping[str, Any]], files: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """Compare the row's list with the files on record, which are in order of position."""
    fields = ("id", "bucket", "path", "content_type", "width", "height", "sha256", "file_size")
    listed = [tuple(str(entry.get(key)) for key in fields) for entry in media]
    stored = [tuple(str(file[key]) for key in fields) for file in files]
    if listed != stored:
        yield Finding(
            "wrong", f"{name}: media has {[entry[2] for entry in listed]}, not {[entry[2] for entry in stored]}"
        )


def _content(seen: Observed, name: str, sample: str, file: Mapping[str, Any]) -> Iterator[Finding]:
    place = f"{file['bucket']}/{file['path']}"
    stored, expected = seen.served.get(place), seen.expected[sample]
    if stored is None:
        yield Finding("lost", f"{name}: {place} is on record and Storage does not serve it")
        return
    if stored.sha256 != file["sha256"]:
        yield Finding("wrong", f"{name}: {place} is served with sha256 {stored.sha256}")
    if not expected.fits(stored):
        yield Finding("wrong", f"{name}: {place}, from {sample}, looks like {stored}, not {expected}")
    if stored.picture and stored.picture[:2] != (file["width"], file["height"]):
        yield Finding("wrong", f"{name}: {place} is {stored.picture}, on record {file['width']} x {file['height']}")


def _letters(seen: Observed) -> Iterator[Finding]:
    """Every bad file has a letter with its true reason, and no letter tells anything else."""
    task_ids = {str(task["task_id"]): task["generation_id"] for task in seen.tasks}
    wanted = {(g.id, file.url): file.code for g in seen.generations for file in g.files if file.code}
    told = set()
    for letter in seen.letters:
        for url in letter.urls or ("no file",):
            key = (task_ids.get(letter.task_id, letter.task_id), url)
            told.add(key)
            if wanted.get(key) != letter.code:
                should = wanted.get(key, "not at all")
                yield Finding("reason", f"{key[0]}: {url} died with {letter.code}; it should have {should}")
    for key in wanted.keys() - told:
        yield Finding("reason", f"{key[0]}: {key[1]} has no letter; it should have {wanted[key]}")


def _objects(seen: Observed) -> Iterator[Finding]:
    """Disk, Storage's own table, our objects and our files tell the same."""
    refs = Counter(f"{file['bucket']}/{file['path']}" for file in seen.files)
    recorded = {f"{entry['bucket']}/{entry['path']}": entry for entry in seen.objects}
    for place in sorted(seen.on_disk - set(refs)):
        yield Finding("orphan", f"{place} lies in Storage and no file names it")
    for place in sorted(set(refs) - seen.on_disk):
        yield Finding("lost", f"{place} is on record and not in Storage")
    for place in sorted(seen.in_storage ^ seen.on_disk):
        yield Finding("wrong", f"{place} is in one of storage.objects and the disk only")
    for place in sorted(set(recorded) ^ set(refs)):
        yield Finding("wrong", f"{place} is in one of outlast_objects and outlast_files only")
    for place in sorted(set(recorded) & set(refs)):
        entry = recorded[place]
        if entry["refs"] != refs[place] or entry["state"] != "live":
            yield Finding("wrong", f"{place}: {entry['refs']} references, {entry['state']}; it has {refs[place]}")


def _doubles(seen: Observed) -> Iterator[Finding]:
    """One user's same source, stored in the same manner, is one object; and no content lies there twice."""
    made, content = defaultdict(set), defaultdict(set)
    for file in seen.files:
        place = f"{file['bucket']}/{file['path']}"
        made[file["user_id"], file["source_sha256"], file["profile"]].add(place)
        if place in seen.served:
            content[file["user_id"], seen.served[place].sha256].add(place)
    for places in [*made.values(), *content.values()]:
        if len(places) > 1:
            yield Finding("twice", f"one content in {sorted(places)}")


def _leftovers(seen: Observed) -> Iterator[Finding]:
    for queue, count in seen.waiting.items():
        if count:
            yield Finding("leftover", f"{count} messages in {queue}")
    for kind, found in (("queue", seen.strange_queues), ("temporary file", seen.temp), ("process", seen.processes)):
        yield from (Finding("leftover", f"{kind} {name}") for name in found)
    yield from (Finding("leftover", end) for end in seen.bad_ends)
    if seen.hearing < seen.workers:
        yield Finding("deaf", f"of {seen.workers} workers {seen.hearing} still hear what they are told\n{seen.said}")
