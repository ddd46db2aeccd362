"""TLS for connections to RabbitMQ: RABBITMQ_CA_FILE, RABBITMQ_CERT_FILE and RABBITMQ_KEY_FILE."""

import ssl
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class TLSFiles:
    """PEM files for `amqps://`. They are read for each connection, so that renewed certificates need no restart.

    `ca` replaces the system's certificate authorities. `key` may be None when `cert` contains it.
    """

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def __bool__(self) -> bool:
        """Whether any file is set. Without files, the system's certificate authorities are used."""
        return any((self.ca, self.cert, self.key))

    def context(self) -> ssl.SSLContext:
        """Return a context that checks the server's certificate and host name.

        Raises:
            ValueError: a file is missing, unreadable or invalid. The message names the setting and the remedy.
        """
        if self.key is not None and self.cert is None:
            raise ValueError("RABBITMQ_KEY_FILE: RABBITMQ_CERT_FILE is not set; set both")
        for name, path in (("CA", self.ca), ("CERT", self.cert), ("KEY", self.key)):
            _check(f"RABBITMQ_{name}_FILE", path)
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except ssl.SSLError:
            raise ValueError(f"RABBITMQ_CA_FILE: {self.ca} contains no certificate in PEM form") from None
        if self.cert is not None:
            _load(context, self.cert, self.key)
        return context


def _check(name: str, path: Path | None) -> None:
    if path is None:
        return
    try:
        with path.open("rb"):
            return
    except OSError as error:
        raise ValueError(f"{name}: {path} cannot be read ({error.strerror})") from None


def _load(context: ssl.SSLContext, cert: Path, key: Path | None) -> None:
    def no_password() -> str:
        raise ValueError(f"RABBITMQ_KEY_FILE: the key in {key or cert} has a password; remove it (openssl pkey)")

    try:
        context.load_cert_chain(cert, key, password=no_password)
    except ssl.SSLError as error:
        raise ValueError(
            f"RABBITMQ_CERT_FILE: {cert} and {key or cert} are not a certificate and its key in PEM form "
            f"({error.reason or 'unreadable'})"
        ) from None
