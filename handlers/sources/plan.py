"""Turns a completed generation into jobs: finds the files in its output and splits them into messages."""

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
"""Reserved in a message for everything except its files."""
FILE_BYTES: Final = 128
"""Reserved for the field names and the position of one file."""


def find_files(output: Any, settings: MediaSettings, allowlist: Allowlist) -> tuple[JobFile, ...]:  # noqa: ANN401 - any JSON
    """Return the files of an output, in document order, each once.

    An object with a `url` is a file on any host; whether it may be downloaded is checked later and reported there. A
    string is a file only if the allow-list contains it. JSON in a text column is parsed. Weights, embeddings and other
    files that are not media are skipped unless UNSUPPORTED_FILES=fail.
    """
    files: dict[str, JobFile] = {}
    for url, name in _walk(parse_json_text(output), allowlist):
        if settings.unsupported_files == "ignore" and _is_unsupported(name or name_from_url(url)):
            continue
        key = source_key(url)
        if key not in files:
            files[key] = JobFile(position=len(files), url=url, source_key=key, file_name=name)
    return tuple(files.values())


def plan_jobs(
    event: CompletedGeneration, settings: MediaSettings, allowlist: Allowlist, *, allow_empty: bool = False
) -> tuple[Job, ...]:
    """Return the jobs of an event. Without files there are none, or one without files if `allow_empty`.

    A FAL event without a payload also becomes one job without files. That job fails, so that its result can be
    requested from FAL later.
    """
    files = find_files(event.output, settings, allowlist)
    batches = list(_split(files, settings.max_batch_size))
    if not batches and (allow_empty or (event.source == "fal" and event.output is None)):
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
    """Return the parsed JSON of a text column; any other output unchanged."""
    if isinstance(output, str) and output.lstrip()[:1] in {"{", "["}:
        try:
            return json.loads(output)
        except (ValueError, RecursionError):
            return output
    return output


def _walk(output: Any, allowlist: Allowlist) -> Iterator[tuple[str, str | None]]:  # noqa: ANN401 - any JSON
    """Yield (url, file name) of every file in document order. Uses a stack, because the nesting may be deep."""
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
        stem, _, extension = name.rpartition(".")
        return stem != "" and extension.lower() in UNSUPPORTED_EXTENSIONS
    return PurePosixPath(name).suffix.lower().removeprefix(".") in UNSUPPORTED_EXTENSIONS


def _split(files: tuple[JobFile, ...], max_files: int) -> Iterator[tuple[JobFile, ...]]:
    """Split into batches of contiguous positions, each of at most `max_files` files and MAX_JOB_BYTES of message."""
    if 0 < len(files) <= max_files and ENVELOPE_BYTES + sum(map(_max_message_bytes, files)) <= MAX_JOB_BYTES:
        yield files
        return
    batch: list[JobFile] = []
    size = ENVELOPE_BYTES
    for file in map(_shorten, files):
        if batch and (len(batch) == max_files or size + _message_bytes(file) > MAX_JOB_BYTES):
            yield tuple(batch)
            batch, size = [], ENVELOPE_BYTES
        batch.append(file)
        size += _message_bytes(file)
    if batch:
        yield tuple(batch)


def _shorten(file: JobFile) -> JobFile:
    """Replace a `data:` URI that is too large for any message by a reference. The worker reads it from the row."""
    if is_data_uri(file.url) and _message_bytes(file) + ENVELOPE_BYTES > MAX_JOB_BYTES:
        return file.model_copy(update={"url": data_reference(file.url)})
    return file


def _message_bytes(file: JobFile) -> int:
    """Return the bytes that a file takes in a message. A character may take several bytes."""
    return len(file.model_dump_json().encode())


def _max_message_bytes(file: JobFile) -> int:
    """Return an upper bound of `_message_bytes`: JSON takes at most six bytes for a character."""
    return FILE_BYTES + 6 * (len(file.url) + len(file.source_key) + len(file.file_name or ""))
