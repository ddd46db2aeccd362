"""Run `outlast process`: the pipeline once over some URLs, without a broker."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from rich.console import Console
from rich.table import Table

from handlers.async_file_processor import AsyncFileProcessor
from schemas.files import ProcessingResult
from schemas.urls import redact_url
from worker.cli.printing import DONE, FAILED, PARTLY, progress_bar
from worker.observability.logs import configure
from worker.settings import Settings


async def process_once(
    urls: Sequence[str], user: str | None, generation: str | None, out: Path | None, *, as_json: bool
) -> int:
    """Process `urls` and print the result of each. Exit codes: 0 all stored, 1 none, 3 some."""
    settings = Settings.load()
    if out is not None:
        settings = settings.model_copy(update={"supabase_url": None, "out_dir": out})
    configure(settings)
    with progress_bar(hidden=as_json) as progress:
        bar = progress.add_task("files", total=len(urls))
        async with AsyncFileProcessor(settings) as processor:
            result = await processor.process_file_batch(
                urls,
                user,
                generation or str(uuid4()),
                settings.max_concurrent,
                lambda completed, total, _url: progress.update(bar, completed=completed, total=total),
            )
    _print(result, settings, as_json=as_json)
    if result.success:
        return DONE
    return PARTLY if result.processed_files else FAILED


def _print(result: ProcessingResult, settings: Settings, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(result.model_dump(mode="json")) + "\n")
        return
    table = Table("file", "type", "before", "after", "dimensions", "stored as")
    for file in result.processed_files:
        size = f"{file.width}x{file.height}" if file.width else ""
        table.add_row(
            file.original_filename,
            file.content_type,
            f"{file.original_size:,}",
            f"{file.file_size:,}",
            size,
            f"{file.bucket}/{file.path}" if settings.supabase_url else str(settings.out_dir / file.path),
        )
    for failed in result.failed_files:
        table.add_row(
            redact_url(failed.url), failed.code, "", "", "", failed.error, style="dim" if failed.is_skipped else "red"
        )
    Console().print(table)
