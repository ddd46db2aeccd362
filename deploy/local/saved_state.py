"""State that a stack keeps in its data directory: secrets and ports between runs, its addresses while it runs."""

import json
import secrets
import socket
from base64 import b64encode
from pathlib import Path

from deploy.local.processes import StackError, free_port

ENDPOINTS = "endpoints.json"


def saved_secrets(data_dir: Path) -> dict[str, str]:
    """Return `jwt_secret, api_token, console_token, webhook_secret`, created once in a file only the owner can read."""
    file = data_dir / "secrets.json"
    if not file.exists():
        made = {name: secrets.token_urlsafe(32) for name in ("jwt_secret", "api_token", "console_token")}
        made["webhook_secret"] = "whsec_" + b64encode(secrets.token_bytes(32)).decode()
        file.touch(mode=0o600)
        file.write_text(json.dumps(made))
    found: dict[str, str] = json.loads(file.read_text())
    return found


def saved_port(data_dir: Path, name: str, preferred: int | None = None) -> int:
    """Return a free port for `name`: that of the last run, or else `preferred`, or else any.

    Messages of an earlier run may still be queued, and their source URLs contain the port.
    """
    file = data_dir / "ports.json"
    ports: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}
    candidates = [port for port in (ports.get(name), preferred) if port is not None]
    port = next((port for port in candidates if _is_free(port)), None) or free_port()
    file.write_text(json.dumps({**ports, name: port}))
    return port


def save_endpoints(data_dir: Path, line: str) -> None:
    """Save the line of JSON that `outlast up --json` prints, in a file only the owner can read, if it has changed."""
    if saved_endpoints(data_dir) == line:
        return
    file = data_dir / ENDPOINTS
    new = file.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_text(line)
    new.replace(file)


def saved_endpoints(data_dir: Path) -> str:
    """Return the line of the stack that runs, or "" if none runs or it is not ready yet."""
    file = data_dir / ENDPOINTS
    return file.read_text() if file.exists() else ""


def remove_endpoints(data_dir: Path) -> None:
    """Remove the line when the stack stops."""
    (data_dir / ENDPOINTS).unlink(missing_ok=True)


def check_port(port: int) -> None:
    """Raise StackError unless a server can listen on this port of 127.0.0.1.

    Checked before anything starts: if another program has the port, its answers would be mistaken for the receiver's.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            remedy = "end the program that uses it, or choose another --port"
            raise StackError(f"port {port} of 127.0.0.1 cannot be used ({error.strerror}): {remedy}") from None


def _is_free(port: int) -> bool:
    try:
        check_port(port)
    except StackError:
        return False
    return True
