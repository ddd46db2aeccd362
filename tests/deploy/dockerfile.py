"""Parses deploy/Dockerfile, so that the tests follow the instructions in the file."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

DOCKERFILE = Path(__file__).parents[2] / "deploy/Dockerfile"
BUILD_INSTRUCTIONS = {"FROM", "ENV", "RUN", "WORKDIR", "COPY"}
"""Instructions of the build stage, which `tests.deploy.image` executes."""
FINAL_INSTRUCTIONS = {
    "FROM",
    "ENV",
    "RUN",
    "WORKDIR",
    "COPY",
    "USER",
    "VOLUME",
    "EXPOSE",
    "HEALTHCHECK",
    "ENTRYPOINT",
    "CMD",
}
"""Instructions of the final stage, which `tests.deploy.image` applies, or which need Docker (RUN, EXPOSE)."""


@dataclass
class Stage:
    """One stage: its instructions in order, as (keyword, text)."""

    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, keyword: str) -> list[str]:
        return [text for word, text in self.instructions if word == keyword]

    def last(self, keyword: str) -> str:
        return self.all(keyword)[-1]

    @property
    def env(self) -> dict[str, str]:
        return dict(re.findall(r"(\w+)=(\S+)", " ".join(self.all("ENV"))))


@dataclass
class Dockerfile:
    """`python` is the full version of the base image's Python, `minor` e.g. `3.13`."""

    python: str
    build: Stage
    final: Stage

    @property
    def minor(self) -> str:
        return ".".join(self.python.split(".")[:2])

    @property
    def health_command(self) -> list[str]:
        return json.loads(re.search(r"CMD (\[.*\])$", self.final.last("HEALTHCHECK"))[1])

    @property
    def entrypoint(self) -> list[str]:
        return json.loads(self.final.last("ENTRYPOINT"))


def read(path: Path = DOCKERFILE) -> Dockerfile:
    """Parse the file. Raises ValueError for an instruction that the tests do not execute."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE)
    stages, python = [], ""
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        keyword, _, rest = line.strip().partition(" ")
        if keyword == "ARG" and rest.startswith("PYTHON="):
            python = rest.removeprefix("PYTHON=").split("-")[0]
        elif keyword == "FROM":
            stages.append(Stage(rest))
        elif keyword:
            stages[-1].instructions.append((keyword, " ".join(rest.split())))
    if not python or len(stages) != 2:
        raise ValueError(f"{path}: expected ARG PYTHON and two stages, found {python!r} and {len(stages)}")
    for stage, known in zip(stages, (BUILD_INSTRUCTIONS, FINAL_INSTRUCTIONS), strict=True):
        unknown = {word for word, _ in stage.instructions} - known
        if unknown or not stage.base.startswith("python:${PYTHON}"):
            raise ValueError(f"{path}: tests/deploy/image.py does not follow {sorted(unknown)} from {stage.base}")
    return Dockerfile(python, *stages)
