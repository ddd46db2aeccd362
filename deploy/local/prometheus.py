"""A Prometheus for tests, with the rules of deploy/prometheus, its own data directory and a free port of 127.0.0.1."""

import asyncio
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

import aiohttp
from yarl import URL

from deploy.local.processes import Child, StackError, free_port

RULES: Final = Path(__file__).parents[1] / "prometheus" / "rules"
NOT_INSTALLED: Final = "The program prometheus is missing: run `make setup-test`, or: apt-get install prometheus"
READY_SECONDS: Final = 30.0
POLL_SECONDS: Final = 0.1
FOR_CLAUSE: Final = re.compile(r"^( +for: ).+$", re.MULTILINE)


class Prometheus:
    """`async with Prometheus(...)`: scrapes `targets`, the URLs of metrics by job, every `interval` seconds.

    `relabel` is Prometheus' `metric_relabel_configs`, for all jobs. `hold` replaces the `for:` of every alert, in
    seconds. Methods raise StackError when Prometheus returns an error.
    """

    def __init__(
        self,
        data_dir: Path,
        targets: Mapping[str, Sequence[str]],
        *,
        interval: float = 0.5,
        relabel: Sequence[Mapping[str, Any]] = (),
        hold: int | None = None,
    ) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self._data_dir = data_dir.resolve()
        self._home = self._data_dir / "prometheus"
        self._targets = dict(targets)
        self._interval = f"{interval * 1000:.0f}ms"
        self._relabel = list(relabel)
        self._hold = hold
        self._child: Child | None = None

    async def __aenter__(self) -> Self:
        program = shutil.which("prometheus")
        if program is None:
            raise StackError(NOT_INSTALLED)
        self._configure()
        argv = [
            program,
            f"--config.file={self._home / 'prometheus.json'}",
            f"--storage.tsdb.path={self._home / 'data'}",
            f"--web.listen-address={URL(self.url).authority}",
            "--web.enable-lifecycle",
        ]
        self._child = await Child.spawn("prometheus", argv, data_dir=self._data_dir, cwd=self._home)
        try:
            await self._child.wait_until_ready(f"{self.url}/-/ready", READY_SECONDS)
        except BaseException:
            await self._child.stop()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._child is not None:
            await self._child.stop()

    async def scrape(self, targets: Mapping[str, Sequence[str]]) -> None:
        """Replace the targets."""
        self._targets = dict(targets)
        self._configure()
        async with aiohttp.ClientSession() as session, session.post(f"{self.url}/-/reload") as response:
            if not response.ok:
                raise StackError(f"Prometheus rejects its configuration: {await response.text()}")

    async def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series of an instant query, each with `metric` and `value` (a pair of time and text)."""
        found: list[dict[str, Any]] = (await self._get("query", query=expression))["result"]
        return found

    async def value(self, expression: str) -> float | None:
        """Return the value of a query with one series; None when it has no series. Raises StackError for several."""
        found = await self.query(expression)
        if len(found) > 1:
            raise StackError(f"{expression} has {len(found)} series, but one is expected")
        return float(found[0]["value"][1]) if found else None

    async def query_range(self, expression: str, start: float, end: float, step: float = 1.0) -> list[dict[str, Any]]:
        """Return the series of a range query, each with `metric` and `values` (pairs of time and text)."""
        found: list[dict[str, Any]] = (
            await self._get("query_range", query=expression, start=f"{start}", end=f"{end}", step=f"{step}")
        )["result"]
        return found

    async def wait_for(self, expression: str, seconds: float = 30) -> None:
        """Wait until the query has a series. Raises TimeoutError after `seconds`."""
        async with asyncio.timeout(seconds):
            while True:
                if await self.query(expression):
                    return
                await asyncio.sleep(POLL_SECONDS)

    async def rules(self) -> list[dict[str, Any]]:
        """Return every rule with its `name`, `type`, `query` and `health`; alerts also have a `state`."""
        groups = (await self._get("rules"))["groups"]
        return [rule for group in groups for rule in group["rules"]]

    async def targets(self) -> list[dict[str, Any]]:
        """Return the targets, with `health` (up, down, unknown) and `lastError`."""
        found: list[dict[str, Any]] = (await self._get("targets"))["activeTargets"]
        return found

    async def _get(self, what: str, **parameters: str) -> Any:  # noqa: ANN401 - depends on the path
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self.url}/api/v1/{what}", params=parameters) as response,
        ):
            answer = await response.json()
            if answer["status"] != "success":
                raise StackError(f"{parameters.get('query', what)}: {answer.get('error')}")
            return answer["data"]

    def _configure(self) -> None:
        rules = self._home / "rules"
        rules.mkdir(parents=True, exist_ok=True)
        for file in RULES.glob("*.yml"):
            text = file.read_text("utf-8")
            held = text if self._hold is None else FOR_CLAUSE.sub(rf"\g<1>{self._hold}s", text)
            (rules / file.name).write_text(held, "utf-8")
        config = {
            "global": {"scrape_interval": self._interval, "scrape_timeout": self._interval}
            | {"evaluation_interval": self._interval},
            "rule_files": [str(rules / "*.yml")],
            "scrape_configs": [
                {
                    "job_name": job,
                    "metrics_path": URL(addresses[0]).path,
                    "static_configs": [{"targets": [URL(address).authority for address in addresses]}],
                    "metric_relabel_configs": self._relabel,
                }
                for job, addresses in self._targets.items()
                if addresses
            ],
        }
        # Prometheus reads YAML, and JSON is valid YAML.
        (self._home / "prometheus.json").write_text(json.dumps(config))
