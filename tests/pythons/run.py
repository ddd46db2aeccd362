"""`python -m tests.pythons.run [3.x ...]`: the smoke on every Python that pyproject.toml names and that is found here.

With versions as arguments: on these, and one that is not found is an error. Exit code 0: every smoke passed.
"""

import sys

from tests.pythons.interpreters import OWN, find, wanted
from tests.pythons.smoke import Smoke, SmokeError


def main(versions: list[str]) -> int:
    """Run the smokes one after the other, print a line for each; return the exit code."""
    failed = False
    for minor in versions or [minor for minor in wanted() if minor != OWN]:
        interpreter = find(minor)
        if interpreter is None:
            print(f"Python {minor}: no interpreter found, not tested", flush=True)  # noqa: T201
            failed |= bool(versions)
            continue
        try:
            print(Smoke(interpreter).run(), flush=True)  # noqa: T201
        except SmokeError as error:
            print(error, flush=True)  # noqa: T201
            failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
