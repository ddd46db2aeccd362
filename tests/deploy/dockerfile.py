"""What deploy/Dockerfile says, read from it, so that what follows it cannot differ from it."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

DOCKERFILE = Path(__file__).parents[2] / "deploy/Dockerfile"
FOLLOWED = {"FROM", "ENV", "RUN", "WORKDIR", "COPY"}
"""Instructions of the build stage that `tests.deploy.image` carries out."""
DECLARED = {"FROM", "ENV", "RUN", "WORKDIR", "COPY", "USER", "VOLUME", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
"""Those of the final stage that it applies, or that need Docker (RUN, EXPOSE)."""


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
    """`python` is the base's version in full, `minor` as in `3.13`."""

    python: str
    build: Stage
    final: Stage

    @property
    def minor(self) -> str:
        return ".".join(self.python.split(".")[:2])

    @property
    def health(self) -> list[str]:
        return json.loads(re.search(r"CMD (\[.*\])$", self.final.last("HEALTHCHECK"))[1])

    @property
    def entrypoint(self) -> list[str]:
        return json.loads(self.final.last("ENTRYPOINT"))


def read(path: Path = DOCKERFILE) -> Dockerfile:
    """Read it; ValueError names what is not understood, so that a new instruction is not left out unseen."""
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
    for stage, known in zip(stages, (FOLLOWED, DECLARED), strict=True):
        unknown = {word for word, _ in stage.instructions} - known
        if unknown or not stage.base.startswith("python:${PYTHON}"):
            raise ValueError(f"{path}: tests/deploy/image.py does not follow {sorted(unknown)} from {stage.base}")
    return Dockerfile(python, *stages)
