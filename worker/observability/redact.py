r"""The last line of defence of the log: whatever a line says, it leaves without secrets and without URLs' queries.

It works on the finished line, so that it sees tracebacks, what libraries say and every field alike. Nothing should need
it: what is logged is chosen where it is logged, and URLs go through `schemas.urls.redact_url`.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final
from urllib.parse import quote

from pydantic import SecretStr
from yarl import URL

from handlers.settings import MediaSettings

MASK: Final = "**********"
SHORTEST: Final = 6
"""Characters below which a value is not masked: it would stand in half of all words."""
REST: Final = r'(?:[^\s"<>\\]|\\[\\/u])+'
r"""The rest of a URL. Of JSON's escapes only what a URL can hold, lest a string lose its end."""
QUERY: Final = re.compile(rf'(?<=[^\s"?])\?{REST}')
USER: Final = re.compile(r'(?<=://)[^\s"\\/@]*@')
INLINE: Final = re.compile(rf'(data:[^\s",\\]{{0,100}},){REST}')


class Redactor:
    """Called with a line, returns it fit to be kept. About 2 microseconds a line that holds nothing of the kind."""

    def __init__(self, secrets: Sequence[str]) -> None:
        forms = {form for secret in secrets for form in _forms(secret) if len(form) >= SHORTEST}
        self._forms = sorted(forms, key=len, reverse=True)

    def __call__(self, line: str) -> str:
        """Mask known secrets; drop queries, users and inline content of URLs."""
        for form in self._forms:
            if form in line:
                line = line.replace(form, MASK)
        if "?" in line:
            line = QUERY.sub("", line)
        if "@" in line and "://" in line:
            line = USER.sub("", line)
        return INLINE.sub(r"\1...", line) if "data:" in line else line


def secrets_of(settings: MediaSettings) -> list[str]:
    """Return every secret value in the settings, and the password in the broker's address."""
    found = [text for name in type(settings).model_fields for text in _secret(getattr(settings, name))]
    for text in [text for text in found if "://" in text]:
        password = URL(text).password
        found += [password] if password else []
    return found


def redaction_processor(settings: MediaSettings) -> Callable[[Any, str, Any], str]:
    """Return structlog's last processor, which takes the rendered line."""
    redactor = Redactor(secrets_of(settings))
    return lambda _logger, _method, line: redactor(line)


def _secret(value: object) -> Iterator[str]:
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, tuple):
        for one in value:
            yield from _secret(one)


def _forms(secret: str) -> Iterator[str]:
    """Yield the secret as it may appear: itself, without its prefix, in a URL, in JSON."""
    key = "" if "://" in secret else secret.rpartition(":")[2]  # FAL's are id:secret
    for text in (secret, secret.removeprefix("whsec_"), key):
        yield text
        yield quote(text, safe="")
        yield json.dumps(text)[1:-1]
