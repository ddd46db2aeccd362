"""`python -m deploy.health`: whether this container's process is alive. Exit code 0: it answers.

For images without curl. Receiver and worker listen on different ports, and a container runs one of them.
"""

import http.client
import os
import sys
from typing import Final

PORTS: Final = (("RECEIVER_PORT", 8080), ("METRICS_PORT", 9108))
"""The settings that name the ports, and their defaults."""
SECONDS: Final = 3.0


def alive(port: int) -> bool:
    """Whether something on this machine answers `/healthz` at this port."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(not any(alive(int(os.environ.get(name) or default)) for name, default in PORTS))
