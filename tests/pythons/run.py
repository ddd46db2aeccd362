"""`python -m tests.pythons.run [3.x ... | --here]`: runs the smoke test on every supported Python that is installed.

With versions as arguments: on these, and a missing one is an error. With `--here`: on the current interpreter in its
own environment. Exit code 0: every smoke test passed.
"""

import sys
from pathlib import Path

from tests.pythons.interpreters import CURRENT, Interpreter, find, supported_versions
from tests.pythons.smoke import Smoke, SmokeError


def main(arguments: list[str]) -> int:
    """Run the smoke tests one after the other, print a line for each; return the exit code."""
    if arguments == ["--here"]:
        current = Interpreter("{}.{}.{}".format(*sys.version_info), Path(sys.executable), Path(sys.base_prefix))
        return int(not run_smoke(Smoke(current, Path(sys.prefix))))
    failed = False
    for minor in arguments or [minor for minor in supported_versions() if minor != CURRENT]:
        interpreter = find(minor)
        if interpreter is None:
            say(f"Python {minor}: no interpreter found, not tested")
            failed |= bool(arguments)
        else:
            failed |= not run_smoke(Smoke(interpreter))
    return int(failed)


def run_smoke(smoke: Smoke) -> bool:
    """Run one smoke test and print its result."""
    try:
        say(smoke.run())
    except SmokeError as error:
        say(str(error))
        return False
    return True


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
