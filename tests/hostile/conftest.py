"""Fixtures: a Downloader in a network namespace, and a certificate for the hosts it downloads from."""

import asyncio
import json
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.time_limits import LONG_WAIT_SECONDS, WAIT_SECONDS

ROOT = Path(__file__).parents[2]
CERTIFIED_HOSTS = ("media.test", "*.media.test", "*.fal.media", "api.fal.ai")
RESOLVER_FILES = {
    "resolv.conf": "nameserver 127.0.0.1\noptions timeout:30 attempts:1\n",
    "nsswitch.conf": "hosts: files dns\n",
    "hosts": "127.0.0.1 localhost\n::1 localhost\n",
}
BIND_AND_EXEC = (
    'for name in resolv.conf nsswitch.conf hosts; do mount --bind "$0/$name" "/etc/$name" || exit; done; exec "$@"'
)


class IsolatedDownloader:
    """A Downloader in a network namespace; `fetch` returns the result of `tests.hostile.isolated_downloader.fetch`."""

    def __init__(self, process):
        self._process = process

    async def fetch(self, url, *entries, **options):
        message = json.dumps({"url": url, "entries": entries, **options})
        self._process.stdin.write(message.encode() + b"\n")
        return SimpleNamespace(**await self.answer())

    async def answer(self):
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), LONG_WAIT_SECONDS)
        except TimeoutError:
            self._process.kill()  # a late answer would be read as the next one
            raise
        assert line, "the process ended: it needs `unshare` with --net and --mount, as root or in a user namespace"
        return json.loads(line)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A self-signed certificate for CERTIFIED_HOSTS, with its key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "hostile tests")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in CERTIFIED_HOSTS]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + secret)
    return path


@pytest.fixture(scope="session", params=["uvloop", "asyncio"])
async def isolated_downloader(request, certificate, tmp_path_factory):
    etc = tmp_path_factory.mktemp("etc")
    for name, text in RESOLVER_FILES.items():
        (etc / name).write_text(text)
    own = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    process = await asyncio.create_subprocess_exec(
        *("unshare", *own, "--mount", "--net", "sh", "-c", BIND_AND_EXEC, str(etc)),
        *(sys.executable, "-W", "error", "-m", "tests.hostile.isolated_downloader", str(certificate), request.param),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={"SSL_CERT_FILE": str(certificate), "PATH": os.environ["PATH"]},
    )
    made = IsolatedDownloader(process)
    assert await made.answer() == "ready"
    yield made
    process.stdin.close()
    assert await asyncio.wait_for(process.wait(), WAIT_SECONDS) == 0
