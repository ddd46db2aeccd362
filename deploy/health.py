"""`python -m deploy.health`: health check of a container. Exit code 0 when its process is alive.

The image has no curl. Receiver and worker listen on different ports; a container runs one of them, so both are tried.
"""

import http.client
import os
import sys
from typing import Final

PORTS: Final = (("RECEIVER_PORT", 8080), ("METRICS_PORT", 9108))
"""The settings that name the ports, and their defaults."""
TIMEOUT_SECONDS: Final = 3.0


def alive(port: int) -> bool:
    """Whether `/healthz` on this port of the container returns 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(not any(alive(int(os.environ.get(name) or default)) for name, default in PORTS))
