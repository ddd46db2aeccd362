"""What a stack remembers in its data directory from one run to the next: its secrets and its ports."""

import json
import secrets
import socket
from base64 import b64encode
from pathlib import Path

from deploy.local.processes import free_port


def remembered_secrets(data_dir: Path) -> dict[str, str]:
    """Return `jwt_secret, api_token, console_token, webhook_secret`; made once, readable by their owner only."""
    file = data_dir / "secrets.json"
    if not file.exists():
        made = {name: secrets.token_urlsafe(32) for name in ("jwt_secret", "api_token", "console_token")}
        made["webhook_secret"] = "whsec_" + b64encode(secrets.token_bytes(32)).decode()
        file.touch(mode=0o600)
        file.write_text(json.dumps(made))
    found: dict[str, str] = json.loads(file.read_text())
    return found


def remembered_port(data_dir: Path, name: str, wish: int | None = None) -> int:
    """Return the port `name` had last time, else `wish`, else any, whichever is free.

    Messages that still wait from an earlier run then find their source where they expect it.
    """
    file = data_dir / "ports.json"
    ports: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}
    wishes = [port for port in (ports.get(name), wish) if port is not None]
    port = next((port for port in wishes if _is_free(port)), None) or free_port()
    file.write_text(json.dumps({**ports, name: port}))
    return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
