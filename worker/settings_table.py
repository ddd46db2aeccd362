"""The README's table of settings, made from the code. `python -m worker.settings_table README.md` renews it."""

import sys
from pathlib import Path
from typing import Final

from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from worker.settings import Settings

START: Final = "<!-- settings: made by `make docs` -->\n"
END: Final = "<!-- end of settings -->\n"
COMPUTED: Final = {"codec_processes": "one a core", "worker_concurrency": "eight a core", "temp_dir": "the system's"}


def table() -> str:
    """Return one Markdown row for each setting: variable, default, meaning."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = COMPUTED.get(name) or _shown(field.default)
        rows.append(f"| `{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows) + "\n"


def renewed(text: str) -> str:
    """Return the README with its table as the code has it now."""
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    return before + START + "\n" + table() + "\n" + END + after


def default_text(value: object) -> str:
    """Return a setting's value as the environment would have it; empty where there is none."""
    if value is None or value == () or value is PydanticUndefined:
        return ""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple | dict):
        return ",".join(map(default_text, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _shown(default: object) -> str:
    text = default_text(default)
    return f"`{text}`" if text else ""


if __name__ == "__main__":
    readme = Path(sys.argv[1])
    readme.write_text(renewed(readme.read_text()))
