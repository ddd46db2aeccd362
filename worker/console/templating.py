"""How pages are rendered: what every template has, and how times, sizes and counts are written."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from typing import Final

import aiohttp_jinja2
import jinja2
from aiohttp import web
from markupsafe import Markup
from yarl import URL

from schemas.urls import shown
from worker.console.auth import standing

PACKAGE: Final = files("worker.console")
KIB: Final = 1024
WIDTH, HEIGHT = 120.0, 24.0


def add_templates(app: web.Application) -> None:
    """Have an application render ours, everything in them escaped."""
    version = _version()
    env = aiohttp_jinja2.setup(
        app,
        loader=jinja2.PackageLoader("worker.console"),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.globals["version"] = version
    env.filters |= {one.__name__: one for one in (when, size, spark, ago, lasting, shown, moment)}


def page(request: web.Request, template: str, **context: object) -> web.Response:
    """Return a page."""
    return aiohttp_jinja2.render_template(template, request, {**standing(request), **context})


def live_part(request: web.Request, template: str, context: Mapping[str, object]) -> str:
    """Return a piece of a page, as the page itself has it."""
    return aiohttp_jinja2.render_string(template, request, {**standing(request), **context})


def moment(value: object) -> datetime | None:
    """Read a time as the database writes it; None where there is none."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    return value.astimezone(UTC) if isinstance(value, datetime) else None


def when(value: object) -> Markup | str:
    """Write a time in UTC; the page's script turns it into the reader's own, and leaves UTC for who hovers."""
    at = moment(value)
    if at is None:
        return "-"
    utc = at.strftime("%Y-%m-%d %H:%M:%S UTC")
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        at.isoformat(timespec="milliseconds"), utc, at.strftime("%d %b %H:%M:%S UTC")
    )


def ago(value: object) -> str:
    """Write how long ago a time was, or a number of seconds: `12 s`, `3 min`, `2 h`, `5 d`."""
    at = moment(value)
    seconds = (datetime.now(UTC) - at).total_seconds() if at else value
    if not isinstance(seconds, int | float):
        return "-"
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def size(value: object) -> str:
    """Write bytes."""
    if not isinstance(value, int | float):
        return "-"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < KIB or unit == "GiB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= KIB
    return "-"


def lasting(value: object) -> str:
    """Write a number of seconds: `0.4 s`, `12 s`, `3 min`."""
    small = isinstance(value, int | float) and value < 10  # noqa: PLR2004 - below, tenths matter
    return f"{value:.1f} s" if small else ago(value)


def spark(values: Sequence[float], label: str, kind: str = "") -> Markup:
    """Draw values over time as bars, with their story in words for who cannot see them."""
    most = max([*values, 0]) or 1
    step = WIDTH / max(1, len(values))
    tall = [0 if value <= 0 else max(1.0, value / most * HEIGHT) for value in values]
    drawn = "".join(
        f"M{place * step:.1f} {HEIGHT:.0f}v-{height:.1f}h{max(0.6, step - 0.6):.1f}V{HEIGHT:.0f}z"
        for place, height in enumerate(tall)
        if height
    )
    return Markup(
        '<svg class="spark {}" viewBox="0 0 {:.0f} {:.0f}" preserveAspectRatio="none" role="img" aria-label="{}">'
        '<path d="{}"/></svg>'
    ).format(kind, WIDTH, HEIGHT, label, drawn)


def whole(text: str) -> int:
    """Read where a page begins; 0 for anything else than digits."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0  # noqa: PLR2004 - no page is that far


def link(path: str, **query: object) -> str:
    """Return a path with those parameters that have a value."""
    return str(URL(path).with_query({name: str(value) for name, value in query.items() if value not in {None, ""}}))


def _version() -> str:
    """Return a name for the static files as they are, so that browsers may keep them."""
    digest = hashlib.sha256()
    for file in sorted(PACKAGE.joinpath("static").iterdir(), key=lambda file: file.name):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
