"""`amqps://` with a private node that requires client certificates: it works, and each failure is explained."""

import asyncio
import contextlib
import re
import shutil
from datetime import timedelta

import aio_pika
import aiohttp
import pytest
import structlog
from pydantic import SecretStr
from yarl import URL

from deploy.local.processes import free_port
from deploy.local.rabbitmq import RabbitMQ
from tests.broker.certificate_authority import CertificateAuthority
from worker.broker import topology
from worker.broker.connection import Broker
from worker.doctor import broker as doctor_broker
from worker.doctor.context import CheckContext
from worker.doctor.result import CheckFailure
from worker.observability.metrics import Metrics
from worker.runtime import serve
from worker.settings import Settings
from worker.web.receiver import Receiver

LIMIT_SECONDS = 60


class Node:
    """A TLS node, the CA of its certificate, and a client certificate that it accepts."""

    def __init__(self, folder):
        self.authority, self.stranger = (
            CertificateAuthority(folder, "authority"),
            CertificateAuthority(folder, "stranger"),
        )
        self.cert, self.key = folder / "server.pem", folder / "server.key"
        self.use(self.authority.sign("good"))
        self.client = self.authority.sign("client")
        self.port = free_port()
        self.rabbitmq = RabbitMQ(
            folder,
            (),
            config=f"listeners.ssl.default = 127.0.0.1:{self.port}\n"
            f"ssl_options.cacertfile = {self.authority.file}\n"
            f"ssl_options.certfile = {self.cert}\n"
            f"ssl_options.keyfile = {self.key}\n"
            "ssl_options.verify = verify_peer\n"
            "ssl_options.fail_if_no_peer_cert = true\n",
        )

    def use(self, files):
        shutil.copy(files[0], self.cert)
        shutil.copy(files[1], self.key)

    def url(self, host="localhost", port=0):
        return str(URL(self.rabbitmq.url).with_scheme("amqps").with_host(host).with_port(port or self.port))

    def settings(self, url="", **more):
        files = {
            "rabbitmq_ca_file": self.authority.file,
            "rabbitmq_cert_file": self.client[0],
            "rabbitmq_key_file": self.client[1],
        }
        return Settings.load(_env_file=None, rabbitmq_url=SecretStr(url or self.url()), **files | more)


@pytest.fixture(scope="module")
async def node(tmp_path_factory):
    found = Node(tmp_path_factory.mktemp("tls"))
    await found.rabbitmq.start()
    yield found
    await found.rabbitmq.stop()


async def assert_explained(settings, reason):
    """Assert that the startup log, /readyz and doctor give the reason without a secret; return doctor's remedy.

    `reason` is a regular expression.
    """
    with structlog.testing.capture_logs() as logs:
        async with Broker(settings, Metrics("test"), "test") as broker, contextlib.AsyncExitStack() as stack:
            async with asyncio.timeout(LIMIT_SECONDS):
                while not re.search(reason, str(await broker.problem())):
                    await asyncio.sleep(0.05)
            app = Receiver(settings, [], broker, Metrics("test")).app()
            addresses = await stack.enter_async_context(serve(app, "127.0.0.1", 0))
            session = await stack.enter_async_context(aiohttp.ClientSession())
            async with session.get(f"http://{addresses[0]}/readyz") as response:
                assert response.status == 503
                ready = (await response.json())["detail"]
    assert re.search(reason, ready)
    logged = [line["reason"] for line in logs if line["event"] == "broker not connected"]
    assert any(re.search(reason, line) for line in logged)
    site = CheckContext.of(settings)
    try:
        with pytest.raises(CheckFailure) as failure:
            await doctor_broker.broker(site)
    finally:
        await site.aclose()
    assert re.search(reason, str(failure.value))
    assert failure.value.remedy in ready
    assert URL(settings.rabbitmq_url.get_secret_value()).password not in f"{logs}{ready}{failure.value}"
    return failure.value.remedy


async def test_publish_succeeds_with_ca_and_client_certificate(node):
    async with Broker(node.settings(), Metrics("test"), "test") as broker:
        await broker.wait_ready()
        await broker.publish(topology.DEAD, "", aio_pika.Message(b"secret"), 20)
        assert await broker.problem() is None


async def test_unknown_ca_is_reported_as_untrusted(node):
    remedy = await assert_explained(
        node.settings(rabbitmq_ca_file=None), f"the certificate of localhost:{node.port} is not trusted"
    )
    assert "RABBITMQ_CA_FILE" in remedy


async def test_wrong_host_name_is_reported(node):
    remedy = await assert_explained(
        node.settings(node.url("127.0.0.1")), f"the certificate of 127.0.0.1:{node.port} is for another IP address"
    )
    assert "RABBITMQ_URL" in remedy


async def test_missing_client_certificate_is_reported(node):
    remedy = await assert_explained(
        node.settings(rabbitmq_cert_file=None, rabbitmq_key_file=None),
        # The broker's reset can arrive before its alert is read.
        f"localhost:{node.port} (asks for|closes the connection; it may ask for) a client certificate",
    )
    assert "RABBITMQ_CERT_FILE" in remedy


async def test_client_certificate_of_an_unknown_ca_is_reported(node):
    cert, key = node.stranger.sign("unknown")
    await assert_explained(
        node.settings(rabbitmq_cert_file=cert, rabbitmq_key_file=key),
        f"localhost:{node.port} (does not trust our|closes the connection; it may ask for a) client certificate",
    )


async def test_port_without_tls_is_reported(node):
    plain = URL(node.rabbitmq.url).port
    remedy = await assert_explained(node.settings(node.url(port=plain)), f"TLS with localhost:{plain} failed")
    assert "5671" in remedy


@pytest.mark.parametrize(
    ("files", "reason"),
    [({"lasts": timedelta(days=-1)}, "has expired"), ({"host": "other.test"}, "is for another host name")],
)
async def test_bad_server_certificate_is_reported_and_its_replacement_works_without_a_restart(node, files, reason):
    node.use(node.authority.sign("bad", **files))
    await node.rabbitmq.evaluate("ssl:clear_pem_cache().")
    try:
        await assert_explained(node.settings(), f"the certificate of localhost:{node.port} {reason}")
        async with Broker(node.settings(), Metrics("test"), "test") as broker:
            async with asyncio.timeout(LIMIT_SECONDS):
                while not re.search(reason, str(await broker.problem())):
                    await asyncio.sleep(0.05)
            node.use(node.authority.sign("good"))
            await node.rabbitmq.evaluate("ssl:clear_pem_cache().")
            await asyncio.wait_for(broker.wait_ready(), LIMIT_SECONDS)
    finally:
        node.use(node.authority.sign("good"))
        await node.rabbitmq.evaluate("ssl:clear_pem_cache().")
