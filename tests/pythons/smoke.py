"""The smoke test: the quick tests and the demo, for the Pythons that do not run the whole suite."""

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local.processes import free_port
from tests.deploy import dockerfile
from tests.pythons.interpreters import ROOT, Interpreter
from tests.pythons.venvs import environment

STEP_SECONDS = 1200
"""Enough for a machine four times slower."""
TAIL_LINES = 60
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "--durations=3")
UNIT = ("-m", "not slow and not service", "tests/unit")
CODEC = ("-k", "not bomb and not pixels and not avif", "tests/contracts/test_media.py")
"""Without the slowest cases, which do not depend on the version of Python."""
CLOSING = re.compile(r"(\d+ (?:passed|failed|error).*?) in [\d.]+s|(\d+ of \d+ files)|(stored \d+ of \d+ files)")


class SmokeError(AssertionError):
    """A step failed; the message has the end of what it printed."""


@dataclass
class Smoke:
    """The smoke test of one Python, in `venv` if given, otherwise in the environment kept for this Python.

    With the image's Python it begins with the unit tests and ends with the demo, since tests/deploy/test_image.py
    starts receiver and worker as the image does. With others it starts them like that and sends two generations; with
    `units` it runs the unit tests too. In the suite that is left out, because the whole suite runs on the oldest
    supported Python and the image's is the newest. The local stacks use the broker `rabbitmq_url`, and copies of the
    sample files in `samples`; without these, each starts and makes its own. `results` has each step's summary.
    """

    interpreter: Interpreter
    venv: Path | None = None
    units: bool = True
    rabbitmq_url: str = ""
    samples: Path | None = None
    results: list[str] = field(default_factory=list)

    def run(self) -> str:
        """Run all steps; return the line for the summary. Raises SmokeError."""
        started = time.monotonic()
        venv = self.venv or environment(self.interpreter)
        python = str(venv / "bin/python")
        of_image = self.interpreter.minor == dockerfile.read().minor
        with tempfile.TemporaryDirectory(prefix="outlast-smoke-") as folder:
            if self.units or of_image:
                self.step("unit", [python, *PYTEST, *UNIT])
            self.step("codec", [python, *PYTEST, *CODEC])
            if of_image:
                program = [str(venv / "bin/outlast"), "demo", "--data-dir", self.stack_in(folder, "demo")]
                self.step("demo", program, RABBITMQ_URL=self.rabbitmq_url)
            else:
                start_like_image = [python, "-m", "tests.deploy.start_like_image", self.stack_in(folder, "image")]
                program = [*start_like_image, "--", str(venv / "bin/outlast")]
                self.step("started like the image", program, RABBITMQ_URL=self.rabbitmq_url)
        seconds = time.monotonic() - started
        return f"Python {self.interpreter.version}: {'; '.join(self.results)} ({seconds:.0f} s)"

    def stack_in(self, folder: str, name: str) -> str:
        """Create the data directory of a local stack with a free port for the receiver."""
        data = Path(folder) / name
        data.mkdir()
        if self.samples is not None:
            shutil.copytree(self.samples, data / "samples")
        (data / "ports.json").write_text(json.dumps({"receiver": free_port()}))
        return str(data)

    def step(self, name: str, argv: list[str], **more: str) -> None:
        env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "VIRTUAL_ENV"))}
        completed = subprocess.run(  # noqa: S603 - fixed arguments
            argv,
            cwd=ROOT,
            env=env | more,
            text=True,
            check=False,
            timeout=STEP_SECONDS,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        if completed.returncode:
            tail = "\n".join(completed.stdout.splitlines()[-TAIL_LINES:])
            raise SmokeError(f"Python {self.interpreter.version}, {name}: exit code {completed.returncode}\n{tail}")
        closing = [next(filter(None, found.groups())) for found in CLOSING.finditer(completed.stdout)]
        self.results.append(f"{name} {closing[-1] if closing else 'passed'}")
