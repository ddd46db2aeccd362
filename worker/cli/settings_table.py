"""The table of settings, generated from the code. `python -m worker.cli.settings_table FILE` updates it in a page."""

import sys
from pathlib import Path
from typing import Final

from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from worker.settings import Settings

START: Final = "<!-- settings: made by `make docs` -->\n"
END: Final = "<!-- end of settings -->\n"
COMPUTED: Final = {
    "codec_processes": "one per core",
    "temp_dir": "the system's",
}


def table() -> str:
    """Return a Markdown table with one row per setting: variable, default, meaning."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = COMPUTED.get(name) or _default_cell(field.default)
        rows.append(f"| `{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows) + "\n"


def with_new_table(text: str) -> str:
    """Return the text of a page with the table between `START` and `END` replaced by the current one."""
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    return before + START + "\n" + table() + "\n" + END + after


def default_text(value: object) -> str:
    """Return the value of a setting as written in the environment; empty if it has none."""
    if value is None or value == () or value is PydanticUndefined:
        return ""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple | dict):
        return ",".join(map(default_text, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _default_cell(default: object) -> str:
    text = default_text(default)
    return f"`{text}`" if text else ""


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(with_new_table(page.read_text()))
