"""From a completed generation to jobs: which files the output holds, and how they are split."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any, Final

from handlers.download.allowlist import Allowlist
from handlers.settings import MediaSettings
from schemas.events import CompletedGeneration
from schemas.jobs import MAX_JOB_BYTES, Job, JobFile, output_key_for, task_id_for
from schemas.urls import data_reference, is_data_uri, name_from_url, printable_name, source_key

UNSUPPORTED_EXTENSIONS: Final = frozenset(
    [
        "safetensors",
        "pt",
        "pth",
        "ckpt",
        "bin",
        "npy",
        "npz",
        "onnx",
        "gguf",
        "json",
        "jsonl",
        "yaml",
        "yml",
        "toml",
        "txt",
        "csv",
        "tsv",
        "md",
        "log",
        "fbx",
        "stl",
        "mtl",
        "pkl",
    ]
)
ENVELOPE_BYTES: Final = 64 * 1024
"""Room kept in a message for everything but its files' URLs."""
FILE_BYTES: Final = 128
"""Room for a file's names of fields and its position."""


def find_files(output: Any, settings: MediaSettings, allowlist: Allowlist) -> tuple[JobFile, ...]:  # noqa: ANN401 - any JSON
    """Return the files an output holds, in document order, each once.

    An object with a `url` is a file wherever it points (whether it may be fetched is decided, and told, later); a bare
    string only counts when it lies on an allow-listed host. An output that is JSON in a text column is read. Weights,
    embeddings and the like are left out unless UNSUPPORTED_FILES=fail.
    """
    found: dict[str, JobFile] = {}
    for url, name in _walk(parse_json_text(output), allowlist):
        if settings.unsupported_files == "ignore" and _is_unsupported(name or name_from_url(url)):
            continue
        key = source_key(url)
        if key not in found:
            found[key] = JobFile(position=len(found), url=url, source_key=key, file_name=name)
    return tuple(found.values())


def plan_jobs(
    event: CompletedGeneration, settings: MediaSettings, allowlist: Allowlist, *, even_empty: bool = False
) -> tuple[Job, ...]:
    """Return the jobs of an event, none when it holds no files (`even_empty`: then one without files).

    A FAL event without a payload becomes a job without files: it must not pass for done, since its result waits at FAL.
    """
    files = find_files(event.output, settings, allowlist)
    batches = list(_split(files, settings.max_batch_size))
    if not batches and (even_empty or (event.source == "fal" and event.output is None)):
        batches = [()]
    owner = event.generation_id or f"fal:{event.request_id}"
    now, key, profile = datetime.now(UTC), output_key_for([file.source_key for file in files]), settings.profile
    return tuple(
        Job(
            task_id=task_id_for(owner, batch, profile),
            generation_id=event.generation_id,
            request_id=event.request_id,
            user_id=event.user_id,
            source=event.source,
            files=batch,
            total_files=len(files),
            output_key=key,
            profile=profile,
            event_at=now,
        )
        for batch in batches
    )


def parse_json_text(output: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return what a text column's JSON says; any other output as it is."""
    if isinstance(output, str) and output.lstrip()[:1] in {"{", "["}:
        try:
            return json.loads(output)
        except (ValueError, RecursionError):
            return output
    return output


def _walk(output: Any, allowlist: Allowlist) -> Iterator[tuple[str, str | None]]:  # noqa: ANN401 - any JSON
    """Yield (url, file name) of every file in document order; a stack, since depth is the sender's choice."""
    stack = [output]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            url = node.get("url")
            if isinstance(url, str) and (is_data_uri(url) or "://" in url):
                name = node.get("file_name")
                yield url, printable_name(name) or None if isinstance(name, str) else None
                node = {name: value for name, value in node.items() if name != "url"}
            stack.extend(reversed(node.values()))
        elif isinstance(node, list):
            stack.extend(reversed(node))
        elif isinstance(node, str) and "://" in node[:10] and allowlist.contains(node):
            yield node, None


def _is_unsupported(name: str) -> bool:
    if "/" not in name:
        stem, _, ending = name.rpartition(".")
        return stem != "" and ending.lower() in UNSUPPORTED_EXTENSIONS
    return PurePosixPath(name).suffix.lower().removeprefix(".") in UNSUPPORTED_EXTENSIONS


def _split(files: tuple[JobFile, ...], most: int) -> Iterator[tuple[JobFile, ...]]:
    """Cut into jobs of contiguous positions: at most `most` files, at most MAX_JOB_BYTES of message."""
    if 0 < len(files) <= most and ENVELOPE_BYTES + sum(map(_max_message_bytes, files)) <= MAX_JOB_BYTES:
        yield files
        return
    batch: list[JobFile] = []
    size = ENVELOPE_BYTES
    for file in map(_shorten, files):
        if batch and (len(batch) == most or size + _message_bytes(file) > MAX_JOB_BYTES):
            yield tuple(batch)
            batch, size = [], ENVELOPE_BYTES
        batch.append(file)
        size += _message_bytes(file)
    if batch:
        yield tuple(batch)


def _shorten(file: JobFile) -> JobFile:
    """Replace content too large for any message by its name; the worker reads it from the row."""
    if is_data_uri(file.url) and _message_bytes(file) + ENVELOPE_BYTES > MAX_JOB_BYTES:
        return file.model_copy(update={"url": data_reference(file.url)})
    return file


def _message_bytes(file: JobFile) -> int:
    """Return the bytes a file takes in a message; its text may need more than a byte a character."""
    return len(file.model_dump_json().encode())


def _max_message_bytes(file: JobFile) -> int:
    """Return what `_message_bytes` cannot exceed: JSON needs at most six bytes a character."""
    return FILE_BYTES + 6 * (len(file.url) + len(file.source_key) + len(file.file_name or ""))
