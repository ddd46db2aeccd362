"""The pages of deploy/docs/ that are generated from the code. `python -m tests.reference` writes them (`make docs`)."""

from tests.reference import http, metrics, sql

PAGES = {"http.md": http.page, "metrics.md": metrics.page, "sql.md": sql.page}
NOTE = "<!-- Made by `make docs` from the code: change it there. -->\n"


def rendered() -> dict[str, str]:
    """Return the text of each page by its name."""
    return {name: NOTE + make() for name, make in PAGES.items()}
