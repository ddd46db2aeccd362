"""Page rendering: the environment of all templates, and filters for times, sizes and charts."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from typing import Final

import aiohttp_jinja2
import jinja2
from aiohttp import web
from markupsafe import Markup, escape
from yarl import URL

from schemas.moments import DISPLAYED
from schemas.urls import redact_url
from worker.console.auth import base_context
from worker.dead_letters.operation import results_text

PACKAGE: Final = files("worker.console")
KIB: Final = 1024
PAGE_SIZE: Final = 50
"""Rows of a page."""
FILES_PER_PAGE: Final = 24
WIDTH, HEIGHT = 120.0, 24.0


def add_templates(app: web.Application) -> None:
    """Set up the templates of an application. All values in them are escaped."""
    env = aiohttp_jinja2.setup(
        app,
        loader=jinja2.PackageLoader("worker.console"),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.globals["version"] = _static_version()
    env.filters |= {
        "utc_time": utc_time,
        "size": size,
        "bar_chart": bar_chart,
        "age": age,
        "duration": duration,
        "redact_url": redact_url,
        "parse_time": parse_time,
        "results_text": results_text,
        "with_code": with_code,
    }


async def compile_templates(app: web.Application) -> AsyncIterator[None]:
    """Compile all templates in a thread while the application serves, so that the first pages need not (0.15 s)."""
    env = aiohttp_jinja2.get_env(app)

    async def run() -> None:
        for name in env.list_templates(["html"]):
            await asyncio.to_thread(env.get_template, name)

    compiling = asyncio.create_task(run(), name="templates")
    yield
    compiling.cancel()
    await asyncio.gather(compiling, return_exceptions=True)


def page(request: web.Request, template: str, **context: object) -> web.Response:
    """Render a template as a whole page."""
    return aiohttp_jinja2.render_template(template, request, {**base_context(request), **context})


def fragment(request: web.Request, template: str, context: Mapping[str, object]) -> str:
    """Render a template as HTML of a part of a page, as the whole page includes it."""
    return aiohttp_jinja2.render_string(template, request, {**base_context(request), **context})


def parse_time(value: object) -> datetime | None:
    """Parse a time as the database writes it; None if there is none, or it is not valid."""
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else value
        return at.astimezone(UTC) if isinstance(at, datetime) else None
    except (ValueError, OverflowError):  # the year 9999 may end in another zone only
        return None


def utc_time(value: object) -> Markup | str:
    """Return a `<time>` element in UTC; filters accept its text. The page's script adds local time to its tooltip."""
    at = parse_time(value)
    if at is None:
        return "-"
    utc = at.strftime("%Y-%m-%d %H:%M:%S UTC")
    shown = at.strftime(f"{DISPLAYED} UTC") if at.year == datetime.now(UTC).year else utc
    return Markup('<time datetime="{}" title="{}">{}</time>').format(at.isoformat(timespec="milliseconds"), utc, shown)


def age(value: object) -> str:
    """Return the time since `value`, or a number of seconds, in one unit: `12 s`, `3 min`, `2 h`, `5 d`."""
    at = parse_time(value)
    seconds = (datetime.now(UTC) - at).total_seconds() if at else value
    if not isinstance(seconds, int | float):
        return "-"
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def size(value: object) -> str:
    """Return a number of bytes in a binary unit: `512 B`, `1.5 MiB`."""
    if not isinstance(value, int | float):
        return "-"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < KIB or unit == "GiB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= KIB
    return "-"


def duration(value: object) -> str:
    """Return a number of seconds: `0.4 s`, `12 s`, `3 min`."""
    with_tenths = isinstance(value, int | float) and value < 10  # noqa: PLR2004 - tenths matter below 10 s
    return f"{value:.1f} s" if with_tenths else age(value)


def bar_chart(values: Sequence[float], label: str, css_class: str = "") -> Markup:
    """Return an SVG bar chart of values over time. `label` describes it for screen readers."""
    largest = max([*values, 0]) or 1
    step = WIDTH / max(1, len(values))
    heights = [0 if value <= 0 else max(1.0, value / largest * HEIGHT) for value in values]
    path = "".join(
        f"M{index * step:.1f} {HEIGHT:.0f}v-{height:.1f}h{max(0.6, step - 0.6):.1f}V{HEIGHT:.0f}z"
        for index, height in enumerate(heights)
        if height
    )
    return Markup(
        '<svg class="chart {}" viewBox="0 0 {:.0f} {:.0f}" preserveAspectRatio="none" role="img" aria-label="{}">'
        '<path d="{}"/></svg>'
    ).format(css_class, WIDTH, HEIGHT, label, path)


def with_code(text: str) -> Markup:
    """Return a text as HTML, escaped, with `<code>` around what stands between backticks."""
    parts = text.split("`")
    return Markup("").join(Markup("<code>{}</code>").format(p) if i % 2 else escape(p) for i, p in enumerate(parts))


def offset(text: str) -> int:
    """Parse the query parameter `from`, the index of a page's first row; 0 unless it is a number of 1 to 8 digits."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0  # noqa: PLR2004 - no list is longer


def url_with_query(path: str, **query: object) -> str:
    """Return a path with the query parameters that have a value."""
    return str(URL(path).with_query({name: str(value) for name, value in query.items() if value not in {None, ""}}))


def _static_version() -> str:
    """Return a digest of the static files. It is part of their URLs, so that browsers can cache them."""
    digest = hashlib.sha256()
    for file in sorted(PACKAGE.joinpath("static").iterdir(), key=lambda file: file.name):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
