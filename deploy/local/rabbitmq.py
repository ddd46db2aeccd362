"""A private RabbitMQ node with its own epmd and directory, on free ports of 127.0.0.1.

Debian's wrapper in /usr/sbin changes user and directory. The scripts in lib/rabbitmq/bin do not, and any user can run
them.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

import aio_pika
import aiohttp
from aio_pika.connection import make_url

from deploy.local.processes import Child, StackError, free_port

SERVERS: Final = ("/usr/lib/rabbitmq/bin/rabbitmq-server", "/usr/lib/rabbitmq/lib/*/sbin/rabbitmq-server")
MISSING: Final = "RabbitMQ is missing: run `make setup`, or: apt-get install rabbitmq-server"
READY_SECONDS: Final = 240.0
"""A busy machine with two slow cores needs more than a minute. A node that has ended is not waited for."""
CONNECT_SECONDS: Final = 15.0
STOP_SECONDS: Final = 30.0
MANAGEMENT_RETRIES: Final = (1.0, 2.0, 4.0, 0.0)
"""Seconds to wait after each failed request to the management API."""
PORT_TAKEN: Final = re.compile(r"eaddrinuse|dist_port_already_used|already in use", re.IGNORECASE)
USER: Final = "outlast"
PLUGINS: Final = ("rabbitmq_management_agent", "rabbitmq_management", "rabbitmq_prometheus")


class RabbitMQ:
    """One private node. Its data is in `<data_dir>/rabbitmq` and is kept. Its ports are chosen before its first start.

    A new node joins the cluster of the running node `joins` and uses its epmd, so stop `joins` last. `config` has
    additional lines for rabbitmq.conf.
    """

    def __init__(
        self, data_dir: Path, plugins: Sequence[str] = PLUGINS, *, joins: "RabbitMQ | None" = None, config: str = ""
    ) -> None:
        self._data_dir = data_dir.resolve()
        self._home = self._data_dir / "rabbitmq"
        self._plugins = tuple(plugins)
        self._joins = joins
        self._config = config
        self._ports = self._free_ports()
        self._epmd: Child | None = None
        self._node: Child | None = None

    @property
    def url(self) -> str:
        """AMQP URL of the default virtual host, with the password."""
        return self.vhost_url("/")

    def vhost_url(self, name: str) -> str:
        """AMQP URL of a virtual host."""
        return f"amqp://{USER}:{self._password()}@127.0.0.1:{self._ports['amqp']}/{quote(name, safe='')}"

    @property
    def management_url(self) -> str:
        """Address of the management API; the user and password are those of `url`."""
        return f"http://127.0.0.1:{self._ports['management']}"

    @property
    def name(self) -> str:
        """Erlang name of the node."""
        return f"outlast-{hashlib.sha256(str(self._home).encode()).hexdigest()[:12]}@localhost"

    @property
    def metrics_url(self) -> str:
        """URL of the Prometheus metrics, one series per queue."""
        return f"http://127.0.0.1:{self._ports['prometheus']}/metrics/per-object"

    async def start(self) -> None:
        """Start epmd and the node, and wait until it accepts connections. Raises StackError with the end of its log.

        A node takes its ports seconds after they were chosen. If something else has one of them by then, a node that
        has not run before gets others.
        """
        has_run = (self._home / "mnesia").exists()
        try:
            await self._start()
        except StackError as error:
            if has_run or PORT_TAKEN.search(str(error)) is None:
                raise
            self._ports = self._free_ports()
            await self._start()

    async def _start(self) -> None:
        server, epmd = _server(), shutil.which("epmd")
        if server is None or epmd is None:
            raise StackError(MISSING)
        self._configure()
        env = self._environment()
        if self._joins is None and (self._epmd is None or not self._epmd.running):
            self._epmd = await Child.spawn("epmd", [epmd], data_dir=self._data_dir, env=env, cwd=self._home)
        self._node = await Child.spawn("rabbitmq", [str(server)], data_dir=self._data_dir, env=env, cwd=self._home)
        try:
            await self._ready(self._node)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop the node, then its epmd."""
        for child in (self._node, self._epmd):
            if child is not None:
                await child.stop(STOP_SECONDS)
        self._node = self._epmd = None

    async def kill(self) -> None:
        """Kill the node at once, as in a power failure."""
        if self._node is not None:
            await self._node.stop(0)

    async def create_vhost(self, name: str) -> str:
        """Create a virtual host; return its AMQP URL.

        A busy node may report an error for one that it has created; then its creator has no permissions, not even after
        a second request. Therefore they are set here.
        """
        await self.manage("PUT", f"vhosts/{quote(name, safe='')}")
        await self.set_permissions(name)
        return self.vhost_url(name)

    async def delete_vhost(self, name: str) -> None:
        """Delete a virtual host and everything in it."""
        await self.manage("DELETE", f"vhosts/{quote(name, safe='')}")

    async def set_permissions(
        self, vhost: str, configure: str = ".*", write: str = ".*", read: str = ".*", *, user: str = USER
    ) -> None:
        """Set what a user may do in a virtual host, as regular expressions of names."""
        allowed = {"configure": configure, "write": write, "read": read}
        await self.manage("PUT", f"permissions/{quote(vhost, safe='')}/{user}", allowed)

    async def control(self, *arguments: str, program: str = "rabbitmqctl") -> str:
        """Run `rabbitmqctl` or another RabbitMQ tool on the node; return its output. Raises StackError if it fails."""
        server = _server()
        if server is None:
            raise StackError(MISSING)
        process = await asyncio.create_subprocess_exec(
            str(server.with_name(program)),
            *arguments,
            env=self._environment(),
            cwd=self._home,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output = (await process.communicate())[0].decode(errors="replace")
        if process.returncode:
            raise StackError(f"{program} {' '.join(arguments)}: {output[-1000:]}")
        return output

    async def evaluate(self, expression: str) -> None:
        """Evaluate an Erlang expression on the node. Raises StackError if it fails.

        `rabbitmqctl eval` starts an Erlang VM, which takes more than a second of processor time. Erlang has a
        small program for it, `erl_call`, but not in all packages.
        """
        erl_call = shutil.which("erl_call")
        if erl_call is None:
            await self.control("eval", expression)
            return
        process = await asyncio.create_subprocess_exec(
            *(erl_call, "-address", f"127.0.0.1:{self._ports['dist']}", "-r", "-e"),
            env=self._environment(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output = (await process.communicate(f"{expression}\n".encode()))[0].decode(errors="replace")
        if not output.startswith("{ok,"):
            raise StackError(f"{expression}: {output[-1000:]}")

    async def version(self) -> tuple[int, ...]:
        """Return the version of RabbitMQ."""
        overview = json.loads(await self.manage("GET", "overview"))
        return tuple(int(number) for number in overview["rabbitmq_version"].split(".") if number.isdigit())

    async def manage(self, method: str, path: str, body: dict[str, str] | None = None) -> str:
        """Send a request to the management API, `path` without `/api/`; return the answer. Raises StackError."""
        headers = {"Authorization": aiohttp.encode_basic_auth(USER, self._password())}
        async with aiohttp.ClientSession(headers=headers) as session:
            for seconds in MANAGEMENT_RETRIES:
                async with session.request(method, f"{self.management_url}/api/{path}", json=body) as response:
                    if response.ok:
                        return await response.text()
                await asyncio.sleep(seconds)  # a busy node answers 500 while it still creates the virtual host
        raise StackError(f"RabbitMQ's management API answered {response.status} to {method} {path}")

    def _free_ports(self) -> dict[str, int]:
        ports = {name: free_port() for name in ("amqp", "dist", "epmd", "management", "prometheus")}
        if self._joins is not None:
            ports["epmd"] = self._joins._ports["epmd"]  # noqa: SLF001 - the same class
        return ports

    def _password(self) -> str:
        return (self._home / "password").read_text().strip()

    def _configure(self) -> None:
        self._home.mkdir(parents=True, exist_ok=True)
        self._create_secret("password")
        self._create_secret(".erlang.cookie")
        plugins = ",".join(self._plugins)
        (self._home / "enabled_plugins").write_text(f"[{plugins}].\n")
        conf = self._home / "rabbitmq.conf"
        conf.touch(mode=0o600)
        conf.write_text(
            f"listeners.tcp.default = 127.0.0.1:{self._ports['amqp']}\n"
            f"default_user = {USER}\n"
            f"default_pass = {self._password()}\n"
            "log.console = true\n"
            "log.console.level = warning\n"
            "log.file = false\n"
            "disk_free_limit.absolute = 50MB\n"
            "vm_memory_high_watermark.absolute = 1GB\n"
            + self._config
            + self._cluster_config()
            + "".join(
                f"{name}.tcp.ip = 127.0.0.1\n{name}.tcp.port = {self._ports[name]}\n"
                for name in ("management", "prometheus")
                if f"rabbitmq_{name}" in self._plugins
            )
        )

    def _create_secret(self, name: str) -> None:
        """Write a secret to a file, unless it exists. All nodes of a cluster have the same secrets."""
        file = self._home / name
        if not file.exists():
            file.touch(mode=0o600)
            joined = self._joins
            file.write_text(secrets.token_hex(16) + "\n" if joined is None else (joined._home / name).read_text())  # noqa: SLF001
        file.chmod(0o400 if name.startswith(".") else 0o600)  # Erlang requires mode 0400 for its cookie

    def _cluster_config(self) -> str:
        """Return the configuration with which a new node joins the cluster. A node that has joined ignores it."""
        if self._joins is None:
            return ""
        nodes = f"cluster_formation.classic_config.nodes.1 = {self._joins.name}\n"
        nodes += f"cluster_formation.classic_config.nodes.2 = {self.name}\n"
        return f"cluster_formation.peer_discovery_backend = classic_config\n{nodes}"

    def _environment(self) -> dict[str, str]:
        """Return the environment of the scripts. Only PATH is taken from this process's environment."""
        home = self._home
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "HOME": str(home),
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
            "RABBITMQ_LOG_BASE": str(home / "log"),
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(home / "advanced.config"),
            "RABBITMQ_CONF_ENV_FILE": str(home / "rabbitmq-env.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
            "RABBITMQ_DIST_PORT": str(self._ports["dist"]),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none",
            "ERL_EPMD_PORT": str(self._ports["epmd"]),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }

    async def _ready(self, node: Child) -> None:
        """Wait until the node accepts an AMQP connection."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READY_SECONDS):
                while node.running:
                    if await self._listens():
                        connection = aio_pika.Connection(make_url(self.url))
                        try:
                            await connection.connect(timeout=CONNECT_SECONDS)
                        except (ConnectionError, TimeoutError, aio_pika.exceptions.AMQPError):
                            pass  # the port is open, but the node is still starting, or the machine is busy
                        else:
                            return
                        finally:  # also after a failed connect; otherwise aio-pika's finalizer closes it
                            await connection.close()
                    await asyncio.sleep(0.1)
        raise StackError(f"RabbitMQ does not start in {self._home}. Its log ends:\n{node.tail()}")

    async def _listens(self) -> bool:
        """Whether the port is open. Checked first, because aio-pika logs every refused connection."""
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self._ports["amqp"])
        except OSError:
            return False
        writer.close()
        return True


def _server() -> Path | None:
    """Return the start script: RABBITMQ_SERVER, Debian 12's, or that of newer packages."""
    if given := os.environ.get("RABBITMQ_SERVER"):
        return Path(given)
    found = [path for pattern in SERVERS for path in Path("/").glob(pattern.lstrip("/"))]
    return found[0] if found else None
