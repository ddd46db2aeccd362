"""`python -m tests.pythons.run [3.x ... | --here]`: the smoke on every Python that pyproject.toml names and is found.

With versions as arguments: on these, and one that is not found is an error. With `--here`: on the interpreter that runs
this, in its own environment. Exit code 0: every smoke passed.
"""

import sys
from pathlib import Path

from tests.pythons.interpreters import OWN, Interpreter, find, wanted
from tests.pythons.smoke import Smoke, SmokeError


def main(arguments: list[str]) -> int:
    """Run the smokes one after the other, print a line for each; return the exit code."""
    if arguments == ["--here"]:
        own = Interpreter("{}.{}.{}".format(*sys.version_info), Path(sys.executable), Path(sys.base_prefix))
        return int(not passes(Smoke(own, Path(sys.prefix))))
    failed = False
    for minor in arguments or [minor for minor in wanted() if minor != OWN]:
        interpreter = find(minor)
        if interpreter is None:
            say(f"Python {minor}: no interpreter found, not tested")
            failed |= bool(arguments)
        else:
            failed |= not passes(Smoke(interpreter))
    return int(failed)


def passes(smoke: Smoke) -> bool:
    """Run one and print what came of it."""
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
